"""Classifier-free guidance (Ho & Salimans 2022) and its rescale (Lin et al. 2023)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from t2v_mini.diffusion.broadcast import per_sample


def guided(
    predict: Callable[[Tensor, Tensor, object], Tensor],
    condition,
    null,
    scale: float,
    rescale: float = 0.0,
    interval: tuple[float, float] = (0.0, float("inf")),
) -> Callable[[Tensor, Tensor], Tensor]:
    """Close a conditional prediction over its text: null + scale * (conditional - null).

    Scale 1 means no guidance, scale 0 no text; both cost one denoiser call a step, any other scale
    costs two. A large scale widens the prediction and with it the contrast; `rescale` in [0, 1] brings
    the standard deviation of each sample back towards that of the conditional prediction. Outside the
    `interval` of times, ends included, there is no guidance and no second call (Kynkaanniemi et
    al. 2024). A negative prompt is one that takes the place of the null prompt.
    Raises `ValueError` for a scale that is negative or not finite, a rescale outside [0, 1], and
    an interval whose ends are not in order.
    """
    if not isinstance(scale, int | float) or not 0 <= scale < float("inf"):
        raise ValueError(f"guidance must be a finite number >= 0, got {scale!r}")
    if not isinstance(rescale, int | float) or not 0 <= rescale <= 1:
        raise ValueError(f"rescale must be in [0, 1], got {rescale!r}")
    low, high = interval
    if not low <= high:
        raise ValueError(f"interval must be a pair (low, high) with low <= high, got {interval!r}")
    if scale == 1:
        return lambda x, t: predict(x, t, condition)

    def closure(x: Tensor, t: Tensor) -> Tensor:
        if not ((t >= low) & (t <= high)).all():
            return predict(x, t, condition)
        without = predict(x, t, null)
        if scale == 0 and not rescale:
            return without
        with_text = predict(x, t, condition)
        prediction = torch.lerp(without, with_text, scale)
        return rescaled(prediction, with_text, rescale) if rescale else prediction

    return closure


def rescaled(
    prediction: Float[Tensor, "B ..."], with_text: Float[Tensor, "B ..."], rescale: float
) -> Float[Tensor, "B ..."]:
    """Move each sample's standard deviation towards that of the conditional prediction.

    Lin et al. 2023, section 3.4; `rescale` in [0, 1] is the share of the way.
    """
    # One row a sample, so that a sample may also be a single number.
    wide, narrow = (z.reshape(len(z), -1).std(1, correction=0) for z in (prediction, with_text))
    # A constant prediction has no spread to correct.
    ratio = torch.where(wide > 0, narrow / wide, 1.0)
    return prediction * (rescale * per_sample(ratio, prediction) + 1 - rescale)
