"""Moving Shapes as an endless, seeded stream of training batches, and as a fixed test set."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from t2v_mini.configs import DataConfig
from t2v_mini.data.counterfactual import twin_scene
from t2v_mini.world import Facts, caption, render, sample_scene
from t2v_mini.world.drawing_facts import leave_out
from t2v_mini.world.scene import Scene

# Training draws seeds from here on; evaluation uses seeds 0 ... N - 1 and never meets them.
FIRST_TRAINING_SEED = 10_000_000


@dataclass
class Batch:
    """Clips as uint8 in [0, 255] or their latents, their captions, and the facts behind them."""

    video: UInt8[Tensor, "B 3 F H W"] | Float[Tensor, "B Z G I J"]
    captions: list[str]
    claims: list[Facts]


def _aspect(config: DataConfig) -> tuple[float, float]:
    side = min(config.height, config.width)
    return config.height / side, config.width / side


def _draw(scenes: list[Scene], texts: list[str], config: DataConfig) -> Batch:
    video = render(scenes, config.frames, config.height, config.width, dtype=torch.uint8)
    return Batch(video, texts, [scene.facts for scene in scenes])


def training_batch(config: DataConfig, step: int, size: int, seed: int = 0) -> Batch:
    """The batch of one training step: a pure function of step and seed, seen combinations only."""
    first = FIRST_TRAINING_SEED * (seed + 1) + step * size
    scenes = [
        sample_scene(config.level, first + i, split="seen", canvas=_aspect(config)) for i in range(size)
    ]
    return _draw(scenes, [_training_caption(s.facts, first + i) for i, s in enumerate(scenes)], config)


def training_clips(
    config: DataConfig, numbers: Sequence[int], captions: int, seed: int = 0
) -> tuple[UInt8[Tensor, "B 3 F H W"], list[list[str]]]:
    """The training clips with these numbers, each with several paraphrases; seen combinations only."""
    first, canvas = FIRST_TRAINING_SEED * (seed + 1), _aspect(config)
    scenes = [sample_scene(config.level, first + n, split="seen", canvas=canvas) for n in numbers]
    texts = [
        [_training_caption(scene.facts, captions * (first + n) + k) for k in range(captions)]
        for scene, n in zip(scenes, numbers, strict=True)
    ]
    return _draw(scenes, [], config).video, texts


def contrastive_batch(config: DataConfig, step: int, size: int, seed: int = 0) -> Batch:
    """As `training_batch`, but the second half are twins of the first: each differs in one respect.

    In a batch of independent scenes hardly two differ in their motion alone, or only in which object
    has which colour, so that a contrastive loss hardly has to look (hard negatives: Yuksekgonul et al. 2023).
    """
    first, half = FIRST_TRAINING_SEED * (seed + 1) + step * size, size // 2
    canvas = _aspect(config)
    scenes = [sample_scene(config.level, first + i, split="seen", canvas=canvas) for i in range(size - half)]
    scenes += [twin_scene(scenes[i], first + size - half + i, canvas) for i in range(half)]
    return _draw(scenes, [_training_caption(s.facts, first + i) for i, s in enumerate(scenes)], config)


def _training_caption(facts: Facts, seed: int) -> str:
    """A paraphrase; every second caption leaves some facts out."""
    rng = np.random.default_rng([1, seed])
    return caption(leave_out(facts, rng) if rng.random() < 0.5 else facts, seed=seed)


def training_batches(
    configs: DataConfig | Sequence[DataConfig],
    start: int,
    stop: int,
    size: int,
    seed: int = 0,
    draw: Callable[..., Batch] = training_batch,
) -> Iterator[Batch]:
    """The batches of steps `start` ... `stop - 1`, drawn ahead by one worker process.

    Several configurations take turns, a batch each; `draw` makes them.
    """
    configs = [configs] if isinstance(configs, DataConfig) else list(configs)
    ahead = 8
    with workers(1) as pool:

        def ask(step: int):
            return pool.submit(draw, configs[step % len(configs)], step, size, seed)

        waiting = [ask(step) for step in range(start, min(start + ahead, stop))]
        for step in range(start, stop):
            batch = waiting.pop(0).result()
            if step + ahead < stop:
                waiting.append(ask(step + ahead))
            yield batch


def workers(count: int) -> ProcessPoolExecutor:
    """Processes of one thread each, which do not outlive this one."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_quiet_worker)


def _quiet_worker() -> None:
    """Use one thread, and do not outlive a trainer that is killed."""
    torch.set_num_threads(1)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent_process().join()
    os._exit(1)


def evaluation_set(config: DataConfig, split: str, count: int) -> list[Scene]:
    """The scenes of the frozen protocol: seeds 0 ... count - 1 of a split."""
    return [sample_scene(config.level, seed, split=split, canvas=_aspect(config)) for seed in range(count)]
