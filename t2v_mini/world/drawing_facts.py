"""Draw the facts of a scene: which objects, doing what, in which relation."""

from dataclasses import dataclass, replace

import numpy as np

from t2v_mini.world.palette import COLOR_NAMES
from t2v_mini.world.splits import held_out
from t2v_mini.world.vocabulary import (
    AXIS_DIRECTIONS,
    DIAGONAL_DIRECTIONS,
    DIRECTIONS,
    INVERSE,
    LEVEL_1_MOTIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    SPEEDS,
    Facts,
    ObjectFacts,
)

LEVEL_2_MOTIONS = (*LEVEL_1_MOTIONS, *DIAGONAL_DIRECTIONS)
_GENTLE = ("still", "grows", "shrinks")


@dataclass(frozen=True)
class Layout:
    """What is kept while a scene is redrawn: the objects' count, relations, interplay and events."""

    count: int
    relations: tuple[tuple[int, str, int], ...] = ()
    interplay: str | None = None
    events: tuple[str | None, ...] = (None,)
    unseen: int = 0


# Kinds of layouts that may be asked for, and the levels that have them.
KINDS = {
    "": lambda layout: True,
    "one": lambda layout: layout.count == 1,
    "two": lambda layout: layout.count == 2,
    "three": lambda layout: layout.count == 3,
    "in front": lambda layout: any(relation == "in front of" for _, relation, _ in layout.relations),
}
KINDS_OF_LEVELS = {1: ("", "one"), 2: ("", "two", "in front"), 3: tuple(KINDS)}


@dataclass(frozen=True)
class DrawnFacts(Facts):
    """Facts with the layout they were drawn from."""

    layout: Layout | None = None


def draw_facts(
    level: int, split: str, rng: np.random.Generator, layout: Layout | None = None, kind: str = ""
) -> DrawnFacts:
    """Draw the facts of one scene, with a given layout or a new one of a kind of `KINDS`."""
    while layout is None or not KINDS[kind](layout):
        layout = draw_layout(level, rng)
    objects: list[ObjectFacts] = []
    for i in range(layout.count):
        must = {"all": None, "seen": False, "unseen": True if i == layout.unseen else None}[split]
        objects.append(_draw_object(level, layout, i, objects, rng, must))
    return DrawnFacts(tuple(objects), layout.relations, layout)


def draw_layout(level: int, rng: np.random.Generator) -> Layout:
    """Draw how many objects there are, how they relate, and which events happen."""
    if level == 1:
        return Layout(1)
    if level == 2:
        return Layout(2, ((0, _choice(RELATIONS, rng), 1),), events=(None, None), unseen=int(rng.integers(2)))
    count = int(rng.choice((1, 2, 3), p=(0.25, 0.45, 0.30)))
    interplay = None
    if count > 1:
        interplay = rng.choice(("orbits", "passes behind", ""), p=(0.15, 0.15, 0.70)) or None
    if interplay == "orbits":  # an orbit leaves no room for a third object
        count = 2
    events = _draw_events(count, interplay, rng)
    relations = []
    if count > 1 and interplay is None and rng.random() < 0.6:
        plain = not {"appears", "vanishes"} & set(events[:2])
        relations.append((0, _choice(RELATIONS if plain else RELATIONS[:4], rng), 1))
    if count == 3 and rng.random() < 0.3:
        # Across the first relation: three objects in a row have no room to move.
        first = relations[0][1] if relations else ""
        across = [r for r in RELATIONS[:4] if r not in (first, INVERSE.get(first))]
        relations.append((2, _choice(across, rng), 1))
    return Layout(count, tuple(relations), interplay, events, int(rng.integers(count)))


def _draw_events(count: int, interplay: str | None, rng) -> tuple[str | None, ...]:
    events: list[str | None] = [None] * count
    first = 2 if interplay else 0
    free = range(first, count)
    if not interplay:
        events[rng.integers(count)] = "any"
    for i in free:
        if events[i] is None and rng.random() < 0.35:
            events[i] = "any"
    for i in free:
        if events[i] == "any":
            options = ["turns", "stops", "turns back", "appears", "vanishes"]
            # One object may not take over where another one leaves: that would look like a change of colour.
            if "vanishes" in events:
                options.remove("appears")
            if "appears" in events:
                options.remove("vanishes")
            events[i] = _choice(options, rng)
    return tuple(events)


def _draw_object(level, layout: Layout, i, others, rng, must_be_held_out: bool | None) -> ObjectFacts:
    taken = {color for other in others for color in (other.color, other.turns_to)}
    free = [color for color in COLOR_NAMES if color not in taken]
    in_front = any(relation == "in front of" for _, relation, _ in layout.relations)
    while True:
        thing = ObjectFacts(
            color=_choice(free, rng),
            shape=_choice(SHAPES, rng),
            size=_draw_size(layout, i, others, rng),
            motion=_draw_motion(level, layout, i, others, rng),
            event=layout.events[i],
        )
        if layout.interplay and i == 0:
            thing = replace(thing, other=1, event=None if thing.motion == "orbits" else layout.interplay)
        if thing.event == "turns":
            thing = replace(thing, turns_to=_choice([color for color in free if color != thing.color], rng))
        if level > 1 and thing.motion in DIRECTIONS:
            speed = "quickly" if thing.event == "passes behind" else _choice(SPEEDS, rng)
            if in_front and i < 2:  # a quick object does not stay in front of another one
                together = i == 1 and others[0].motion == thing.motion
                speed = others[0].speed if together else "slowly"
            thing = replace(thing, speed=speed)
        if must_be_held_out in (None, held_out(thing.color, thing.shape, thing.motion)):
            return thing


def _draw_size(layout: Layout, i, others, rng) -> str:
    if layout.interplay == "orbits":
        return "small"
    if layout.interplay == "passes behind" and i < 2:
        return SIZES[i]
    if i == 1 and any(relation == "in front of" for _, relation, _ in layout.relations):
        return "large"  # enough of it must be left to see what it is
    if layout.count == 3 and any(other.size == "large" for other in others):
        return "small"
    return _choice(SIZES, rng)


def _draw_motion(level, layout: Layout, i, others, rng) -> str:
    if layout.interplay and i < 2:
        if i == 1:
            return "still"
        return "orbits" if layout.interplay == "orbits" else _choice(tuple(AXIS_DIRECTIONS), rng)
    event = layout.events[i]
    if event in ("stops", "turns back"):
        return _choice(tuple(DIRECTIONS), rng)
    if event in ("appears", "vanishes"):
        return _choice(("still", "still", "still", *DIRECTIONS), rng)
    front = any(relation == "in front of" for _, relation, _ in layout.relations)
    if front and i == 1:
        gentle = (*_GENTLE, *([others[0].motion] * 2 if others[0].motion in DIRECTIONS else ()))
        return _choice(gentle, rng)
    return _choice(LEVEL_1_MOTIONS if level == 1 else LEVEL_2_MOTIONS, rng)


def complete_facts(claim: Facts, rng: np.random.Generator) -> Facts:
    """Fill in what a claim leaves open, at random, so that a scene can be drawn for it."""
    taken = {c for thing in claim.objects for c in (thing.color, thing.turns_to)}
    free = [color for color in rng.permutation(COLOR_NAMES) if color not in taken]
    interplay = {thing.other for thing in claim.objects} - {None}
    objects = []
    for i, thing in enumerate(claim.objects):
        motion = thing.motion
        if motion is None:
            motion = "still"
            if thing.speed or thing.event in ("stops", "turns back", "passes behind"):
                motion = _choice(tuple(AXIS_DIRECTIONS), rng)
            elif i not in interplay and thing.event is None:
                motion = _choice(("still", *AXIS_DIRECTIONS), rng)
        crowded = interplay or len(claim.objects) == 3 or motion == "orbits"
        speed = thing.speed
        if motion in DIRECTIONS and speed is None:
            speed = "quickly" if thing.event == "passes behind" else _choice(SPEEDS, rng)
        size = thing.size or ("small" if crowded and thing.other is not None else _choice(SIZES, rng))
        objects.append(
            replace(
                thing, color=thing.color or free.pop(), shape=thing.shape or _choice(SHAPES, rng),
                size=size, motion=motion, speed=speed,
            )
        )  # fmt: skip
    return Facts(tuple(objects), claim.relations)


def _choice(options, rng):
    return str(options[rng.integers(len(options))])


def leave_out(facts: Facts, rng: np.random.Generator, share: float = 0.3) -> Facts:
    """Drop each stated attribute with probability `share`, as people do who do not say everything."""
    objects = []
    for thing in facts.objects:
        gone = {name: None for name in ("color", "shape", "size", "speed") if rng.random() < share}
        bound = thing.event is not None or thing.motion == "orbits"  # the path's event needs its motion
        if not bound and rng.random() < share:
            gone |= {"motion": None, "speed": None}
        objects.append(replace(thing, **gone))
    return Facts(tuple(objects), facts.relations)
