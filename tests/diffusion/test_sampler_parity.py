"""Whole trajectories of a fixed random network against the schedulers of diffusers.

Both use the same table of alpha_bar (test_schedules.py compares the tables), so that the rules are
compared and not the rounding of a product of 1000 numbers. An epsilon-prediction at the last timestep
is divided by alpha, so clips may be large: tolerances are shares of the largest number.
"""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
)

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
from t2v_mini.diffusion.schedules import betas_of, linear_betas, make_betas, spaced_timesteps
from tests.diffusion.toys import PREDICTIONS, random_network, video

THEIRS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def seeded():
    return torch.Generator().manual_seed(7)


def close(found, expected, tolerance):
    """Whether two tensors agree to a share of the larger one's largest number."""
    scale = max(1.0, expected.abs().max().item())
    return found.dtype == expected.dtype and (found - expected).abs().max().item() <= tolerance * scale


def follow(scheduler, predict, x, **arguments):
    """The usual loop over a scheduler, with every point on the way."""
    points = []
    for t in scheduler.timesteps:
        points.append(x)
        x = scheduler.step(predict(x, t.expand(len(x))), t, x, **arguments).prev_sample
    return x, points


def last_clean(scheduler, predict, points):
    """The clean clip that their last step predicts."""
    t, x = scheduler.timesteps[-1], points[-1]
    return scheduler.step(predict(x, t.expand(len(x))), t, x).pred_original_sample


def gaussian_pair(theirs, prediction, betas, dtype, **settings):
    """Our process and their scheduler on one table."""
    process = GaussianDiffusion(betas, prediction)
    scheduler = theirs(trained_betas=betas.tolist(), prediction_type=THEIRS[prediction], **settings)
    scheduler.alphas_cumprod = process.alpha_bar.to(dtype)
    return process, scheduler


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(
    ("spacing", "clip"), [(None, None), (None, 1.0), ("leading", None), ("trailing", 1.5)]
)
def test_ddpm(dtype, variance, prediction, spacing, clip):
    """They leave the noise out at t = 0 only: with trailing timesteps their clip ends with some."""
    betas = linear_betas(100, 1e-3, 0.15)
    process, scheduler = gaussian_pair(
        DDPMScheduler,
        prediction,
        betas,
        dtype,
        num_train_timesteps=100,
        variance_type=variance,
        clip_sample=clip is not None,
        clip_sample_range=clip or 1.0,
        timestep_spacing=spacing or "leading",
    )
    timesteps = None
    if spacing is not None:
        timesteps = spaced_timesteps(100, 20, spacing)
    scheduler.set_timesteps(100 if spacing is None else 20)
    predict, noise, seen = random_network(dtype, 100), video(0, dtype), []
    expected, points = follow(scheduler, predict, noise, generator=seeded())
    found = sample_ddpm(
        process, predict, noise, timesteps, variance, clip, seeded(), lambda step, x, x0: seen.append(x)
    )
    if spacing == "trailing":
        expected = last_clean(scheduler, predict, points)
    assert close(found, expected, TOLERANCE[dtype])
    assert len(seen) == len(points) == (100 if spacing is None else 20)
    for ours, theirs in zip(seen, points, strict=True):
        assert close(ours, theirs, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip", [None, 1.0])
def test_ddim(dtype, eta, spacing, prediction, clip):
    """With a clip they make up eps anew only on request."""
    process, scheduler = gaussian_pair(
        DDIMScheduler,
        prediction,
        make_betas(),
        dtype,
        clip_sample=clip is not None,
        timestep_spacing=spacing,
    )
    scheduler.set_timesteps(20)
    timesteps = spaced_timesteps(1000, 20, spacing)
    assert torch.equal(timesteps, scheduler.timesteps)
    predict, noise, seen = random_network(dtype, 1000), video(0, dtype), []
    expected, points = follow(
        scheduler, predict, noise, eta=eta, use_clipped_model_output=True, generator=seeded()
    )
    found = sample_ddim(
        process, predict, noise, timesteps, eta, clip, seeded(), lambda step, x, x0: seen.append(x)
    )
    assert close(found, expected, TOLERANCE[dtype])
    for ours, theirs in zip(seen, points, strict=True):
        assert close(ours, theirs, TOLERANCE[dtype])


@pytest.mark.parametrize("prediction", ["x0", "v"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_without_signal_at_the_end(prediction, eta):
    process, scheduler = gaussian_pair(
        DDIMScheduler,
        prediction,
        make_betas(zero_terminal_snr=True),
        torch.float64,
        clip_sample=False,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(20)
    predict, noise = random_network(torch.float64, 1000), video(0, torch.float64)
    expected, _ = follow(scheduler, predict, noise, eta=eta, generator=seeded())
    found = sample_ddim(process, predict, noise, spaced_timesteps(1000, 20), eta, generator=seeded())
    assert close(found, expected, 1e-10)


@pytest.mark.parametrize("count", [1, 2, 8, 25])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_dpm_solver_pp(count, schedule, prediction):
    """They keep sigma / alpha in 32 bits."""
    process, scheduler = gaussian_pair(
        DPMSolverMultistepScheduler,
        prediction,
        make_betas(schedule),
        torch.float64,
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        lower_order_final=True,
    )
    timesteps = spaced_timesteps(1000, count)
    scheduler.set_timesteps(timesteps=timesteps.tolist())
    predict, noise, seen = random_network(torch.float32, 1000), video(0), []
    expected, points = follow(scheduler, predict, noise)
    found = sample_dpm_solver_pp(
        process, predict, noise, timesteps, callback=lambda step, x, x0: seen.append(x)
    )
    assert close(found, expected, 1e-5)
    for ours, theirs in zip(seen, points, strict=True):
        assert close(ours, theirs, 1e-5)


FLOWS = [(1, 1.0), (2, 3.0), (10, 1.0), (10, 3.0), (25, 0.5)]


@pytest.mark.parametrize(("steps", "shift"), FLOWS)
def test_euler(steps, shift):
    """Given sigmas, they apply the shift once; their own start from a shifted end and shift it again."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=[1 - k / steps for k in range(steps)])
    times = shifted_times(steps, shift)
    assert torch.allclose(times, scheduler.sigmas, atol=1e-6)
    network, noise, seen = random_network(), video(0), []
    expected, points = follow(scheduler, lambda x, t: network(x, t / 1000), noise)
    flow = RectifiedFlow(prediction="velocity")
    found = sample_euler(flow, network, noise, times, callback=lambda step, x, x0: seen.append(x))
    assert close(found, expected, 1e-5)
    for ours, theirs in zip(seen, points, strict=True):
        assert close(ours, theirs, 1e-5)


@pytest.mark.parametrize(("steps", "shift"), FLOWS)
def test_heun(steps, shift):
    """With as many training steps as steps, and the shift set afterwards, they too shift once."""
    scheduler = FlowMatchHeunDiscreteScheduler(num_train_timesteps=steps)
    scheduler.register_to_config(shift=shift)
    scheduler.set_timesteps(steps)
    times = shifted_times(steps, shift)
    assert torch.allclose(times[:-1], torch.unique(scheduler.timesteps).flip(0) / steps, atol=1e-6)
    network, noise = random_network(), video(0)
    expected, points = follow(scheduler, lambda x, t: network(x, t / steps), noise)
    seen = []
    flow = RectifiedFlow(prediction="velocity")
    found = sample_heun(flow, network, noise, times, callback=lambda step, x, x0: seen.append(x))
    assert close(found, expected, 1e-5)
    assert len(points) == 2 * steps - 1
    for ours, theirs in zip(seen, points[::2], strict=True):
        assert close(ours, theirs, 1e-5)


@pytest.mark.parametrize("sampler", [sample_euler, sample_heun])
def test_what_a_flow_predicts_does_not_matter(sampler):
    """An x0-prediction that implies the network's velocity gives the same clip."""
    network, noise, times = random_network(torch.float64), video(0, torch.float64), shifted_times(12, 2.0)

    def clean(x, t):
        return x - t[:, None, None, None, None] * network(x, t)

    by_velocity = sampler(RectifiedFlow(prediction="velocity"), network, noise, times)
    assert torch.allclose(sampler(RectifiedFlow(), clean, noise, times), by_velocity, atol=1e-10)


@pytest.mark.parametrize(("steps", "shift"), FLOWS)
def test_stochastic(steps, shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift, stochastic_sampling=True)
    scheduler.set_timesteps(sigmas=[1 - k / steps for k in range(steps)])
    network, noise, seen = random_network(), video(0), []
    expected, points = follow(scheduler, lambda x, t: network(x, t / 1000), noise, generator=seeded())
    found = sample_stochastic(
        RectifiedFlow(prediction="velocity"),
        network,
        noise,
        shifted_times(steps, shift),
        generator=seeded(),
        callback=lambda step, x, x0: seen.append(x),
    )
    assert close(found, expected, 1e-5)
    for ours, theirs in zip(seen, points, strict=True):
        assert close(ours, theirs, 1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ancestral_is_ddim_on_scaled_points(eta):
    """A diffusion whose alpha_bar are those of the flow's times, with the same predicted clips and draws."""
    times = torch.tensor([0.9, 0.7, 0.45, 0.2, 0.0], dtype=torch.float64)
    flow_times = times[:-1].flip(0)
    scale = ((1 - flow_times) ** 2 + flow_times**2).sqrt()
    diffusion = GaussianDiffusion(betas_of(((1 - flow_times) / scale).square()), "x0")
    network, noise = random_network(torch.float64), video(0, torch.float64)

    def clean(x, timestep):
        k = timestep[0]
        return network(x * scale[k], flow_times[k].expand(len(x)))

    expected = sample_ddim(
        diffusion, clean, noise / scale[-1], torch.tensor([3, 2, 1, 0]), eta, generator=seeded()
    )
    found = sample_ancestral(RectifiedFlow(), network, noise, times, eta, generator=seeded())
    assert close(found, expected, 1e-6)
