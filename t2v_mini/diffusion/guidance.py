"""Classifier-free guidance (Ho & Salimans 2022)."""

from collections.abc import Callable

import torch
from torch import Tensor


def guided(
    predict: Callable[[Tensor, Tensor, object], Tensor], condition, null, scale: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """Close a conditional prediction over its text: null + scale * (conditional - null).

    Scale 1 means no guidance and costs one denoiser call a step; any other scale costs two.
    Raises `ValueError` for a scale that is negative or not finite.
    """
    if not 0 <= scale < float("inf"):
        raise ValueError(f"guidance must be a finite number >= 0, got {scale!r}")
    if scale == 1:
        return lambda x, t: predict(x, t, condition)

    def closure(x: Tensor, t: Tensor) -> Tensor:
        with_text, without = predict(x, t, condition), predict(x, t, null)
        return torch.lerp(without, with_text, scale)

    return closure
