"""Train, measure and ship a codec of real video: `python -m experiments.train_film_codec`.

It is trained on Big Buck Bunny, and measured on a minute of the film that it never sees and on two films of
other kinds, beside JPEG and H.264 at equal bits per pixel. The films are downloaded the first time. A run
that was stopped goes on where it was when started again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from tqdm import tqdm

from experiments.cards import training_rows
from experiments.classical_codecs import CODERS, at_rate
from experiments.film import FRAMES, HEIGHT, HELD_OUT, WIDTH, clips_of, crops, held_out_clips
from experiments.results_file import conditions, publish
from experiments.train_codec import compression
from t2v_mini.configs import CodecConfig, CodecLossConfig, DataConfig, TrainConfig, VideoVAEConfig
from t2v_mini.data.moving_shapes import Batch
from t2v_mini.data.packages import BIG_BUCK_BUNNY, BIKES, CARPHONE
from t2v_mini.data.video_files import frames_uint8, from_uint8
from t2v_mini.losses.perceptual import LPIPS, load_lpips
from t2v_mini.losses.reconstruction import psnr, ssim
from t2v_mini.models.vae import VideoVAE
from t2v_mini.training.video_vae import VideoVAETrainer, codec_of, measure_latents, save_codec

CROP = 64
# A latent number is rounded to this share of its channel's deviation before its bits are counted.
ROUNDED = 1 / 4
WATCH_CLIPS, CARD_CLIPS, STATISTICS_CROPS = 4, 16, 256
FILM = VideoVAEConfig(
    "film",
    model=CodecConfig(latent=16, widths=(24, 48, 48), depth=1, halvings=2),
    loss=CodecLossConfig(perceptual=0.1),
    data=(DataConfig(level=0, frames=FRAMES, height=CROP, width=CROP),),
    train=TrainConfig(steps=6000, batch=8, matrix_kernels=True, drop_text=0.0),
)


@dataclass
class Arguments:
    """Train from scratch or go on, then measure and write the codec of real video."""

    folder: Path = Path("runs")
    """Where the training state is kept."""
    steps: int = FILM.train.steps
    """Training steps."""
    watch_every: int = 500
    """Steps between two looks at reconstructions during training; 0 for none."""


class FilmTrainer(VideoVAETrainer):
    """Trains on cuts of the film, the same ones at the same step in every run."""

    def batches(self, stop: int) -> Iterator[Batch]:
        film, train = clips_of(BIG_BUCK_BUNNY, progress=True), self.config.train
        for step in range(self.step, stop):
            rng = torch.Generator().manual_seed((train.seed + 1) * 1_000_000_007 + step)
            yield Batch(crops(film, train.batch, CROP, rng), captions=[], claims=[])


@torch.no_grad()
def rounded(codec: VideoVAE, x: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The clip of the rounded latent, and what that takes in bits per pixel.

    The bits are the entropy of each channel's numbers over this clip: what an ideal coder would need that
    knows how often each number occurs, and nothing of its neighbours.
    """
    z = (codec.to_latent(x) / ROUNDED).round()
    bits = 0.0
    for channel in z.transpose(0, 1):
        counts = channel.unique(return_counts=True)[1].double()
        share = counts / counts.sum()
        bits -= (counts * share.log2()).sum().item()
    made = codec.decode(codec.denormalize(z * ROUNDED), tuple(x.shape[2:])).clamp(-1, 1)
    return made, bits / x[:, 0].numel()


def as_clip(frames: np.ndarray) -> torch.Tensor:
    """Frames (F, H, W, 3) of bytes as a clip (1, 3, F, H, W) in [-1, 1]."""
    return from_uint8(torch.from_numpy(frames).permute(3, 0, 1, 2)[None])


@torch.no_grad()
def compared(codec: VideoVAE, clip: torch.Tensor, metric: LPIPS) -> dict[str, dict]:
    """What the codec, JPEG and H.264 make of a clip of bytes, at the bits that the codec needs."""
    x = from_uint8(clip[None])
    shown, rate = rounded(codec, x)
    exact = codec.reconstruct(x)
    found = {"codec, latent rounded": (shown, rate), "codec, latent exact": (exact, None)}
    for name, (coder, settings) in CODERS.items():
        coded = at_rate(coder, settings, frames_uint8(x[0]), rate)
        found[name] = as_clip(coded["frames"]), coded["rate"]
    return {
        name: {
            "bits per pixel": bits,
            "PSNR": psnr(made, x).item(),
            "SSIM": ssim(made, x).item(),
            "LPIPS": metric(made, x).item(),
        }
        for name, (made, bits) in found.items()
    }


def averaged(rows: list[dict[str, dict]]) -> dict[str, dict]:
    """The mean of each number over clips; `None` stays."""
    return {
        name: {
            key: None if rows[0][name][key] is None else float(np.mean([row[name][key] for row in rows]))
            for key in rows[0][name]
        }
        for name in rows[0]
    }


def films_of_the_test(clips: int) -> dict[str, torch.Tensor]:
    """Clips of the film that no training sees, and the first ones of two other films."""
    return {
        "Big Buck Bunny, a minute held out": held_out_clips(clips),
        "bikes": torch.from_numpy(clips_of(BIKES)[:clips].copy()),
        "carphone": torch.from_numpy(clips_of(CARPHONE)[:clips].copy()),
    }


def measure(codec: VideoVAE, clips: int) -> dict:
    """Everything that the card says."""
    metric, films = load_lpips(), {}
    for name, film in films_of_the_test(clips).items():
        rows = [compared(codec, clip, metric) for clip in tqdm(film, desc=name, unit="clip")]
        films[name] = {"clips": len(film), "codecs": averaged(rows)}
    test = DataConfig(level=0, frames=FRAMES, height=HEIGHT, width=WIDTH)
    return {"films": films, "compression": compression(codec, test)}


class Watcher:
    """Looks at reconstructions of held-out clips during training and adds a point to the run's curve."""

    def __init__(self) -> None:
        self.clips = from_uint8(held_out_clips(WATCH_CLIPS))

    @torch.no_grad()
    def __call__(self, trainer: FilmTrainer) -> str:
        codec = codec_of(trainer.config, trainer.ema.state)
        made = [
            codec.decode(codec.encode(x, pad=True).mode(), tuple(x.shape[2:])) for x in self.clips.split(1)
        ]
        found = psnr(torch.cat(made), self.clips).mean().item()
        trainer.curve.append({"step": trainer.step, "minutes": trainer.seconds / 60, "psnr": found})
        return f"held out {found:.2f} dB"


def card(record: dict, digest: str) -> str:
    """The model card, from what was measured."""
    found = record["evaluation"]
    lines = [
        f"# {record['config']['name']}",
        "",
        f"Clips of real video to latents and back: {found['compression']:.0f} numbers of a clip become one. "
        "The bits of the rounded latent are the entropy of each channel, what an ideal coder needs; those of "
        "JPEG are whole files, those of H.264 packets.",
        "",
        "| | |",
        "| --- | --- |",
        f"| data | Big Buck Bunny ((c) Blender Foundation, CC BY 3.0): squares of {CROP} out of {FRAMES} "
        f"frames of {HEIGHT} x {WIDTH}; clips {HELD_OUT.start} to {HELD_OUT.stop - 1} are held out |",
        *training_rows(record, digest),
    ]
    for name, film in found["films"].items():
        lines += [
            "",
            f"| {name}, {film['clips']} clips | bits per pixel | PSNR | SSIM | LPIPS |",
            "| --- | --- | --- | --- | --- |",
        ]
        for codec, row in film["codecs"].items():
            bits = "float32" if row["bits per pixel"] is None else f"{row['bits per pixel']:.3f}"
            lines.append(
                f"| {codec} | {bits} | {row['PSNR']:.1f} dB | {row['SSIM']:.3f} | {row['LPIPS']:.3f} |"
            )
    return "\n".join(lines) + "\n"


def main(arguments: Arguments) -> None:
    """Train to the end, then measure and ship."""
    config = replace(FILM, train=replace(FILM.train, steps=arguments.steps))
    trainer, watcher = FilmTrainer(config, arguments.folder), Watcher()
    if trainer.checkpoint.exists():
        trainer.resume()
    trainer.train(observe_every=arguments.watch_every, observe=watcher)
    codec = codec_of(config, trainer.ema.state)
    film, rng = clips_of(BIG_BUCK_BUNNY), torch.Generator().manual_seed(0)
    measure_latents(codec, from_uint8(crops(film, STATISTICS_CROPS, CROP, rng)))
    found = measure(codec, CARD_CLIPS)
    record = trainer.record() | {"evaluation": found, "conditions": conditions()}
    results = {"config": config.to_dict(), "seconds": trainer.seconds, "curve": trainer.curve}
    path = publish(
        config.name,
        lambda path: save_codec(codec, path, record),
        lambda digest: card(record, digest),
        results | found,
    )
    tqdm.write(f"written to {path}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
