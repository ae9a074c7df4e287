"""The contrastive loss that brings clips and their captions together."""

import hashlib
import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class ContrastiveLoss(nn.Module):
    """Symmetric cross-entropy over all pairs of a batch, learned temperature (CLIP, Radford et al. 2021).

    Several captions may be true of a clip. Each row's target is then uniform over its positives, as in
    UniCL (Yang et al. 2022), and the target's entropy is subtracted: the gradient is UniCL's, and
    the least possible value is 0 for any batch. With one positive a row this is CLIP's loss.

    Under `torch.distributed` the batches of all ranks are gathered, with gradients; the mean of the
    ranks' losses is the loss of the whole batch.
    """

    def __init__(self, temperature: float = 0.07, largest_scale: float = 100.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.largest = math.log(largest_scale)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))

    @property
    def scale(self) -> Float[Tensor, ""]:
        """What cosines are multiplied with; bounded, or training could sharpen it without end."""
        return self.log_scale.clamp(max=self.largest).exp()

    def forward(
        self,
        video: Float[Tensor, "B D"],
        text: Float[Tensor, "B D"],
        labels: Int[Tensor, "B"] | None = None,
        positives: Bool[Tensor, "B B"] | None = None,
    ) -> Float[Tensor, ""]:
        """The loss of clips and captions in matching order; the features need not be normalised.

        Equal `labels` mark captions that say the same. Finer than that, `positives[i, j]` says that
        caption j is true of clip i. Raises `ValueError` for batches that differ, for a whole batch
        of fewer than 2 pairs, for both kinds of positives at once, and for `positives` on several
        ranks or without a true entry in each row and column.
        """
        if video.shape != text.shape:
            raise ValueError(
                f"video and text must have one shape, got {tuple(video.shape)} and {tuple(text.shape)}"
            )
        if labels is not None and positives is not None:
            raise ValueError("labels and positives exclude each other, got both")
        video, text = F.normalize(video, dim=-1), F.normalize(text, dim=-1)
        videos, texts = gather(video), gather(text)
        if len(videos) < 2:
            raise ValueError(f"the batch must hold at least 2 pairs, got {len(videos)}")
        if positives is None:
            if labels is None:
                first = len(video) * _rank()
                labels = torch.arange(first, first + len(video), device=video.device)
            rows = columns = labels[:, None] == gather(labels)[None, :]
        elif len(videos) != len(video):
            raise ValueError("positives need one process: on several ranks, pass labels")
        elif not (positives.any(0).all() and positives.any(1).all()):
            raise ValueError("positives must hold a true entry in each row and column")
        else:
            rows, columns = positives, positives.T
        to_text = divergence(self.scale * video @ texts.T, rows)
        to_video = divergence(self.scale * text @ videos.T, columns)
        return (to_text + to_video) / 2


def divergence(logits: Float[Tensor, "B G"], positives: Bool[Tensor, "B G"]) -> Float[Tensor, ""]:
    """Mean Kullback-Leibler divergence from softmax(logits) to the uniform target over the positives."""
    count = positives.sum(1)
    chosen = logits.log_softmax(1).masked_fill(~positives, 0.0).sum(1) / count
    return -(chosen + count.log()).mean()


def gather(x: Tensor) -> Tensor:
    """The tensors of all ranks, one after the other, with gradients; `x` itself in a single process."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return x
    if x.is_floating_point():
        from torch.distributed.nn.functional import all_gather

        return torch.cat(all_gather(x.contiguous()))
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def caption_labels(captions: list[str]) -> Int[Tensor, "B"]:
    """One number for each text, the same in every process: equal captions, equal labels."""
    digests = [hashlib.sha256(text.encode()).digest()[:8] for text in captions]
    return torch.tensor([int.from_bytes(d, "big") >> 1 for d in digests], dtype=torch.long)
