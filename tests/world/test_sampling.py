"""Scenes: proven, reproducible, split as promised, and of every kind."""

from collections import Counter

import pytest

from t2v_mini.world import (
    CaptionError,
    Facts,
    ObjectFacts,
    caption,
    is_held_out,
    parse,
    prove,
    sample_scene,
    sample_scenes,
    scene_facts,
    scene_for,
)
from t2v_mini.world.levels import level_of
from t2v_mini.world.sampling import LEVELS
from t2v_mini.world.splits import combinations
from t2v_mini.world.vocabulary import EVENTS, LEVEL_1_MOTIONS, MOTIONS, RELATIONS, check_claim

COUNT = 80


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("frames", [8, 16, 33])
def test_geometry_proves_the_facts_that_were_drawn(level, frames):
    for scene in sample_scenes(level, COUNT):
        assert prove(scene, frames), (frames, scene.facts, scene_facts(scene, frames))
        check_claim(scene.facts)
        assert level_of(scene.facts) <= level


@pytest.mark.parametrize("level", LEVELS)
def test_splits(level):
    assert not any(is_held_out(s.facts) for s in sample_scenes(level, COUNT, split="seen"))
    assert all(is_held_out(s.facts) for s in sample_scenes(level, COUNT, split="unseen"))


def test_held_out_share():
    level_1 = [c for c in combinations(True) if c[2] in LEVEL_1_MOTIONS]
    assert len(level_1) == 32  # of 192
    for axis in range(3):
        counts = Counter(c[axis] for c in level_1)
        assert min(counts.values()) >= 2  # every colour, shape and motion is held out somewhere
    assert len(combinations(True)) + len(combinations(False)) == 8 * 3 * len(MOTIONS)


def test_reproducible():
    assert sample_scene(3, 7) == sample_scene(3, 7)
    assert sample_scenes(2, 3, seed=4) == [sample_scene(2, seed) for seed in (4, 5, 6)]
    assert sample_scene(2, 1) != sample_scene(2, 2)


def test_everything_occurs():
    scenes = {level: sample_scenes(level, 250) for level in LEVELS}
    things = {level: [t for s in scenes[level] for t in s.facts.objects] for level in LEVELS}
    assert {t.motion for t in things[1]} == set(LEVEL_1_MOTIONS)
    assert {t.motion for t in things[3]} == set(MOTIONS)
    assert {t.event for t in things[3]} == {*EVENTS, None}
    assert {r for s in scenes[2] for _, r, _ in s.facts.relations} == set(RELATIONS)
    assert {len(s.things) for s in scenes[3]} == {1, 2, 3}
    shares = Counter(t.color for t in things[2])
    assert max(shares.values()) < 2 * min(shares.values())


@pytest.mark.parametrize(
    "text",
    [
        "a red circle",
        "a red circle moves left above a small blue square that grows",
        "an object vanishes",
        "a small green triangle orbits a small white square",
        "a circle moves up and left slowly and turns blue",
        "a red circle passes behind a large blue square",
    ],
)
def test_scene_for_a_caption(text):
    scene = scene_for(parse(text), seed=3)
    assert prove(scene)
    claim = parse(text)
    for said, drawn in zip(claim.objects, scene.facts.objects, strict=True):
        for name in ("color", "shape", "size", "motion", "speed", "event", "turns_to"):
            assert getattr(said, name) in (None, getattr(drawn, name))


def in_front(scene) -> bool:
    return any(relation == "in front of" for _, relation, _ in scene.facts.relations)


def test_layouts_of_one_kind():
    kinds = {
        "one": lambda scene: len(scene.facts.objects) == 1,
        "two": lambda scene: len(scene.facts.objects) == 2,
        "three": lambda scene: len(scene.facts.objects) == 3,
        "in front": in_front,
    }
    every = sample_scenes(3, COUNT)
    for kind, fits in kinds.items():
        scenes = [sample_scene(3, seed, split="seen", kind=kind) for seed in range(12)]
        assert all(fits(scene) and prove(scene) and not is_held_out(scene.facts) for scene in scenes)
        assert not all(map(fits, every))
    assert all(in_front(sample_scene(2, seed, kind="in front")) for seed in range(12))
    assert sample_scene(1, 0, kind="one") == sample_scene(1, 0)
    for level, kind in ((1, "two"), (2, "three"), (3, "four")):
        with pytest.raises(ValueError, match=rf"kind must be one of .* at level {level}, got '{kind}'"):
            sample_scene(level, 0, kind=kind)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 0), "level must be one of"),
        ((1, -1), "seed must be an integer >= 0, got -1"),
        ((1, 0.5), "seed must be an integer >= 0, got 0.5"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_scene(*arguments)
    with pytest.raises(ValueError, match="split must be one of all, seen, unseen, got 'test'"):
        sample_scene(1, 0, split="test")


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ((), "1 to 3 objects, got 0"),
        ((ObjectFacts("red"), ObjectFacts("red")), "no two objects share a colour"),
        ((ObjectFacts("red", event="turns", turns_to="red"),), "it is red already"),
        ((ObjectFacts("red", motion="still", speed="slowly"),), "cannot do this slowly"),
        ((ObjectFacts("red", motion="grows", event="stops"),), "cannot do both"),
        ((ObjectFacts("red", motion="orbits"),), "needs another object"),
        ((ObjectFacts("red", motion="orbits", other=0),), "orbit or pass behind itself"),
        ((ObjectFacts("red", motion="wobbles"),), "motion of the red object must be one of"),
    ],
)
def test_contradictions(objects, message):
    with pytest.raises(CaptionError, match=message):
        check_claim(Facts(objects))


def test_captions_of_levels():
    assert level_of(parse("a red circle moves left")) == 1
    assert level_of(parse("a red circle moves left slowly")) == 2
    assert level_of(parse("a red circle above a blue square")) == 2
    assert level_of(parse("a red circle turns blue")) == 3
    assert caption(sample_scene(1, 0).facts).startswith("a ")
