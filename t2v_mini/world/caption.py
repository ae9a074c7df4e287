"""Captions: facts put into words, canonically or as a paraphrase, so that `parse` reads them back."""

import random
from collections.abc import Sequence
from dataclasses import replace

from t2v_mini.world.grammar import (
    ADVERBS,
    COLOR_WORDS,
    CONNECTORS,
    DIRECTION_WORDS,
    MAX_WORDS,
    MOVES,
    NOUNS,
    ORDINALS,
    RELATION_WORDS,
    SIZE_WORDS,
    VERBS,
    VOCABULARY,
    article,
    fits,
    words,
)
from t2v_mini.world.parser import parse
from t2v_mini.world.vocabulary import DIRECTIONS, CaptionError, Facts, ObjectFacts, check_claim

__all__ = ["MAX_WORDS", "VOCABULARY", "caption", "normalise", "parse", "words"]

# Motions after which a relation can stand at once. The others would be misread: "moves up above
# a square" as a motion that ends there, "grows to the left of" as a direction.
_BESIDE = {
    "left of": ("still",),
    "right of": ("still",),
    "above": ("left", "right", "still", "grows", "shrinks", "bounces"),
    "below": ("left", "right", "still", "grows", "shrinks", "bounces"),
    "in front of": (*DIRECTIONS, "still", "grows", "shrinks", "bounces"),
}


def caption(facts: Facts, seed: int | None = None) -> str:
    """Put facts into words: canonically (`seed=None`) or as the paraphrase of a seed.

    `parse(caption(facts, seed)) == normalise(facts)` for every seed. Raises `CaptionError` for facts
    that contradict themselves or that take more than `MAX_WORDS` words, `ValueError` for a bad seed.
    """
    if seed is not None and (isinstance(seed, bool) or not hasattr(seed, "__index__") or seed < 0):
        raise ValueError(f"seed must be None or an integer >= 0, got {seed!r}")
    ordered = normalise(facts)
    for thing in ordered.objects:
        for color in (thing.color, thing.turns_to):
            if color is not None and color not in COLOR_WORDS:
                raise CaptionError(f"color must be one of {', '.join(COLOR_WORDS)}, got {color!r}")
    text = _Writer(ordered, None if seed is None else random.Random(int(seed))).write()
    if len(words(text)) > MAX_WORDS:
        if seed is not None:  # a long claim may still have room for its canonical wording
            return caption(facts)
        raise CaptionError(f"these facts take {len(words(text))} words, a caption has at most {MAX_WORDS}")
    return text


def normalise(facts: Facts) -> Facts:
    """Number the objects, and list the relations, in the order in which a caption names them.

    Sampled scenes have that order already. Raises `CaptionError` for contradictory facts.
    """
    check_claim(facts)
    order: list[int] = []
    for i in range(len(facts.objects)):
        if len(order) == i:  # nothing refers to a further object: take the next one
            order.append(min(set(range(len(facts.objects))) - set(order)))
        named = [facts.objects[order[i]].other]
        named += [second for first, _, second in facts.relations if first == order[i]]
        order += [j for j in dict.fromkeys(named) if j is not None and j not in order]
    place = {old: new for new, old in enumerate(order)}
    objects = [facts.objects[old] for old in order]
    objects = [replace(thing, other=place.get(thing.other)) for thing in objects]
    relations = dict.fromkeys((place[a], relation, place[b]) for a, relation, b in facts.relations)
    return Facts(tuple(objects), tuple(sorted(relations, key=lambda r: r[0])))


class _Writer:
    """Writes the clauses of normalised facts, object by object."""

    def __init__(self, facts: Facts, rng: random.Random | None) -> None:
        self.facts, self.rng = facts, rng
        self.introduced = 0  # objects are introduced in their order
        self.described: set[int] = set()  # objects whose verbs have been said
        # The words for size and shape stay the same wherever an object is named.
        self.size_words = [t.size and self.choose(SIZE_WORDS[t.size]) for t in facts.objects]
        self.nouns = [self.choose(NOUNS[t.shape]) for t in facts.objects]
        # "a red circle that moves left": a picture's title rather than a sentence.
        self.titled = not facts.relations and self.choose((False, False, False, True))

    def choose(self, options: Sequence):
        """The first (canonical) option, or one drawn at random."""
        return options[0] if self.rng is None else options[self.rng.randrange(len(options))]

    def write(self) -> str:
        clauses: list[str] = []
        for i in range(len(self.facts.objects)):
            relations = [r for r in self.facts.relations if r[0] == i]
            if i >= self.introduced or self.pending(i):
                clauses.append(self.first_clause(i, relations))
            clauses += [f"{self.name(i)} is {self.relation(relation)}" for relation in relations]
        text = clauses[0]
        for k, clause in enumerate(clauses[1:], start=1):
            last = k == len(clauses) - 1
            connector = self.choose(self.connectors(last))
            text += f"{'' if connector[0] == ',' else ' '}{connector} {clause}"
        return text

    def connectors(self, last: bool) -> Sequence[str]:
        if not last:
            return (",", ", and", "and")
        # "while" joins sentences only, not titles or mere names.
        related = {i for first, _, second in self.facts.relations for i in (first, second)}
        sentences = all(i in related or self.acts(i) for i in range(len(self.facts.objects)))
        return CONNECTORS[:4] if sentences and not self.titled else (", and", "and")

    def acts(self, i: int) -> bool:
        thing = self.facts.objects[i]
        return any((thing.motion, thing.speed, thing.event))

    def pending(self, i: int) -> bool:
        """Whether something that object i does is still to be said."""
        return i not in self.described and self.acts(i)

    def first_clause(self, i: int, relations: list) -> str:
        """What object i does; takes the first of its relations along where that reads well."""
        thing = self.facts.objects[i]
        new = i >= self.introduced
        subject = self.name(i)
        if not self.pending(i):
            return f"{subject} is {self.relation(relations.pop(0))}" if relations else subject
        # A relation after "orbits a square" could be the square's: it gets a clause of its own.
        if not relations or thing.other is not None:
            return f"{subject} {'that ' if new and self.titled else ''}{self.verbs(i)}"
        beside = thing.event is None and thing.motion in _BESIDE[relations[0][1]]
        if beside and (not new or self.choose((True, False))):
            return f"{subject} {self.verbs(i)} {self.relation(relations.pop(0))}"
        if new:
            return f"{subject} that {self.verbs(i)} is {self.relation(relations.pop(0))}"
        return f"{subject} {self.verbs(i)}"

    def relation(self, relation: tuple[int, str, int]) -> str:
        return f"{self.choose(RELATION_WORDS[relation[1]])} {self.reference(relation[2])}"

    def reference(self, i: int) -> str:
        """Name object i; where it is new, mostly say at once what it does."""
        new = i >= self.introduced
        text = self.name(i)
        if new and self.pending(i) and self.choose((True, True, True, False)):
            text += f" that {self.verbs(i)}"
        return text

    def name(self, i: int) -> str:
        """An indefinite noun phrase that introduces object i, or a definite one that only it fits."""
        thing = self.facts.objects[i]
        size, color, noun = self.size_words[i], thing.color, self.nouns[i]
        if i >= self.introduced:
            self.introduced = i + 1
            phrase = " ".join(filter(None, (size, color, noun)))
            return f"{article(phrase)} {phrase}"
        known = self.facts.objects[: self.introduced]
        options = []
        for size_said in (None, thing.size):
            said = {"size": size_said, "color": color, "shape": thing.shape}
            if sum(fits(other, said) for other in known) == 1:
                options.append(" ".join(filter(None, ("the", size_said and size, color, noun))))
        return self.choose(options or [f"the {ORDINALS[i]} object"])

    def verbs(self, i: int) -> str:
        """Everything that object i does."""
        self.described.add(i)
        thing = self.facts.objects[i]
        moving = thing.motion is not None or thing.speed is not None
        if not moving:
            return self.event(thing)
        if thing.event is None:
            return self.motion(thing)
        orders = ("motion first", "event first")
        if thing.event == "appears" or thing.motion == "orbits":
            orders = ("event first",)
        elif thing.event != "turns":
            orders = ("motion first",)
        if self.choose(orders) == "event first":
            return f"{self.event(thing)} and {self.motion(thing)}"
        return f"{self.motion(thing)} and {self.event(thing)}"

    def event(self, thing: ObjectFacts) -> str:
        text = self.choose(VERBS[thing.event])
        if thing.event == "turns":
            return f"{text} {thing.turns_to}"
        return f"{text} {self.reference(thing.other)}" if thing.event == "passes behind" else text

    def motion(self, thing: ObjectFacts) -> str:
        if thing.motion == "orbits":
            return f"{self.choose(VERBS['orbits'])} {self.reference(thing.other)}"
        if thing.motion is not None and thing.motion not in DIRECTIONS:
            return self.choose(VERBS[thing.motion])
        does, where = self.choose(VERBS[MOVES]), ""
        if thing.motion is not None:
            where = self.choose(DIRECTION_WORDS[thing.motion])
            if thing.motion in VERBS and self.choose((False, False, True)):
                does, where = self.choose(VERBS[thing.motion]), ""  # "rises"
        if thing.speed is None:
            return f"{does} {where}".strip()
        adverb = self.choose(ADVERBS[thing.speed])
        orders = [(does, where, adverb), (does, adverb, where), (adverb, does, where)]
        if adverb == "fast":  # nobody says "fast moves left"
            orders = orders[:1]
        return " ".join(filter(None, self.choose(orders)))
