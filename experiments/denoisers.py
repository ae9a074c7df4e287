"""Which denoiser, at equal parameters and at equal time: `python -m experiments.denoisers`.

Every arm has nearly the same number of parameters, sees the same clips and takes the same steps. The rate
stays constant and the errors are those of averaged weights, so a point on a run's curve does not depend on
where the run ends: one curve answers for equal steps and for equal time. The arms of a seed take turns, a
few steps each, so that a busy machine slows all of them alike.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
import tyro
from einops import rearrange
from torch import Tensor
from tqdm import tqdm

from experiments.recipe import LEVELS, Measure
from experiments.results_file import write_results
from t2v_mini.configs import Config, ModelConfig, get_config
from t2v_mini.data.moving_shapes import Batch, training_batch
from t2v_mini.models.generator import DENOISERS, Generator, parameter_count
from t2v_mini.pipeline import TextToVideo
from t2v_mini.training.trainer import Trainer

ARMS: dict[str, dict] = {
    "DiT, joint": {},
    "DiT, factorised": {"attention": "factorized"},
    "DiT, axial": {"attention": "axial"},
    "U-Net, factorised": {"denoiser": "unet", "attention": "factorized", "patch": (1, 2, 2), "depth": 3},
    "DiT, within frames": {},
}
CUT = "DiT, within frames"


@dataclass
class Arguments:
    """Train every arm with every seed, and measure it on the way."""

    steps: int = 160
    """Training steps of each run."""
    batch: int = 16
    """Clips a step."""
    parameters: int = 577_000
    """Of each denoiser, as nearly as its width, in steps of 8, and the width of a DiT's stem allow."""
    depth: int = 3
    """Blocks of a DiT."""
    patch: tuple[int, int, int] = (2, 4, 4)
    """Patch of a DiT: frames, rows, columns."""
    seeds: int = 2
    """Runs of each arm."""
    clips: int = 64
    """New clips on which a run is measured."""
    looks: int = 4
    """How often each run is measured."""


def within_frames(attend: Callable, x: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """What `attend` makes of each frame alone."""
    frames = rearrange(x, "b (f n) d -> (b f) n d", f=grid[0])
    return rearrange(attend(frames, (1, *grid[1:])), "(b f) n d -> b (f n) d", f=grid[0])


def cut_frames(model: Generator) -> None:
    """Remove every look between frames from a DiT; its weights and their names stay."""
    for block in model.denoiser.blocks:
        block.attention.forward = partial(within_frames, block.attention.forward)


def denoiser_size(config: ModelConfig) -> int:
    """Parameters of the denoiser, without the text encoder that all arms share."""
    with torch.device("meta"):
        return parameter_count(DENOISERS[config.denoiser](config))


def arm_model(changes: dict, arguments: Arguments) -> ModelConfig:
    """The model of an arm: the width that comes nearest in parameters, then the stem."""
    base = replace(get_config("mini").model, patch=arguments.patch, depth=arguments.depth, positions="rotary")
    base = replace(base, **changes)

    def distance(model: ModelConfig) -> int:
        return abs(denoiser_size(model) - arguments.parameters)

    best = min((replace(base, width=width) for width in range(16, 129, 8)), key=distance)
    return min((replace(best, stem_width=stem) for stem in range(256, 513, 16)), key=distance)


def arm_config(changes: dict, seed: int, arguments: Arguments) -> Config:
    """One run: AdamW for all weights, since Muon would leave out the U-Net's kernels."""
    base = get_config("mini")
    train = replace(
        base.train,
        steps=arguments.steps,
        batch=arguments.batch,
        matrix_learning_rate=0.0,
        warmup=20,
        cooldown=0.0,
        ema=0.98,
        bf16=False,
        compile=False,
        text_weights="",
        seed=seed,
    )
    return replace(base, name="denoisers", model=arm_model(changes, arguments), train=train)


def averaged(trainer: Trainer, cut: bool) -> TextToVideo:
    """The averaged weights of a run, with its frames apart where the arm has them so."""
    pipeline = TextToVideo.from_trainer(trainer)
    if cut:
        cut_frames(pipeline.model)
    return pipeline


def train_arms(seed: int, arguments: Arguments, bar: tqdm) -> dict[str, list[dict]]:
    """The curve of every arm: steps, seconds of training alone, and errors."""
    trainers = {name: Trainer(arm_config(changes, seed, arguments)) for name, changes in ARMS.items()}
    cut_frames(trainers[CUT].model)
    first = next(iter(trainers.values())).config
    measure = Measure(first, arguments.clips)
    curves: dict[str, list[dict]] = {name: [] for name in ARMS}
    part = arguments.steps // arguments.looks
    for start in range(0, part * arguments.looks, part):
        batches = [
            training_batch(first.data, step, arguments.batch, seed) for step in range(start, start + part)
        ]
        for name, trainer in trainers.items():
            seconds, processor = _train(trainer, batches)
            before = curves[name][-1] if curves[name] else {"seconds": 0.0, "processor_seconds": 0.0}
            curves[name].append(
                {
                    "step": trainer.step,
                    "seconds": before["seconds"] + seconds,
                    "processor_seconds": before["processor_seconds"] + processor,
                    "errors": measure(averaged(trainer, cut=name == CUT)),
                }
            )
            bar.update()
    return curves


def _train(trainer: Trainer, batches: list[Batch]) -> tuple[float, float]:
    """Seconds on the clock and of the processor for these steps."""
    began, processor = time.perf_counter(), time.process_time()
    for batch in batches:
        trainer.losses.append(trainer.train_step(batch))
    return time.perf_counter() - began, time.process_time() - processor


def main(arguments: Arguments) -> None:
    """Run all arms, and write the curves of all seeds so far after each seed."""
    began = time.perf_counter()
    models = {name: arm_model(changes, arguments) for name, changes in ARMS.items()}
    rows: list[dict] = [
        {
            "arm": name,
            "changes": changes,
            "width": models[name].width,
            "parameters": denoiser_size(models[name]),
            "curves": [],
        }
        for name, changes in ARMS.items()
    ]
    with tqdm(total=len(ARMS) * arguments.looks * arguments.seeds, unit="part", mininterval=5) as bar:
        for seed in range(arguments.seeds):
            curves = train_arms(seed, arguments, bar)
            for row in rows:
                row["curves"].append(curves[row["arm"]])
            done = {"settings": vars(arguments) | {"seeds": seed + 1}, "levels": LEVELS}
            write_results("denoisers", {**done, "seconds": time.perf_counter() - began, "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Arguments))
