"""Seconds of a training step and of a sampling step, ours and peers': `python -m benchmarks.sampling --json`.

The peers are diffusers (`pip install diffusers`, part of the extra `dev`) and lucidrains' Unet3D
(`pip install video-diffusion-pytorch`). A peer that is not installed gets a row that says so.
All are measured in one process, in turn, on the same clips, threads and dtype; bfloat16 means autocast.
"""

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from benchmarks.contestants import OURS, WORDS, Contestant, Missing, ours, text_condition, unet, wan
from benchmarks.kernels import attention_rows, fused_wins_from
from benchmarks.measuring import fair_clock, handed_over, interleaved
from experiments.results_file import conditions
from t2v_mini.configs import Config, get_config
from t2v_mini.data.moving_shapes import training_batch
from t2v_mini.layers.conditioning import TextCondition
from t2v_mini.models.generator import parameter_count
from t2v_mini.training.trainer import Trainer

TRAINER = "t2v_mini Trainer"


@dataclass
class Arguments:
    """Measure steps of our generator beside its peers on this machine's CPU."""

    config: str = "mini"
    """The configuration whose sizes are measured."""
    batches: tuple[int, ...] = (16, 64)
    """Clips a step."""
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    """float32, or bfloat16 by autocast."""
    compile: tuple[bool, ...] = (False,)
    """Whether the denoisers, ours and peers', are compiled; name both values for both."""
    repeats: int = 5
    """Measurements of a step; the median is reported, beside the extremes."""
    unet_clips: int = 4
    """Clips on which the pixel-space peer is measured, because it takes minutes for a batch; its seconds
    are scaled up to the batch. 0 measures the whole batch."""
    attention_keys: tuple[int, ...] = (64, 128, 256, 512)
    """Lengths of the self-attention that is measured."""
    attention_repeats: int = 9
    """Measurements of an attention."""
    json: bool = False
    """Print one JSON object instead of text."""
    out: Path | None = None
    """Also write the JSON object to this file."""


def step_rows(
    config: Config, batch: int, dtype: str, compiled: bool, repeats: int, unet_clips: int = 0
) -> list[dict]:
    """Rows of the training step and of the sampling step, for ours and each peer.

    A peer's `ratio` is our seconds over its own: above 1 the peer wins.
    """
    torch.manual_seed(0)
    mine = ours(config)
    others = [wan(config, mine.parameters), unet(config, mine.parameters, min(unet_clips, batch) or None)]
    present = [mine, *(other for other in others if isinstance(other, Contestant))]
    if compiled:
        for contestant in present:
            contestant.model.compile()
    data = config.data
    shape = (batch, config.model.channels, data.frames, data.height, data.width)
    inputs = (torch.randn(shape), torch.rand(batch), text_condition(batch, config.model.text_width))
    trainer = _trainer(config, batch, dtype, compiled)
    clips = training_batch(data, 0, batch)
    shared = {"batch": batch, "dtype": dtype, "threads": torch.get_num_threads(), "compile": compiled}
    rows = []
    for group, make in (("training step", training_work), ("sampling step", _sampling)):
        works = {contestant.name: make(contestant, inputs, dtype) for contestant in present}
        if group == "training step":
            works[TRAINER] = lambda: trainer.train_step(clips)
        found = interleaved(works, repeats)
        for contestant in present:
            if contestant.measured:
                scale = batch / contestant.measured
                found[contestant.name] = {key: scale * s for key, s in found[contestant.name].items()}
        for contestant in [mine, *others]:
            row = {"group": group, "name": contestant.name} | shared
            if isinstance(contestant, Missing):
                rows.append(row | {"verdict": contestant.reason})
                continue
            row |= {
                "parameters": contestant.parameters,
                "tokens": contestant.tokens,
                "configuration": contestant.configuration,
                "note": contestant.note,
                "clips_at_once": min(batch, contestant.micro_batch or batch),
                "clips_measured": contestant.measured or batch,
            } | found[contestant.name]
            rows.append(row | (_compared(found, contestant.name) if contestant is not mine else {}))
        if TRAINER in found:
            rows.append(_trainer_row(trainer, mine, found) | {"group": group} | shared)
    return rows


def _compared(found: dict[str, dict], peer: str) -> dict:
    """Our time, and the whole Trainer step's, over a peer's."""
    clock = fair_clock()
    ratio = found[OURS][clock] / found[peer][clock]
    compared = {"clock": clock, "ratio": ratio, "verdict": _verdict(ratio)}
    if TRAINER in found:
        whole = found[TRAINER][clock] / found[peer][clock]
        compared |= {"trainer_ratio": whole, "trainer_verdict": _verdict(whole, "our whole Trainer step")}
    return compared


def _verdict(ratio: float, mine: str = "ours") -> str:
    if ratio > 1:
        return f"the peer wins: {mine} takes {ratio:.2f} times as long"
    return f"{mine} wins: {1 / ratio:.2f} times as fast"


def _trainer(config: Config, batch: int, dtype: str, compiled: bool) -> Trainer:
    settings = dataclasses.replace(config.train, batch=batch, bf16=dtype == "bfloat16", compile=compiled)
    return Trainer(dataclasses.replace(config, train=settings))


def _trainer_row(trainer: Trainer, mine: Contestant, found: dict[str, dict]) -> dict:
    overhead = found[TRAINER][fair_clock()] / found[OURS][fair_clock()]
    return {
        "name": TRAINER,
        "parameters": parameter_count(trainer.model),
        "tokens": mine.tokens,
        "configuration": dataclasses.asdict(trainer.config.train),
        "note": "the project's whole step: noise, text encoder, denoiser, clipping, Muon and AdamW, EMA",
        "clips_at_once": trainer.config.train.batch,
        "clips_measured": trainer.config.train.batch,
        "verdict": f"takes {overhead:.2f} times as long as the denoiser alone with AdamW",
    } | found[TRAINER]


def training_work(
    contestant: Contestant, inputs: tuple[Tensor, Tensor, TextCondition], dtype: str
) -> Callable[[], None]:
    """Forward, mean squared error, backward, AdamW."""
    optimizer = torch.optim.AdamW(contestant.model.parameters(), lr=1e-4, fused=True)
    parts = _parts(contestant, inputs)
    targets = [torch.randn_like(x) for x, _, _ in parts]
    clips = sum(len(x) for x, _, _ in parts)

    def step() -> None:
        for (x, t, text), wanted in zip(parts, targets, strict=True):
            with precision(dtype):
                predicted = contestant.call(contestant.model, x, t, text)
            loss = F.mse_loss(predicted.float(), wanted) * len(x) / clips
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _sampling(
    contestant: Contestant, inputs: tuple[Tensor, Tensor, TextCondition], dtype: str
) -> Callable[[], None]:
    """One call of the denoiser, without gradients."""
    parts = _parts(contestant, inputs)

    def step() -> None:
        with torch.no_grad(), precision(dtype):
            for x, t, text in parts:
                contestant.call(contestant.model, x, t, text)

    return step


def precision(dtype: str) -> torch.autocast | nullcontext:
    return torch.autocast("cpu", torch.bfloat16) if dtype == "bfloat16" else nullcontext()


def _parts(
    contestant: Contestant, inputs: tuple[Tensor, Tensor, TextCondition]
) -> list[tuple[Tensor, Tensor, TextCondition]]:
    """The measured clips in parts that fit the memory; the parts' gradients add up to the whole's."""
    x, t, text = inputs
    size = contestant.micro_batch or len(x)
    tensors = (x, t, text.tokens, text.mask, text.pooled)
    split = zip(*(tensor[: contestant.measured].split(size) for tensor in tensors), strict=True)
    return [(part, times, TextCondition(*rest)) for part, times, *rest in split]


def measure(arguments: Arguments) -> dict:
    """All rows: steps by batch, dtype and compilation, then attention by length."""
    unknown = set(arguments.dtypes) - {"float32", "bfloat16"}
    if unknown:
        raise ValueError(f"dtypes must be float32 or bfloat16, got {', '.join(sorted(unknown))}")
    config = get_config(arguments.config)
    rows = []
    for compiled in arguments.compile:
        for dtype in arguments.dtypes:
            for batch in arguments.batches:
                rows += step_rows(config, batch, dtype, compiled, arguments.repeats, arguments.unet_clips)
    sizes, tokens = config.model, arguments.attention_keys
    attention = attention_rows(
        64,
        sizes.heads,
        sizes.width // sizes.heads,
        [(64, WORDS, True), *((keys, keys, False) for keys in tokens)],
        list(arguments.dtypes),
        arguments.attention_repeats,
    )
    return {
        "unit": "seconds",
        "ratio": "ours / peer, or written out / fused, of the times by the row's clock",
        "rows": rows + attention,
        "fused_wins_from_keys": fused_wins_from(attention),
        "conditions": conditions(),
    }


def _line(row: dict) -> str:
    ends = f"{row['dtype']:8}  compile {'yes' if row['compile'] else 'no '}  threads {row['threads']}"
    if row["group"] == "attention":
        masked = " masked" if row["masked"] else ""
        return (
            f"attention {row['shape']!s:17} {row['keys']:4} keys{masked:7}  {ends}  "
            f"{row['pass']:20}  {1000 * row['written_out']['seconds']:8.2f} ms, fused "
            f"{1000 * row['fused']['seconds']:8.2f} ms  {row['verdict']}"
        )
    head = f"{row['group']}  batch {row['batch']:3}  {ends}  {row['name']:32}"
    if "seconds" not in row:
        return f"{head} {row['verdict']}"
    part = f", scaled up from {row['clips_measured']} clips" if row["clips_measured"] < row["batch"] else ""
    verdict = "; ".join(row[key] for key in ("verdict", "trainer_verdict") if key in row)
    return (
        f"{head} {row['parameters']:9,} parameters  {row['tokens']:5} tokens  "
        f"{row['seconds']:8.4f} s ({row['least']:.4f} to {row['most']:.4f}{part})  {verdict}"
    )


def main(arguments: Arguments) -> None:
    """Print the rows, and the configurations that were compared."""
    result = measure(arguments)
    if handed_over(result, arguments.out, arguments.json):
        return
    described = {}
    for row in result["rows"]:
        print(_line(row))
        if "configuration" in row:
            described[row["name"]] = f"{row['configuration']}; {row['note']}"
    for name, text in described.items():
        print(f"{name}: {text}")
    for kind, keys in result["fused_wins_from_keys"].items():
        print(f"fused attention wins, {kind}: {'never' if keys is None else f'from {keys} keys on'}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
