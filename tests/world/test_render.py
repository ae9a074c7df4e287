"""The renderer against exact areas, another renderer, and its own contracts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from t2v_mini.world import Facts, ObjectFacts, Scene, Thing, render, sample_scenes
from t2v_mini.world.render import coverage, palette_tensor
from t2v_mini.world.vocabulary import SHAPES

AREA = {"circle": np.pi, "square": 4.0, "triangle": 2.0}


def place(x, y, r):
    return (torch.tensor([v]) for v in (x, y, r))


@pytest.mark.parametrize("shape", SHAPES)
@given(st.floats(8, 24), st.floats(8, 24), st.floats(2, 7))
@settings(max_examples=30, deadline=None)
def test_area(shape, x, y, r):
    drawn = coverage(shape, *place(x, y, r), 32, 32).sum().item()
    # Where two edges meet, a distance that is cut to one pixel gains up to a quarter of a pixel a corner.
    assert drawn == pytest.approx(AREA[shape] * r**2, rel=0.03, abs=0.8)


@pytest.mark.parametrize("shape", SHAPES)
def test_against_pillow(shape):
    factor, (x, y, r) = 16, (15.3, 16.6, 6.2)
    image = Image.new("L", (32 * factor, 32 * factor))
    left, top, right, bottom = (v * factor for v in (x - r, y - r, x + r, y + r))
    pen = ImageDraw.Draw(image)
    if shape == "circle":
        pen.ellipse([left, top, right, bottom], fill=255)
    elif shape == "square":
        pen.rectangle([left, top, right, bottom], fill=255)
    else:
        pen.polygon([(x * factor, top), (left, bottom), (right, bottom)], fill=255)
    theirs = np.asarray(image, dtype=np.float32).reshape(32, factor, 32, factor).mean((1, 3)) / 255
    ours = coverage(shape, *place(x, y, r), 32, 32)[0].numpy()
    assert np.abs(ours - theirs).mean() < 0.006
    assert np.abs(ours - theirs).max() < 0.35


def test_unknown_shape():
    with pytest.raises(ValueError, match="shape must be one of circle, square, triangle, got 'star'"):
        coverage("star", *place(1.0, 1.0, 1.0), 8, 8)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_range_dtype_and_batching(level):
    scenes = sample_scenes(level, 9)
    video = render(scenes, 8, 32, 32)
    assert video.shape == (9, 3, 8, 32, 32) and video.dtype == torch.float32
    assert video.min() >= -1 and video.max() <= 1
    stored = render(scenes, 8, 32, 32, torch.uint8)
    assert torch.equal(stored, ((video + 1) * 127.5).round().to(torch.uint8))
    for i, scene in enumerate(scenes):
        assert torch.allclose(render([scene], 8, 32, 32)[0], video[i], atol=1e-6)


@given(st.integers(8, 20), st.integers(16, 48), st.integers(16, 48))
@settings(max_examples=15, deadline=None)
def test_any_canvas(frames, height, width):
    side = min(height, width)
    scenes = sample_scenes(1, 2, canvas=(height / side, width / side))
    video = render(scenes, frames, height, width)
    assert video.shape == (2, 3, frames, height, width)
    ground = palette_tensor()[-1].view(1, 3, 1, 1, 1)
    assert ((video - ground).abs().amax((1, 3, 4)) > 0.3).all()  # the object is in every frame


def test_nearer_things_cover_farther_ones():
    path = ((0.0, 0.5, 0.5, 0.2), (1.0, 0.5, 0.5, 0.2))
    facts = Facts((ObjectFacts(), ObjectFacts()))
    near, far = Thing("square", "red", path, depth=0.0), Thing("square", "blue", path, depth=1.0)
    red = palette_tensor()[0]
    for things in ((near, far), (far, near)):
        video = render([Scene(things, facts)], 8)
        assert torch.allclose(video[0, :, 3, 16, 16], red, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 7}, "frames must be an integer of at least 8, got 7"),
        ({"height": 15}, "height must be an integer of at least 16, got 15"),
        ({"width": 32.0}, "width must be an integer of at least 16, got 32.0"),
        ({"dtype": torch.int64}, "dtype must be torch.float32 or torch.uint8, got torch.int64"),
        ({"height": 64}, "height, width must fit the scene's canvas"),
        ({"scenes": []}, "scenes must hold at least one scene"),
    ],
)
def test_bad_input(arguments, message):
    scenes = arguments.pop("scenes", sample_scenes(1, 1))
    with pytest.raises(ValueError, match=message):
        render(scenes, **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": "star"}, "shape must be one of"),
        ({"color": "mauve"}, "color must be one of"),
        ({"path": ((0, 0.5, 0.5, 0.1),)}, "path times must increase from 0 to 1"),
        ({"path": ((0, 0.5, 0.5, 0.1), (1, 0.5, 0.5, -0.1))}, "path radii must be positive"),
        ({"path": ((0, 0.5, float("nan"), 0.1), (1, 0.5, 0.5, 0.1))}, "path must hold finite key frames"),
        ({"turns_to": "blue"}, "turns_at and turns_to must be given together"),
    ],
)
def test_bad_things(change, message):
    good = {"shape": "circle", "color": "red", "path": ((0, 0.5, 0.5, 0.1), (1, 0.5, 0.5, 0.1))}
    with pytest.raises(ValueError, match=message):
        Thing(**(good | change))
