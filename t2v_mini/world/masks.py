"""Which pixels belong to which colour: each is explained by the world's palette.

A pixel is background plus a share of one colour, or, where two objects meet, a mixture of their
two colours. The shares of a colour are its *mask*.
"""

from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from t2v_mini.world.render import palette_tensor

WORKING_SIDE = 32  # larger clips are averaged down to about this many pixels
SOLID, LEAST_FRAMES = (
    2,
    0.12,
)  # a colour of the clip has 2 pixels with 4 equal neighbours, in 12 % of the frames
NEAR = 3  # pixels: what is farther from the next block of its colour does not belong to the object
BLOCKS = 2  # and is present in a frame with two blocks of 2 x 2 equal pixels


@dataclass
class Masks:
    """Per clip: the weight of each palette colour in each pixel, and where it is present."""

    weight: Float[Tensor, "B K F H W"]
    present: Bool[Tensor, "B K F"]


def working_copy(video: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, "B 3 F h w"]:
    """The clip averaged down to a shorter side of 32 to 63 pixels; smaller ones stay as they are."""
    height, width = video.shape[-2:]
    factor = min(height, width) // WORKING_SIDE
    if factor <= 1:
        return video
    size = (round(height / factor), round(width / factor))
    flat = F.interpolate(video.transpose(1, 2).flatten(0, 1), size=size, mode="area")
    return flat.unflatten(0, (len(video), -1)).transpose(1, 2)


def explain_pixels(video: Float[Tensor, "B 3 F H W"]) -> Masks:
    """Explain each pixel as background plus a share of one colour that is present in the clip."""
    palette = palette_tensor(video.device)
    pixels = video - palette[-1].view(1, 3, 1, 1, 1)
    direction = palette[:-1] - palette[-1]  # K 3
    norm = direction.square().sum(1).view(1, -1, 1, 1, 1)
    dot = torch.einsum("bcfhw,kc->bkfhw", pixels, direction)
    share = (dot / norm).clamp(0, 1)
    error = share.square() * norm - 2 * share * dot  # plus |pixel|^2, the same for every colour
    label = error.argmin(1, keepdim=True)
    label = torch.where(share.gather(1, label) > 0.5, label, -1)
    own = label == torch.arange(len(direction), device=video.device).view(1, -1, 1, 1, 1)
    solid = own.clone()
    for axis in (-2, -1):
        for shift in (-1, 1):
            solid &= _shifted(own, shift, axis)
    lasting = (solid.sum((-2, -1)) >= SOLID).float().mean(-1) >= LEAST_FRAMES
    # Where antialiased edges of two objects meet they mix to a third colour, but never two pixels thick.
    block = own[..., 1:, 1:] & own[..., :-1, 1:] & own[..., 1:, :-1] & own[..., :-1, :-1]
    present = (block.sum((-2, -1)) >= BLOCKS) & lasting[..., None]
    used = present.any(-1)[:, :, None, None, None]
    best = error.masked_fill(~used, torch.inf).argmin(1, keepdim=True)
    kept = (best == torch.arange(len(direction), device=video.device).view(1, -1, 1, 1, 1)) & used
    # The mixed edges of two objects can have a third one's colour: only what is near its blocks is its.
    near = torch.zeros_like(kept)
    here = used[:, :, 0, 0, 0]
    near[here] = dilate(F.pad(block[here], (0, 1, 0, 1)), NEAR)
    weight = (dot / norm).clamp(-0.5, 1.5) * (kept & near)
    least = error.masked_fill(~used, torch.inf).amin(1)
    for clip in (here.sum(1) > 1).nonzero()[:, 0].tolist():
        colors = here[clip].nonzero()[:, 0].tolist()
        _unmix_edges(pixels[clip], direction, least[clip], near[clip], colors, weight[clip])
    return Masks(weight, present)


def _unmix_edges(pixels, direction, least, near, colors: list[int], weight) -> None:
    """Where two objects meet, explain pixels as a mixture of their two colours if that fits better."""
    for i, j in combinations(colors, 2):
        both = near[i] & near[j]
        if not both.any():
            continue
        line = direction[i] - direction[j]
        point = pixels[:, both]  # 3 N
        share = ((point - direction[j][:, None]) * line[:, None]).sum(0).div(line.square().sum()).clamp(0, 1)
        mixed = direction[j][:, None] + share * line[:, None]
        error = (point - mixed).square().sum(0) - point.square().sum(0)  # the same constant as in `least`
        better = error < least[both]
        spot = both.clone()
        spot[both] = better
        least[spot] = error[better]
        weight[:, spot] = 0
        weight[i, spot], weight[j, spot] = share[better], 1 - share[better]


def _shifted(mask: Bool[Tensor, "*n H W"], shift: int, axis: int) -> Bool[Tensor, "*n H W"]:
    """The mask moved by one pixel; what comes in from outside counts as set."""
    moved = mask.roll(shift, axis)
    moved.narrow(axis, 0 if shift > 0 else mask.shape[axis] - 1, 1).fill_(True)
    return moved


def dilate(mask: Bool[Tensor, "*n H W"], radius: int) -> Bool[Tensor, "*n H W"]:
    """Grow a mask by `radius` pixels in both axes."""
    for axis in (-2, -1):
        grown, size = mask.clone(), mask.shape[axis]
        for shift in range(1, radius + 1):
            head, tail = (0, size - shift), (shift, size - shift)
            grown.narrow(axis, *head).logical_or_(mask.narrow(axis, *tail))
            grown.narrow(axis, *tail).logical_or_(mask.narrow(axis, *head))
        mask = grown
    return mask
