"""A generator from scratch in ten minutes, on latents and on pixels: `python -m experiments.ten_minutes`.

For latents the time counts from nothing: the codec's training and the latents' making are part of it. The
numbers of steps are chosen so that each run takes about ten minutes on two processor cores.
"""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from tqdm import tqdm

from experiments.results_file import write_results
from experiments.train_codec import statistics_clips
from t2v_mini.configs import CODEC, Config, DataConfig, ModelConfig, SampleConfig, TrainConfig, VideoVAEConfig
from t2v_mini.models.generator import parameter_count
from t2v_mini.pipeline import TextToVideo, Watcher, evaluate
from t2v_mini.reconstruction import evaluate_codec
from t2v_mini.training.latents import LatentTrainer, cache_latents
from t2v_mini.training.trainer import Trainer
from t2v_mini.training.video_vae import VideoVAETrainer, codec_of, load_codec, measure_latents, save_codec

DATA = DataConfig(level=1, frames=8, short_captions=0.15)
STATISTICS_CLIPS, WATCH_CLIPS, CARD_CLIPS = 256, 256, 1024


@dataclass
class Arguments:
    """Train both arms one after the other, and write what was measured."""

    codec_steps: int = 500
    """Steps of the codec, of 16 clips."""
    cached: int = 16_384
    """Clips whose latents are kept."""
    steps: int = 3000
    """Steps of the generator of latents, of 64 clips."""
    pixel_steps: int = 2000
    """Steps of the generator of pixels, of 64 clips."""
    width: int = 192
    """Channels of both denoisers."""
    patch: tuple[int, int, int] = (5, 2, 2)
    """Latent frames, rows and columns of a token."""
    time_mean: float = TrainConfig.time_mean
    """Mean of the training times of both, before the sigmoid."""
    time_std: float = TrainConfig.time_std
    """Their deviation, before the sigmoid."""
    sampler: str = "stochastic"
    """How both make clips."""
    looks: int = 6
    """1 or more looks at caption accuracy during the training of each generator."""
    arms: tuple[str, ...] = ("latents", "pixels")
    """Which of them to train."""
    out: str = "ten_minutes"
    """Name of the results; empty for none."""


def quick_codec(steps: int, folder: Path) -> tuple[Path, dict]:
    """A codec of these clips alone, trained from scratch: its file, and what its training took and gave."""
    train = replace(CODEC.train, steps=steps, compile=False, warmup=20, ema=0.99)
    config = VideoVAEConfig("quick", model=CODEC.model, loss=CODEC.loss, data=(DATA,), train=train)
    began = time.perf_counter()
    trainer = VideoVAETrainer(config)
    trainer.train()
    codec = codec_of(config, trainer.ema.state)
    measure_latents(codec, statistics_clips(config.data, STATISTICS_CLIPS))
    seconds = time.perf_counter() - began
    path = folder / "quick.safetensors"
    save_codec(codec, path, trainer.record())
    return path, {"seconds": seconds, "steps": steps, **evaluate_codec(codec, DATA, CARD_CLIPS)}


def configuration(arguments: Arguments, steps: int, codec: str = "") -> Config:
    """The generator of an arm: all but the space that it works in is the same."""
    sizes = {"channels": CODEC.model.latent, "patch": arguments.patch} if codec else {}
    train = TrainConfig(
        steps=steps, time_mean=arguments.time_mean, time_std=arguments.time_std, compile=False
    )
    model, sampling = ModelConfig(width=arguments.width, **sizes), SampleConfig(sampler=arguments.sampler)
    return Config("latents" if codec else "pixels", model, DATA, train, sampling, codec)


def trained(trainer: Trainer, before: float, looks: int) -> dict:
    """Train to the end; the curve's minutes count from nothing, `before` seconds earlier."""
    watcher = Watcher(WATCH_CLIPS)
    trainer.train(observe_every=max(1, trainer.config.train.steps // looks), observe=watcher)
    for point in trainer.curve:
        point["minutes"] += before / 60
    pipeline = TextToVideo.from_trainer(trainer)
    return {
        "minutes": (before + trainer.seconds) / 60,
        "seconds of the generator": trainer.seconds,
        "steps": trainer.step,
        "parameters": parameter_count(trainer.model),
        "curve": trainer.curve,
        "evaluation": evaluate(pipeline, "unseen", CARD_CLIPS),
        "config": trainer.config.to_dict(),
    }


def on_latents(arguments: Arguments) -> dict:
    """The arm of latents: codec, latents, generator."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        path, found = quick_codec(arguments.codec_steps, Path(name))
        began = time.perf_counter()
        cache = cache_latents(Path(name) / "latents", load_codec(path)[0], [DATA], arguments.cached)
        caching = time.perf_counter() - began
        trainer = LatentTrainer(configuration(arguments, arguments.steps, str(path)), cache)
        row = trained(trainer, found["seconds"] + caching, arguments.looks)
    row["config"]["codec"] = "quick"  # the file is gone
    return row | {"codec": found, "seconds of the latents": caching, "cached": arguments.cached}


def on_pixels(arguments: Arguments) -> dict:
    """The arm of pixels: a generator, and nothing before it."""
    return trained(Trainer(configuration(arguments, arguments.pixel_steps)), 0.0, arguments.looks)


def main(arguments: Arguments) -> None:
    """Train both, and write what was measured."""
    makers = {"latents": on_latents, "pixels": on_pixels}
    arms = {}
    for name in arguments.arms:
        row = arms[name] = makers[name](arguments)
        if arguments.out:  # after each, so that a kill in the second loses nothing of the first
            write_results(arguments.out, {"arms": arms})
        found = row["evaluation"]
        tqdm.write(
            f"{name}: {row['minutes']:.1f} minutes, {found['caption_accuracy']:.1%} of {found['clips']} "
            f"captions, {found['facts']}"
        )
        if "codec" in row:
            tqdm.write(f"codec: {row['codec']}, latents {row['seconds of the latents']:.0f} s")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
