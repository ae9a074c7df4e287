"""Accuracy, intervals and spread."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from t2v_mini.metrics.caption_accuracy import bootstrap_interval, caption_accuracy, wilson_interval
from t2v_mini.metrics.diversity import spread_ratio
from t2v_mini.world import judge_claims, render, sample_scene, sample_scenes


@given(st.integers(1, 2000), st.floats(0, 1))
def test_wilson_ends_satisfy_the_equation(trials, share):
    successes = round(share * trials)
    low, high = wilson_interval(successes, trials)
    observed = successes / trials
    assert 0 <= low <= observed <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            assert abs(observed - end) == pytest.approx(1.96 * (end * (1 - end) / trials) ** 0.5, abs=1e-9)
    with pytest.raises(ValueError, match="successes must lie between 0 and trials"):
        wilson_interval(trials + 1, trials)


def test_wilson_covers():
    rng = np.random.default_rng(0)
    for truth in (0.5, 0.9, 0.99):
        hits = rng.binomial(100, truth, 4000)
        covered = np.mean(
            [wilson_interval(int(k), 100)[0] <= truth <= wilson_interval(int(k), 100)[1] for k in hits]
        )
        assert 0.92 < covered < 0.985


def test_bootstrap_respects_groups():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.integers(0, 2, 40), 10).astype(float).tolist()  # ten clips a group, all alike
    groups = np.repeat(np.arange(40), 10).tolist()
    low, high = bootstrap_interval(values, groups)
    narrow = bootstrap_interval(values, list(range(400)))
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 40), rel=0.2)
    assert narrow[1] - narrow[0] == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 400), rel=0.2)
    with pytest.raises(ValueError, match="values and groups must be of one length > 0, got 2 and 1"):
        bootstrap_interval([1.0, 0.0], [1])


def test_accuracy_counts_whole_captions():
    scenes = sample_scenes(1, 24)
    claims = [s.facts for s in scenes]
    video = render(scenes, 8)
    right = caption_accuracy(judge_claims(video, claims), claims)
    assert right.caption_accuracy == 1 and right.interval == wilson_interval(24, 24)
    half = claims[:12] + claims[13:] + claims[12:13]
    mixed = caption_accuracy(judge_claims(video, half), half)
    assert mixed.caption_accuracy == pytest.approx(0.5, abs=0.05)
    assert mixed.interval[0] < 0.5 < mixed.interval[1]
    assert mixed.facts["objects"] == 1 and 0.5 < mixed.facts["shape"] < 0.9


def test_accuracy_by_layout():
    scenes = [sample_scene(3, seed, kind=kind) for kind in ("one", "three", "in front") for seed in range(6)]
    claims = [s.facts for s in scenes]
    verdicts = judge_claims(render(scenes, 16), claims)
    wrong = judge_claims(render(scenes[1:6] + scenes[:1], 16), claims[:6])  # of those with one object
    found = caption_accuracy(wrong + verdicts[6:], claims).layouts
    counts = {n: sum(len(claim.objects) == n for claim in claims) for n in (1, 2, 3)}
    assert found["1 object"] == {"clips": 6, "caption_accuracy": 0.0}
    assert [found[f"{n} objects"]["clips"] for n in (2, 3) if counts[n]] == [
        counts[n] for n in (2, 3) if counts[n]
    ]
    assert found["in front of"]["clips"] >= 6 and found["3 objects"]["caption_accuracy"] == 1.0
    assert all(name.split()[-1] in ("object", "objects", "of", "above", "below") for name in found)


def test_spread():
    scenes = sample_scenes(1, 96)
    claims = [s.facts for s in scenes]
    video = render(scenes, 8)
    assert spread_ratio(video, video, claims) == pytest.approx(1)
    # One and the same clip for all captions of a motion and size: collapse.
    same = {}
    for scene in scenes:
        thing = scene.facts.objects[0]
        same.setdefault((thing.motion, thing.size), scene)
    collapsed = []
    for scene in scenes:
        thing = scene.facts.objects[0]
        model = same[thing.motion, thing.size]
        collapsed.append(
            replace(model, things=(replace(model.things[0], color=thing.color, shape=thing.shape),))
        )
    assert spread_ratio(render(collapsed, 8), video, claims) < 0.1
    assert np.isnan(spread_ratio(torch.zeros_like(video[:2]), video[:2], claims[:2]))
