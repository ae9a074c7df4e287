"""Whether the numbers of a tensor can be what they are said to be.

While `torch.compile` looks at a function, values are not known, and only the type is checked.
"""

import torch
from torch import Tensor

OVERSHOOT = 1.5  # samplers and codecs overshoot [-1, 1] a little; a tensor beyond this is not a video


def kind(value: object) -> str:
    """What a value is, for messages: the dtype of a tensor, the type of anything else."""
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__


def check_finite(name: str, x: Tensor) -> None:
    """Raise `ValueError` unless `x` is a tensor of finite floating point numbers."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError(f"{name} must be a float tensor, got {kind(x)}")
    if not torch.compiler.is_compiling() and not torch.isfinite(x).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")


def check_video(name: str, x: Tensor) -> None:
    """Raise `ValueError` unless `x` is a float tensor in [-1, 1], or a little beyond."""
    check_finite(name, x)
    if not torch.compiler.is_compiling() and x.numel() and x.abs().max() > OVERSHOOT:
        low, high = x.min().item(), x.max().item()
        raise ValueError(f"{name} must lie in [-1, 1], got values from {low:.3g} to {high:.3g}")
