"""The level of a claim: the first one whose captions can say it."""

from t2v_mini.world.vocabulary import LEVEL_1_MOTIONS, Facts


def level_of(claim: Facts) -> int:
    """1: one object, a plain motion; 2: two objects, relations, diagonals, speeds; 3: events or three."""
    events = any(thing.event is not None or thing.motion == "orbits" for thing in claim.objects)
    if events or len(claim.objects) > 2:
        return 3
    thing = claim.objects[0]
    plain = thing.motion in (None, *LEVEL_1_MOTIONS) and thing.speed is None
    return 1 if len(claim.objects) == 1 and plain else 2
