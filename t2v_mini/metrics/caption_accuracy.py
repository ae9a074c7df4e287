"""Caption accuracy: the share of clips for which every fact of the caption holds."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from t2v_mini.world import Facts, Verdict


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Confidence interval of a proportion (Wilson 1927); z = 1.96 covers 95 %.

    Raises `ValueError` unless 0 <= successes <= trials and trials > 0.
    """
    if trials <= 0 or not 0 <= successes <= trials:
        raise ValueError(f"successes must lie between 0 and trials > 0, got {successes} of {trials}")
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    half = z * (share * (1 - share) / trials + z**2 / (4 * trials**2)) ** 0.5
    scale = 1 + z**2 / trials
    # Rounding must not push the ends of an extreme share beyond it.
    return min(share, max(0.0, (centre - half) / scale)), max(share, min(1.0, (centre + half) / scale))


def bootstrap_interval(
    values: list[float], groups: list[object], draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean when whole groups are drawn with replacement (Efron 1979).

    Clips of the same combination succeed and fail together; drawing combinations respects that.
    Raises `ValueError` for empty lists or lists of different lengths.
    """
    if not values or len(values) != len(groups):
        raise ValueError(f"values and groups must be of one length > 0, got {len(values)} and {len(groups)}")
    sums: dict[object, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for value, group in zip(values, groups, strict=True):
        sums[group][0] += value
        sums[group][1] += 1
    table = np.array(list(sums.values()))
    picks = np.random.default_rng(seed).integers(len(table), size=(draws, len(table)))
    total = table[picks].sum(axis=1)
    low, high = np.quantile(total[:, 0] / total[:, 1], [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class Accuracy:
    """Caption accuracy with its interval, the accuracy of each kind of fact, and of captions by layout.

    `layouts` holds, for captions of so many objects and for those with each relation, the number of `clips`
    and their `caption_accuracy`.
    """

    caption_accuracy: float
    interval: tuple[float, float]
    facts: dict[str, float]
    layouts: dict[str, dict]
    clips: int


def combination(claim: Facts) -> tuple:
    """The (colour, shape, motion) combinations of a claim: the unit of the bootstrap."""
    return tuple((thing.color, thing.shape, thing.motion) for thing in claim.objects)


def layouts_of(claim: Facts) -> list[str]:
    """The number of a claim's objects, such as "2 objects", and its relations."""
    count = len(claim.objects)
    relations = dict.fromkeys(str(relation) for _, relation, _ in claim.relations)
    return [f"{count} object" + "s" * (count > 1), *relations]


def caption_accuracy(verdicts: list[Verdict], claims: list[Facts]) -> Accuracy:
    """Summarise verdicts; "not visible" counts as wrong.

    The interval is bootstrapped by combination; where all clips agree, and a bootstrap knows no
    spread, it is Wilson's.
    """
    correct = [float(verdict.correct) for verdict in verdicts]
    share = float(np.mean(correct)) if correct else float("nan")
    if share in (0.0, 1.0):
        interval = wilson_interval(int(sum(correct)), len(correct))
    else:
        interval = bootstrap_interval(correct, [combination(claim) for claim in claims])
    kinds: dict[str, list[bool]] = defaultdict(list)
    for verdict in verdicts:
        for fact in verdict.facts:
            kinds[fact.kind].append(fact.holds)
    facts = {kind: float(np.mean(held)) for kind, held in kinds.items()}
    groups: dict[str, list[float]] = defaultdict(list)
    for claim, right in zip(claims, correct, strict=True):
        for layout in layouts_of(claim):
            groups[layout].append(right)
    layouts = {
        layout: {"clips": len(groups[layout]), "caption_accuracy": float(np.mean(groups[layout]))}
        for layout in sorted(groups)
    }
    return Accuracy(share, interval, facts, layouts, len(correct))
