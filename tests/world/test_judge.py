"""The judge: right on what the world draws, and never fooled by a caption."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2v_mini.world import (
    BACKGROUND,
    CaptionError,
    caption,
    compare,
    judge,
    judge_claims,
    parse,
    read_facts,
    render,
    sample_scenes,
    scene_facts,
    scene_for,
)

COUNT = 40
CANVAS = {1: (8, 32, 32), 2: (16, 32, 32), 3: (16, 32, 32)}


def captions_right(level, canvas, count=COUNT, damage=None):
    scenes = sample_scenes(level, count, seed=70_000)
    video = render(scenes, *canvas)
    if damage is not None:
        video = damage(video)
    return sum(verdict.correct for verdict in judge_claims(video, [s.facts for s in scenes]))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_rendered_clips(level):
    assert captions_right(level, CANVAS[level]) == COUNT


@pytest.mark.parametrize(("level", "canvas"), [(1, (16, 32, 32)), (2, (16, 64, 64)), (3, (16, 96, 96))])
def test_larger_canvases(level, canvas):
    assert captions_right(level, canvas, 6) == 6


def test_wide_canvas():
    scenes = sample_scenes(2, 8, canvas=(1.0, 1.5))
    verdicts = judge_claims(render(scenes, 16, 32, 48), [s.facts for s in scenes])
    assert all(v.correct for v in verdicts)


def test_monotone_under_noise():
    def noisy(deviation):
        def add(video):
            noise = torch.randn(video.shape, generator=torch.Generator().manual_seed(0))
            return (video + deviation * noise).clamp(-1, 1)

        return add

    right = [captions_right(1, CANVAS[1], 40, noisy(d)) for d in (0.0, 0.1, 0.6)]
    assert right[0] == 40 and right[1] >= 38 and right[2] < right[1]


@pytest.mark.parametrize("level", [1, 2, 3])
def test_shuffled_captions_are_judged_as_the_geometry_says(level):
    scenes = sample_scenes(level, 40, seed=90)
    read = read_facts(render(scenes, *CANVAS[level]))
    claims = [s.facts for s in scenes]
    said = true = 0
    for scene, facts, claim in zip(scenes, read, claims[7:] + claims[:7], strict=True):
        said += sum(f.holds for f in compare(claim, facts))
        true += sum(f.holds for f in compare(claim, scene_facts(scene)))
    assert said == true


CHANGES = [
    ("a small red circle moves left", "a small red circle moves right", "motion"),
    ("a small red circle moves left", "a small red square moves left", "shape"),
    ("a small red circle moves left", "a small pink circle moves left", "color"),
    ("a small red circle moves left", "a large red circle moves left", "size"),
    ("a red circle moves left and turns back", "a red circle moves left", "motion"),
    ("a red circle bounces", "a red circle moves left and turns back", "event"),
    ("a red circle turns blue", "a red circle", "color"),
    ("a red circle moves up and stops", "a red circle moves up", "motion"),
    ("a red circle above a blue square", "a red circle below a blue square", "relation"),
    ("a red circle above a blue square", "a blue circle above a red square", "color"),
    ("a red circle above a blue square", "a red circle", "objects"),
    ("a red circle moves left slowly", "a red circle moves left quickly", "speed"),
]


@pytest.mark.parametrize(("drawn", "claimed", "kind"), CHANGES)
def test_a_changed_caption_fails_in_the_changed_fact(drawn, claimed, kind):
    scene = scene_for(parse(drawn), seed=1)
    video = render([scene], 16)
    assert judge(video, [drawn])[0].correct
    verdict = judge(video, [claimed])[0]
    assert not verdict.correct
    assert kind in {fact.kind for fact in verdict.facts if not fact.holds}


def test_what_is_not_said_is_not_judged():
    video = render([scene_for(parse("a small red circle moves left"))], 16)
    for less in ("a red circle", "a circle moves left", "an object", "a small object"):
        assert judge(video, [less])[0].correct


def test_nothing_to_see():
    blank = (torch.tensor(BACKGROUND) / 127.5 - 1).view(1, 3, 1, 1, 1).expand(1, 3, 8, 32, 32)
    noise = torch.rand(1, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    verdict = judge(blank, ["a red circle moves left"])[0]
    assert not any(f.holds for f in verdict.facts)
    assert "not visible" in str(verdict)
    assert not judge(noise, ["a red circle moves left"])[0].correct


BAD_VIDEOS = [
    (torch.zeros(3, 8, 32, 32), r"shape \(B, 3, F, H, W\)"),
    (torch.zeros(1, 1, 8, 32, 32), r"shape \(B, 3, F, H, W\)"),
    (torch.zeros(1, 3, 4, 32, 32), "at least"),
    (torch.zeros(1, 3, 8, 8, 32), "at least"),
    (torch.zeros(1, 3, 8, 32, 32, dtype=torch.uint8), "must be a float tensor"),
    (torch.full((1, 3, 8, 32, 32), float("nan")), "must be finite"),
    (torch.full((1, 3, 8, 32, 32), 255.0), r"must lie in \[-1, 1\], got values from 255 to 255"),
]


@pytest.mark.wrong_shapes
@pytest.mark.parametrize(("video", "message"), BAD_VIDEOS)
def test_bad_videos(video, message):
    with pytest.raises(ValueError, match=message):
        judge(video, ["a red circle"])


def test_bad_captions():
    video = render(sample_scenes(1, 2), 8)
    with pytest.raises(ValueError, match="captions must be a list of 2 strings"):
        judge(video, ["a red circle"])
    with pytest.raises(ValueError, match="captions must be a list of 2 strings"):
        judge(video, "a red circle")
    with pytest.raises(CaptionError, match="purple"):
        judge(video, ["a purple circle", "a red circle"])


@given(st.integers(0, 2**31), st.floats(0, 1.5))
@settings(max_examples=12, deadline=None)
def test_any_clip_is_judged(seed, amount):
    """Whatever a model makes, the judge answers."""
    rng = torch.Generator().manual_seed(seed)
    scenes = sample_scenes(1 + seed % 3, 1, seed=seed % 1000)
    video = render(scenes, 8)
    other = torch.rand(video.shape, generator=rng) * 2 - 1
    mixed = torch.lerp(video, other.roll(seed % 32, -1), amount / 1.5)
    verdict = judge(mixed, [caption(scenes[0].facts)])[0]
    assert isinstance(verdict.correct, bool) and len(verdict.facts) >= 4
