"""Noise schedules of Gaussian diffusion and the timesteps at which it is sampled.

A schedule is a float64 tensor of betas, the variance added in each of its steps; alpha_bar, the
share of the signal's variance left after step t, is the running product of 1 - beta.
"""

import math
from fractions import Fraction

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

SCHEDULES = ("linear", "scaled_linear", "cosine", "sigmoid")
SPACINGS = ("leading", "trailing", "linspace")


def make_betas(
    schedule: str = "linear", steps: int = 1000, *, zero_terminal_snr: bool = False
) -> Float64[Tensor, " steps"]:
    """A schedule with the constants of its paper, and on request no signal in its last step.

    The linear ones were chosen for 1000 steps: far fewer end before the clip is noise.
    Raises `ValueError` for an unknown schedule and for fewer than 2 steps.
    """
    makers = dict(
        zip(SCHEDULES, (linear_betas, scaled_linear_betas, cosine_betas, sigmoid_betas), strict=True)
    )
    if schedule not in makers:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    betas = makers[schedule](steps)
    return rescale_zero_terminal_snr(betas) if zero_terminal_snr else betas


def linear_betas(steps: int, start: float = 1e-4, end: float = 0.02) -> Float64[Tensor, " steps"]:
    """Betas evenly spaced from start to end (Ho et al. 2020, section 4).

    Raises `ValueError` for fewer than 2 steps, and unless 0 < start <= end < 1.
    """
    _check_steps(steps)
    _check_ends(start, end)
    return torch.linspace(start, end, steps, dtype=torch.float64)


def scaled_linear_betas(steps: int, start: float = 0.00085, end: float = 0.012) -> Float64[Tensor, " steps"]:
    """Betas whose square roots are evenly spaced (Rombach et al. 2022, released code).

    Raises `ValueError` for fewer than 2 steps, and unless 0 < start <= end < 1.
    """
    _check_steps(steps)
    _check_ends(start, end)
    return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64).square()


def cosine_betas(steps: int, max_beta: float = 0.999) -> Float64[Tensor, " steps"]:
    """Betas for which alpha_bar falls like a squared cosine (Nichol & Dhariwal 2021, eq. 17).

    Raises `ValueError` for fewer than 2 steps and for a max_beta outside (0, 1).
    """
    _check_steps(steps)
    time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return _capped(((time + 0.008) / 1.008 * math.pi / 2).cos().square(), max_beta)


def sigmoid_betas(
    steps: int, start: float = -3.0, end: float = 3.0, tau: float = 1.0, max_beta: float = 0.999
) -> Float64[Tensor, " steps"]:
    """Betas for which alpha_bar falls like a sigmoid between start and end (Jabri et al. 2022).

    The formula with the temperature tau is algorithm 1 of Chen 2023. Raises `ValueError` for fewer
    than 2 steps, unless start < end and tau > 0, and for a max_beta outside (0, 1).
    """
    _check_steps(steps)
    if not -math.inf < start < end < math.inf:
        raise ValueError(f"start must be below end, both finite, got start {start!r} and end {end!r}")
    if not 0 < tau < math.inf:
        raise ValueError(f"tau must be positive and finite, got {tau!r}")
    fall = torch.sigmoid(-torch.linspace(start, end, steps + 1, dtype=torch.float64) / tau)
    return _capped((fall - fall[-1]) / (fall[0] - fall[-1]), max_beta)


def alpha_bar_of(betas: Float64[Tensor, " steps"]) -> Float64[Tensor, " steps"]:
    """Running product of 1 - beta (Ho et al. 2020, eq. 4)."""
    return (1 - betas).cumprod(0)


def betas_of(alpha_bar: Float64[Tensor, " steps"]) -> Float64[Tensor, " steps"]:
    """The betas behind an alpha_bar, such as a shifted one: 1 - alpha_bar_t / alpha_bar_(t-1)."""
    return 1 - alpha_bar / torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar[:-1]])


def rescale_zero_terminal_snr(betas: Float64[Tensor, " steps"]) -> Float64[Tensor, " steps"]:
    """Shift and stretch sqrt(alpha_bar) so that its last value is 0 and its first one stays.

    Lin et al. 2023, algorithm 1. The last beta becomes exactly 1. Raises `ValueError` for fewer than 2 betas.
    """
    _check_steps(len(betas))
    root = alpha_bar_of(betas).sqrt()
    return betas_of(((root - root[-1]) * root[0] / (root[0] - root[-1])).square())


def shift_alpha_bar(alpha_bar: Float64[Tensor, " steps"], shift: float) -> Float64[Tensor, " steps"]:
    """Divide the signal-to-noise ratio by `shift`: ab / (s + (1 - s) ab).

    Larger clips keep more of their signal under the same noise (Hoogeboom et al. 2023, section 3.1;
    CogVideoX: 3). Raises `ValueError` unless shift is positive and finite.
    """
    if not 0 < shift < math.inf:
        raise ValueError(f"shift must be positive and finite, got {shift!r}")
    return alpha_bar / (shift + (1 - shift) * alpha_bar)


def spaced_timesteps(total: int, count: int, spacing: str = "trailing") -> Int64[Tensor, " count"]:
    """`count` falling timesteps out of 0 ... total - 1 (Lin et al. 2023, table 2).

    "trailing" starts at the noisiest timestep, total - 1; "leading" ends at 0 and does not start
    there; "linspace" does both. Raises `ValueError` for an unknown spacing, and unless
    1 <= count <= total.
    """
    if spacing not in SPACINGS:
        raise ValueError(f"spacing must be one of {', '.join(SPACINGS)}, got {spacing!r}")
    if not isinstance(total, int) or total < 1:
        raise ValueError(f"total must be a positive integer, got {total!r}")
    if not isinstance(count, int) or not 1 <= count <= total:
        raise ValueError(f"count must be an integer from 1 to total, {total}, got {count!r}")
    if spacing == "leading":
        steps = [total // count * k for k in reversed(range(count))]
    elif spacing == "trailing":
        # Fractions, since a float stride adds a step for some counts; they round halves to even.
        steps = [round(Fraction(total * k, count)) - 1 for k in range(count, 0, -1)]
    else:
        gaps = max(count - 1, 1)
        steps = [round(Fraction((total - 1) * (gaps - k), gaps)) for k in range(count)]
    return torch.tensor(steps)


def _capped(alpha_bar: Tensor, max_beta: float) -> Tensor:
    """Betas of a curve given at 0 ... steps, at most max_beta: the curve may end at 0."""
    if not 0 < max_beta < 1:
        raise ValueError(f"max_beta must be in (0, 1), got {max_beta!r}")
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp_max(max_beta)


def _check_steps(steps: int) -> None:
    if not isinstance(steps, int) or steps < 2:
        raise ValueError(f"steps must be an integer of at least 2, got {steps!r}")


def _check_ends(start: float, end: float) -> None:
    if not 0 < start <= end < 1:
        raise ValueError(f"start and end must fulfil 0 < start <= end < 1, got {start!r} and {end!r}")
