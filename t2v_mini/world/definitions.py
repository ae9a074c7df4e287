"""What the words mean: tracks in, facts out. Every definition of the world stands here, once.

The definitions see positions, radii, visibility and colours only. Fed with a scene's exact
geometry they prove its caption; fed with tracks read from pixels they judge a clip. Scenes are
drawn well away from every threshold below (see `sampling.py`), so that both agree.
"""

import numpy as np

from t2v_mini.world.palette import COLOR_NAMES
from t2v_mini.world.scene import Tracks
from t2v_mini.world.vocabulary import DIRECTIONS, INVERSE, Facts, ObjectFacts

SIZE_LIMIT = 5.12 / 32  # radius at the start: small below, large above
SPEED_LIMIT = 0.34  # shorter sides a clip: slowly below, quickly above
MOVED = 1.6 / 32  # less is standing still
STRAIGHT = 2.0 / 32  # a straight path strays less than this
EDGE_GAP = 1.6 / 32  # nearer to the frame's edge a reversal is a bounce, farther it is a turn
GROWTH = 1.14  # radius at the end over radius at the start
AWAY = 0.15  # share of the clip that an object must be missing to appear or vanish
RESTED = 0.12  # share of the way made in the last quarter of the time: a steady mover makes .25
APART = 2.0 / 32  # least distance for "left of" and its like, in every frame
COVERS, COVERS_OFTEN = 0.08, 0.75  # in front of: covers this share, in this share of frames
PASSES, ENDS = 0.50, 0.25  # passes behind: hidden this much in between, less than that at the ends
ORBIT_SWEEP, ORBIT_SPREAD = 2.6, 0.35  # radians; (max - min) / mean of the distance


def measure(tracks: Tracks) -> Facts:
    """Facts that hold for the tracks: every object's, and every relation between two of them."""
    count = len(tracks.shape)
    return Facts(
        objects=tuple(_measure_object(tracks, i) for i in range(count)),
        relations=tuple(
            (i, relation, j)
            for i in range(count)
            for j in range(count)
            if i != j
            for relation in _relations(tracks, i, j)
        ),
    )


def _measure_object(tracks: Tracks, i: int) -> ObjectFacts:
    seen = np.nonzero(tracks.visible[i])[0]
    if len(seen) < 3:
        return ObjectFacts(shape=tracks.shape[i])
    frames = tracks.x.shape[1]
    s = seen / (frames - 1)
    radius = np.polynomial.polynomial.polyfit(s - s[0], tracks.r[i, seen], 1)
    start, end = radius[0], radius[0] + radius[1] * (s[-1] - s[0])
    points = np.stack([tracks.x[i, seen], tracks.y[i, seen]], axis=1)
    motion, speed, event, other = _motion(tracks, i, seen, s, points, end / max(start, 1e-6))
    colors = tracks.color[i, seen]
    turns_to = None
    if colors[-1] != colors[0]:
        event, turns_to = "turns", COLOR_NAMES[colors[-1]]
    elif event is None and s[0] > AWAY:
        event = "appears"
    elif event is None and 1 - s[-1] > AWAY:
        event = "vanishes"
    return ObjectFacts(
        color=COLOR_NAMES[colors[0]],
        shape=tracks.shape[i],
        size="small" if start < SIZE_LIMIT else "large",
        motion=motion,
        speed=speed,
        event=event,
        turns_to=turns_to,
        other=other,
    )


def _motion(tracks, i, seen, s, points, growth):
    """Motion, speed, path event and its partner; all `None` where the path is none of the world's."""
    nothing = (None, None, None, None)
    moved = np.linalg.norm(points - points[0], axis=1).max()
    grown = "grows" if growth > GROWTH else "shrinks" if growth < 1 / GROWTH else None
    if moved < MOVED:
        return (grown or "still", None, None, None)
    if grown:
        return nothing
    orbited = _orbited(tracks, i, seen)
    if orbited is not None:
        return ("orbits", None, None, orbited)
    along, stray = _principal_axis(points)
    if stray > STRAIGHT:
        return nothing
    knee = _knee(along)
    leg = (points[knee] if knee is not None else points[-1]) - points[0]
    if knee is not None:
        gap = _edge_gap(tracks, i, seen[knee], leg)
        event = "turns back" if gap > EDGE_GAP else "bounces"
        if event == "bounces":
            return ("bounces", None, None, None)
    else:
        event = "stops" if _rests(s, along) else None
    passed = None
    if event is None:
        passed = _passed_behind(tracks, i, seen, leg)
        event = "passes behind" if passed is not None else None
    return (_direction(leg), _speed(s, points, event), event, passed)


def _principal_axis(points):
    """Coordinates along the direction of largest spread, and the largest distance from it."""
    centred = points - points.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    along = (points - points[0]) @ axis
    across = centred - np.outer(centred @ axis, axis)
    return along, np.linalg.norm(across, axis=1).max()


def _knee(along):
    """Frame at which the path reverses, or `None`."""
    for value in (along, -along):
        k = int(value.argmax())
        if min(value[k] - value[0], value[k] - value[-1]) > MOVED:
            return k
    return None


def _rests(s, along) -> bool:
    """Whether the object covers hardly any of its way in the last quarter of its time."""
    last = np.interp(s[0] + 0.75 * (s[-1] - s[0]), s, along)
    return abs(along[-1] - last) < RESTED * abs(along[-1] - along[0])


def _edge_gap(tracks, i, frame, leg) -> float:
    """Free space between the object's box and the frame's edge in the direction it went."""
    x, y, r = tracks.x[i, frame], tracks.y[i, frame], tracks.r[i, frame]
    height, width = tracks.canvas
    unit = leg / max(np.linalg.norm(leg), 1e-9)
    gaps = []
    if abs(unit[0]) > 0.5:
        gaps.append(width - x - r if unit[0] > 0 else x - r)
    if abs(unit[1]) > 0.5:
        gaps.append(height - y - r if unit[1] > 0 else y - r)
    return float(min(gaps))


def _direction(leg) -> str:
    unit = leg / np.linalg.norm(leg)
    return max(DIRECTIONS, key=lambda name: float(np.dot(DIRECTIONS[name], unit)))


def _speed(s, points, event) -> str:
    """Speed over the whole time, or, where the path bends, over the time before that can happen."""
    head = np.ones(len(s), dtype=bool)
    if event in ("stops", "turns back"):
        head = s <= max(s[0] + 0.35 * (s[-1] - s[0]), s[min(3, len(s) - 1)])
    slope = np.polynomial.polynomial.polyfit(s[head], points[head], 1)[1]
    return "slowly" if np.linalg.norm(slope) < SPEED_LIMIT else "quickly"


def _orbited(tracks, i, seen):
    """Index of the object that object i circles, or `None`."""
    for j in range(len(tracks.shape)):
        both = seen[tracks.visible[j, seen]]
        if j == i or len(both) < 5:
            continue
        dx, dy = tracks.x[i, both] - tracks.x[j, both], tracks.y[i, both] - tracks.y[j, both]
        angle, distance = np.unwrap(np.arctan2(dy, dx)), np.hypot(dx, dy)
        if abs(angle[-1] - angle[0]) > ORBIT_SWEEP and np.ptp(distance) < ORBIT_SPREAD * distance.mean():
            return j
    return None


def _passed_behind(tracks, i, seen, leg):
    """Index of the object behind which object i passes from one side to the other, or `None`."""
    hidden, best, most = tracks.hidden[i], None, COVERS
    between = np.arange(seen[0], seen[-1] + 1)
    # Where the object cannot be seen between its first and last frame, something hides it.
    lost = ~tracks.visible[i, between]
    for j in range(len(tracks.shape)):
        if j == i or not tracks.visible[j].all():
            continue
        share = np.where(lost, 1.0, hidden[j, between])
        offset = np.stack([tracks.x[i] - tracks.x[j], tracks.y[i] - tracks.y[j]], axis=1)[seen[[0, -1]]] @ leg
        covers = hidden[j, between].max()
        crosses = share.max() > PASSES and max(share[0], share[-1]) < ENDS and offset[0] < 0 < offset[1]
        if crosses and covers > most:
            best, most = j, covers
    return best


def _relations(tracks: Tracks, i: int, j: int) -> list[str]:
    both = tracks.visible[i] & tracks.visible[j]
    if not both.any():
        return []
    dx = (tracks.x[j] - tracks.x[i])[both]
    dy = (tracks.y[j] - tracks.y[i])[both]
    found = [name for name, gap in (("left of", dx), ("above", dy)) if gap.min() > APART]
    found += [INVERSE[name] for name, gap in (("left of", -dx), ("above", -dy)) if gap.min() > APART]
    if (tracks.hidden[j, i, both] > COVERS).mean() > COVERS_OFTEN:
        found.append("in front of")
    return found
