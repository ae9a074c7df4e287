"""The grammar of captions: every word, and every wording of every meaning."""

import re
from difflib import get_close_matches

from t2v_mini.world.palette import COLOR_NAMES
from t2v_mini.world.vocabulary import DIAGONAL_DIRECTIONS, SHAPES, CaptionError, ObjectFacts

MAX_WORDS = 77  # commas count; the longest wording of a sampled scene is a good deal shorter

# Every table maps a meaning to its wordings; the first wording is the canonical one.
COLOR_WORDS = {color: (color,) for color in COLOR_NAMES}
SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
NOUNS = {
    "circle": ("circle", "disc", "ball"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    None: ("object", "shape"),
}
ADVERBS = {"slowly": ("slowly",), "quickly": ("quickly", "fast")}
_SIDE = {side: (side, f"to the {side}") for side in ("left", "right")}
_DIAGONALS = {
    name: (
        f"{name.split('-')[0]} and {name.split('-')[1]}",
        f"diagonally {name.split('-')[0]} and {name.split('-')[1]}",
        f"{name.split('-')[0]} and to the {name.split('-')[1]}",
        f"{name.split('-')[1]} and {name.split('-')[0]}",
    )
    for name in DIAGONAL_DIRECTIONS
}
DIRECTION_WORDS = _SIDE | {"up": ("up",), "down": ("down",)} | _DIAGONALS
MOVES = "moves"  # the verb that needs a direction, or at least a speed
VERBS = {
    MOVES: ("moves", "goes", "slides", "travels"),
    "up": ("rises",),
    "down": ("falls",),
    "still": ("stays still", "does not move", "stays in place", "rests"),
    "grows": ("grows", "gets bigger", "gets larger", "expands"),
    "shrinks": ("shrinks", "gets smaller"),
    "bounces": ("bounces", "bounces off the edge", "bounces off an edge"),
    "orbits": ("orbits", "circles around", "moves around", "goes around"),
    "stops": ("stops", "comes to a stop", "halts"),
    "turns back": ("turns back", "turns around", "reverses"),
    "passes behind": ("passes behind", "goes behind", "moves behind"),
    "turns": ("turns", "becomes"),
    "appears": ("appears", "shows up"),
    "vanishes": ("vanishes", "disappears"),
}
RELATION_WORDS = {
    "left of": ("to the left of", "left of", "on the left of"),
    "right of": ("to the right of", "right of", "on the right of"),
    "above": ("above",),
    "below": ("below", "under", "beneath"),
    "in front of": ("in front of",),
}
CONNECTORS = (", and", ", while", "and", "while", ",")
ORDINALS = ("first", "second", "third")
ARTICLES = ("a", "an", "the")
LATE_EVENTS = ("stops", "turns back", "passes behind", "vanishes")  # said after the motion
_TOGETHER = {
    "circles", "discs", "balls", "squares", "boxes", "triangles", "objects", "shapes",
    "two", "three", "four", "both", "some", "several", "many",
}  # fmt: skip
_OTHER_COLORS = {"purple", "violet", "magenta", "black", "brown", "gold", "turquoise", "lime"}


def words(text: str) -> list[str]:
    """The tokens of a caption: lower-cased words and commas; spaces and a final period are dropped.

    Raises `CaptionError` when `text` is not a string.
    """
    if not isinstance(text, str):
        raise CaptionError(f"a caption must be a string, got {type(text).__name__}")
    # Only spaces separate: a tab or a newline is left in its word, which is then unknown.
    return re.findall(r",|[^ ,]+", text.rstrip(" ").removesuffix(".").lower())


def _by_wording(*tables: dict) -> dict[tuple[str, ...], object]:
    return {tuple(words(w)): meaning for table in tables for meaning, ways in table.items() for w in ways}


BY_WORDING = {
    "color": _by_wording(COLOR_WORDS),
    "size": _by_wording(SIZE_WORDS),
    "noun": _by_wording(NOUNS),
    "adverb": _by_wording(ADVERBS),
    "verb": _by_wording(VERBS),
    "direction": _by_wording(DIRECTION_WORDS),
    "relation": _by_wording(RELATION_WORDS),
    "connector": _by_wording({way: (way,) for way in CONNECTORS}),
}
_IN_TABLES = {word for table in BY_WORDING.values() for way in table for word in way} - {","}
VOCABULARY: tuple[str, ...] = tuple(sorted(_IN_TABLES | {*ARTICLES, *ORDINALS, "that", "is"}))
_KNOWN = {*VOCABULARY, ","}
_MOST_WORDS = max(len(way) for table in BY_WORDING.values() for way in table)


def check_words(tokens: list[str]) -> None:
    """Raise `CaptionError` when a token is not of this grammar; the message names the nearest words."""
    for word, following in zip(tokens, [*tokens[1:], ""], strict=True):
        if word in _TOGETHER and (word, following) != ("circles", "around"):
            raise CaptionError(
                "name each object on its own ('a red circle and a blue circle'), "
                f"not several together as with {word!r}"
            )
    unknown = list(dict.fromkeys(token for token in tokens if token not in _KNOWN))
    if not unknown:
        return
    named, far = [], False
    for word in unknown[:3]:
        # By spelling, "purple" is nearest to "place": the palette helps more.
        near = get_close_matches(word[:24], VOCABULARY, n=3, cutoff=0.6) if word not in _OTHER_COLORS else []
        named.append(f"{word[:24]!r}" + (f" (nearest known: {', '.join(near)})" if near else ""))
        far |= not near
    more = f", and {len(unknown) - 3} more" if len(unknown) > 3 else ""
    hint = f"; colours are {', '.join(COLOR_NAMES)}, shapes are {', '.join(SHAPES)}" if far else ""
    raise CaptionError(f"unknown word{'s' if len(unknown) > 1 else ''}: {', '.join(named)}{more}{hint}")


def article(following: str) -> str:
    """The indefinite article before a word: `article("orange") == "an"`."""
    return "an" if following[0] in "aeiou" else "a"


def called(thing: ObjectFacts) -> str:
    """What an object is called: `"small red circle"`."""
    return " ".join(filter(None, (thing.size, thing.color, thing.shape or "object")))


def fits(thing: ObjectFacts, description: dict[str, str | None]) -> bool:
    """Whether a definite description (values of color, shape, size) fits an object as it was named."""
    return all(value is None or getattr(thing, key) == value for key, value in description.items())


def longest(table: dict, tokens: list[str], at: int) -> int | None:
    """How many tokens the longest wording that starts at `at` has; `None` when none does."""
    for size in range(min(_MOST_WORDS, len(tokens) - at), 0, -1):
        if tuple(tokens[at : at + size]) in table:
            return size
    return None
