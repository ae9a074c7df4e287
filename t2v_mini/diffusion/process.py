"""Gaussian diffusion in T discrete steps (Ho et al. 2020).

xt = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps, with t from 0 (nearly data) to T - 1 (noise).
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from t2v_mini.diffusion.broadcast import check_same_shape, mean_per_sample, per_sample
from t2v_mini.diffusion.schedules import alpha_bar_of, make_betas

PREDICTIONS = ("epsilon", "x0", "v")
WEIGHTINGS = ("uniform", "min_snr")


class GaussianDiffusion(nn.Module):
    """The process and its loss, for a network that predicts the noise, the clean clip or v.

    `betas` are the variances added in each step, in (0, 1), at most the last one 1; default
    `make_betas()`. The schedule is computed in 64 bits and kept as 32-bit buffers, so it moves with
    `.to` and is saved with the weights. `weighting` "min_snr" caps the weight of easy, nearly
    clean clips at the signal-to-noise ratio `gamma` (Hang et al. 2023).

    Raises `ValueError` for a value out of its range, and for "epsilon" where the last step keeps no
    signal: xt = eps there, and says nothing of x0. All methods raise it for timesteps that are not one
    int64 a sample within 0 ... T - 1, and for tensors of unequal shapes.
    """

    betas: Tensor
    alpha_bar: Tensor

    def __init__(
        self,
        betas: Float[Tensor, "T"] | None = None,
        prediction: str = "epsilon",
        weighting: str = "uniform",
        gamma: float = 5.0,
    ) -> None:
        super().__init__()
        betas = make_betas() if betas is None else betas.double()
        if betas.ndim != 1 or not len(betas) or not ((betas > 0) & (betas <= 1)).all():
            raise ValueError(f"betas must be one row of numbers in (0, 1], got {betas}")
        alpha_bar = alpha_bar_of(betas).float()
        if alpha_bar[0] == 1 or (alpha_bar[:-1] == 0).any():
            raise ValueError(
                "betas must leave noise after the first step and signal before the last one, "
                f"got alpha_bar {alpha_bar}"
            )
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got {prediction!r}")
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
        if not 0 < gamma < float("inf"):
            raise ValueError(f"gamma must be positive and finite, got {gamma!r}")
        if prediction == "epsilon" and alpha_bar[-1] == 0:
            raise ValueError("prediction must be x0 or v where the last step keeps no signal, got 'epsilon'")
        self.prediction, self.weighting, self.gamma = prediction, weighting, gamma
        self.register_buffer("betas", betas.float())
        self.register_buffer("alpha_bar", alpha_bar)

    @property
    def steps(self) -> int:
        """T, the number of steps."""
        return len(self.alpha_bar)

    def corrupt(
        self, x0: Float[Tensor, "B ..."], noise: Float[Tensor, "B ..."], t: Int64[Tensor, "B"]
    ) -> Float[Tensor, "B ..."]:
        """A draw from q(xt | x0), made of the given noise (Ho et al. 2020, eq. 4)."""
        check_same_shape("noise", noise, "x0", x0)
        alpha, sigma = self._scales(t, x0)
        return alpha * x0 + sigma * noise

    def target(
        self, x0: Float[Tensor, "B ..."], noise: Float[Tensor, "B ..."], t: Int64[Tensor, "B"]
    ) -> Float[Tensor, "B ..."]:
        """What the network should predict: eps, x0, or v = alpha eps - sigma x0 (Salimans & Ho 2022)."""
        check_same_shape("noise", noise, "x0", x0)
        alpha, sigma = self._scales(t, x0)
        if self.prediction == "epsilon":
            return noise
        return x0 if self.prediction == "x0" else alpha * noise - sigma * x0

    def to_x0(
        self, prediction: Float[Tensor, "B ..."], xt: Float[Tensor, "B ..."], t: Int64[Tensor, "B"]
    ) -> Float[Tensor, "B ..."]:
        """The clean clip that a prediction implies: (xt - sigma eps) / alpha, or alpha xt - sigma v."""
        check_same_shape("prediction", prediction, "xt", xt)
        alpha, sigma = self._scales(t, xt)
        if self.prediction == "epsilon":
            return (xt - sigma * prediction) / alpha
        return prediction if self.prediction == "x0" else alpha * xt - sigma * prediction

    def to_eps(
        self, prediction: Float[Tensor, "B ..."], xt: Float[Tensor, "B ..."], t: Int64[Tensor, "B"]
    ) -> Float[Tensor, "B ..."]:
        """The noise that a prediction implies: (xt - alpha x0) / sigma, or sigma xt + alpha v."""
        check_same_shape("prediction", prediction, "xt", xt)
        alpha, sigma = self._scales(t, xt)
        if self.prediction == "x0":
            return (xt - alpha * prediction) / sigma
        return prediction if self.prediction == "epsilon" else sigma * xt + alpha * prediction

    def snr(self, t: Int64[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Signal-to-noise ratio alpha_bar / (1 - alpha_bar) of variances, from 0 upwards."""
        self._check_times(t)
        return self.alpha_bar[t] / (1 - self.alpha_bar[t])

    def posterior(
        self,
        x0: Float[Tensor, "B ..."],
        xt: Float[Tensor, "B ..."],
        t: Int64[Tensor, "B"],
        previous: Int64[Tensor, "B"] | None = None,
    ) -> tuple[Float[Tensor, "B ..."], Float[Tensor, "B ..."]]:
        """Mean and variance of q(x_previous | xt, x0) (Ho et al. 2020, eq. 7), the variance once a sample.

        `previous` is any earlier timestep, by default t - 1; -1 is the clean clip. The step's beta is
        then 1 - alpha_bar_t / alpha_bar_previous. Raises `ValueError` unless -1 <= previous < t.
        """
        check_same_shape("xt", xt, "x0", x0)
        self._check_times(t)
        previous = t - 1 if previous is None else previous
        if (
            previous.dtype != torch.int64
            or previous.shape != t.shape
            or not ((previous >= -1) & (previous < t)).all()
        ):
            raise ValueError(
                f"previous must be int64, one a sample, -1 <= previous < t, got {previous} for {t}"
            )
        levels = torch.cat([self.alpha_bar, self.alpha_bar.new_ones(1)])  # index -1: the clean clip
        now, before = (per_sample(levels[i], xt).to(_at_least_float32(xt)) for i in (t, previous))
        # Not 1 - now / before: the difference of near numbers is exact, that of their ratio from 1 is not.
        beta = (before - now) / before
        x0_share = before.sqrt() * beta / (1 - now)
        xt_share = (now / before).sqrt() * (1 - before) / (1 - now)
        variance = (1 - before) / (1 - now) * beta
        return x0_share.to(xt) * x0 + xt_share.to(xt) * xt, variance.to(xt)

    def loss(
        self,
        prediction: Float[Tensor, "B ..."],
        x0: Float[Tensor, "B ..."],
        noise: Float[Tensor, "B ..."],
        t: Int64[Tensor, "B"],
    ) -> Float[Tensor, "B"]:
        """Squared error against the target, mean over a sample's numbers, times the weight of its t.

        The weight is 1, or min(SNR, gamma) on an error in x0, put in terms of what is predicted: over
        SNR for epsilon, over SNR + 1 for v (Hang et al. 2023).
        """
        check_same_shape("prediction", prediction, "x0", x0)
        error = mean_per_sample((prediction - self.target(x0, noise, t)).square())
        if self.weighting == "uniform":
            return error
        snr = self.snr(t)
        scale = {"epsilon": snr, "x0": 1.0, "v": snr + 1}[self.prediction]
        return error * snr.clamp_max(self.gamma) / scale

    def draw_times(self, count: int, generator: torch.Generator) -> Int64[Tensor, " count"]:
        """Training timesteps, uniform in 0 ... T - 1, on the generator's device."""
        return torch.randint(self.steps, (count,), generator=generator, device=generator.device)

    def network_time(self, t: Int64[Tensor, "B"]) -> Float[Tensor, "B"]:
        """The time in (0, 1] that a denoiser is given: (t + 1) / T."""
        self._check_times(t)
        return (t + 1) / self.steps

    def _scales(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha = sqrt(alpha_bar) and sigma = sqrt(1 - alpha_bar), ready to broadcast over `like`."""
        self._check_times(t)
        alpha_bar = per_sample(self.alpha_bar[t], like).to(_at_least_float32(like))
        return alpha_bar.sqrt().to(like), (1 - alpha_bar).sqrt().to(like)

    def _check_times(self, t: Tensor) -> None:
        if t.dtype != torch.int64 or t.ndim != 1:
            raise ValueError(f"t must be int64 of shape (B,), got {t.dtype} of shape {tuple(t.shape)}")
        if not ((t >= 0) & (t < self.steps)).all():
            raise ValueError(f"t must be in 0 ... {self.steps - 1}, got {t.tolist()}")


def _at_least_float32(like: Tensor) -> torch.dtype:
    """Half precision would round alpha_bar near 1 to 1."""
    return torch.promote_types(like.dtype, torch.float32)
