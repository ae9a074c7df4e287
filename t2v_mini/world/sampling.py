"""Draw scenes: facts first, then a geometry that is proven to satisfy them."""

from collections.abc import Callable

import numpy as np

from t2v_mini.world import motion_paths as paths
from t2v_mini.world.definitions import APART, COVERS, measure
from t2v_mini.world.drawing_facts import KINDS_OF_LEVELS, complete_facts, draw_facts
from t2v_mini.world.scene import Scene, Thing, geometry, recognisable
from t2v_mini.world.splits import check_split
from t2v_mini.world.verdict import compare
from t2v_mini.world.vocabulary import Facts

LEVELS = tuple(KINDS_OF_LEVELS)
CANDIDATES = 96  # start positions tried at once
PROOF_FRAMES = 17
_TIMES = np.linspace(0, 1, PROOF_FRAMES)
MARGIN = 0.6 / 32  # no relation is nearer than this to its limit
STATED = 4.0 / 32  # a stated relation holds with this distance
CLEARANCE = 1.0 / 32  # free space between boxes of objects that do not overlap
HIDES = (COVERS + 0.06, 0.35)  # share hidden by an object in front, in every frame
PASSED = 0.58  # share hidden at the middle of a passage behind another object


def sample_scene(
    level: int,
    seed: int,
    *,
    split: str = "all",
    canvas: tuple[float, float] = (1.0, 1.0),
    kind: str = "",
) -> Scene:
    """Draw the scene of a seed: the same arguments give the same scene.

    `split` is "seen" (no held-out combination), "unseen" (at least one) or "all". `canvas` is
    (height, width) in units of the shorter side. `kind` is that of the layout: "one", "two" or "three"
    objects, or one "in front" of another; by default each as often as the level has it. Raises
    `ValueError` for an unknown level or split, and for a kind that the level does not have.
    """
    if level not in LEVELS:
        raise ValueError(f"level must be one of {LEVELS}, got {level!r}")
    if kind not in KINDS_OF_LEVELS[level]:
        raise ValueError(f"kind must be one of {KINDS_OF_LEVELS[level]} at level {level}, got {kind!r}")
    rng = np.random.default_rng([level, check_seed(seed)])
    return _until_proven(
        lambda layout: draw_facts(level, check_split(split), rng, layout, kind), level, rng, canvas
    )


def scene_for(
    claim: Facts, seed: int = 0, *, canvas: tuple[float, float] = (1.0, 1.0), attempts: int = 200
) -> Scene:
    """Draw a scene for what a caption says; what it leaves open is drawn at random.

    Raises `ValueError` for a bad seed, and when no such scene is found in so many attempts.
    """
    rng = np.random.default_rng([0, check_seed(seed)])
    return _until_proven(lambda _: complete_facts(claim, rng), 3, rng, canvas, attempts)


def check_seed(seed: int) -> int:
    """Return the seed, or raise `ValueError` unless it is an integer >= 0."""
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be an integer >= 0, got {seed!r}")
    return int(seed)


def sample_scenes(
    level: int, count: int, seed: int = 0, *, split: str = "all", canvas: tuple[float, float] = (1.0, 1.0)
) -> list[Scene]:
    """Draw the scenes of the seeds `seed`, `seed + 1`, ... `seed + count - 1`."""
    return [sample_scene(level, seed + i, split=split, canvas=canvas) for i in range(count)]


def _until_proven(
    draw: Callable[[object], Facts], level: int, rng: np.random.Generator, canvas, attempts: int = 2000
) -> Scene:
    layout = None
    for _ in range(attempts):
        facts = draw(layout)
        # The layout (which relation, which interplay) is kept over failed attempts: were it drawn
        # anew, the layouts that are hard to place would become rare.
        layout = getattr(facts, "layout", None)
        things = _place(facts, rng, canvas)
        if things is None:
            continue
        scene = Scene(things, Facts(facts.objects, facts.relations), canvas, level)
        if prove(scene):
            return scene
    raise ValueError(f"no scene found in {attempts} attempts for {facts} on a canvas of {canvas}")


def prove(scene: Scene, frames: int = PROOF_FRAMES) -> bool:
    """Whether the scene's geometry satisfies every fact that it was drawn for."""
    return all(fact.holds for fact in compare(scene.facts, measure(geometry(scene, frames))))


def _place(facts: Facts, rng, canvas) -> tuple[Thing, ...] | None:
    """Place all objects of the facts, or return `None` when none of the candidates fits."""
    relative: list[paths.RelativePath] = []
    for thing in facts.objects:
        target = facts.objects[thing.other] if thing.motion == "orbits" else None
        reach = paths.RADIUS[target.size][1] if target is not None else 0.0
        relative.append(paths.relative_path(thing, rng, reach))
    starts = _draw_starts(facts, relative, rng, canvas)
    if starts is None:
        return None
    tracks = np.stack([_sampled(path) for path in relative])[None]  # 1 N F 3
    tracks = np.concatenate([tracks[..., :2] + starts[:, :, None], np.broadcast_to(
        tracks[..., 2:], (len(starts), *tracks.shape[1:3], 1))], axis=-1)  # fmt: skip
    good = np.nonzero(_acceptable(facts, tracks))[0]
    for k in good[:4]:
        things = _things(facts, relative, starts[k], rng)
        if _hides_as_told(facts, things):
            return things
    return None


def _draw_starts(facts, relative, rng, canvas) -> np.ndarray | None:
    """Candidate starts (K, N, 2), each in its object's range; orbits start from their target."""
    starts = np.empty((CANDIDATES, len(relative), 2))
    for i, path in enumerate(relative):
        if facts.objects[i].motion == "orbits":
            continue
        reach = path
        orbiting = [
            o for o, t in zip(relative, facts.objects, strict=True) if t.motion == "orbits" and t.other == i
        ]
        if orbiting:
            reach = paths.RelativePath(np.concatenate([path.keys, orbiting[0].keys]))
        low, high = reach.start_range(canvas).T
        if (low > high + 1e-12).any():
            return None
        starts[:, i] = rng.uniform(low, np.maximum(low, high), (CANDIDATES, 2))
    for first, relation, second in facts.relations:
        if relation == "in front of":  # uniform starts would hardly ever overlap
            reach = relative[first].keys[0, 3] + relative[second].keys[0, 3]
            near = starts[:, second] + rng.uniform(-reach, reach, (CANDIDATES, 2))
            low, high = relative[first].start_range(canvas).T
            starts[:, first] = np.clip(near, low, high)
    for i, thing in enumerate(facts.objects):
        if thing.motion == "orbits":
            starts[:, i] = starts[:, thing.other]
    return starts


def _sampled(path: paths.RelativePath) -> np.ndarray:
    keys = path.keys
    return np.stack([np.interp(_TIMES, keys[:, 0], keys[:, axis]) for axis in (1, 2, 3)], axis=-1)


def _overlapping(facts: Facts) -> dict[tuple[int, int], str]:
    """Pairs (front, back) that must overlap, and why."""
    pairs = {(i, j): relation for i, relation, j in facts.relations if relation == "in front of"}
    pairs |= {
        (t.other, i): "passes behind" for i, t in enumerate(facts.objects) if t.event == "passes behind"
    }
    return pairs


def _acceptable(facts: Facts, tracks: np.ndarray) -> np.ndarray:
    """Which candidates keep the objects apart, and every relation away from its limit."""
    count = tracks.shape[1]
    good = np.ones(len(tracks), dtype=bool)
    overlapping = _overlapping(facts)
    stated = {(i, j): relation for i, relation, j in facts.relations}
    for i in range(count):
        for j in range(i + 1, count):
            difference = tracks[:, j, :, :2] - tracks[:, i, :, :2]  # K F 2
            radii = tracks[:, i, :, 2] + tracks[:, j, :, 2]
            distance = np.abs(difference).max(axis=-1)
            orbit = "orbits" in (facts.objects[i].motion, facts.objects[j].motion)
            if (i, j) in overlapping or (j, i) in overlapping:
                if "in front of" in (stated.get((i, j)), stated.get((j, i))):
                    good &= (distance < radii).all(axis=1)
            elif not (orbit and count == 2):
                good &= (distance > radii + CLEARANCE).all(axis=1)
            gaps = np.concatenate([difference, -difference], axis=-1).min(axis=1)  # left above right below
            good &= (np.abs(gaps - APART) > MARGIN).all(axis=1)
            for pair, sign in (((i, j), 1), ((j, i), -1)):
                axis = {"left of": 0, "above": 1, "right of": 2, "below": 3}.get(stated.get(pair))
                if axis is not None:
                    column = axis if sign > 0 else (axis + 2) % 4
                    mean = np.abs(difference).mean(axis=1)
                    # Said of the more obvious axis only: nobody calls a thing far above "left of".
                    good &= (gaps[:, column] > STATED) & (mean[:, axis % 2] > 0.8 * mean[:, 1 - axis % 2])
    for (front, back), why in overlapping.items():
        if why == "passes behind":
            good &= _crosses(tracks[:, back], tracks[:, front])
    return good


def _crosses(mover: np.ndarray, screen: np.ndarray) -> np.ndarray:
    """Whether the mover starts and ends nearly free on opposite sides and is centred in between."""
    offset = mover[..., :2] - screen[..., :2]
    radii = (mover[..., 2] + screen[..., 2])[:, 0]
    free = (np.abs(offset[:, [0, -1]]).max(axis=-1) > 1.0 * radii[:, None]).all(axis=1)
    return free & (np.linalg.norm(offset, axis=-1).min(axis=1) < 0.35 * screen[:, 0, 2])


def _things(facts: Facts, relative, starts, rng) -> tuple[Thing, ...]:
    behind = {back: front for front, back in _overlapping(facts)}
    things = []
    for i, (said, path, start) in enumerate(zip(facts.objects, relative, starts, strict=True)):
        keys = path.keys.copy()
        keys[:, 1:3] += start
        things.append(
            Thing(
                shape=said.shape,
                color=said.color,
                path=tuple(map(tuple, keys.tolist())),
                depth=1.0 if i in behind else 0.0,
                turns_at=rng.uniform(*paths.COLOR_TIME) if said.event == "turns" else None,
                turns_to=said.turns_to,
                appears_at=rng.uniform(*paths.APPEAR_TIME) if said.event == "appears" else 0.0,
                vanishes_at=rng.uniform(*paths.VANISH_TIME) if said.event == "vanishes" else 2.0,
            )
        )
    return tuple(things)


def _hides_as_told(facts: Facts, things) -> bool:
    """Whether objects that overlap hide as much of each other as the caption needs, and no more."""
    pairs = _overlapping(facts)
    if not pairs:
        return True
    tracks = geometry(Scene(things, Facts(facts.objects)), PROOF_FRAMES)
    for (front, back), why in pairs.items():
        hidden = tracks.hidden[back, front]
        if why == "passes behind" and hidden.max() < PASSED:
            return False
        if why == "in front of" and not HIDES[0] < hidden.min() <= hidden.max() < HIDES[1]:
            return False
        if why == "in front of" and not recognisable(things, back, front, _TIMES):
            return False
    return True


def scene_facts(scene: Scene, frames: int = PROOF_FRAMES) -> Facts:
    """All facts that hold in a scene, measured on its exact geometry at `frames` frames."""
    return measure(geometry(scene, frames))
