"""What an encoder believes about a latent: a Gaussian for each of its numbers."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class Posterior:
    """Independent Gaussians q(z | x) (Kingma & Welling 2013), by mean and log variance."""

    mean: Float[Tensor, "B Z F H W"]
    logvar: Float[Tensor, "B Z F H W"]

    @classmethod
    def of(cls, moments: Float[Tensor, "B Y F H W"]) -> "Posterior":
        """From an encoder's output: means, then log variances, which are kept within [-30, 20]."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(-30, 20))

    def mode(self) -> Float[Tensor, "B Z F H W"]:
        """The most likely latent."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "B Z F H W"]:
        """One draw, with gradients to mean and variance."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        return self.mean + (self.logvar / 2).exp() * noise

    def kl(self) -> Float[Tensor, "B"]:
        """Divergence from the standard normal distribution in nats, summed over each clip's latent."""
        return (self.mean.square() + self.logvar.exp() - 1 - self.logvar).flatten(1).sum(1) / 2
