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
    scenes = [_training_scene(config, first + i) for i in range(size)]
    texts = [_training_caption(config, s.facts, first + i) for i, s in enumerate(scenes)]
    return _draw(scenes, texts, config)


def training_scenes(config: DataConfig, numbers: Sequence[int], seed: int = 0) -> list[Scene]:
    """The scenes of the training clips with these numbers; seen combinations only."""
    return [_training_scene(config, FIRST_TRAINING_SEED * (seed + 1) + n) for n in numbers]


def training_clips(
    config: DataConfig, numbers: Sequence[int], captions: int, seed: int = 0
) -> tuple[UInt8[Tensor, "B 3 F H W"], list[list[str]]]:
    """The training clips with these numbers, each with several paraphrases; seen combinations only."""
    scenes, first = training_scenes(config, numbers, seed), FIRST_TRAINING_SEED * (seed + 1)
    texts = [
        [_training_caption(config, scene.facts, captions * (first + n) + k) for k in range(captions)]
        for scene, n in zip(scenes, numbers, strict=True)
    ]
    return _draw(scenes, [], config).video, texts


def contrastive_batch(config: DataConfig, step: int, size: int, seed: int = 0) -> Batch:
    """As `training_batch`, but the second half are twins of the first: each differs in one respect.

    In a batch of independent scenes hardly two differ in their motion alone, or only in which object
    has which colour, so that a contrastive loss hardly has to look (hard negatives: Yuksekgonul et al. 2023).
    """
    first, half = FIRST_TRAINING_SEED * (seed + 1) + step * size, size // 2
    scenes = [_training_scene(config, first + i) for i in range(size - half)]
    scenes += [twin_scene(scenes[i], first + size - half + i, _aspect(config)) for i in range(half)]
    texts = [_training_caption(config, s.facts, first + i) for i, s in enumerate(scenes)]
    return _draw(scenes, texts, config)


def _training_scene(config: DataConfig, seed: int) -> Scene:
    """A scene of seen combinations, of a layout of the data's kind."""
    return sample_scene(config.level, seed, split="seen", canvas=_aspect(config), kind=config.kind)


def _training_caption(config: DataConfig, facts: Facts, seed: int) -> str:
    """A paraphrase, which may leave some facts out."""
    rng = np.random.default_rng([1, seed])
    return caption(leave_out(facts, rng) if rng.random() < config.short_captions else facts, seed=seed)


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
    """The scenes of the frozen protocol: seeds 0 ... count - 1 of a split, of layouts of the data's kind."""
    canvas, kind = _aspect(config), config.kind
    return [sample_scene(config.level, seed, split=split, canvas=canvas, kind=kind) for seed in range(count)]
