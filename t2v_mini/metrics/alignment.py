"""How well text and video agree: retrieval, order in time, binding."""

import torch
from jaxtyping import Float
from torch import Tensor


def recall_at(similarity: Float[Tensor, "N N"], k: int = 1) -> tuple[float, float]:
    """Recall at k from text to video and from video to text; row i and column i belong together.

    A hit is a partner among the k most similar; among equals, the partner comes last, so that a
    constant similarity scores nothing. Raises `ValueError` for a matrix that is not square and
    for k out of range.
    """
    count = len(similarity)
    if similarity.shape != (count, count):
        raise ValueError(f"similarity must be square, got {tuple(similarity.shape)}")
    if not 1 <= k <= count:
        raise ValueError(f"k must be from 1 to {count}, got {k}")
    own = similarity.diagonal()
    others = ~torch.eye(count, dtype=torch.bool)
    better_clips = ((similarity >= own[None, :]) & others).sum(0)
    better_texts = ((similarity >= own[:, None]) & others).sum(1)
    return (better_clips < k).float().mean().item(), (better_texts < k).float().mean().item()


def preferred(right: Float[Tensor, "N"], wrong: Float[Tensor, "N"], tolerance: float = 1e-5) -> float:
    """Share of pairs in which the right one scores higher; a difference within the tolerance counts half."""
    higher = (right > wrong + tolerance).float()
    tied = ((right - wrong).abs() <= tolerance).float()
    return (higher + 0.5 * tied).mean().item()
