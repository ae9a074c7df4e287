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


def rotary_angles(
    sizes: tuple[int, ...], head_width: int, period: float = 10000.0
) -> Float[Tensor, "N half"]:
    """Angles of rotary positions on a grid with one to three axes (Su et al. 2021, section 3.2.2).

    Pairs of channels are shared out between the axes, as evenly as they go; the first axis, time in
    a clip, gets what is left over (as in Wan 2.1). Raises `ValueError` when there is no pair for an axis.
    """
    pairs, axes = head_width // 2, len(sizes)
    if head_width % 2 or pairs < axes:
        raise ValueError(f"head_width must be even and at least {2 * axes}, got {head_width}")
    shares = [pairs - (axes - 1) * (pairs // axes)] + [pairs // axes] * (axes - 1)
    grid = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in sizes), indexing="ij")
    return torch.cat(
        [
            axis.reshape(-1, 1) * period ** (-torch.arange(share, dtype=torch.float32) / share)
            for axis, share in zip(grid, shares, strict=True)
        ],
        dim=-1,
    )


def rotate(x: Float[Tensor, "*B N D"], angles: Float[Tensor, "N half"]) -> Float[Tensor, "*B N D"]:
    """Turn channels (0, 1), (2, 3), ... of each position by its angles.

    A product of two turned vectors depends on the difference of their angles alone.
    """
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)
