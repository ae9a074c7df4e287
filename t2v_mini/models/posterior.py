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
        return self.mean + (self.logvar / 2).exp() * _normal(self.mean, generator)

    def kl(self) -> Float[Tensor, "B"]:
        """Divergence from the standard normal distribution in nats, summed over each clip's latent."""
        return (self.mean.square() + self.logvar.exp() - 1 - self.logvar).flatten(1).sum(1) / 2


def add_noise(
    z: Float[Tensor, "B Z F H W"], deviation: Float[Tensor, "B"], generator: torch.Generator | None = None
) -> Float[Tensor, "B Z F H W"]:
    """Latents with noise of its own deviation on each clip, in deviations of their channels over the batch.

    A decoder that was trained on them forgives errors, and an encoder that was trained along keeps apart
    what must not be confused (Yang et al. 2025, Latent Denoising Makes Good Tokenizers). Gradients pass
    through the channels' deviations: larger latents would not escape the noise.
    """
    scale = z.std((0, 2, 3, 4), keepdim=True) * deviation.to(z)[:, None, None, None, None]
    return z + scale * _normal(z, generator)


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers, drawn on the CPU, so that they are the same for every device."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
