"""Schedules and timesteps, against published values, formulas written anew, and diffusers."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from t2v_mini.diffusion.schedules import (
    SCHEDULES,
    SPACINGS,
    alpha_bar_of,
    betas_of,
    cosine_betas,
    linear_betas,
    make_betas,
    rescale_zero_terminal_snr,
    scaled_linear_betas,
    shift_alpha_bar,
    sigmoid_betas,
    spaced_timesteps,
)


@pytest.mark.parametrize(
    ("schedule", "zero", "first", "middle", "last"),
    [
        ("linear", False, 0.9999, 0.0785872, 4.03583e-5),
        ("scaled_linear", False, 0.99915, 0.2776697, 4.660098e-3),
        ("cosine", False, 0.99995872, 0.4938436, 2.42877e-9),
        ("linear", True, 0.9999, 0.0760288, 0.0),
        ("scaled_linear", True, 0.99915, 0.2423592, 0.0),
    ],
)
def test_golden_values(schedule, zero, first, middle, last):
    betas = make_betas(schedule, zero_terminal_snr=zero)
    assert betas.dtype == torch.float64 and betas.shape == (1000,)
    found = alpha_bar_of(betas)[[0, 499, 999]].tolist()
    # As many digits as are published.
    assert found[0] == pytest.approx(first, abs=5e-9)
    assert found[1] == pytest.approx(middle, abs=5e-8)
    assert found[2] == pytest.approx(last, rel=2e-6, abs=0)


def test_cosine_constants():
    assert make_betas("cosine")[0].item() == pytest.approx(4.12842e-5, rel=1e-6)
    assert make_betas("cosine")[-1] == 0.999
    # With the other cap that is in use.
    assert alpha_bar_of(cosine_betas(1000, 0.9999))[-1].item() == pytest.approx(2.42877e-10, rel=1e-5)


def test_sigmoid_is_its_formula():
    """A logistic curve, stretched to run from 1 to 0; by symmetry it is 1/2 half-way."""
    found = alpha_bar_of(sigmoid_betas(1000)).numpy()
    time = np.arange(1, 1001) / 1000
    curve = (np.tanh(1.5) - np.tanh(1.5 * (2 * time - 1))) / (2 * np.tanh(1.5))
    assert np.allclose(found[:-1], curve[:-1], atol=1e-12) and found[499] == pytest.approx(0.5, abs=1e-12)
    assert found[-1] == pytest.approx(curve[-2] * (1 - 0.999), rel=1e-9)
    # A high temperature makes the curve a straight line.
    line = alpha_bar_of(sigmoid_betas(1000, tau=1000.0)).numpy()
    assert np.allclose(line[:-1], 1 - time[:-1], atol=1e-5)
    # The start of a flat curve moves it: from 0 to 3 the signal is lost early.
    assert alpha_bar_of(sigmoid_betas(1000, start=0.0))[499] < 0.4


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [("linear", "linear"), ("scaled_linear", "scaled_linear"), ("cosine", "squaredcos_cap_v2")],
)
@pytest.mark.parametrize("steps", [10, 1000])
def test_betas_agree_with_diffusers(schedule, theirs, steps):
    ends = {"beta_start": 0.00085, "beta_end": 0.012} if schedule == "scaled_linear" else {}
    expected = DDPMScheduler(steps, beta_schedule=theirs, **ends).betas
    assert torch.allclose(make_betas(schedule, steps).float(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("zero", [False, True])
def test_every_schedule_falls(schedule, zero):
    betas = make_betas(schedule, zero_terminal_snr=zero)
    alpha_bar = alpha_bar_of(betas)
    assert ((betas > 0) & (betas <= 1)).all() and (alpha_bar.diff() < 0).all()
    assert (alpha_bar[-1] == 0) == zero and (betas[-1] == 1) == zero
    assert torch.allclose(betas_of(alpha_bar), betas, rtol=1e-9, atol=1e-12)


def test_zero_terminal_snr_agrees_with_diffusers():
    expected = DDIMScheduler(rescale_betas_zero_snr=True).alphas_cumprod
    found = alpha_bar_of(make_betas(zero_terminal_snr=True))
    assert torch.allclose(found.float(), expected, atol=1e-6)
    # The first step stays: only the end is stretched.
    assert found[0].item() == pytest.approx(1 - 1e-4, abs=1e-12)


def test_shift_divides_the_snr():
    alpha_bar = alpha_bar_of(make_betas("scaled_linear"))
    shifted = shift_alpha_bar(alpha_bar, 3.0)
    assert torch.allclose(shifted / (1 - shifted), alpha_bar / (1 - alpha_bar) / 3, rtol=1e-9)
    assert torch.equal(shift_alpha_bar(alpha_bar, 1.0), alpha_bar)
    assert shift_alpha_bar(torch.tensor([1.0, 0.0]).double(), 3.0).tolist() == [1, 0]
    assert torch.allclose(alpha_bar_of(betas_of(shifted)), shifted, rtol=1e-9)


def test_spacing_golden_values():
    assert spaced_timesteps(1000, 10, "linspace").tolist() == list(range(999, -1, -111))
    assert spaced_timesteps(1000, 10, "leading").tolist() == list(range(900, -1, -100))
    assert spaced_timesteps(1000, 10).tolist() == list(range(999, 0, -100))
    assert spaced_timesteps(1000, 1).tolist() == [999]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("total", [1000, 37])
def test_every_count_gives_as_many_falling_timesteps(spacing, total):
    for count in range(1, total + 1):
        found = spaced_timesteps(total, count, spacing)
        assert found.dtype == torch.int64 and found.shape == (count,), count
        assert (found.diff() < 0).all() and found[-1] >= 0 and found[0] < total, count
        assert spacing == "leading" or found[0] == total - 1, count
    assert found.tolist() == list(range(total - 1, -1, -1))


@pytest.mark.parametrize(("spacing", "wrong"), [("trailing", 62), ("leading", 0), ("linspace", 0)])
def test_spacing_agrees_with_diffusers(spacing, wrong):
    """But for the counts for which their float range adds a timestep of -1, and for exact halves.

    Halves are rounded to even here; there a float error of 1e-13 decides.
    """
    scheduler = DDIMScheduler(timestep_spacing=spacing)
    longer = 0
    for count in range(2, 1001):
        scheduler.set_timesteps(count)
        if len(scheduler.timesteps) != count:
            longer += 1
            continue
        found = spaced_timesteps(1000, count, spacing)
        if torch.equal(found, scheduler.timesteps):
            continue
        for place in (found != scheduler.timesteps).nonzero()[:, 0].tolist():
            # Half-way between two timesteps: twice the exact value is odd.
            total, parts = (1000, count) if spacing == "trailing" else (999, count - 1)
            twice, rest = divmod(2 * total * place, parts)
            assert rest == 0 and twice % 2 == 1 and spacing != "leading", (count, place)
            assert abs(found[place] - scheduler.timesteps[place]) == 1, (count, place)
    assert longer == wrong


BAD = st.one_of(st.integers(-5, 0), st.floats(), st.just("3"), st.none())


@given(count=BAD | st.integers(11, 10**9), spacing=st.sampled_from(SPACINGS))
def test_bad_counts_are_refused(count, spacing):
    with pytest.raises(ValueError, match="count must be an integer from 1 to total, 10, got"):
        spaced_timesteps(10, count, spacing)


@given(total=BAD)
def test_bad_totals_are_refused(total):
    with pytest.raises(ValueError, match="total must be a positive integer, got"):
        spaced_timesteps(total, 1)
    with pytest.raises(ValueError, match="steps must be an integer of at least 2, got"):
        make_betas("linear", total)


@given(shift=st.floats(max_value=0) | st.sampled_from([math.inf, math.nan]))
def test_bad_shifts_are_refused(shift):
    with pytest.raises(ValueError, match="shift must be positive and finite, got"):
        shift_alpha_bar(torch.ones(2).double(), shift)


@given(start=st.floats(), end=st.floats())
def test_ends_of_linear_schedules_are_checked(start, end):
    for make in (linear_betas, scaled_linear_betas):
        if 0 < start <= end < 1:
            betas = make(5, start, end)
            assert betas[0].item() == pytest.approx(start, rel=1e-9, abs=1e-300)
            assert betas[-1].item() == pytest.approx(end, rel=1e-9, abs=1e-300)
        else:
            with pytest.raises(ValueError, match="start and end must fulfil 0 < start <= end < 1"):
                make(5, start, end)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_betas("quadratic"), "schedule must be one of linear, scaled_linear, cosine, sigmoid"),
        (lambda: spaced_timesteps(10, 2, "even"), "spacing must be one of leading, trailing, linspace"),
        (lambda: cosine_betas(1), "steps must be an integer of at least 2, got 1"),
        (lambda: cosine_betas(10, 1.0), "max_beta must be in .0, 1., got 1.0"),
        (lambda: cosine_betas(10, math.nan), "max_beta must be in"),
        (lambda: sigmoid_betas(10, max_beta=0.0), "max_beta must be in"),
        (lambda: sigmoid_betas(1), "steps must be an integer of at least 2, got 1"),
        (lambda: sigmoid_betas(10, 3.0, -3.0), "start must be below end, both finite, got start 3.0"),
        (lambda: sigmoid_betas(10, -math.inf), "start must be below end, both finite"),
        (lambda: sigmoid_betas(10, tau=0.0), "tau must be positive and finite, got 0.0"),
        (lambda: rescale_zero_terminal_snr(torch.tensor([0.1]).double()), "steps must be an integer"),
    ],
)
def test_what_a_schedule_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
