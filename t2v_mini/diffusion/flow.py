"""Rectified flow: straight lines between data and noise (Liu et al. 2023, Lipman et al. 2023).

xt = (1 - t) x0 + t eps, with t from 0 (data) to 1 (noise); the velocity is u = dxt/dt = eps - x0.
The papers count time the other way, so their velocity is -u.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from t2v_mini.diffusion.broadcast import check_same_shape, mean_per_sample, per_sample

PREDICTIONS = ("x0", "velocity")


@dataclass(frozen=True)
class RectifiedFlow:
    """The process, what a network predicts in it, and the times at which it is trained.

    Training times are sigmoid(N(`mean`, `std`^2)) (logit-normal, Esser et al. 2024, section 3.1): a
    positive mean looks more often at noisy clips, a larger `std` more often at both ends. `least_t` in
    (0, 1] bounds the weight 1 / t^2 of an error in x0. Raises `ValueError` for a value out of its range. All
    methods raise it for times outside [0, 1], for times that are not one a sample, and for tensors of unequal
    shapes.
    """

    mean: float = 0.8
    std: float = 1.0
    least_t: float = 0.05
    prediction: str = "x0"

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise ValueError(f"mean must be a finite number, got {self.mean!r}")
        if not 0 < self.std < math.inf:
            raise ValueError(f"std must be a positive, finite number, got {self.std!r}")
        if not 0 < self.least_t <= 1:
            raise ValueError(f"least_t must be in (0, 1], got {self.least_t!r}")
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got {self.prediction!r}")

    def corrupt(
        self, x0: Float[Tensor, "B ..."], noise: Float[Tensor, "B ..."], t: Float[Tensor, "B"]
    ) -> Float[Tensor, "B ..."]:
        """The point at time t on the line from x0 to the noise."""
        check_same_shape("noise", noise, "x0", x0)
        time = self._time(t, x0)
        return (1 - time) * x0 + time * noise

    def target(
        self, x0: Float[Tensor, "B ..."], noise: Float[Tensor, "B ..."], t: Float[Tensor, "B"]
    ) -> Float[Tensor, "B ..."]:
        """What the network should predict: x0, or the velocity u = eps - x0."""
        check_same_shape("noise", noise, "x0", x0)
        self._time(t, x0)
        return x0 if self.prediction == "x0" else noise - x0

    def to_x0(
        self, prediction: Float[Tensor, "B ..."], xt: Float[Tensor, "B ..."], t: Float[Tensor, "B"]
    ) -> Float[Tensor, "B ..."]:
        """The clean clip that a prediction implies: x0 = xt - t u."""
        check_same_shape("prediction", prediction, "xt", xt)
        time = self._time(t, xt)
        return prediction if self.prediction == "x0" else xt - time * prediction

    def to_velocity(
        self, prediction: Float[Tensor, "B ..."], xt: Float[Tensor, "B ..."], t: Float[Tensor, "B"]
    ) -> Float[Tensor, "B ..."]:
        """The velocity that a prediction implies: u = (xt - x0) / t, which needs t > 0 (`ValueError`).

        Not bounded by `least_t`: a sampler's last step, from t to 0, would stop short of x0.
        """
        check_same_shape("prediction", prediction, "xt", xt)
        time = self._time(t, xt)
        if self.prediction == "velocity":
            return prediction
        if not (t > 0).all():
            raise ValueError(f"t must be above 0 to turn x0 into a velocity, got {t.min().item()}")
        return (xt - prediction) / time

    def loss(
        self,
        prediction: Float[Tensor, "B ..."],
        x0: Float[Tensor, "B ..."],
        noise: Float[Tensor, "B ..."],
        t: Float[Tensor, "B"],
    ) -> Float[Tensor, "B"]:
        """Squared error of the velocity, mean over a sample's numbers, whatever is predicted.

        u_predicted - u = (x0 - x0_predicted) / t: a network may predict the clean clip, which lies
        on a small manifold, and be weighted as a velocity (Li & He 2025); the weight 1 / t^2 is
        bounded by 1 / `least_t`^2.
        """
        check_same_shape("prediction", prediction, "x0", x0)
        error = mean_per_sample((prediction - self.target(x0, noise, t)).square())
        return error if self.prediction == "velocity" else error / t.clamp_min(self.least_t).square()

    def draw_times(self, count: int, generator: torch.Generator) -> Float[Tensor, " count"]:
        """Training times in (0, 1), on the generator's device."""
        normal = torch.randn(count, generator=generator, device=generator.device)
        return torch.sigmoid(self.std * normal + self.mean)

    def network_time(self, t: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """The time in [0, 1] that a denoiser is given: t itself."""
        return t

    def _time(self, t: Tensor, like: Tensor) -> Tensor:
        """t, checked and ready to broadcast over `like`."""
        time = per_sample(t, like)
        if not ((t >= 0) & (t <= 1)).all():
            raise ValueError(f"t must be in [0, 1], got {t.tolist()}")
        return time.to(like)
