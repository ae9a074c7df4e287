"""How far a reconstruction is from its clip."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

WINDOW = 11  # rows and columns that structural similarity looks at


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


def ssim(found: Float[Tensor, "B C F H W"], clip: Float[Tensor, "B C F H W"]) -> Float[Tensor, "B"]:
    """Structural similarity of each clip: 1 for equal ones. Numbers in [-1, 1], whose range is 2.

    Wang et al. 2004 (equation 13), with their window of 11 by 11 pixels and their constants; the mean over
    channels, frames and all places where the window fits. Raises `ValueError` for shapes that differ and for
    frames below its size.
    """
    if found.shape != clip.shape or min(clip.shape[3:]) < WINDOW:
        raise ValueError(
            f"found and clip must have one shape, with {WINDOW} rows and columns or more, "
            f"got {tuple(found.shape)} and {tuple(clip.shape)}"
        )
    offsets = torch.arange(WINDOW, dtype=clip.dtype, device=clip.device) - WINDOW // 2
    window = torch.softmax(-offsets.square() / (2 * 1.5**2), dim=0)

    def smooth(x: Tensor) -> Tensor:
        rows = F.conv2d(x.flatten(0, 2)[:, None], window[None, None, :, None])
        return F.conv2d(rows, window[None, None, None])

    x, y = found.clamp(-1, 1), clip
    mean_x, mean_y = smooth(x), smooth(y)
    spread = smooth(x * x) + smooth(y * y) - mean_x.square() - mean_y.square()
    together = smooth(x * y) - mean_x * mean_y
    first, second = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    alike = (2 * mean_x * mean_y + first) * (2 * together + second)
    alike = alike / ((mean_x.square() + mean_y.square() + first) * (spread + second))
    return alike.flatten(1).mean(1).unflatten(0, (len(clip), -1)).mean(1)
