"""Verdicts: a claim held against a measurement, fact by fact."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from jaxtyping import Bool
from torch import Tensor

from t2v_mini.world.vocabulary import INVERSE, PATH_EVENTS, Facts, ObjectFacts

KINDS = ("objects", "color", "shape", "size", "motion", "speed", "event", "relation")


@dataclass(frozen=True)
class Fact:
    """One claimed fact: its kind, what was claimed, what was seen, and whether it holds."""

    kind: str
    about: str
    claimed: str
    seen: str
    holds: bool


@dataclass(frozen=True)
class Verdict:
    """What a judge says of one clip and one caption."""

    caption: str
    facts: tuple[Fact, ...]

    @property
    def correct(self) -> bool:
        """Whether every fact of the caption holds."""
        return all(fact.holds for fact in self.facts)

    def __str__(self) -> str:
        mark = {True: "yes", False: "NO"}
        rows = [("fact", "claimed", "seen", "holds")]
        rows += [(f"{f.about} {f.kind}".strip(), f.claimed, f.seen, mark[f.holds]) for f in self.facts]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        head = f"{'correct' if self.correct else 'wrong'}: {self.caption}"
        return "\n".join(
            [head]
            + ["  " + "  ".join([*(c.ljust(w) for c, w in zip(r, widths, strict=False)), r[3]]) for r in rows]
        )


def compare(claim: Facts, measured: Facts) -> tuple[Fact, ...]:
    """Hold a claim against a measurement; the objects are matched so that the most facts hold.

    A claim about an object is a claim about the whole clip: "a red circle" is not satisfied by
    one that turns blue, and "moves left" not by a path that turns back, unless the caption says
    so. A caption names every object in the frame; an object too many is a fact that fails.
    """
    said, found = len(claim.objects), len(measured.objects)
    count = Fact("objects", "", str(said), str(found), said == found)
    slots = list(range(found)) + [None] * max(0, said - found)
    best: tuple[Fact, ...] | None = None
    for order in permutations(slots, said):
        facts = _compare_matched(claim, measured, order)
        if best is None or _score(facts) > _score(best):
            best = facts
    return (count, *best)


def entails(truth: Facts, claim: Facts) -> bool:
    """Whether a full description says all that a claim says; which object is which is left open.

    A relation counts in both ways of saying it. What a description leaves out is taken as untrue.
    """
    count = len(truth.objects)
    if len(claim.objects) != count:
        return False
    return any(_entails_matched(truth, claim, order) for order in permutations(range(count)))


def entailment(truths: Sequence[Facts], claims: Sequence[Facts]) -> Bool[Tensor, "N M"]:
    """Which claims are true of which descriptions: row i, column j says that claim j holds of truth i."""
    return torch.tensor([[entails(truth, claim) for claim in claims] for truth in truths])


def _entails_matched(truth: Facts, claim: Facts, order) -> bool:
    for said, slot in zip(claim.objects, order, strict=True):
        real = truth.objects[slot]
        for kind in ("color", "shape", "size", "motion", "speed", "event", "turns_to"):
            if getattr(said, kind) not in (None, getattr(real, kind)):
                return False
        if said.other is not None and order[said.other] != real.other:
            return False
    return all(
        (order[i], relation, order[j]) in truth.relations
        or (order[j], INVERSE.get(relation), order[i]) in truth.relations
        for i, relation, j in claim.relations
    )


def _score(facts: tuple[Fact, ...]) -> tuple[int, int]:
    """Facts that hold; between equals, the matching that gets the colours right."""
    return sum(f.holds for f in facts), sum(f.holds for f in facts if f.kind == "color")


def _compare_matched(claim: Facts, measured: Facts, order) -> tuple[Fact, ...]:
    facts: list[Fact] = []
    for number, (said, slot) in enumerate(zip(claim.objects, order, strict=True)):
        about = _name(said, number, len(claim.objects))
        facts += _compare_object(said, measured.objects[slot] if slot is not None else None, about, order)
    for i, relation, j in claim.relations:
        holds = (order[i], relation, order[j]) in measured.relations
        seen = [r for a, r, b in measured.relations if (a, b) == (order[i], order[j])]
        names = [_name(claim.objects[k], k, len(claim.objects)) for k in (i, j)]
        facts.append(Fact("relation", f"{names[0]}, {names[1]}", relation, ", ".join(seen) or "none", holds))
    return tuple(facts)


def _name(said: ObjectFacts, number: int, count: int) -> str:
    if count == 1:
        return ""
    return " ".join(filter(None, (said.color, said.shape))) or f"object {number + 1}"


def _compare_object(said: ObjectFacts, seen: ObjectFacts | None, about: str, order) -> list[Fact]:
    facts = []

    def add(kind: str, claimed: str, value: str | None, holds: bool) -> None:
        facts.append(Fact(kind, about, claimed, value or "not visible", holds and seen is not None))

    seen = seen or ObjectFacts()
    is_there = seen != ObjectFacts()
    if said.color:
        steady = seen.event != "turns" or said.event == "turns"
        value = seen.color if steady else f"{seen.color}, then {seen.turns_to}"
        add("color", said.color, value, is_there and steady and seen.color == said.color)
    for kind in ("shape", "size"):
        claimed = getattr(said, kind)
        if claimed:
            add(kind, claimed, getattr(seen, kind), getattr(seen, kind) == claimed)
    bend = {event: seen.event == event for event in PATH_EVENTS}
    if said.motion:
        unsaid = [event for event in PATH_EVENTS if bend[event] and said.event != event]
        gone = seen.event in ("appears", "vanishes") and said.event != seen.event
        value = ", ".join(filter(None, (seen.motion, *unsaid, seen.event if gone else None)))
        same = seen.motion == said.motion and not unsaid and not gone
        if said.motion == "orbits":
            same = same and seen.other is not None and seen.other == order[said.other]
        add("motion", said.motion, value, same)
    if said.speed:
        add("speed", said.speed, seen.speed, seen.speed == said.speed)
    if said.event:
        claimed = " ".join(filter(None, (said.event, said.turns_to)))
        value = " ".join(filter(None, (seen.event, seen.turns_to))) or ("none" if is_there else None)
        same = seen.event == said.event and seen.turns_to == said.turns_to
        if said.event == "passes behind":
            same = same and seen.other is not None and seen.other == order[said.other]
        add("event", claimed, value, same)
    return facts
