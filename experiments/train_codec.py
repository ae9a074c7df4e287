"""Train, measure and ship the video codec of Moving Shapes: `python -m experiments.train_codec`.

A run that was stopped goes on where it was when started again. `--start codec` goes on from shipped weights,
with new clips, half the rates, and more weight for the clips of a batch that come out worst; with
`--decoder` as well, generators of the latents keep theirs.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from tqdm import tqdm

from experiments.cards import layout_rows, origin, origin_rows
from experiments.results_file import conditions, publish
from t2v_mini.configs import CODEC, DataConfig, VideoVAEConfig
from t2v_mini.data.moving_shapes import Batch, training_batches, training_clips
from t2v_mini.data.video_files import from_uint8
from t2v_mini.models.vae import VideoVAE
from t2v_mini.notebook import load_result
from t2v_mini.reconstruction import evaluate_codec
from t2v_mini.training.ema import EMA
from t2v_mini.training.video_vae import (
    VideoVAETrainer,
    codec_of,
    latents_hash,
    load_codec,
    measure_latents,
    save_codec,
)

CARD_CLIPS, WATCH_CLIPS, STATISTICS_CLIPS = 1024, 64, 1024


@dataclass
class Arguments:
    """Train from scratch or go on, then measure and write the shipped codec."""

    folder: Path = Path("runs")
    """Where the training state is kept."""
    steps: int = CODEC.train.steps
    """Training steps."""
    start: str = ""
    """Weights to go on from, by name or path; empty to start from scratch."""
    decoder: bool = False
    """Go on with the decoder alone, so that latents stay as they are."""
    watch_every: int = 500
    """Steps between two looks at reconstructions during training; 0 for none."""
    measure: bool = False
    """Train nothing: measure the shipped codec again, and write its card and results anew."""


class Refinement(VideoVAETrainer):
    """Goes on from finished weights; a clip counts as many times as its squared error is that of its batch.

    Where one thing covers another, a codec is worst, and such clips are few. (Weights that grow with the
    error, as in the focal loss, Lin et al. 2017.) With `decoder` the encoder stays as it is. Raises as
    `load_codec` does.
    """

    def __init__(self, start: str, config: VideoVAEConfig, folder: Path, decoder: bool = False) -> None:
        codec, record = load_codec(start)
        self.origin, train = origin(record), config.train
        half = {name: getattr(train, name) / 2 for name in ("learning_rate", "matrix_learning_rate")}
        seed = record["config"]["train"]["seed"] + 1
        super().__init__(
            replace(config, train=replace(train, start=record["hash"], seed=seed, **half)), folder
        )
        self.model.load_state_dict(codec.state_dict())
        self.ema = EMA(self.model, train.ema)
        self.decoder = decoder
        if decoder:
            self.model.encoder.requires_grad_(False)

    def record(self) -> dict:
        """As for any codec, and what it started from."""
        return super().record() | {"start": self.origin} | ({"decoder alone": True} if self.decoder else {})

    def batches(self, stop: int) -> Iterator[Batch]:
        """The first level, with one object, half as often as each of the others; a batch each, in turns.

        Half of the others' clips have one object in front of another.
        """
        first, *others = self.config.data
        hard = [replace(one, kind="in front") for one in others]
        turns, train = [*others, *hard, first], self.config.train
        return training_batches(turns, self.step, stop, train.batch, train.seed)

    def shares(self, squared: torch.Tensor) -> torch.Tensor:
        """The squared error of each clip over that of the batch."""
        return squared / squared.mean()


class Watcher:
    """Looks at reconstructions of unseen clips during training and adds a point to the run's curve."""

    def __call__(self, trainer: VideoVAETrainer) -> str:
        codec = codec_of(trainer.config, trainer.ema.state)
        rows = [evaluate_codec(codec, data, WATCH_CLIPS) for data in trainer.config.data]
        trainer.curve.append({"step": trainer.step, "minutes": trainer.seconds / 60, "levels": rows})
        return ", ".join(f"level {row['level']} {row['psnr']:.1f} dB, {row['ceiling']:.0%}" for row in rows)


def statistics_clips(levels: tuple[DataConfig, ...], count: int) -> torch.Tensor:
    """Training clips on which mean and deviation of the latents are measured, the levels in equal parts."""
    each = math.ceil(count / len(levels))
    return torch.cat([from_uint8(training_clips(data, range(each), 1)[0]) for data in levels])


@torch.no_grad()
def decode_seconds(codec: VideoVAE, data: DataConfig, repeats: int = 20) -> float:
    """Median seconds of decoding one clip."""
    size = codec.latent_size(*codec.legal(data.frames, data.height, data.width))
    z, found = torch.randn(1, codec.config.latent, *size), []
    for _ in range(repeats + 3):
        began = time.perf_counter()
        codec.decode(z)
        found.append(time.perf_counter() - began)
    return sorted(found[3:])[repeats // 2]


def compression(codec: VideoVAE, data: DataConfig) -> float:
    """How many numbers of a clip there are for each number of its latent."""
    size = codec.latent_size(*codec.legal(data.frames, data.height, data.width))
    clip = codec.config.channels * data.frames * data.height * data.width
    return clip / (codec.config.latent * math.prod(size))


def measure(codec: VideoVAE, levels: tuple[DataConfig, ...]) -> dict:
    """Everything that the card says."""
    return {
        "levels": [evaluate_codec(codec, data, CARD_CLIPS) for data in tqdm(levels, desc="card")],
        "compression": compression(codec, levels[0]),
        "decode_seconds": decode_seconds(codec, levels[0]),
    }


def card(record: dict, digest: str, latents: str) -> str:
    """The model card, from what was measured, and the hash of what makes latents."""
    found, data = record["evaluation"], record["config"]["data"][0]
    canvas = f"{data['frames']} x {data['height']} x {data['width']}"
    rows = found["levels"]
    kinds = list(dict.fromkeys(kind for row in rows for kind in row["facts"]))
    lines = [
        f"# {record['config']['name']}",
        "",
        f"Clips to latents and back: {found['compression']:.0f} numbers of a clip become one.",
        "",
        "| | |",
        "| --- | --- |",
        *origin_rows(record, digest),
        f"| hash of what makes latents | `{latents}` |",
        f"| decoding a clip of {canvas} | {1000 * found['decode_seconds']:.0f} ms |",
        "",
        "| unseen combinations | PSNR, median | PSNR, worst | whole captions | 95% interval | clips |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        low, high = row["interval"]
        lines.append(
            f"| level {row['level']} | {row['psnr']:.1f} dB | {row['worst_psnr']:.1f} dB "
            f"| {row['ceiling']:.1%} | {low:.1%} to {high:.1%} | {row['clips']} |"
        )
    lines += ["", "| facts | " + " | ".join(kinds) + " |", "| --- |" + " --- |" * len(kinds)]
    for row in rows:
        cells = (f"{row['facts'][kind]:.1%}" if kind in row["facts"] else "none" for kind in kinds)
        lines.append(f"| level {row['level']} | " + " | ".join(cells) + " |")
    lines += layout_rows({f"level {row['level']}": row for row in rows})
    return "\n".join(lines) + "\n"


def ship(codec: VideoVAE, record: dict, results: dict) -> None:
    """Write the codec with its record, its card and the results."""
    path = publish(
        CODEC.name,
        lambda path: save_codec(codec, path, record),
        lambda digest: card(record, digest, latents_hash(codec)),
        results,
    )
    tqdm.write(f"written to {path}")


def main(arguments: Arguments) -> None:
    """Train to the end, then measure and ship; or measure what is shipped."""
    if arguments.measure:
        codec, record = load_codec(CODEC.name)
        before = load_result("train_codec")
        found = measure(codec, VideoVAEConfig.from_dict(record["config"]).data)
        ship(codec, record | {"evaluation": found}, before | found)
        return
    config = replace(CODEC, train=replace(CODEC.train, steps=arguments.steps))
    if arguments.start:
        trainer = Refinement(arguments.start, config, arguments.folder, arguments.decoder)
    else:
        trainer = VideoVAETrainer(config, arguments.folder)
    config, watcher = trainer.config, Watcher()
    if trainer.checkpoint.exists():
        trainer.resume()
    trainer.train(observe_every=arguments.watch_every, observe=watcher)
    codec = codec_of(config, trainer.ema.state)
    if not arguments.decoder:
        measure_latents(codec, statistics_clips(config.data, STATISTICS_CLIPS))
    elif latents_hash(codec) != latents_hash(load_codec(arguments.start)[0]):
        raise ValueError("decoder must be as when the run was started, but its encoder has been trained")
    found = measure(codec, config.data)
    record = trainer.record() | {"evaluation": found, "conditions": conditions()}
    results = {"config": config.to_dict(), "seconds": trainer.seconds, "curve": trainer.curve}
    ship(codec, record, results | found)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
