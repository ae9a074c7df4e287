"""Classifier-free guidance and its rescale."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from t2v_mini.diffusion.guidance import guided
from tests.diffusion.toys import video


def test_guidance_weighs_two_calls_and_saves_one():
    calls = []

    def predict(x, t, text):
        calls.append(text)
        return torch.full_like(x, {"yes": 3.0, "no": 1.0}[text])

    x, t = torch.zeros(2, 1), torch.zeros(2)
    assert guided(predict, "yes", "no", 1.0)(x, t)[0] == 3 and calls == ["yes"]
    assert guided(predict, "yes", "no", 2.0)(x, t)[0] == 5 and sorted(calls) == ["no", "yes", "yes"]
    calls.clear()
    assert guided(predict, "yes", "no", 0.0)(x, t)[0] == 1 and calls == ["no"]
    calls.clear()
    # The spread of the prediction with text is what rescale aims at.
    guided(predict, "yes", "no", 0.0, rescale=0.5)(x, t)
    assert sorted(calls) == ["no", "yes"]


@pytest.mark.parametrize("rescale", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0, 7.5])
def test_rescale_is_its_formula(scale, rescale):
    """Sample by sample in NumPy: scaled to the deviation of the conditional prediction, and mixed."""
    # Samples of unlike spread: a deviation taken over the whole batch would give itself away.
    spread = torch.tensor([1.0, 20.0])[:, None, None, None, None]
    said = {"yes": video(0) * spread + 1, "no": video(1) * spread}
    x, t = video(2), torch.zeros(2)
    found = guided(lambda x, t, text: said[text], "yes", "no", scale, rescale)(x, t)
    wide = said["no"] + scale * (said["yes"] - said["no"])
    for one, plain, conditional in zip(found.numpy(), wide.numpy(), said["yes"].numpy(), strict=True):
        scaled = plain / np.std(plain) * np.std(conditional)
        expected = rescale * scaled + (1 - rescale) * plain
        assert np.allclose(one, expected, rtol=1e-5, atol=1e-4)
    if rescale == 1:
        axes = (1, 2, 3, 4)
        assert torch.allclose(found.std(axes), said["yes"].std(axes), rtol=1e-5)


def test_rescale_of_what_has_no_spread():
    """A constant prediction, and a sample of one number, stay as they are."""
    said = {"yes": torch.full((2, 3, 4), 2.0), "no": torch.ones(2, 3, 4)}
    found = guided(lambda x, t, text: said[text], "yes", "no", 3.0, 0.7)(said["no"], torch.zeros(2))
    assert torch.equal(found, torch.full((2, 3, 4), 4.0))
    said = {"yes": torch.tensor([2.0, 7.0]), "no": torch.tensor([1.0, 1.0])}
    found = guided(lambda x, t, text: said[text], "yes", "no", 3.0, 0.7)(said["no"], torch.zeros(2))
    assert torch.allclose(found, torch.tensor([4.0, 19.0]))


@given(scale=st.floats(max_value=0, exclude_max=True) | st.sampled_from([math.inf, math.nan]))
def test_bad_scales_are_refused(scale):
    with pytest.raises(ValueError, match="guidance must be a finite number >= 0, got"):
        guided(lambda x, t, text: x, "yes", "no", scale)


@given(rescale=st.floats().filter(lambda r: not 0 <= r <= 1))
def test_bad_rescales_are_refused(rescale):
    for scale in (1.0, 3.0):
        with pytest.raises(ValueError, match=r"rescale must be in \[0, 1\], got"):
            guided(lambda x, t, text: x, "yes", "no", scale, rescale)


def test_guidance_only_within_its_interval():
    """Inside, ends included, two calls; outside one, and the plain conditional prediction."""
    calls = []

    def predict(x, t, text):
        calls.append(text)
        return torch.full_like(x, {"yes": 3.0, "no": 1.0}[text])

    closure = guided(predict, "yes", "no", 2.0, interval=(0.2, 0.7))
    for time, value, count in ((0.1, 3.0, 1), (0.2, 5.0, 2), (0.5, 5.0, 2), (0.7, 5.0, 2), (0.8, 3.0, 1)):
        calls.clear()
        found = closure(torch.zeros(2, 1), torch.full((2,), time))
        assert (found == value).all() and len(calls) == count
    for bad in ((0.7, 0.2), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="interval must be a pair"):
            guided(predict, "yes", "no", 2.0, interval=bad)
