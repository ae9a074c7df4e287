"""The words of the world and the facts that they name.

`Facts` serves twice. As a *claim* it is what a caption says: `None` means "not said". As a
*measurement* it is what was found in a scene's geometry or in a clip's pixels: `None` means
"cannot be told".
"""

from dataclasses import dataclass

SHAPES = ("circle", "square", "triangle")
SIZES = ("small", "large")
SPEEDS = ("slowly", "quickly")
# Unit vectors, x to the right and y down, as pixels count.
_D = 0.5**0.5
AXIS_DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
DIAGONAL_DIRECTIONS = {
    "up-left": (-_D, -_D),
    "up-right": (_D, -_D),
    "down-left": (-_D, _D),
    "down-right": (_D, _D),
}
DIRECTIONS = AXIS_DIRECTIONS | DIAGONAL_DIRECTIONS
LEVEL_1_MOTIONS = (*AXIS_DIRECTIONS, "still", "grows", "shrinks", "bounces")
MOTIONS = (*LEVEL_1_MOTIONS, *DIAGONAL_DIRECTIONS, "orbits")
RELATIONS = ("left of", "right of", "above", "below", "in front of")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
# Events of the path bend it; the others leave it alone.
PATH_EVENTS = ("stops", "turns back", "passes behind")
EVENTS = (*PATH_EVENTS, "turns", "appears", "vanishes")
MAX_OBJECTS = 3


@dataclass(frozen=True)
class ObjectFacts:
    """What is said, or was measured, of one object.

    `event` is one of `EVENTS` or `None`. `turns_to` is the colour after "turns";
    `other` is the index of the object that this one orbits or passes behind.
    """

    color: str | None = None
    shape: str | None = None
    size: str | None = None
    motion: str | None = None
    speed: str | None = None
    event: str | None = None
    turns_to: str | None = None
    other: int | None = None


@dataclass(frozen=True)
class Facts:
    """A list of objects and the relations `(i, relation, j)` between them."""

    objects: tuple[ObjectFacts, ...]
    relations: tuple[tuple[int, str, int], ...] = ()


class CaptionError(ValueError):
    """A caption that this world cannot read, or that contradicts itself."""


def check_claim(claim: Facts) -> Facts:
    """Return the claim, or raise `CaptionError` when it contradicts itself or the world's rules."""
    if not 1 <= len(claim.objects) <= MAX_OBJECTS:
        raise CaptionError(f"a caption names 1 to {MAX_OBJECTS} objects, got {len(claim.objects)}")
    owner: dict[str, str] = {}
    for number, thing in enumerate(claim.objects):
        name = " ".join(filter(None, (thing.size, thing.color, thing.shape or "object")))
        for color in {thing.color, thing.turns_to} - {None}:
            if color in owner:
                raise CaptionError(
                    f"two objects are {color} ({owner[color]} and {name}): "
                    "in this world no two objects share a colour"
                )
            owner[color] = name
        _check_object(thing, name, number, len(claim.objects))
    _check_relations(claim)
    return claim


def _check_object(thing: ObjectFacts, name: str, number: int, count: int) -> None:
    values = (
        ("color", thing.color, None), ("shape", thing.shape, SHAPES), ("size", thing.size, SIZES),
        ("motion", thing.motion, MOTIONS), ("speed", thing.speed, SPEEDS), ("event", thing.event, EVENTS),
    )  # fmt: skip
    for field, value, known in values:
        if value is not None and known is not None and value not in known:
            raise CaptionError(f"{field} of the {name} must be one of {', '.join(known)}, got {value!r}")
    if thing.event == "turns" and thing.turns_to == thing.color is not None:
        raise CaptionError(f"the {name} cannot turn {thing.color}: it is {thing.color} already")
    if (thing.event == "turns") != (thing.turns_to is not None):
        raise CaptionError(f"the {name} needs a colour to turn to")
    if thing.speed is not None and thing.motion is not None and thing.motion not in DIRECTIONS:
        raise CaptionError(f"the {name} cannot do this {thing.speed}: it {verb(thing.motion)}")
    if thing.event in PATH_EVENTS and thing.motion is not None and thing.motion not in DIRECTIONS:
        raise CaptionError(f"the {name} cannot do both: it {verb(thing.motion)} and {thing.event}")
    if thing.event in ("appears", "vanishes") and thing.motion not in (None, "still", *DIRECTIONS):
        raise CaptionError(f"the {name} cannot do both: it {verb(thing.motion)} and {thing.event}")
    needs_other = thing.motion == "orbits" or thing.event == "passes behind"
    if thing.motion == "orbits" and thing.event is not None and thing.event != "turns":
        raise CaptionError(f"the {name} cannot do both: it orbits and {thing.event}")
    if needs_other != (thing.other is not None):
        raise CaptionError(f"the {name} needs another object to orbit or to pass behind")
    if thing.other is not None and (thing.other == number or not 0 <= thing.other < count):
        raise CaptionError(f"the {name} cannot orbit or pass behind itself")


def _check_relations(claim: Facts) -> None:
    said: set[tuple[int, str, int]] = set()
    for first, relation, second in claim.relations:
        if relation not in RELATIONS:
            raise CaptionError(f"relation must be one of {', '.join(RELATIONS)}, got {relation!r}")
        if first == second:
            raise CaptionError(f"an object cannot be {relation} itself")
        opposite = (first, INVERSE.get(relation, ""), second)
        mirrored = (second, relation, first)
        if opposite in said or mirrored in said:
            raise CaptionError(f"an object cannot be both {relation} another and the opposite")
        said.add((first, relation, second))
        if relation in INVERSE:
            said.add((second, INVERSE[relation], first))


def verb(motion: str) -> str:
    """The canonical verb phrase of a motion: `verb("left") == "moves left"`."""
    if motion in DIRECTIONS:
        return "moves " + motion.replace("-", " and ")
    return {"still": "stays still"}.get(motion, motion)
