"""Speed and memory of making clips through latents, ours and peers': `python -m benchmarks.generate --json`.

Our denoiser and codec in the sizes of the configuration `latent`, beside those of Wan 2.1 and CogVideoX
in diffusers with our patches and compression and about our number of parameters, as near as whole blocks of
a denoiser and widths of a codec in steps of 8 come. Weights are random, and encoded captions are stand-ins:
text encoders are not measured. No denoiser gets channels for given frames.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from benchmarks import codec as codecs
from benchmarks import contestants
from benchmarks.contestants import Missing, on_latents, text_condition
from benchmarks.measuring import PeakMemory, fair_clock, handed_over, interleaved
from benchmarks.sampling import precision, training_work
from experiments.results_file import conditions
from t2v_mini.configs import CODEC, CONFIGS, CodecConfig, Config
from t2v_mini.diffusion.guidance import guided
from t2v_mini.diffusion.named import make_process, sample
from t2v_mini.layers.conditioning import TextCondition
from t2v_mini.models.vae import VideoVAE

OURS = "t2v_mini"
PEERS = (
    ("diffusers Wan 2.1", contestants.wan, codecs.wan),
    ("diffusers CogVideoX", contestants.cogvideox, codecs.cogvideox),
)


@dataclass
class Arguments:
    """Measure encoding, decoding, training and generation on this machine's CPU."""

    batch: int = 4
    """Clips at once."""
    words: int = 32
    """Tokens of the longest caption of the batch; the longest of four of level 3 has about as many."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the denoisers; bfloat16 by autocast. Codecs stay in float32."""
    repeats: int = 5
    """Measurements; the median is reported, beside the extremes."""
    json: bool = False
    """Print one JSON object instead of text."""
    out: Path | None = None
    """Also write the JSON object to this file."""


@dataclass
class System:
    """A denoiser, and the codec whose latents it makes."""

    name: str
    denoiser: contestants.Contestant
    codec: codecs.Contestant


@dataclass
class Pass:
    """A piece of work, the parts of a system that do it, and the dtype in which the denoiser works."""

    parts: dict[str, contestants.Contestant | codecs.Contestant]
    dtype: str
    work: Callable[[], None]


def systems(config: Config, codec: CodecConfig) -> Iterator[System | Missing]:
    """Ours, then each peer; `config` is that of a denoiser of latents (see `on_latents`)."""
    mine = System(OURS, contestants.ours(config), codecs.ours(codec))
    yield mine
    for name, denoiser, peer_codec in PEERS:
        made = denoiser(config, mine.denoiser.parameters)
        if isinstance(made, Missing):
            yield Missing(name, made.reason)
            continue
        nearest = codecs.nearest(lambda width, make=peer_codec: make(width, codec), mine.codec.parameters)
        yield System(name, made, nearest)


def generate(
    system: System, config: Config, text: TextCondition, null: TextCondition, dtype: str, noise: Tensor
) -> Tensor:
    """Clips in [-1, 1]: guided Euler steps from the noise to latents, which are decoded in float32."""
    settings = config.sample
    process = make_process(config.train)
    denoise = partial(system.denoiser.call, system.denoiser.model)
    with precision(dtype):
        predict = guided(denoise, text, null, settings.guidance)
        z = sample(
            process, predict, noise, settings.steps, settings.sampler, settings.shift, last=settings.last
        )
    return system.codec.decode(z).clamp(-1, 1)


def passes_of(
    system: System, config: Config, x: Tensor, texts: tuple[TextCondition, TextCondition], dtype: str
) -> dict[str, Pass]:
    """What is measured of a system, on clips and on a pair of captions and null prompts."""
    denoiser, codec = system.denoiser, system.codec
    z = codecs.latent_of(system.name, codec, x)
    inputs = (torch.randn_like(z), torch.rand(len(z)), texts[0])
    make = partial(generate, system, config, *texts, dtype)
    return {
        "encode": Pass({"codec": codec}, "float32", codecs.without_gradients(codec.encode, x)),
        "decode": Pass({"codec": codec}, "float32", codecs.without_gradients(codec.decode, z)),
        "training step": Pass({"denoiser": denoiser}, dtype, training_work(denoiser, inputs, dtype)),
        "generation": Pass(
            {"denoiser": denoiser, "codec": codec}, dtype, codecs.without_gradients(make, inputs[0])
        ),
    }


def rows_of(config: Config, codec: CodecConfig, arguments: Arguments) -> list[dict]:
    """One row for each system and pass: seconds, clips a second, peak memory, and our time over theirs.

    `peak_bytes` leaves out the weights; of a training step it holds gradients and AdamW's moments.
    """
    torch.manual_seed(0)
    batch, data, vae = arguments.batch, config.data, VideoVAE(codec)
    size = vae.legal(data.frames, data.height, data.width)
    config = on_latents(config, vae.latent_size(*size))
    x = codecs.random_clips(batch, codec.channels, *size)
    # The null prompt has two tokens, its start and its end.
    texts = tuple(text_condition(batch, config.model.text_width, n) for n in (arguments.words, 2))
    shared = {"batch": batch, "threads": torch.get_num_threads(), "compile": False, "clip": list(x.shape[1:])}
    rows, works = [], {}
    for system in tqdm(list(systems(config, codec)), desc="systems", unit="system"):
        if isinstance(system, Missing):
            rows.append({"name": system.name, "left_out": system.reason})
            continue
        for what, found in passes_of(system, config, x, texts, arguments.dtype).items():
            with PeakMemory() as memory:
                found.work()
            row = {
                "name": system.name,
                "pass": what,
                "parameters": sum(part.parameters for part in found.parts.values()),
                "configuration": {kind: part.configuration for kind, part in found.parts.items()},
                "dtype": found.dtype,
                "peak_bytes": memory.peak,
            }
            if "denoiser" in found.parts:
                row |= {"tokens": system.denoiser.tokens, "note": system.denoiser.note}
            rows.append(row | shared)
            works[system.name, what] = found.work
    times = interleaved(works, arguments.repeats)
    for row in rows:
        if "left_out" in row:
            continue
        row |= times[row["name"], row["pass"]]
        row["clips_per_second"] = batch / row["seconds"]
        row["clock"] = fair_clock()
        row["ratio"] = times[OURS, row["pass"]][row["clock"]] / row[row["clock"]]
    return rows


def _line(row: dict) -> str:
    if "left_out" in row:
        return f"{row['name']:20} {row['left_out']}"
    return (
        f"{row['name']:20} {row['pass']:13} {row['dtype']:8} {row['parameters']:10,} parameters "
        f"{row['clips_per_second']:8.2f} clips/s {row['peak_bytes'] / 2**20:8.1f} MiB, "
        f"ours takes {row['ratio']:.2f} of its time"
    )


def measure(arguments: Arguments) -> dict:
    """The rows of the configuration `latent` and its codec, and how they were made."""
    config = CONFIGS["latent"]
    settings = {"config": config.name, "codec": CODEC.name, "words": arguments.words, "sampler": "euler"}
    return {
        "settings": settings | asdict(config.sample),
        "ratio": "our time over theirs, by the row's clock",
        "rows": rows_of(config, CODEC.model, arguments),
        "conditions": conditions(),
    }


def main(arguments: Arguments) -> None:
    """Measure, print and write."""
    result = measure(arguments)
    if handed_over(result, arguments.out, arguments.json):
        return
    for row in result["rows"]:
        print(_line(row))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
