"""Twins of scenes: the same facts but for one change, drawn anew. They are hard to tell apart."""

from dataclasses import replace

import numpy as np

from t2v_mini.world import Facts, Scene, is_held_out, sample_scene, scene_for
from t2v_mini.world.drawing_facts import LEVEL_2_MOTIONS
from t2v_mini.world.palette import COLOR_NAMES
from t2v_mini.world.vocabulary import (
    DIRECTIONS,
    INVERSE,
    LEVEL_1_MOTIONS,
    SHAPES,
    SIZES,
    SPEEDS,
    CaptionError,
    ObjectFacts,
)

REVERSED = {
    "left": "right",
    "up": "down",
    "grows": "shrinks",
    "up-left": "down-right",
    "up-right": "down-left",
}
REVERSED |= {value: key for key, value in REVERSED.items()}
SWAPS = (("color",), ("shape",), ("size",), ("motion", "speed"))


def twin_facts(facts: Facts, rng: np.random.Generator) -> Facts | None:
    """One attribute changed, two objects' attributes exchanged, or a relation turned round.

    `None` when the change drawn changes nothing, or leads to a combination that is held out.
    """
    objects, relations = list(facts.objects), facts.relations
    overlapping = any(relation == "in front of" for _, relation, _ in relations)
    if len(objects) > 1 and rng.random() < 0.6:
        # What overlaps must keep its sizes and motions, or it would not fit any more.
        swap = SWAPS[rng.integers(2 if overlapping else 4)]
        kept = [{name: getattr(thing, name) for name in swap} for thing in objects[:2]]
        objects[:2] = [replace(objects[0], **kept[1]), replace(objects[1], **kept[0])]
    elif relations and not overlapping and rng.random() < 0.3:
        relations = tuple((i, INVERSE[relation], j) for i, relation, j in relations)
    else:
        i = int(rng.integers(len(objects)))
        taken = {thing.color for thing in objects}
        objects[i] = _changed(objects[i], taken, len(objects) > 1, overlapping, rng)
    twin = Facts(tuple(objects), relations)
    return None if twin == Facts(facts.objects, facts.relations) or is_held_out(twin) else twin


def _changed(thing: ObjectFacts, taken: set, several: bool, overlapping: bool, rng) -> ObjectFacts:
    kinds = ("color", "shape") if overlapping else ("color", "shape", "shape", "size", "motion", "motion")
    kind = kinds[rng.integers(len(kinds))]
    if kind == "color":
        return replace(thing, color=_other(COLOR_NAMES, taken, rng))
    if kind in ("shape", "size"):
        options = SHAPES if kind == "shape" else SIZES
        return replace(thing, **{kind: _other(options, {getattr(thing, kind)}, rng)})
    motion = REVERSED.get(thing.motion) if rng.random() < 0.6 else None
    motion = motion or _other(LEVEL_2_MOTIONS if several else LEVEL_1_MOTIONS, {thing.motion}, rng)
    speed = None
    if several and motion in DIRECTIONS:
        speed = thing.speed or SPEEDS[rng.integers(len(SPEEDS))]
    return replace(thing, motion=motion, speed=speed)


def _other(options, taken: set, rng) -> str:
    free = [option for option in options if option not in taken]
    return free[rng.integers(len(free))]


def twin_scene(scene: Scene, seed: int, canvas: tuple[float, float] = (1.0, 1.0)) -> Scene:
    """A scene that differs from a given one in one respect; another scene altogether where none is found."""
    rng = np.random.default_rng([2, seed])
    for attempt in range(6):
        facts = twin_facts(scene.facts, rng)
        if facts is None:
            continue
        try:
            drawn = scene_for(facts, seed + attempt, canvas=canvas, attempts=12)
            # What was filled in to draw it, such as a speed on level 1, is not said.
            return replace(drawn, facts=facts, level=scene.level)
        except (CaptionError, ValueError):
            continue
    return sample_scene(scene.level, seed, split="seen", canvas=canvas)
