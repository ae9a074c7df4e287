"""The judge: does a clip show what its caption says?"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from t2v_mini.world.caption import parse
from t2v_mini.world.definitions import measure
from t2v_mini.world.perception import perceive
from t2v_mini.world.scene import MIN_FRAMES, MIN_SIDE
from t2v_mini.world.verdict import Verdict, compare
from t2v_mini.world.vocabulary import Facts

BATCH_PIXELS = 1 << 20  # pixels read at once


def check_video(video: Tensor) -> None:
    """Raise `ValueError` unless the video is a finite float tensor (B, 3, F, H, W) in [-1, 1].

    A slight overshoot, as samplers make, is allowed up to 1.5.
    """
    if not isinstance(video, Tensor):
        raise ValueError(f"video must be a torch.Tensor, got {type(video).__name__}")
    if video.ndim != 5 or video.shape[1] != 3:
        raise ValueError(f"video must have the shape (B, 3, F, H, W), got {tuple(video.shape)}")
    if not video.dtype.is_floating_point:
        raise ValueError(f"video must be a float tensor in [-1, 1], got {video.dtype}")
    least = (MIN_FRAMES, MIN_SIDE, MIN_SIDE)
    if any(size < low for size, low in zip(video.shape[2:], least, strict=True)):
        raise ValueError(
            f"video must have at least {least} frames, rows and columns, got {tuple(video.shape[2:])}"
        )
    if not torch.isfinite(video).all():
        raise ValueError("video must be finite, got NaN or infinity")
    if video.numel() and video.abs().max() > 1.5:
        low, high = video.min().item(), video.max().item()
        raise ValueError(f"video must lie in [-1, 1], got values from {low:.3g} to {high:.3g}")


@torch.no_grad()
def read_facts(video: Float[Tensor, "B 3 F H W"]) -> list[Facts]:
    """Read the facts of every clip from its pixels alone."""
    check_video(video)
    step = max(1, BATCH_PIXELS // video[0, 0].numel()) if len(video) else 1
    return [measure(tracks) for part in video.split(step) for tracks in perceive(part)]


def judge(video: Shaped[Tensor, "B 3 F H W"], captions: list[str]) -> list[Verdict]:
    """Judge each clip against its caption, fact by fact.

    Raises `ValueError` for a video of another shape or range and for a number of captions that
    differs from the number of clips, and `CaptionError` for a caption that cannot be read.
    """
    check_video(video)
    if isinstance(captions, str) or len(captions) != len(video):
        raise ValueError(f"captions must be a list of {len(video)} strings, one a clip, got {captions!r:.80}")
    claims = [parse(text) for text in captions]
    return judge_claims(video, claims, list(captions))


def judge_claims(
    video: Float[Tensor, "B 3 F H W"], claims: list[Facts], captions: list[str] | None = None
) -> list[Verdict]:
    """Judge each clip against a claim that is at hand already, without its wording."""
    captions = captions if captions is not None else [""] * len(claims)
    found = read_facts(video)
    return [
        Verdict(text, compare(claim, facts))
        for text, claim, facts in zip(captions, claims, found, strict=True)
    ]
