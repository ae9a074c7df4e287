"""What all samplers promise: draws, callbacks, dtypes, clips and refusals."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from t2v_mini.diffusion.flow import RectifiedFlow
from t2v_mini.diffusion.process import GaussianDiffusion
from t2v_mini.diffusion.samplers import (
    sample_ancestral,
    sample_ddim,
    sample_ddpm,
    sample_dpm_solver_pp,
    sample_euler,
    sample_heun,
    sample_stochastic,
    shifted_times,
)
from t2v_mini.diffusion.schedules import linear_betas, spaced_timesteps
from tests.diffusion.toys import random_network, video

BETAS = linear_betas(40, 2e-3, 0.3)
STEPS = spaced_timesteps(40, 6)
GAUSSIAN = {
    "ddpm": lambda p, f, x, **k: sample_ddpm(p, f, x, STEPS, **k),
    "ddim": lambda p, f, x, **k: sample_ddim(p, f, x, STEPS, 0.0, **k),
    "ddim eta": lambda p, f, x, **k: sample_ddim(p, f, x, STEPS, 0.5, **k),
    "dpm++": lambda p, f, x, **k: sample_dpm_solver_pp(p, f, x, STEPS, **k),
}
FLOW = {
    "euler": lambda p, f, x, **k: sample_euler(p, f, x, shifted_times(6), **k),
    "heun": lambda p, f, x, **k: sample_heun(p, f, x, shifted_times(6), **k),
    "ancestral": lambda p, f, x, **k: sample_ancestral(p, f, x, shifted_times(6), **k),
    "stochastic": lambda p, f, x, **k: sample_stochastic(p, f, x, shifted_times(6), **k),
}
SAMPLERS = GAUSSIAN | FLOW
DRAWING = ("ddpm", "ddim eta", "ancestral", "stochastic")


def process_of(name):
    return GaussianDiffusion(BETAS, "v") if name in GAUSSIAN else RectifiedFlow()


def network_of(name, dtype=torch.float32):
    return random_network(dtype, 40 if name in GAUSSIAN else 1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_noise_comes_from_the_generator_alone(name):
    """One seed, one clip; where a sampler is a map from noise to clip, no number is drawn at all."""
    process, network, noise, kept = process_of(name), network_of(name), video(0), video(0)

    def sample(seed):
        generator = torch.Generator().manual_seed(seed)
        x = SAMPLERS[name](process, network, noise, generator=generator)
        return x, torch.equal(generator.get_state(), torch.Generator().manual_seed(seed).get_state())

    everywhere = torch.get_rng_state()
    (first, untouched), (again, _), (other, _) = sample(1), sample(1), sample(2)
    assert torch.equal(torch.get_rng_state(), everywhere)
    assert torch.equal(first, again) and torch.equal(noise, kept)
    assert untouched == torch.equal(first, other) == (name not in DRAWING)
    # Without one, the global generator.
    torch.manual_seed(1)
    assert torch.equal(SAMPLERS[name](process, network, noise), first)
    drawn = not torch.equal(torch.get_rng_state(), torch.Generator().manual_seed(1).get_state())
    assert drawn == (name in DRAWING)


@pytest.mark.parametrize("name", DRAWING)
def test_noise_of_a_sample_is_its_own(name):
    """With one generator a sample, a clip is the same alone and in any batch."""
    process, network, noise = process_of(name), network_of(name), video(0, batch=3)

    def sample(part):
        generators = [torch.Generator().manual_seed(seed) for seed in range(3)[part]]
        return SAMPLERS[name](process, network, noise[part], generator=generators)

    whole = sample(slice(None))
    for i in range(3):
        assert torch.allclose(sample(slice(i, i + 1)), whole[i : i + 1], atol=1e-5)
    assert not torch.allclose(whole[0], whole[1], atol=0.1)
    with pytest.raises(ValueError, match="generator must be one, or 3, one a sample, got 2"):
        SAMPLERS[name](process, network, noise, generator=[torch.Generator()] * 2)


def test_the_last_step_draws_nothing():
    process, calls = process_of("ddpm"), []
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    for sample in (sample_ddpm, lambda *a, **k: sample_ddim(*a, 1.0, **k)):
        x = sample(process, lambda x, t: torch.ones_like(x), video(0), torch.tensor([7]), generator=generator)
        assert torch.equal(generator.get_state(), state)
        calls.append(x)
    # One step from t to the clean clip is the predicted clip.
    expected = process.to_x0(torch.ones_like(video(0)), video(0), torch.tensor([7, 7]))
    assert all(torch.allclose(x, expected, atol=1e-6) for x in calls)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("shape", [(2,), (3, 4), (2, 3, 2, 4, 5)])
def test_callbacks_and_any_number_of_axes(name, shape):
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    seen, times = [], []

    def predict(x, t):
        assert not torch.is_grad_enabled() and t.shape == x.shape[:1] and t.device == x.device
        times.append(t)
        return 0.1 * x + 1

    process = process_of(name)
    parameter = noise.requires_grad_()
    x = SAMPLERS[name](process, predict, parameter, callback=lambda *a: seen.append(a))
    assert x.shape == noise.shape and not x.requires_grad and x.isfinite().all()
    assert [step for step, _, _ in seen] == list(range(6))
    assert torch.equal(seen[0][1], noise)
    assert all(point.shape == clean.shape == noise.shape for _, point, clean in seen)
    # The last step arrives at the clip that was predicted from its start.
    assert torch.allclose(x, seen[-1][2], atol=1e-5)
    if name in GAUSSIAN:
        assert [t[0].item() for t in times] == STEPS.tolist()
        assert all(t.dtype == torch.int64 for t in times)
        for (_, point, clean), t in zip(seen, times, strict=True):
            assert torch.allclose(clean, process.to_x0(0.1 * point + 1, point, t), atol=1e-6)
    else:
        calls = 11 if name == "heun" else 6
        assert len(times) == calls and all(t.dtype == torch.float32 for t in times)
        assert all((t > 0).all() for t in times)
        for _, point, clean in seen:
            assert torch.allclose(clean, 0.1 * point + 1, atol=1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes_are_kept(name, dtype):
    seen = []

    def sample(dtype):
        network = network_of(name, dtype)

        def predict(x, t):
            # Times of a flow are as exact as x, and never of 16 bits.
            assert name in GAUSSIAN or t.dtype == torch.promote_types(dtype, torch.float32)
            return network(x, t)

        return SAMPLERS[name](
            process_of(name),
            predict,
            video(0, dtype),
            generator=None if name in DRAWING else torch.Generator(),
            callback=lambda step, x, x0: seen.append((x.dtype, x0.dtype)),
        )

    x = sample(dtype)
    assert x.dtype == dtype and set(seen) == {(dtype, dtype)}
    if name not in DRAWING and dtype == torch.float64:
        single = sample(torch.float32)
        # Near, but with digits that 32 bits do not have.
        assert 0 < (single - x).abs().max() < 1e-4
        assert not torch.equal(x, x.float().double())


@pytest.mark.parametrize("name", GAUSSIAN)
def test_a_clip_bounds_what_is_predicted(name):
    process, seen = process_of(name), []
    x = GAUSSIAN[name](
        process,
        lambda x, t: -20 * torch.ones_like(x),
        video(0),
        clip=0.7,
        callback=lambda step, x, x0: seen.append(x0),
    )
    assert all(x0.abs().max() <= 0.7 for x0 in seen) and seen[0].abs().max() == pytest.approx(0.7)
    assert x.abs().max() <= 0.7 + 1e-6


@pytest.mark.parametrize("name", GAUSSIAN)
@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan])
def test_bad_clips_are_refused(name, clip):
    with pytest.raises(ValueError, match="clip must be positive or None, got"):
        GAUSSIAN[name](process_of(name), network_of(name), video(0), clip=clip)


TAKING_TIMESTEPS = [sample_ddpm, sample_ddim, sample_dpm_solver_pp]


def falls(values, top):
    return (
        bool(values) and values[0] < top and values[-1] >= 0 and sorted(set(values), reverse=True) == values
    )


@pytest.mark.wrong_shapes
@given(values=st.lists(st.integers(-2, 42), max_size=5))
@pytest.mark.parametrize("sampler", TAKING_TIMESTEPS)
def test_timesteps_must_fall(sampler, values):
    """Duplicates and rising timesteps are refused, and those that the process lacks."""
    timesteps = torch.tensor(values, dtype=torch.int64)
    arguments = (GaussianDiffusion(BETAS, "x0"), lambda x, t: x, torch.ones(1, 2), timesteps)
    if falls(values, 40):
        assert sampler(*arguments).isfinite().all()
    else:
        with pytest.raises(ValueError, match=r"timesteps must be falling int64 numbers in 0 ... 39, got"):
            sampler(*arguments)


@pytest.mark.wrong_shapes
@pytest.mark.parametrize("sampler", TAKING_TIMESTEPS)
@pytest.mark.parametrize("bad", [torch.tensor([3.0, 1.0]), torch.tensor([[3, 1]]), torch.tensor(3)])
def test_timesteps_of_another_kind(sampler, bad):
    with pytest.raises(ValueError, match="timesteps must be falling int64 numbers"):
        sampler(GaussianDiffusion(BETAS), lambda x, t: x, torch.ones(1, 2), bad)


@given(values=st.lists(st.floats(-0.5, 1.5) | st.just(math.nan), max_size=4))
@pytest.mark.parametrize("sampler", [sample_euler, sample_heun, sample_ancestral, sample_stochastic])
def test_times_must_fall(sampler, values):
    times = torch.tensor(values, dtype=torch.float64)
    arguments = (RectifiedFlow(), lambda x, t: x, torch.ones(1, 2), times)
    if len(values) > 1 and not any(map(math.isnan, values)) and falls(values, math.inf) and values[0] <= 1:
        assert sampler(*arguments).isfinite().all()
    else:
        with pytest.raises(ValueError, match=r"times must be at least two falling numbers in \[0, 1\], got"):
            sampler(*arguments)


@given(eta=st.floats().filter(lambda eta: not 0 <= eta <= 1))
def test_bad_etas_are_refused(eta):
    with pytest.raises(ValueError, match=r"eta must be in \[0, 1\], got"):
        sample_ddim(GaussianDiffusion(BETAS), lambda x, t: x, torch.ones(1, 2), STEPS, eta)
    with pytest.raises(ValueError, match=r"eta must be in \[0, 1\], got"):
        sample_ancestral(RectifiedFlow(), lambda x, t: x, torch.ones(1, 2), shifted_times(3), eta)


def test_bad_variances_are_refused():
    with pytest.raises(ValueError, match="variance must be one of fixed_small, fixed_large, got 'learned'"):
        sample_ddpm(GaussianDiffusion(BETAS), lambda x, t: x, torch.ones(1, 2), variance="learned")


@pytest.mark.wrong_shapes
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_network_that_answers_in_another_shape(name):
    with pytest.raises(ValueError, match="prediction must have the shape of xt, "):
        SAMPLERS[name](process_of(name), lambda x, t: x[:, :1], video(0))


def test_shifted_times():
    assert shifted_times(4).tolist() == [1, 0.75, 0.5, 0.25, 0]
    times = shifted_times(4, shift=3.0)
    # 3 * .5 / (1 + 2 * .5)
    assert times[0] == 1 and times[-1] == 0 and times[2].item() == pytest.approx(0.75)
    for steps in (1, 7, 1000):
        for shift in (0.1, 1.0, 3.0, 12.0):
            times = shifted_times(steps, shift)
            assert len(times) == steps + 1 and (times.diff() < 0).all() and times[0] == 1 and times[-1] == 0
            # The odds of noise to signal are multiplied by the shift.
            even = torch.linspace(1, 0, steps + 1).double()[1:-1]
            odds = times[1:-1].double() / (1 - times[1:-1].double())
            assert torch.allclose(odds, shift * even / (1 - even), rtol=1e-3)


def test_shifted_times_with_a_last_step():
    assert shifted_times(4, last=0.4).tolist() == pytest.approx([1, 0.8, 0.6, 0.4, 0])
    for shift in (0.5, 3.0):
        times = shifted_times(6, shift, 0.5)
        assert len(times) == 7 and times[-2].item() == pytest.approx(0.5) and times[-1] == 0
        # All but the last are the even ones of a grid that ends there.
        even = times.double() / (shift - (shift - 1) * times.double())
        assert torch.allclose(even[:-1].diff(), even[1] - even[0], rtol=1e-4)
    assert shifted_times(1, 3.0, 0.5).tolist() == [1, 0]
    for last in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"last must be in \[0, 1\), got"):
            shifted_times(4, last=last)


@given(steps=st.one_of(st.integers(max_value=0), st.floats(), st.just("3"), st.none()))
def test_bad_steps_are_refused(steps):
    with pytest.raises(ValueError, match="steps must be a positive integer, got"):
        shifted_times(steps)


@given(shift=st.floats(max_value=0) | st.sampled_from([math.inf, math.nan]))
def test_bad_shifts_are_refused(shift):
    with pytest.raises(ValueError, match="shift must be positive and finite, got"):
        shifted_times(4, shift)
