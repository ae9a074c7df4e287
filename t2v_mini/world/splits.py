"""Which combinations of colour, shape and motion are held out of training, by a fixed hash."""

import hashlib
from functools import cache

from t2v_mini.world.palette import COLOR_NAMES
from t2v_mini.world.vocabulary import MOTIONS, SHAPES, Facts

SPLITS = ("all", "seen", "unseen")
# Chosen among 3000 salts, before any model existed, for balance: 32 of the 192 level-1 combinations,
# with colours, shapes and motions held out about equally often.
_SALT = "moving-shapes-1458"


@cache
def held_out(color: str, shape: str, motion: str) -> bool:
    """Whether training never shows this combination: about one in six."""
    digest = hashlib.sha256(f"{_SALT}|{color}|{shape}|{motion}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 6 == 0


def is_held_out(facts: Facts) -> bool:
    """Whether any object of the facts is a held-out combination; its colour is the first one it has."""
    return any(
        held_out(thing.color, thing.shape, thing.motion)
        for thing in facts.objects
        if thing.color and thing.shape and thing.motion
    )


def check_split(split: str) -> str:
    """Return `split`, or raise `ValueError` when it is not one of `SPLITS`."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    return split


def combinations(held: bool) -> list[tuple[str, str, str]]:
    """All (colour, shape, motion) combinations that are, or are not, held out."""
    every = [(c, s, m) for c in COLOR_NAMES for s in SHAPES for m in MOTIONS]
    return [combination for combination in every if held_out(*combination) == held]
