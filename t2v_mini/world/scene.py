"""Scenes: exact geometry in continuous time, and its sampling into tracks.

Lengths are in units of the canvas' shorter side, x to the right and y down from the top left
corner; the clip runs from time 0 (first frame) to 1 (last frame). A scene therefore has no
resolution and no frame count until it is drawn.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from t2v_mini.world.palette import COLOR_NAMES
from t2v_mini.world.vocabulary import SHAPES, Facts

MIN_FRAMES, MIN_SIDE = 8, 16


@dataclass(frozen=True)
class Thing:
    """One object: a shape that follows a path, and may change colour or be there for a while only.

    `path` holds key frames `(time, x, y, r)` with increasing times from 0 to 1; between them
    everything is linear. Every shape fits its box of half-width `r` around `(x, y)`.
    Before `turns_at` the object has `color`,
    from then on `turns_to`. It is there while `appears_at <= time < vanishes_at`.
    """

    shape: str
    color: str
    path: tuple[tuple[float, float, float, float], ...]
    depth: float = 0.0
    turns_at: float | None = None
    turns_to: str | None = None
    appears_at: float = 0.0
    vanishes_at: float = 2.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {self.shape!r}")
        for color in (self.color, self.turns_to):
            if color is not None and color not in COLOR_NAMES:
                raise ValueError(f"color must be one of {', '.join(COLOR_NAMES)}, got {color!r}")
        if (self.turns_at is None) != (self.turns_to is None):
            raise ValueError("turns_at and turns_to must be given together")
        keys = np.asarray(self.path, dtype=float)
        if keys.ndim != 2 or keys.shape[1] != 4 or not np.isfinite(keys).all():
            raise ValueError(f"path must hold finite key frames (time, x, y, r), got {self.path!r}")
        if keys[0, 0] > 0 or keys[-1, 0] < 1 or (np.diff(keys[:, 0]) <= 0).any():
            raise ValueError(f"path times must increase from 0 to 1, got {keys[:, 0].tolist()}")
        if (keys[:, 3] <= 0).any():
            raise ValueError(f"path radii must be positive, got {keys[:, 3].tolist()}")


@dataclass(frozen=True)
class Scene:
    """Up to three things, the canvas they move on, and the facts they were drawn to satisfy.

    `canvas` is (height, width) in units of the shorter side. Smaller `depth` is nearer.
    """

    things: tuple[Thing, ...]
    facts: Facts
    canvas: tuple[float, float] = (1.0, 1.0)
    level: int = field(default=1, compare=False)

    def __post_init__(self) -> None:
        if not self.things:
            raise ValueError("things must hold at least one object, got none")
        if len(self.things) != len(self.facts.objects):
            raise ValueError(
                f"facts must describe each of the {len(self.things)} things, got {len(self.facts.objects)}"
            )
        if abs(min(self.canvas) - 1.0) > 1e-6:
            raise ValueError(f"canvas must have a shorter side of 1, got {self.canvas}")


@dataclass
class Tracks:
    """Objects by frames: what a scene's geometry gives exactly and a clip's pixels approximately.

    `color` holds indices into `COLOR_NAMES`; where `visible` is false the entries mean nothing.
    `hidden[i, j, f]` is the share of object i that object j covers in frame f.
    """

    shape: tuple[str | None, ...]
    x: Float[np.ndarray, "N F"]
    y: Float[np.ndarray, "N F"]
    r: Float[np.ndarray, "N F"]
    visible: Bool[np.ndarray, "N F"]
    color: Int[np.ndarray, "N F"]
    hidden: Float[np.ndarray, "N N F"]
    canvas: tuple[float, float] = (1.0, 1.0)


def frame_times(frames: int) -> Float[np.ndarray, "F"]:
    """Times of the frames, evenly spaced from 0 to 1."""
    if not isinstance(frames, int) or frames < 1:
        raise ValueError(f"frames must be a positive integer, got {frames!r}")
    return np.linspace(0.0, 1.0, frames) if frames > 1 else np.zeros(1)


def follow(thing: Thing, times: Float[np.ndarray, "F"]) -> Float[np.ndarray, "3 F"]:
    """Position and radius (x, y, r) of a thing at the given times."""
    path = thing.path
    keys = [key[0] for key in path]
    return np.stack([np.interp(times, keys, [key[axis] for key in path]) for axis in (1, 2, 3)])


def geometry(scene: Scene, frames: int) -> Tracks:
    """Sample the exact tracks of a scene, occlusion included, at `frames` frames."""
    times = frame_times(frames)
    places = np.stack([follow(thing, times) for thing in scene.things])
    x, y, r = places[:, 0], places[:, 1], places[:, 2]
    things = scene.things
    visible = np.stack([presence(thing, times) for thing in things])
    color = np.stack([color_track(t, times) for t in things])
    hidden = np.zeros((len(things), len(things), frames))
    for i, back in enumerate(things):
        for j, front in enumerate(things):
            if front.depth < back.depth:
                hidden[i, j] = _hidden_share(things, places, visible, i, j)
    return Tracks(tuple(t.shape for t in things), x, y, r, visible, color, hidden, scene.canvas)


def presence(thing: Thing, times: Float[np.ndarray, "F"]) -> Bool[np.ndarray, "F"]:
    """Whether a thing is there at the given times."""
    return (times >= thing.appears_at) & (times < thing.vanishes_at)


def color_track(thing: Thing, times: Float[np.ndarray, "F"]) -> Int[np.ndarray, "F"]:
    """Index of a thing's colour in `COLOR_NAMES` at the given times."""
    color = np.full(len(times), COLOR_NAMES.index(thing.color))
    if thing.turns_at is not None:
        color[times >= thing.turns_at] = COLOR_NAMES.index(thing.turns_to)
    return color


def inside(shape: str, x: np.ndarray, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Whether points (x, y), relative to the centre of the box of half-width r, lie in the shape.

    A circle has radius r, a square side 2r; a triangle has base 2r at the bottom, height 2r and
    its apex at the top.
    """
    if shape == "circle":
        return x**2 + y**2 <= r**2
    in_box = (np.abs(x) <= r) & (np.abs(y) <= r)
    return in_box if shape == "square" else in_box & (np.abs(x) <= (y + r) / 2)


def _cover(things, places, i: int, j: int, frames: np.ndarray, grid: int = 24):
    """Grid points (F, rows, columns) inside thing i, those that thing j covers, and where they are."""
    xi, yi, ri = places[i][:, frames, None, None]
    xj, yj, rj = places[j][:, frames, None, None]
    ticks = (np.arange(grid) + 0.5) / grid * 2
    px, py = ticks * ri - ri, ticks[:, None] * ri - ri
    own = inside(things[i].shape, px, py, ri)
    return own, own & inside(things[j].shape, px + xi - xj, py + yi - yj, rj), px / ri, py / ri


def _hidden_share(things, places, visible, i: int, j: int) -> np.ndarray:
    """Share of thing i that thing j covers in each frame, by counting grid points inside both."""
    share = np.zeros(places.shape[-1])
    apart = np.abs(places[i, :2] - places[j, :2]).max(axis=0) > places[i, 2] + places[j, 2]
    frames = np.nonzero(~apart & visible[i] & visible[j])[0]
    own, covered, _, _ = _cover(things, places, i, j, frames)
    share[frames] = covered.sum((1, 2)) / own.sum((1, 2))
    return share


def recognisable(things: tuple[Thing, ...], back: int, front: int, times: Float[np.ndarray, "F"]) -> bool:
    """Whether what is left of a thing behind another shows three sides of its box in every frame.

    A side is shown when at least three fifths of the outer fifth of the shape towards it is free. Less
    would leave open what it is: a triangle whose base is hidden looks like a smaller one.
    """
    places = np.stack([follow(thing, times) for thing in things])
    places[front, 2] += 1.5 / 32  # what is free by about a pixel of the smallest canvas is not seen
    own, covered, px, py = _cover(things, places, back, front, np.arange(len(times)))
    lost = 0
    for side in (px, -px, py, -py):
        band = own & (side > 0.8)
        lost = lost + ((band & covered).sum((1, 2)) > 0.4 * band.sum((1, 2)))
    return bool((lost <= 1).all())
