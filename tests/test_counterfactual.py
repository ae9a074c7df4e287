"""Twins of scenes, and which captions are true of which scene."""

import numpy as np
import pytest
import torch

from t2v_mini.configs import DataConfig
from t2v_mini.data.counterfactual import REVERSED, twin_facts, twin_scene
from t2v_mini.data.moving_shapes import contrastive_batch
from t2v_mini.world import (
    caption,
    compare,
    is_held_out,
    judge_claims,
    parse,
    sample_scene,
    sample_scenes,
    scene_facts,
)
from t2v_mini.world.verdict import entailment, entails

ATTRIBUTES = ("color", "shape", "size", "motion")


def differences(a, b):
    pairs = zip(a.objects, b.objects, strict=True)
    return [(i, k) for i, (x, y) in enumerate(pairs) for k in ATTRIBUTES if getattr(x, k) != getattr(y, k)]


@pytest.mark.parametrize("level", [1, 2])
def test_a_twin_differs_in_one_respect(level):
    rng = np.random.default_rng(0)
    seen = set()
    for scene in sample_scenes(level, 150, split="seen"):
        twin = twin_facts(scene.facts, rng)
        if twin is None:
            continue
        assert not is_held_out(twin)
        changed = differences(scene.facts, twin)
        turned = scene.facts.relations != twin.relations
        kinds = {kind for _, kind in changed}
        # One attribute of one object, one kind exchanged between two (speed with motion), or a relation.
        assert len(kinds) <= 1 and len(changed) <= 2 and not (turned and changed)
        seen |= kinds | ({"relation"} if turned else set())
    assert set(ATTRIBUTES) <= seen and ("relation" in seen) == (level == 2)


@pytest.mark.parametrize("level", [1, 2])
def test_a_twin_scene_is_what_it_says(level):
    scenes = sample_scenes(level, 24, split="seen")
    twins = [twin_scene(scene, 10**6 + i) for i, scene in enumerate(scenes)]
    for twin in twins:
        assert all(fact.holds for fact in compare(twin.facts, scene_facts(twin)))
    from t2v_mini.world import render

    frames = 8 if level == 1 else 16
    verdicts = judge_claims(render(twins, frames, 32, 32), [twin.facts for twin in twins])
    assert sum(verdict.correct for verdict in verdicts) >= 23
    if level == 1:
        assert all(thing.speed is None for twin in twins for thing in twin.facts.objects)


def test_reversed_motions_are_pairs():
    assert all(REVERSED[REVERSED[motion]] == motion != REVERSED[motion] for motion in REVERSED)


def test_a_batch_is_half_twins_and_a_function_of_its_step():
    config = DataConfig(level=2, frames=16)
    batch, again = contrastive_batch(config, 3, 16), contrastive_batch(config, 3, 16)
    assert batch.captions == again.captions and (batch.video == again.video).all()
    assert batch.captions != contrastive_batch(config, 4, 16).captions
    near = sum(len(differences(a, b)) <= 2 for a, b in zip(batch.claims[:8], batch.claims[8:], strict=True))
    assert near >= 6
    assert not any(is_held_out(facts) for facts in batch.claims)


def test_entails():
    truth = parse("a small red circle moves left quickly above a large blue square that grows")
    yes = [
        "a red circle above a blue square",
        "a large square that grows below a circle",
        "a circle moves left above a square",
        "a blue square and a red circle",
    ]
    no = [
        "a blue circle above a red square",
        "a red circle below a blue square",
        "a red circle moves right above a square",
        "a red circle",
        "a red circle moves left slowly above a square",
        "a red circle in front of a blue square",
    ]
    assert all(entails(truth, parse(text)) for text in yes)
    assert not any(entails(truth, parse(text)) for text in no)
    found = entailment([parse(no[0]), truth], [parse(text) for text in (*yes, *no)])
    assert found.dtype == torch.bool and found[1].tolist() == [True] * len(yes) + [False] * len(no)
    assert found.shape == (2, len(yes) + len(no)) and found[0, len(yes)]


@pytest.mark.parametrize("level", [1, 2, 3])
def test_entails_agrees_with_the_verdict(level):
    """On full descriptions, measured against measured: as `compare` does, but for relations left unsaid."""
    scenes = [sample_scene(level, seed) for seed in range(12)]
    for scene in scenes:
        assert entails(scene.facts, parse(caption(scene.facts)))
        measured = scene_facts(scene)
        for other in scenes:
            holds = all(fact.holds for fact in compare(other.facts, measured))
            assert entails(measured, other.facts) == holds
