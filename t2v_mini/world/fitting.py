"""Shapes by synthesis: candidates are drawn and the least squares win.

In every frame each shape is fitted to a mask: position and radius by Gauss-Newton on the
renderer's own `coverage`, from the mask's moments; where other objects touch it, also as a thing
that goes on behind them.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from t2v_mini.world.masks import Masks, dilate
from t2v_mini.world.palette import COLOR_NAMES
from t2v_mini.world.render import coverage
from t2v_mini.world.vocabulary import SHAPES

ITERATIONS, STEP, DAMPING = 7, 0.3, 1e-2  # Gauss-Newton; STEP in pixels for the differences
GAIN, GAIN_PIXELS = 0.01, 0.15  # squares that a reading as partly hidden must save in each frame
TRUST = 0.4  # squares per squared pixel of distance from the expected course
WHOLE = 0.85  # share of a track's largest mask from which on a touched frame counts as telling
STARTS = ((1.0, 0.0), (1.15, 0.2), (1.3, 0.45), (1.5, 0.8))  # factor of the radius, shift over radius
AGREES = 0.06  # share by which a radius may miss the straight line and still count as telling
CHUNK = 2048  # masks fitted at once
_AREA = {"circle": torch.pi, "square": 4.0, "triangle": 2.0}  # area over radius squared


@dataclass
class Fits:
    """Least-squares fits of every shape to every (clip, colour, frame) where the colour is present.

    Rows are sorted by clip, colour and frame. Colours of one clip that follow each other in place
    share an object number.
    """

    owner: Int[Tensor, "P 3"]  # clip, colour, frame
    thing: Int[Tensor, "P"]
    places: Float[Tensor, "P S 3"]  # x, y, r in pixels, for every shape
    squares: Float[Tensor, "P S"]  # squares left over
    total: Float[Tensor, "P"]  # squares to explain


def fit_shapes(masks: Masks) -> Fits:
    """Fit a circle, a square and a triangle to every present mask.

    Every mask is first taken as wholly visible. Where other objects touch it, it is fitted again
    as a thing that may go on behind them, from several starts, near the course that its
    untouched frames suggest. A track keeps the second reading when that explains clearly more.
    """
    owner = masks.present.transpose(1, 2).nonzero()[:, [0, 2, 1]]  # clip, colour, frame
    owner = owner[(owner[:, 0] * 10**6 + owner[:, 1] * 10**4 + owner[:, 2]).argsort()]
    if not len(owner):
        empty = masks.weight.new_zeros
        return Fits(owner, owner[:, 0], empty(0, len(SHAPES), 3), empty(0, len(SHAPES)), empty(0))
    parts = [_fit_visible(masks, rows) for rows in owner.split(CHUNK)]
    places, squares, total, touched = (torch.cat(column) for column in zip(*parts, strict=True))
    fits = Fits(owner, _link(owner, places, squares), places, squares, total)
    rows = touched.nonzero()[:, 0]
    if len(rows):
        _refit_hidden(masks, fits, rows, touched)
    return fits


def _link(
    owner: Int[Tensor, "P 3"], places: Float[Tensor, "P S 3"], squares: Float[Tensor, "P S"]
) -> Int[Tensor, "P"]:
    """Number the objects: one colour each, or colours that begin where and when another one ends."""
    clip, color, frame = owner.cpu().numpy().T
    places, squares = places.cpu().numpy(), squares.cpu().numpy()
    edges = np.flatnonzero(np.diff(clip * len(COLOR_NAMES) + color)) + 1
    tracks = np.split(np.arange(len(owner)), edges)
    tracks.sort(key=lambda rows: (clip[rows[0]], frame[rows[0]]))
    thing = np.zeros(len(owner), dtype=np.int64)
    open_ends: list[np.ndarray] = []
    for number, rows in enumerate(tracks):
        thing[rows] = number
        open_ends = [end for end in open_ends if clip[end[0]] == clip[rows[0]]]
        for k, end in enumerate(open_ends):
            if _continues(frame, places, squares, end, rows):
                thing[rows] = thing[end[0]]
                del open_ends[k]
                break
        open_ends.append(rows)
    return torch.as_tensor(thing, device=owner.device)


def _continues(frame, places, squares, old, new) -> bool:
    """Whether a colour begins where and when another one ends."""
    if not 1 <= frame[new[0]] - frame[old[-1]] <= 2 or min(len(old), len(new)) < 2:
        return False
    best = squares[old].sum(0).argmin()
    here, there = places[old[-1], best], places[new[0], best]
    return bool(
        np.abs(here[:2] - there[:2]).max() < max(2.5, 0.6 * here[2]) and 0.6 < here[2] / there[2] < 1.7
    )


def _cut_out(masks: Masks, owner: Int[Tensor, "P 3"]) -> tuple[Float[Tensor, "P H W"], Bool[Tensor, "P H W"]]:
    """Each row's own mask, and the pixels that other colours occupy."""
    clip, color, frame = owner.unbind(1)
    frames = masks.weight[clip, :, frame]  # P K H W
    mask = frames.gather(1, color.view(-1, 1, 1, 1).expand(-1, 1, *frames.shape[-2:]))[:, 0]
    return mask, (frames > 0.3).any(1) & ~(mask > 0.3)


def _fit_visible(masks: Masks, owner: Int[Tensor, "P 3"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mask, others = _cut_out(masks, owner)
    near = dilate(mask > 0.3, 2)
    touched = (others & near).flatten(1).any(1)
    places, squares = _gauss_newton(mask, torch.ones_like(mask), _from_moments(mask * near))
    return places, squares, mask.square().flatten(1).sum(1), touched


def _refit_hidden(masks: Masks, fits: Fits, rows: Int[Tensor, "R"], touched: Bool[Tensor, "P"]) -> None:
    """Refit the touched rows with the others' pixels unknown; keep that where it explains more."""
    first, free = fits.places[rows], ~touched
    course, trust = _expected_course(fits, rows, free | _shows_most(fits))
    places, squares = _best_of_starts(masks, fits.owner[rows], first, course, trust, STARTS)
    # Once more near the course of the frames that agree on the size: a single frame may go astray.
    second = replace(fits, places=fits.places.clone(), squares=fits.squares.clone())
    second.places[rows], second.squares[rows] = places, squares
    course, trust = _expected_course(second, rows, free | _agrees_in_size(second), of_all=True)
    places, squares = _best_of_starts(masks, fits.owner[rows], places, course, trust, STARTS[:1])
    things, member = fits.thing[rows].unique(return_inverse=True)
    clip = torch.zeros_like(things).scatter_(0, member, fits.owner[rows, 0])
    gain = torch.zeros(len(things), device=rows.device)
    # The first reading pays for leaving the course, too.
    strayed = fits.squares[rows] + trust[:, None] * (fits.places[rows] - course).square().sum(-1)
    visible, hidden = strayed.amin(1), squares.amin(1)
    gain.index_add_(0, member, visible - hidden - GAIN * fits.total[rows] - GAIN_PIXELS)
    # Of two objects that touch, one is in front: in each clip only the largest gain counts.
    top = torch.zeros(int(clip.max()) + 1, device=rows.device).scatter_reduce_(0, clip, gain, "amax")
    chosen = ((gain > 0) & (gain >= top[clip]))[member]
    fits.places[rows[chosen]], fits.squares[rows[chosen]] = places[chosen], squares[chosen]


def _best_of_starts(masks, owner, first, course, trust, grown) -> tuple[Tensor, Tensor]:
    """Fit with the others' pixels unknown, from several starts; the least squares of each shape win."""
    places, squares = [], []
    for some in torch.arange(len(owner), device=owner.device).split(CHUNK // 4):
        mask, others = _cut_out(masks, owner[some])
        known = (~dilate(others, 1)).float()
        starts = [torch.where((trust[some] > 0)[:, None, None], course[some], first[some])]
        starts += _grown_starts(mask, others, first[some], grown)
        tries = [_gauss_newton(mask, known, start, course[some], trust[some]) for start in starts]
        least, best = torch.stack([s for _, s in tries]).min(0)
        places.append(
            torch.stack([p for p, _ in tries]).gather(0, best[None, ..., None].expand(1, -1, -1, 3))[0]
        )
        squares.append(least)
    return torch.cat(places), torch.cat(squares)


def rows_of_things(fits: Fits) -> list[Int[Tensor, "R"]]:
    """Rows of each object, in the order of their frames."""
    order = (fits.thing * 10**4 + fits.owner[:, 2]).argsort()
    counts = fits.thing[order].unique_consecutive(return_counts=True)[1]
    return list(order.split(counts.tolist()))


def _shows_most(fits: Fits) -> Bool[Tensor, "P"]:
    """Frames that show nearly the most of their object."""
    most = torch.zeros(int(fits.thing.max()) + 1, device=fits.total.device)
    most.scatter_reduce_(0, fits.thing, fits.total, "amax")
    return fits.total > WHOLE * most[fits.thing]


def _agrees_in_size(fits: Fits) -> Bool[Tensor, "P"]:
    """Frames whose radius fits the straight line through their object's radii, by the median slope."""
    agrees = np.zeros(len(fits.owner), dtype=bool)
    for s in rows_of_things(fits):
        best = int(fits.squares[s].sum(0).argmin())
        f, r = fits.owner[s, 2].cpu().numpy(), fits.places[s, best, 2].cpu().numpy()
        i, j = np.triu_indices(len(f), 1)
        slope = np.median((r[j] - r[i]) / (f[j] - f[i])) if len(i) else 0.0
        rest = r - slope * f
        agrees[s.cpu().numpy()] = np.abs(rest - np.median(rest)) < AGREES * np.median(r)
    return torch.as_tensor(agrees, device=fits.owner.device)


def _expected_course(
    fits: Fits, rows: Int[Tensor, "R"], telling: Bool[Tensor, "P"], of_all: bool = False
) -> tuple[Float[Tensor, "R S 3"], Float[Tensor, "R"]]:
    """Where the telling frames suggest that the object is in the others, or in all, and the trust in it."""
    course, trust = fits.places.clone(), torch.zeros(len(fits.owner), device=rows.device)
    asked = torch.zeros_like(telling)
    asked[rows] = True
    frames, tells, asks = (v.cpu().numpy() for v in (fits.owner[:, 2], telling, asked & (~telling | of_all)))
    for s in rows_of_things(fits):
        rows_here = s.cpu().numpy()
        known, here = (rows_here[v[rows_here]] for v in (tells, asks))
        if len(known) < 3 or len(here) == 0:
            continue
        values = fits.places[torch.as_tensor(known)].double().cpu().numpy()
        guess = np.empty((len(here), len(SHAPES), 3))
        for shape in range(len(SHAPES)):
            for axis in range(3):
                guess[:, shape, axis] = _extrapolate(
                    frames[known], values[:, shape, axis], frames[here], axis == 2
                )
        here = torch.as_tensor(here, device=rows.device)
        course[here] = torch.as_tensor(guess, dtype=course.dtype, device=rows.device)
        trust[here] = TRUST
    return course[rows], trust[rows]


def _extrapolate(times, values, asked, straight: bool):
    """Linear interpolation between known frames, and on from the nearest three beyond them."""
    if straight:
        return np.polyval(np.polyfit(times, values, 1), asked)
    guess = np.interp(asked, times, values)
    for outside, near in ((asked < times[0], slice(0, 3)), (asked > times[-1], slice(-3, None))):
        if outside.any():
            guess[outside] = np.polyval(np.polyfit(times[near], values[near], 1), asked[outside])
    return guess


def _grown_starts(mask, others, places, grown) -> list[Float[Tensor, "P S 3"]]:
    """Starts that are larger by a factor, and moved by a share of the radius towards what hides it."""
    columns = torch.arange(mask.shape[-1], device=mask.device) + 0.5
    rows = torch.arange(mask.shape[-2], device=mask.device) + 0.5
    near = (others & dilate(mask > 0.3, 2)).float()
    amount = near.flatten(1).sum(1).clamp_min(1)
    towards = torch.stack([(near.sum(1) * columns).sum(1) / amount, (near.sum(2) * rows).sum(1) / amount], 1)
    towards = towards[:, None] - places[..., :2]
    towards = towards / towards.norm(dim=-1, keepdim=True).clamp_min(1e-3)
    starts = []
    for grow, shift in grown:
        start = places.clone()
        start[..., :2] += towards * shift * places[..., 2:]
        start[..., 2] *= grow
        starts.append(start)
    return starts


def _from_moments(mask: Float[Tensor, "P H W"]) -> Float[Tensor, "P S 3"]:
    """First guess (x, y, r) of every shape from the mask's area and centre of mass."""
    columns = torch.arange(mask.shape[-1], device=mask.device) + 0.5
    rows = torch.arange(mask.shape[-2], device=mask.device) + 0.5
    area = mask.flatten(1).sum(1).clamp_min(1.0)
    x, y = (mask.sum(1) * columns).sum(1) / area, (mask.sum(2) * rows).sum(1) / area
    guesses = []
    for shape in SHAPES:
        r = (area / _AREA[shape]).sqrt()
        # The centre of mass of a triangle lies r / 3 below the centre of its box.
        guesses.append(torch.stack([x, y - r / 3 if shape == "triangle" else y, r], 1))
    return torch.stack(guesses, 1)


def _gauss_newton(
    mask: Float[Tensor, "P H W"],
    known: Float[Tensor, "P H W"],
    places: Float[Tensor, "P S 3"],
    course: Float[Tensor, "P S 3"] | None = None,
    trust: Float[Tensor, "P"] | None = None,
) -> tuple[Float[Tensor, "P S 3"], Float[Tensor, "P S"]]:
    """Minimise the squares between mask and coverage over (x, y, r), each shape on its own.

    With a `course`, `trust` times the squared distance to it is added.
    """
    height, width = mask.shape[-2:]
    eye = torch.eye(3, device=mask.device)
    best_places, best_squares = [], []
    for index, shape in enumerate(SHAPES):
        place = places[:, index].clone()
        best, least = place.clone(), place.new_full((len(place),), torch.inf)
        for iteration in range(ITERATIONS + 1):
            drawn = coverage(shape, *place.unbind(1), height, width)
            residual = (mask - drawn).mul_(known)
            squares = residual.square().flatten(1).sum(1)
            pull = (
                (course[:, index] - place) * trust[:, None] if course is not None else torch.zeros_like(place)
            )
            if course is not None:
                squares = squares + (pull * (course[:, index] - place)).sum(1)
            better = squares < least
            best[better], least[better] = place[better], squares[better]
            if iteration == ITERATIONS:
                break
            slopes = []
            for axis in range(3):
                moved = place.clone()
                moved[:, axis] += STEP
                change = coverage(shape, *moved.unbind(1), height, width).sub_(drawn)
                slopes.append(change.mul_(known / STEP).flatten(1))
            jacobian = torch.stack(slopes, 1)  # P 3 HW
            normal = jacobian @ jacobian.transpose(1, 2)
            damping = DAMPING * normal.diagonal(dim1=1, dim2=2).amax(1) + 1e-3
            if trust is not None:
                damping = damping + trust
            step = torch.linalg.solve(
                normal + eye * damping[:, None, None],
                jacobian @ residual.flatten(1)[..., None] + pull[..., None],
            )
            place = place + step[..., 0].clamp(-1.5, 1.5)
            r = place[:, 2].clamp_(0.7, min(height, width) / 2)
            for axis, size in ((0, width), (1, height)):  # objects stay in the frame
                place[:, axis] = torch.minimum(torch.maximum(place[:, axis], r - 0.5), size - r + 0.5)
        best_places.append(best)
        best_squares.append(least)
    return torch.stack(best_places, 1), torch.stack(best_squares, 1)
