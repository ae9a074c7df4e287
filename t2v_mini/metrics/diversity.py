"""Spread: how much of the world's variation in what a caption leaves free a generator keeps."""

from collections import defaultdict

import numpy as np
from jaxtyping import Float
from torch import Tensor

from t2v_mini.world import COLOR_NAMES, Facts
from t2v_mini.world.perception import perceive
from t2v_mini.world.scene import Tracks

FREE = ("x", "y", "r", "speed")


def free_quantities(tracks: Tracks, color: str) -> Float[np.ndarray, "4"] | None:
    """Start (x, y), start radius and speed of the object of a colour; `None` where it is not seen.

    Lengths are in shorter sides, the speed in shorter sides a clip.
    """
    for i in range(len(tracks.shape)):
        seen = np.nonzero(tracks.visible[i])[0]
        if len(seen) < 3 or COLOR_NAMES[tracks.color[i, seen[0]]] != color:
            continue
        x, y, r = (v[i, seen] for v in (tracks.x, tracks.y, tracks.r))
        time = max(seen[-1] - seen[0], 1) / (tracks.x.shape[1] - 1)
        way = np.hypot(np.diff(x), np.diff(y)).sum()
        return np.array([x[0], y[0], r[0], way / time])
    return None


def spread_ratio(
    generated: Float[Tensor, "B 3 F H W"], data: Float[Tensor, "B 3 F H W"], claims: list[Facts]
) -> float:
    """Variation of start, size and speed among generated clips over that among the world's clips.

    Both are read from pixels, for the same claims. Standard deviations are taken among objects
    of equal motion and size, each quantity is divided by its deviation in the data, and the
    ratio is averaged over the quantities. 1 is the world's own variation; below 0.7 is collapse.
    Only objects that are found in the generated clip enter, on both sides.
    """
    groups: dict[tuple, list[tuple]] = defaultdict(list)
    step = 64
    for start in range(0, len(claims), step):
        pair = (perceive(generated[start : start + step]), perceive(data[start : start + step]))
        for claim, ours, theirs in zip(claims[start : start + step], *pair, strict=True):
            for thing in claim.objects:
                both = free_quantities(ours, thing.color), free_quantities(theirs, thing.color)
                if both[0] is not None and both[1] is not None:
                    groups[thing.motion, thing.size].append(both)
    ours, theirs, weight = np.zeros(4), np.zeros(4), 0
    for pairs in groups.values():
        if len(pairs) >= 3:
            values = np.array(pairs)  # N 2 4
            variance = values.var(axis=0, ddof=1) * len(pairs)
            ours, theirs, weight = ours + variance[0], theirs + variance[1], weight + len(pairs)
    if not weight:
        return float("nan")
    return float(np.sqrt(ours / np.maximum(theirs, 1e-12)).mean())
