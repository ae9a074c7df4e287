"""Samplers: pure functions over a process and a closure `predict(x, t)`.

`predict` gives what the process's `prediction` says, for times of shape (B,). Every sampler calls
`callback(step, x, x0)` with each point and the clean clip predicted from it, before it moves on.
The same t holds for the whole batch, so coefficients are Python floats: exact in 64 bits, and x keeps
its dtype and device.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from t2v_mini.diffusion.flow import RectifiedFlow
from t2v_mini.diffusion.process import GaussianDiffusion

Predict = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, Tensor, Tensor], None]
# One for the whole batch, or one a sample: its noise then does not depend on the others.
Generators = torch.Generator | Sequence[torch.Generator] | None

VARIANCES = ("fixed_small", "fixed_large")


@torch.no_grad()
def sample_ddpm(
    process: GaussianDiffusion,
    predict: Predict,
    noise: Float[Tensor, "B ..."],
    timesteps: Int64[Tensor, " steps"] | None = None,
    variance: str = "fixed_small",
    clip: float | None = None,
    generator: Generators = None,
    callback: Callback | None = None,
) -> Float[Tensor, "B ..."]:
    """Ancestral sampling: each point is drawn from q(x_previous | xt, predicted x0).

    Ho et al. 2020, algorithm 2. `timesteps` default to all; where some are left out, a step's beta
    is 1 - alpha_bar_t / alpha_bar_previous. `variance` is "fixed_small" (beta-tilde, the posterior's)
    or "fixed_large" (beta); the last step draws nothing. `clip` bounds the predicted x0 to [-clip, clip].
    Raises `ValueError` for timesteps that do not fall within 0 ... T - 1, an unknown variance and
    a clip that is not positive.
    """
    if variance not in VARIANCES:
        raise ValueError(f"variance must be one of {', '.join(VARIANCES)}, got {variance!r}")
    if timesteps is None:
        timesteps = torch.arange(process.steps - 1, -1, -1)
    levels = _levels(process)
    x = noise
    for step, (t, previous) in enumerate(_pairs(process, timesteps)):
        x0 = _predicted_x0(process, predict, x, t, clip)
        if callback is not None:
            callback(step, x, x0)
        x, spread = process.posterior(x0, x, _full(x, t), _full(x, previous))
        if previous >= 0:
            if variance == "fixed_large":
                spread = torch.full_like(spread, 1 - levels[t] / levels[previous])
            x = x + spread.sqrt() * _normal(x, generator)
    return x


@torch.no_grad()
def sample_ddim(
    process: GaussianDiffusion,
    predict: Predict,
    noise: Float[Tensor, "B ..."],
    timesteps: Int64[Tensor, " steps"],
    eta: float = 0.0,
    clip: float | None = None,
    generator: Generators = None,
    callback: Callback | None = None,
) -> Float[Tensor, "B ..."]:
    """Steps over any falling timesteps, the last one to the clean clip.

    Song et al. 2021, eq. 12 and 16. `eta` in [0, 1] scales the fresh noise: 0 is a map from
    noise to clip that draws nothing, 1 is ancestral sampling. `clip` bounds the predicted x0 to
    [-clip, clip].
    Raises `ValueError` for timesteps that do not fall within 0 ... T - 1, an eta outside [0, 1]
    and a clip that is not positive.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], got {eta!r}")
    levels = _levels(process)
    x = noise
    for step, (t, previous) in enumerate(_pairs(process, timesteps)):
        x0 = _predicted_x0(process, predict, x, t, clip)
        if callback is not None:
            callback(step, x, x0)
        now, before = levels[t], levels[previous]
        # From x0, so that a clipped x0 and eps still make up x.
        eps = (x - now**0.5 * x0) / (1 - now) ** 0.5
        fresh = eta**2 * (1 - now / before) / (1 - now)  # sigma^2 of eq. 16, as a share of 1 - before
        x = before**0.5 * x0 + ((1 - before) * max(1 - fresh, 0)) ** 0.5 * eps
        if fresh > 0 and previous >= 0:
            x = x + ((1 - before) * fresh) ** 0.5 * _normal(x, generator)
    return x


@torch.no_grad()
def sample_dpm_solver_pp(
    process: GaussianDiffusion,
    predict: Predict,
    noise: Float[Tensor, "B ..."],
    timesteps: Int64[Tensor, " steps"],
    clip: float | None = None,
    generator: Generators = None,
    callback: Callback | None = None,
) -> Float[Tensor, "B ..."]:
    """DPM-Solver++(2M): second order at one call a step (Lu et al. 2022, algorithm 2).

    x0 is extrapolated along lambda = ln(alpha / sigma) from the last two predictions. The first step
    has one prediction and the last, to the clean clip, an infinite one of lambda: both are first order,
    which is DDIM. Draws nothing. `clip` bounds the predicted x0 to [-clip, clip].
    Raises `ValueError` for timesteps that do not fall within 0 ... T - 1 and a clip that is not positive.
    """
    levels = _levels(process)
    # Without signal lambda is -inf: the first step is then infinitely long, and its x0 counts for nothing.
    lambdas = [math.log(a / (1 - a)) / 2 if 0 < a < 1 else math.copysign(math.inf, a - 0.5) for a in levels]
    x, last_x0, last_h = noise, None, math.inf
    for step, (t, previous) in enumerate(_pairs(process, timesteps)):
        x0 = _predicted_x0(process, predict, x, t, clip)
        if callback is not None:
            callback(step, x, x0)
        alpha, sigma = levels[previous] ** 0.5, (1 - levels[previous]) ** 0.5
        kept = sigma / (1 - levels[t]) ** 0.5
        h = lambdas[previous] - lambdas[t]
        ahead = x0 if last_x0 is None or previous < 0 else x0 + h / last_h / 2 * (x0 - last_x0)
        # alpha (1 - e^-h) with e^-h = alpha_t sigma / (sigma_t alpha), which holds where h is infinite.
        x = kept * x + (alpha - levels[t] ** 0.5 * kept) * ahead
        last_x0, last_h = x0, h
    return x


def shifted_times(steps: int, shift: float = 1.0, last: float = 0.0) -> Float[Tensor, " times"]:
    """Times of a flow from 1 to 0: even steps, moved towards the noise by t -> s t / (1 + (s - 1) t).

    Esser et al. 2024, eq. 23. With `last` the steps lead to this time, and the last one from there to 0: for
    a codec whose decoder takes away what noise is left. Raises `ValueError` unless steps is a positive
    integer, shift a positive, finite number, and last in [0, 1).
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a positive integer, got {steps!r}")
    if not 0 < shift < float("inf"):
        raise ValueError(f"shift must be positive and finite, got {shift!r}")
    if not 0 <= last < 1:
        raise ValueError(f"last must be in [0, 1), got {last!r}")
    # In 32 bits the first time could be rounded to just above 1.
    t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    if last and steps > 1:
        end = last / (shift - (shift - 1) * last)  # which the shift moves to `last`
        t = torch.cat([torch.linspace(1, end, steps, dtype=torch.float64), t[-1:]])
    return (shift * t / (1 + (shift - 1) * t)).float()


@torch.no_grad()
def sample_euler(
    process: RectifiedFlow,
    predict: Predict,
    noise: Float[Tensor, "B ..."],
    times: Float[Tensor, " times"],
    generator: Generators = None,
    callback: Callback | None = None,
) -> Float[Tensor, "B ..."]:
    """Follow the velocity field from noise at times[0] to times[-1] in straight steps.

    `times` fall strictly within [0, 1] (`ValueError`). Nothing is drawn: `generator` is there so
    that samplers can stand in for each other.
    """
    x = noise
    for step, (t, after) in enumerate(_intervals(times)):
        u = _velocity(process, predict, x, t)
        if callback is not None:
            callback(step, x, x - t * u)
        x = x + (after - t) * u
    return x


@torch.no_grad()
def sample_heun(
    process: RectifiedFlow,
    predict: Predict,
    noise: Float[Tensor, "B ..."],
    times: Float[Tensor, " times"],
    generator: Generators = None,
    callback: Callback | None = None,
) -> Float[Tensor, "B ..."]:
    """Follow the velocity field with the mean of the velocities at both ends of a step.

    Second order, two calls a step (Karras et al. 2022, algorithm 1). A step to t = 0 is Euler's:
    at t = 0 a predicted x0 implies no velocity. Arguments and errors as in `sample_euler`.
    """
    x = noise
    for step, (t, after) in enumerate(_intervals(times)):
        u = _velocity(process, predict, x, t)
        if callback is not None:
            callback(step, x, x - t * u)
        if after > 0:
            u = (u + _velocity(process, predict, x + (after - t) * u, after)) / 2
        x = x + (after - t) * u
    return x


@torch.no_grad()
def sample_ancestral(
    process: RectifiedFlow,
    predict: Predict,
    noise: Float[Tensor, "B ..."],
    times: Float[Tensor, " times"],
    eta: float = 1.0,
    generator: Generators = None,
    callback: Callback | None = None,
) -> Float[Tensor, "B ..."]:
    """Steps in which a part of the noise is drawn anew: an error that was made earlier fades with it.

    A flow's points, scaled, are those of a diffusion whose noise is r = t / (1 - t) times its signal, so the
    steps are DDIM's (Song et al. 2021, eq. 12 and 16): the share eta^2 (1 - r_next^2 / r^2) of the noise's
    variance is fresh. `eta` in [0, 1] is 0 for Euler's steps and 1 for draws from the posterior, as of DDPM.
    `times` as in `sample_euler`. Raises `ValueError` for an eta outside [0, 1], for such times, and for
    generators of another number than the samples.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], got {eta!r}")

    def fresh(t: float, after: float) -> float:
        # r_next / r, which holds where r is infinite, too.
        return eta**2 * (1 - (after * (1 - t) / (t * (1 - after))) ** 2)

    return _renewed(process, predict, noise, times, fresh, generator, callback)


@torch.no_grad()
def sample_stochastic(
    process: RectifiedFlow,
    predict: Predict,
    noise: Float[Tensor, "B ..."],
    times: Float[Tensor, " times"],
    generator: Generators = None,
    callback: Callback | None = None,
) -> Float[Tensor, "B ..."]:
    """Steps to the predicted clip and back to the next time with noise that is all new.

    Multistep sampling of consistency models (Song et al. 2023, algorithm 1): of an earlier error only what it
    did to the predicted clip remains. The distribution is not that of the data: what is predicted, a mean,
    varies less. Of a Gaussian's variance one step keeps nothing, and many steps half. `times` as in
    `sample_euler`; errors as of `sample_ancestral`.
    """
    return _renewed(process, predict, noise, times, lambda t, after: 1.0, generator, callback)


def _renewed(
    process: RectifiedFlow,
    predict: Predict,
    x: Tensor,
    times: Tensor,
    fresh: Callable[[float, float], float],
    generator: Generators,
    callback: Callback | None,
) -> Tensor:
    """Straight steps; `fresh` says which share of the noise's variance is new in a step from t to another."""
    for step, (t, after) in enumerate(_intervals(times)):
        u = _velocity(process, predict, x, t)
        x0 = x - t * u
        if callback is not None:
            callback(step, x, x0)
        share = fresh(t, after)
        x = (1 - after) * x0 + after * (1 - share) ** 0.5 * (x0 + u)
        if share > 0 and after > 0:
            x = x + after * share**0.5 * _normal(x, generator)
    return x


def _intervals(times: Tensor) -> list[tuple[float, float]]:
    """The steps (t, next t) between falling times in [0, 1]."""
    values = times.tolist() if times.ndim == 1 else []
    intervals = list(pairwise(values))
    if not intervals or not (values[0] <= 1 and values[-1] >= 0 and all(a > b for a, b in intervals)):
        raise ValueError(f"times must be at least two falling numbers in [0, 1], got {times}")
    return intervals


def _velocity(process: RectifiedFlow, predict: Predict, x: Tensor, t: float) -> Tensor:
    """The velocity at one time for the whole batch."""
    # Half precision would round times to a coarse grid.
    dtype = torch.promote_types(x.dtype, torch.float32)
    now = torch.full((len(x),), t, dtype=dtype, device=x.device)
    return process.to_velocity(predict(x, now), x, now)


def _levels(process: GaussianDiffusion) -> list[float]:
    """alpha_bar at each timestep, and at index -1 that of the clean clip."""
    return [*process.alpha_bar.tolist(), 1.0]


def _pairs(process: GaussianDiffusion, timesteps: Tensor) -> list[tuple[int, int]]:
    """The steps (t, previous t) down to the clean clip at -1."""
    pairs = list(pairwise([*timesteps.tolist(), -1])) if timesteps.ndim == 1 else []
    whole = timesteps.dtype == torch.int64
    if not (whole and pairs and pairs[0][0] < process.steps and all(t > previous for t, previous in pairs)):
        raise ValueError(
            f"timesteps must be falling int64 numbers in 0 ... {process.steps - 1}, got {timesteps}"
        )
    return pairs


def _predicted_x0(
    process: GaussianDiffusion, predict: Predict, x: Tensor, t: int, clip: float | None
) -> Tensor:
    """The clean clip predicted at one timestep for the whole batch."""
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be positive or None, got {clip!r}")
    now = _full(x, t)
    x0 = process.to_x0(predict(x, now), x, now)
    return x0 if clip is None else x0.clamp(-clip, clip)


def _full(x: Tensor, t: int) -> Tensor:
    return torch.full((len(x),), t, device=x.device)


def _normal(x: Tensor, generator: Generators) -> Tensor:
    """Noise like x. Drawn on the generator's device, so that a seed gives the same noise everywhere."""
    if generator is not None and not isinstance(generator, torch.Generator):
        if len(generator) != len(x):
            raise ValueError(f"generator must be one, or {len(x)}, one a sample, got {len(generator)}")
        return torch.cat([_normal(row, one) for row, one in zip(x.split(1), generator, strict=True)])
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
