"""Samplers: pure functions over a `predict(x, t)` closure."""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

Predict = Callable[[Tensor, Tensor], Tensor]


def shifted_times(steps: int, shift: float = 1.0) -> Float[Tensor, " times"]:
    """Times from 1 to 0: evenly spaced, then moved towards the noise by t -> s t / (1 + (s - 1) t)."""
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a positive integer, got {steps!r}")
    if not shift > 0:
        raise ValueError(f"shift must be positive, got {shift!r}")
    t = torch.linspace(1, 0, steps + 1)
    return shift * t / (1 + (shift - 1) * t)


@torch.no_grad()
def sample_euler(
    predict: Predict,
    noise: Float[Tensor, "B ..."],
    times: Float[Tensor, " times"],
    callback: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Float[Tensor, "B ..."]:
    """Follow the velocity field from noise at t = 1 to data at t = 0 in straight steps.

    `predict(x, t)` gives the velocity. `callback(step, x, x0)` sees each point and the clean
    clip that it implies.
    """
    x = noise
    for step, (t, after) in enumerate(pairwise(times)):
        now = t.to(x).expand(len(x))
        u = predict(x, now)
        if callback is not None:
            callback(step, x, x - t.to(x) * u)
        x = x + (after - t).to(x) * u
    return x
