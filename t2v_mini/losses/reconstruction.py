"""How far a reconstruction is from its clip."""

import torch
from jaxtyping import Float
from torch import Tensor


def gradient_difference(
    found: Float[Tensor, "B C F H W"], clip: Float[Tensor, "B C F H W"]
) -> Float[Tensor, ""]:
    """Mean absolute error of the differences between neighbours along time, rows and columns.

    The gradient difference loss of Mathieu et al. 2016 (equation 6), with signs and along time too. An edge
    that is blurred or late costs, where the plain error hardly notices it. An axis of length 1 has no
    differences and does not count. Raises `ValueError` for shapes that differ and for clips of one pixel.
    """
    if found.shape != clip.shape:
        raise ValueError(
            f"found and clip must have one shape, got {tuple(found.shape)} and {tuple(clip.shape)}"
        )
    error = found - clip
    axes = [axis for axis in (2, 3, 4) if error.shape[axis] > 1]
    if not axes:
        raise ValueError(f"clip must have more than one frame, row or column, got {tuple(clip.shape)}")
    return torch.stack([error.diff(dim=axis).abs().mean() for axis in axes]).mean()


def psnr(found: Float[Tensor, "B ..."], clip: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
    """Peak signal-to-noise ratio of each clip in decibels; numbers in [-1, 1], whose peak is 2."""
    error = (found.clamp(-1, 1) - clip).square().flatten(1).mean(1)
    return 10 * (4 / error).log10()
