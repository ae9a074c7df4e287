"""What a denoiser is conditioned on, and how it enters a block."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass
class TextCondition:
    """A batch of encoded captions: one vector a token, which of them are words, and one vector in all."""

    tokens: Float[Tensor, "B L D"]
    mask: Bool[Tensor, "B L"]
    pooled: Float[Tensor, "B D"]


def modulate(
    x: Float[Tensor, "B N D"], shift: Float[Tensor, "B D"], scale: Float[Tensor, "B D"]
) -> Float[Tensor, "B N D"]:
    """Scale by 1 + `scale`, then shift; one vector a sample for all its tokens (DiT, Peebles & Xie 2023)."""
    return x * (1 + scale[:, None]) + shift[:, None]
