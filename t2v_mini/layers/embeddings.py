"""Embeddings of diffusion time and of positions in space and time."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


def sinusoidal(
    positions: Float[Tensor, "N"], width: int, period: float = 10000.0
) -> Float[Tensor, "N width"]:
    """[cos, sin] features at `width / 2` frequencies from 1 down to 1 / `period` (as in DiT)."""
    if width % 2:
        raise ValueError(f"width must be even, got {width}")
    half = width // 2
    frequencies = torch.exp(-math.log(period) * torch.arange(half, device=positions.device) / half)
    angles = positions[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def sincos_positions(frames: int, height: int, width: int, dim: int) -> Float[Tensor, "N dim"]:
    """Fixed positions of a frames x height x width grid: a third of the channels for each axis.

    Channels that three even parts leave over stay zero. The period of 100 suits grids of a few
    dozen cells.
    """
    part = dim // 6 * 2
    grid = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float32) for n in (frames, height, width)), indexing="ij"
    )
    features = torch.cat([sinusoidal(axis.flatten(), part, period=100.0) for axis in grid], dim=-1)
    return torch.nn.functional.pad(features, (0, dim - 3 * part))


class TimestepEmbedding(nn.Module):
    """Sinusoidal features of the diffusion time t in [0, 1], through a two-layer network."""

    def __init__(self, width: int, features: int = 128) -> None:
        super().__init__()
        self.features = features
        self.net = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Float[Tensor, "B"]) -> Float[Tensor, "B width"]:
        # The features were made for times 0 ... 1000.
        return self.net(sinusoidal(1000 * t, self.features))
