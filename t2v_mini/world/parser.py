"""A parser that reads a caption as the claim that it makes.

The grammar, with what it reads:

caption := clause { connector clause }
clause  := noun [verbs] [relation ref]             a red circle moves left above a blue square
         | noun "that" verbs [["is"] relation ref]   a red circle that moves up is below a box
         | noun "is" relation ref                  the red circle is to the left of a blue square
ref     := noun ["that" verbs]                     a blue square that grows
verbs   := verb { "and" verb }                     moves left slowly and turns blue
noun    := ["a"] [size] [color] shape              a new object
         | "the" [size] [color] shape              an object that was named before
         | "the" ordinal "object"                  the same, when nothing else tells it apart
"""

from dataclasses import replace

from t2v_mini.world.grammar import (
    ARTICLES,
    BY_WORDING,
    LATE_EVENTS,
    MAX_WORDS,
    MOVES,
    ORDINALS,
    called,
    check_words,
    fits,
    longest,
    words,
)
from t2v_mini.world.palette import COLOR_NAMES
from t2v_mini.world.vocabulary import (
    EVENTS,
    RELATIONS,
    CaptionError,
    Facts,
    ObjectFacts,
    check_claim,
    verb,
)


def parse(text: str) -> Facts:
    """Read a caption as the claim it makes: the exact inverse of `caption`.

    Objects are numbered, and relations listed, in the order in which the caption names them.
    Raises `CaptionError` with one line that says what is wrong and where.
    """
    tokens = words(text)
    if not tokens:
        raise CaptionError("the caption is empty: expected something like 'a red circle moves left'")
    if len(tokens) > MAX_WORDS:
        raise CaptionError(f"a caption has at most {MAX_WORDS} words and commas, got {len(tokens)}")
    check_words(tokens)
    return _Parser(tokens).caption()


class _Parser:
    """Recursive descent over the tokens; each method reads one rule of the grammar."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at = tokens, 0
        self.objects: list[ObjectFacts] = []
        self.relations: list[tuple[int, str, int]] = []

    def caption(self) -> Facts:
        self.clause()
        while self.at < len(self.tokens):
            if self.take("connector") is None:
                self.fail("', and', ', while' or the end of the caption")
            self.clause()
        return check_claim(Facts(tuple(self.objects), tuple(dict.fromkeys(self.relations))))

    def clause(self) -> None:
        who, new = self.noun()
        that = new and self.skip("that")
        has_verb = that or self.verb_at(self.at)
        names_other = has_verb and self.verbs(who)
        # Without "is", a relation after "orbits a square" could be the square's as well.
        stated = (that or not has_verb) and self.skip("is")
        relation = None if names_other and not stated else self.take("relation")
        if relation is not None:
            self.relations.append((who, relation[0], self.reference()))
        elif stated:
            self.fail(f"a relation ({', '.join(RELATIONS)})")
        elif not new and not has_verb:
            self.fail("a verb, or 'is' and a relation")
        elif not has_verb and self.peek() not in (None, ",", "and", "while"):
            self.fail("a verb, a relation, 'that' or a new clause")

    def reference(self) -> int:
        who, new = self.noun()
        if new and self.skip("that"):
            self.verbs(who)
        return who

    def noun(self) -> tuple[int, bool]:
        """Read a noun phrase; return its object's index and whether the object is new."""
        start = self.at
        definite = self.peek() == "the"
        if self.peek() in ARTICLES:
            self.at += 1
        if definite and self.peek() in ORDINALS:
            return self.ordinal(), False
        said = self.adjectives()
        shape = self.take("noun")
        if shape is None:
            shapes = "a shape (circle, square, triangle, or just object)"
            self.fail(shapes if self.at > start else "an object such as 'a red circle'")
        said["shape"] = shape[0]
        if not definite:
            self.objects.append(ObjectFacts(**said))
            return len(self.objects) - 1, True
        phrase = " ".join(self.tokens[start : self.at])
        found = [i for i, thing in enumerate(self.objects) if fits(thing, said)]
        if not found:
            raise CaptionError(f"{phrase!r} was not named before: introduce it with 'a'")
        if len(found) > 1:
            names = " or the ".join(called(self.objects[i]) for i in found)
            raise CaptionError(f"{phrase!r} could be the {names}: say more, or 'the first object'")
        return found[0], False

    def adjectives(self) -> dict[str, str | None]:
        said: dict[str, str | None] = {"color": None, "size": None}
        while found := [(key, value) for key in said if (value := self.take(key))]:
            for key, (value,) in found:
                if said[key] is not None:
                    raise CaptionError(f"an object has one {key}, got {said[key]!r} and {value!r}")
                said[key] = value
        return said

    def ordinal(self) -> int:
        index = ORDINALS.index(self.tokens[self.at])
        self.at += 1
        noun = self.take("noun")
        if noun is None or noun[0] is not None:
            self.at -= noun is not None
            self.fail("'object'")
        if index >= len(self.objects):
            raise CaptionError(f"there is no {ORDINALS[index]} object yet: {len(self.objects)} named so far")
        return index

    def verbs(self, who: int) -> bool:
        """Read verbs joined by "and"; return whether the last one named another object."""
        while not self.verb(who):
            if self.peek() != "and" or not self.verb_at(self.at + 1):
                return False
            self.at += 1
        return True

    def verb(self, who: int) -> bool:
        adverbs = [self.take("adverb")]
        start = self.at
        found = self.take("verb")
        if found is None:
            self.fail("a verb such as 'moves left', 'stays still' or 'vanishes'")
        kind = found[0]
        if kind in EVENTS:
            if adverbs[0]:
                raise CaptionError(f"{adverbs[0][0]!r} goes with a motion, not with {kind!r}")
            return self.event(who, kind)
        adverbs.append(self.take("adverb"))
        motion = kind
        if kind == MOVES:
            motion = (self.take("direction") or (None,))[0]
            if motion and self.peek() == "of":
                side = motion.split("-")[-1]
                raise CaptionError(
                    f"{' '.join(self.tokens[start : self.at + 1])!r} mixes a motion and a place: "
                    f"say 'moves {side}' for the motion, 'is to the {side} of' for the place"
                )
            adverbs.append(self.take("adverb"))
        speeds = [adverb[0] for adverb in adverbs if adverb]
        if len(speeds) > 1:
            raise CaptionError(f"a motion has one speed, got {speeds[0]!r} and {speeds[1]!r}")
        if motion is None and not speeds:
            self.fail("a direction such as 'left', or a speed")
        self.set_motion(who, motion, speeds[0] if speeds else None)
        if motion == "orbits":
            self.set_other(who)
        return motion == "orbits"

    def set_motion(self, who: int, motion: str | None, speed: str | None) -> None:
        thing = self.objects[who]
        doing = verb(motion) if motion else f"moves {speed}"
        if thing.event in LATE_EVENTS:
            raise CaptionError(f"the {called(thing)}: say {doing!r} before {thing.event!r}, not after it")
        if motion and thing.motion:
            raise CaptionError(f"the {called(thing)} has two motions: it {verb(thing.motion)} and {doing}")
        if speed and thing.speed:
            raise CaptionError(f"the {called(thing)} has two speeds: {thing.speed} and {speed}")
        self.objects[who] = replace(thing, motion=motion or thing.motion, speed=speed or thing.speed)

    def event(self, who: int, kind: str) -> bool:
        color = None
        if kind == "turns" and (color := self.take("color")) is None:
            self.fail(f"a colour ({', '.join(COLOR_NAMES)})")
        thing = self.objects[who]
        if thing.event:
            raise CaptionError(f"the {called(thing)} has two events, {thing.event!r} and {kind!r}: say one")
        self.objects[who] = replace(thing, event=kind, turns_to=color and color[0])
        if kind == "passes behind":
            self.set_other(who)
        return kind == "passes behind"

    def set_other(self, who: int) -> None:
        other = self.reference()
        if self.objects[who].other is not None:
            raise CaptionError(f"the {called(self.objects[who])} cannot both orbit and pass behind something")
        self.objects[who] = replace(self.objects[who], other=other)

    def verb_at(self, at: int) -> bool:
        adverb = longest(BY_WORDING["adverb"], self.tokens, at)
        return adverb is not None or longest(BY_WORDING["verb"], self.tokens, at) is not None

    def peek(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def skip(self, word: str) -> bool:
        found = self.peek() == word
        self.at += found
        return found

    def take(self, kind: str) -> tuple | None:
        """Consume the longest wording of a kind; return its meaning in a 1-tuple, or `None`."""
        table = BY_WORDING[kind]
        size = longest(table, self.tokens, self.at)
        if size is None:
            return None
        meaning = table[tuple(self.tokens[self.at : self.at + size])]
        self.at += size
        return (meaning,)

    def fail(self, expected: str) -> None:
        before = " ".join(self.tokens[max(0, self.at - 4) : self.at]).replace(" ,", ",")
        got = "the end of the caption" if self.peek() is None else repr(self.peek())
        where = f"after {before!r}" if before else "at the start"
        raise CaptionError(f"{where} expected {expected}, got {got}")
