"""From pixels to tracks.

1. `masks.py`: each pixel is explained by the palette; a colour that fills solid patches has a mask.
2. `fitting.py`: every shape is fitted to every mask by least squares; colours that follow each
   other in place are one object that changed its colour.
3. Here: the shape with the least squares over all frames wins, and its places make the track.

Nothing here sees the scene, the caption or the candidate that is being judged.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from t2v_mini.world.fitting import fit_shapes, rows_of_things
from t2v_mini.world.masks import explain_pixels, working_copy
from t2v_mini.world.render import coverage
from t2v_mini.world.scene import Tracks
from t2v_mini.world.vocabulary import SHAPES

UNEXPLAINED = 0.30  # above this share of squares left over, the shape cannot be told
LOST = 0.55  # an object hidden by more than this share is not seen in that frame


def perceive(video: Float[Tensor, "B 3 F H W"]) -> list[Tracks]:
    """Read the tracks of every clip from its pixels alone; values in [-1, 1]."""
    video = working_copy(video.float())
    masks = explain_pixels(video)
    fits = fit_shapes(masks)
    things: list[list[np.ndarray]] = [[] for _ in video]
    if len(fits.owner):
        for rows in rows_of_things(fits):
            things[int(fits.owner[rows[0], 0])].append(rows.cpu().numpy())
    columns = [v.cpu().numpy() for v in (fits.places, fits.squares, fits.total, fits.owner)]
    return [_assemble(rows, masks.weight[clip], *columns) for clip, rows in enumerate(things)]


def _assemble(things, weight: Float[Tensor, "K F H W"], places, squares, total, owner) -> Tracks:
    frames, height, width = weight.shape[1:]
    side, count = min(height, width), len(things)
    x, y, r = (np.zeros((count, frames)) for _ in range(3))
    visible = np.zeros((count, frames), dtype=bool)
    color = np.zeros((count, frames), dtype=int)
    names, shapes = [], []
    for i, rows in enumerate(things):
        sums = squares[rows].sum(0)
        shape = int(sums.argmin())
        shapes.append(shape)
        names.append(SHAPES[shape] if sums[shape] < UNEXPLAINED * total[rows].sum() else None)
        at = owner[rows, 2]
        x[i, at], y[i, at], r[i, at] = places[rows, shape].T / side
        visible[i, at], color[i, at] = True, owner[rows, 1]
    hidden = np.zeros((count, count, frames))
    if count > 1:
        hidden = _hidden_shares(weight, x, y, r, visible, color, shapes)
        visible &= hidden.sum(1) < LOST
    return Tracks(tuple(names), x, y, r, visible, color, hidden, (height / side, width / side))


def _hidden_shares(weight, x, y, r, visible, color, shapes) -> np.ndarray:
    """Share of each fitted shape that lies on pixels of another object's colour."""
    frames, height, width = weight.shape[1:]
    side, count = min(height, width), len(shapes)
    hidden = np.zeros((count, count, frames))
    for i in range(count):
        touching = np.zeros(frames, dtype=bool)
        for j in range(count):
            near = np.maximum(np.abs(x[i] - x[j]), np.abs(y[i] - y[j])) < r[i] + r[j]
            touching |= (i != j) & near & visible[i] & visible[j]
        at = np.nonzero(touching)[0]
        if len(at) == 0:
            continue
        place = [
            torch.as_tensor(v[i, at] * side, dtype=torch.float32, device=weight.device) for v in (x, y, r)
        ]
        own = coverage(SHAPES[shapes[i]], *place, height, width)
        for j in range(count):
            if j != i:
                other = weight[torch.as_tensor(color[j, at]), torch.as_tensor(at)].clamp(0, 1)
                # At a common edge both have a share of the pixel: only what exceeds the whole is hidden.
                share = (own + other - 1).clamp_min(0).sum((-2, -1)) / own.sum((-2, -1)).clamp_min(1e-6)
                hidden[i, j, at] = share.cpu().numpy() * visible[j, at]
    return hidden
