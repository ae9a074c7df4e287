"""Key frames for one object that satisfies given facts, relative to a start at the origin.

All ranges are in units of the canvas' shorter side and of the clip. They keep away from the
limits in `definitions.py` on both sides, so that no scene is a borderline case.
"""

from dataclasses import dataclass

import numpy as np

from t2v_mini.world.vocabulary import AXIS_DIRECTIONS, DIRECTIONS, SPEEDS, ObjectFacts

RADIUS = {"small": (3.5 / 32, 4.3 / 32), "large": (5.6 / 32, 6.6 / 32)}
# (start radius, end radius over start radius)
GROWS = {"small": ((3.5 / 32, 4.2 / 32), (1.3, 1.6)), "large": ((5.6 / 32, 6.2 / 32), (1.3, 1.45))}
SHRINKS = {"small": ((4.5 / 32, 4.7 / 32), (0.78, 0.8)), "large": ((5.8 / 32, 6.6 / 32), (0.62, 0.75))}
SPEED = {"slowly": (0.22, 0.28), "quickly": (0.40, 0.48)}
PASSING_SPEED = (0.66, 0.74)
BOUNCE_SPEED = (0.40, 0.48)
BOUNCE_TIME = TURN_BACK_TIME = (0.42, 0.58)
STOP_TIME = (0.42, 0.58)
COLOR_TIME = (0.40, 0.60)
APPEAR_TIME, VANISH_TIME = (0.30, 0.45), (0.55, 0.70)
TURN_BACK_GAP = 0.10  # a turn keeps this far from the edge, or it would be a bounce
ORBIT_SWEEP = (0.70, 1.0)  # turns
ORBIT_KEYS = 25


@dataclass(frozen=True)
class RelativePath:
    """Key frames `(time, dx, dy, r)` from an unknown start, and where that start may lie.

    `pin` fixes one coordinate of the start: ("x" or "y", side of the frame: -1 or 1) puts the
    object against that edge at the key frame `pin_key`; `gap` keeps it that far from every edge
    at key frame `gap_key`.
    """

    keys: np.ndarray
    pin: tuple[int, int] | None = None
    pin_key: int = 1
    gap: float = 0.0
    gap_key: int = 1

    def start_range(self, canvas: tuple[float, float]) -> np.ndarray:
        """Lowest and highest start, [[x0, x1], [y0, y1]], that keeps the object in the frame."""
        height, width = canvas
        ranges = []
        for axis, size in ((0, width), (1, height)):
            offset, r = self.keys[:, 1 + axis], self.keys[:, 3]
            low, high = (r - offset).max(), (size - r - offset).min()
            if self.gap:
                moved = abs(offset[self.gap_key]) > 1e-9
                low = max(low, (r - offset)[self.gap_key] + self.gap * moved)
                high = min(high, (size - r - offset)[self.gap_key] - self.gap * moved)
            if self.pin is not None and self.pin[0] == axis:
                edge = (size - r - offset) if self.pin[1] > 0 else (r - offset)
                low = high = edge[self.pin_key]
            ranges.append((low, high))
        return np.array(ranges)


def relative_path(facts: ObjectFacts, rng: np.random.Generator, target_radius: float = 0.0) -> RelativePath:
    """Draw a path with the size, motion, speed and path event of the facts.

    An orbit circles around the origin, which is then the centre of an object of radius
    `target_radius`, and not the start.
    """
    if facts.motion in ("grows", "shrinks"):
        radii, ratios = (GROWS if facts.motion == "grows" else SHRINKS)[facts.size]
        r = rng.uniform(*radii)
        return _keys((0, 0, 0, r), (1, 0, 0, r * rng.uniform(*ratios)))
    r = rng.uniform(*RADIUS[facts.size])
    if facts.motion == "still":
        return _keys((0, 0, 0, r), (1, 0, 0, r))
    if facts.motion == "bounces":
        return _bounce(r, rng)
    if facts.motion == "orbits":
        return _orbit(r, target_radius, rng)
    direction = np.array(DIRECTIONS[facts.motion])
    if facts.event == "passes behind":
        return _line(direction * rng.uniform(*PASSING_SPEED), r)
    speed = facts.speed or str(rng.choice(SPEEDS))
    way = direction * rng.uniform(*SPEED[speed])
    if facts.event == "stops":
        t = rng.uniform(*STOP_TIME)
        return _keys((0, 0, 0, r), (t, *(way * t), r), (1, *(way * t), r))
    if facts.event == "turns back":
        t = rng.uniform(*TURN_BACK_TIME)
        keys = _keys((0, 0, 0, r), (t, *(way * t), r), (1, *(way * (2 * t - 1)), r))
        return RelativePath(keys.keys, gap=TURN_BACK_GAP)
    return _line(way, r)


def _keys(*rows) -> RelativePath:
    return RelativePath(np.array(rows, dtype=float))


def _line(way, r) -> RelativePath:
    return _keys((0, 0, 0, r), (1, *way, r))


def _bounce(r, rng) -> RelativePath:
    direction = np.array(list(AXIS_DIRECTIONS.values())[rng.integers(4)])
    t, way = rng.uniform(*BOUNCE_TIME), direction * rng.uniform(*BOUNCE_SPEED)
    keys = _keys((0, 0, 0, r), (t, *(way * t), r), (1, *(way * (2 * t - 1)), r)).keys
    axis = int(abs(direction[1]) > 0.5)
    return RelativePath(keys, pin=(axis, int(np.sign(direction[axis]))))


def _orbit(r, target_radius, rng) -> RelativePath:
    # The target's corners reach sqrt(2) radii: that far the two never touch.
    distance = r + 1.42 * target_radius + rng.uniform(0.2, 1.0) / 32
    start, sweep = rng.uniform(0, 2 * np.pi), 2 * np.pi * rng.uniform(*ORBIT_SWEEP) * rng.choice((-1, 1))
    times = np.linspace(0, 1, ORBIT_KEYS)
    angle = start + sweep * times
    rows = np.stack([times, distance * np.cos(angle), distance * np.sin(angle), np.full(ORBIT_KEYS, r)], 1)
    return RelativePath(rows)
