"""Numbers that belong to a sample, and the checks that keep them from meeting the wrong axis."""

from jaxtyping import Float, Shaped
from torch import Tensor


def per_sample(values: Shaped[Tensor, "B"], like: Tensor, name: str = "t") -> Tensor:
    """Reshape one number a sample so that it broadcasts over all other axes: (B,) to (B, 1, ..., 1).

    A fixed `[:, None, None, None]` would meet the channels of a video instead, without an error
    where B equals C. Raises `ValueError` if `values` are not one a sample; `name` is what it calls them.
    """
    if like.ndim == 0 or values.shape != like.shape[:1]:
        raise ValueError(
            f"{name} must hold one number a sample, shape {tuple(like.shape[:1])}, got {tuple(values.shape)}"
        )
    return values.view(-1, *[1] * (like.ndim - 1))


def mean_per_sample(values: Float[Tensor, "B ..."]) -> Float[Tensor, "B"]:
    """The mean over all axes but the first; a sample may also be a single number."""
    return values.reshape(len(values), -1).mean(1)


def check_same_shape(name: str, value: Tensor, like_name: str, like: Tensor) -> None:
    """Raise `ValueError` if two tensors differ in shape; broadcasting would hide it."""
    if value.shape != like.shape:
        raise ValueError(
            f"{name} must have the shape of {like_name}, {tuple(like.shape)}, got {tuple(value.shape)}"
        )
