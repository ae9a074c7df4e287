"""Rectified flow: straight lines between data and noise (Liu et al. 2023, Lipman et al. 2023).

xt = (1 - t) x0 + t eps, with t from 0 (data) to 1 (noise); the velocity is u = eps - x0.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def per_sample(t: Float[Tensor, "B"], like: Tensor) -> Tensor:
    """Reshape one number a sample so that it broadcasts over all other axes."""
    if t.shape != like.shape[:1]:
        raise ValueError(f"t must hold one time a sample, {like.shape[0]}, got shape {tuple(t.shape)}")
    return t.view(-1, *[1] * (like.ndim - 1))


@dataclass(frozen=True)
class RectifiedFlow:
    """The process, and the times at which it is trained and sampled.

    Training times are sigmoid(N(`mean`, 1)) (logit-normal, Esser et al. 2024): a positive mean
    looks more often at noisy clips. `least_t` bounds the weight 1 / t^2 of the clean prediction.
    """

    mean: float = 0.8
    least_t: float = 0.05

    def corrupt(
        self, x0: Float[Tensor, "B ..."], noise: Float[Tensor, "B ..."], t: Float[Tensor, "B"]
    ) -> Tensor:
        """The point at time t on the line from x0 to the noise."""
        time = per_sample(t, x0)
        return (1 - time) * x0 + time * noise

    def target(self, x0: Float[Tensor, "B ..."], noise: Float[Tensor, "B ..."]) -> Tensor:
        """The velocity u = eps - x0."""
        return noise - x0

    def velocity(
        self, x0: Float[Tensor, "B ..."], xt: Float[Tensor, "B ..."], t: Float[Tensor, "B"]
    ) -> Tensor:
        """The velocity that a predicted x0 implies: u = (xt - x0) / t."""
        return (xt - x0) / per_sample(t, xt).clamp_min(self.least_t)

    def to_x0(self, u: Float[Tensor, "B ..."], xt: Float[Tensor, "B ..."], t: Float[Tensor, "B"]) -> Tensor:
        """The clean clip that a velocity implies: x0 = xt - t u."""
        return xt - per_sample(t, xt) * u

    def draw_times(self, count: int, generator: torch.Generator) -> Float[Tensor, " count"]:
        """Training times in (0, 1)."""
        return torch.sigmoid(torch.randn(count, generator=generator) + self.mean)

    def loss(
        self, predicted_x0: Float[Tensor, "B ..."], x0: Float[Tensor, "B ..."], t: Float[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        """Squared error of the velocity, one number a sample, from a prediction of x0.

        u - u_predicted = (x0_predicted - x0) / t: the network predicts the clean clip, which
        lies on a small manifold, and is weighted as a velocity (Li & He 2025).
        """
        weight = t.clamp_min(self.least_t) ** -2
        return weight * (predicted_x0 - x0).square().flatten(1).mean(1)
