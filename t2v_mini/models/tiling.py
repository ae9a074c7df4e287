"""Large frames through a video VAE in tiles, with the result of the whole."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from t2v_mini.models.posterior import Posterior
from t2v_mini.models.vae import VideoVAE


def encode_tiled(codec: VideoVAE, x: Float[Tensor, "B C F H W"], tile: int) -> Posterior:
    """`codec.encode(x)`, made in tiles of `tile` x `tile` latent pixels; errors as there and as `margin`."""
    codec.check_clip(x)
    scale = codec.scale
    return Posterior.of(_tiled(codec.encoder, x, tile * scale, margin(codec, tile) * scale, scale, 1))


def decode_tiled(codec: VideoVAE, z: Float[Tensor, "B Z G I J"], tile: int) -> Float[Tensor, "B C F H W"]:
    """`codec.decode(z)`, made in tiles of `tile` x `tile` latent pixels; errors as there and as `margin`."""
    codec.check_latent(z)
    return _tiled(codec.decoder, z, tile, margin(codec, tile), 1, codec.scale)


def margin(codec: VideoVAE, tile: int) -> int:
    """Latent pixels that a tile needs around it so that its own do not notice where it was cut.

    As far as the convolutions reach, each with a radius of 1 on its own grid. Raises `ValueError` for
    norms and blocks that look at whole frames, and for a tile below 1.
    """
    config = codec.config
    if config.norm != "pixel":
        raise ValueError(f"norm must be 'pixel' for tiles: {config.norm!r} looks at whole frames")
    if config.block == "efficient":
        raise ValueError("block must be 'dense' for tiles: the gate of 'efficient' looks at whole frames")
    if tile < 1:
        raise ValueError(f"tile must be at least 1, got {tile}")
    levels = len(config.widths)
    # Stem and head, two for each block, and the change to the next level, which is on the finer grid.
    reach = sum(2 * config.depth / 2**level for level in range(levels))
    reach += sum(1 / 2**level for level in range(1, levels)) + 1 + 1 / 2 ** (levels - 1)
    return math.ceil(reach)


def _tiled(network, x: Tensor, tile: int, around: int, less: int, more: int) -> Tensor:
    """The network's output, put together from tiles; an output is `more / less` times as large."""
    rows = []
    for top in range(0, x.shape[-2], tile):
        row = []
        for left in range(0, x.shape[-1], tile):
            down, across = (
                _window(start, tile, around, n, less, more)
                for start, n in zip((top, left), x.shape[-2:], strict=True)
            )
            out = network(x[..., down[0], across[0]])
            row.append(out[..., down[1], across[1]])
        rows.append(torch.cat(row, dim=-1))
    return torch.cat(rows, dim=-2)


def _window(start: int, tile: int, around: int, n: int, less: int, more: int) -> tuple[slice, slice]:
    """What a tile is given along one axis, and what is kept of its output."""
    stop = min(start + tile, n)
    low, high = max(0, start - around), min(n, stop + around)
    return slice(low, high), slice((start - low) * more // less, (stop - low) * more // less)
