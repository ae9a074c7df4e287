"""Samplers on data whose best denoiser is known: the right distribution, and the order of the error."""

import math
from itertools import pairwise

import pytest
import torch

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
from t2v_mini.diffusion.schedules import (
    betas_of,
    linear_betas,
    rescale_zero_terminal_snr,
    spaced_timesteps,
)
from tests.diffusion.toys import (
    COVARIANCE,
    MEAN,
    PREDICTIONS,
    flow_predictor,
    gaussian_denoiser,
    gaussian_flow,
    gaussian_predictor,
    mixture_denoiser,
    white_noise,
)

ONE, NIL = torch.tensor(1.0).double(), torch.tensor(0.0).double()


def seeded():
    return torch.Generator().manual_seed(1)


def ddpm(variance):
    def sample(process, predict, noise):
        return sample_ddpm(process, predict, noise, variance=variance, generator=seeded())

    return sample


def ddim(eta, count, spacing="trailing"):
    def sample(process, predict, noise):
        timesteps = spaced_timesteps(process.steps, count, spacing)
        return sample_ddim(process, predict, noise, timesteps, eta, generator=seeded())

    return sample


def dpm(count, spacing="trailing"):
    def sample(process, predict, noise):
        return sample_dpm_solver_pp(process, predict, noise, spaced_timesteps(process.steps, count, spacing))

    return sample


def clouds(sample, process):
    """8000 samples of three numbers, as a batch of four clouds: numbers for each sample cost time."""
    noise = white_noise(8000).view(4, 2000, 3)
    return sample(process, gaussian_predictor(process, gaussian_denoiser), noise).flatten(0, 1)


# Tolerance of the mean and of the covariance. Samplers that draw noise show the error of 8000 samples, too.
# The mean cannot be exact: xt keeps a little signal at t = T - 1, and the noise at the start has none.
GAUSSIAN_SAMPLERS = {
    "ddpm small": (ddpm("fixed_small"), 0.03, 0.08),  # its variance is the least that is possible
    "ddpm large": (ddpm("fixed_large"), 0.03, 0.05),
    "ddim 0": (ddim(0.0, 250), 0.01, 0.02),
    "ddim 0 linspace": (ddim(0.0, 250, "linspace"), 0.01, 0.02),
    "ddim .5": (ddim(0.5, 250), 0.03, 0.05),
    "ddim 1": (ddim(1.0, 250), 0.03, 0.08),
    "dpm++": (dpm(50), 0.01, 0.01),
    "dpm++ leading": (dpm(125, "leading"), 0.01, 0.01),
}
# The usual 1000 betas, four at a time: as noisy at the end, for a quarter of the calls.
BETAS = linear_betas(250, 4e-4, 0.08)


@pytest.mark.parametrize("name", GAUSSIAN_SAMPLERS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_gaussian_is_sampled(name, prediction):
    """All three axes differ in mean and spread and are correlated."""
    sample, mean, covariance = GAUSSIAN_SAMPLERS[name]
    process = GaussianDiffusion(BETAS, prediction)
    x = clouds(sample, process)
    assert torch.allclose(x.mean(0), MEAN, rtol=0, atol=mean)
    assert torch.allclose(x.T.cov(), COVARIANCE, rtol=0, atol=covariance)


@pytest.mark.parametrize("name", ["ddpm small", "ddpm large", "ddim 0", "ddim 1", "dpm++"])
@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_without_signal_at_the_end(name, prediction):
    """Zero terminal SNR: no NaN, and now the mean is exact where no noise is drawn."""
    sample, mean, covariance = GAUSSIAN_SAMPLERS[name]
    process = GaussianDiffusion(rescale_zero_terminal_snr(BETAS), prediction)
    x = clouds(sample, process)
    drawn = name not in ("ddim 0", "dpm++")
    assert torch.allclose(x.mean(0), MEAN, rtol=0, atol=mean if drawn else 1e-6)
    assert torch.allclose(x.T.cov(), COVARIANCE, rtol=0, atol=covariance)


@pytest.mark.parametrize(
    ("sampler", "steps", "tolerance"), [(sample_euler, 200, 0.02), (sample_heun, 40, 0.01)]
)
@pytest.mark.parametrize("prediction", ["x0", "velocity"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_samples_a_gaussian(sampler, steps, tolerance, prediction, shift):
    flow, noise = RectifiedFlow(prediction=prediction), white_noise(2000)
    x = sampler(flow, flow_predictor(flow, gaussian_denoiser), noise, shifted_times(steps, shift))
    assert torch.allclose(x.mean(0), MEAN, rtol=0, atol=tolerance)
    assert torch.allclose(x.T.cov(), COVARIANCE, rtol=0, atol=tolerance)


def test_ancestral_steps_of_a_flow_sample_a_gaussian():
    flow, noise = RectifiedFlow(), white_noise(20000)
    predict = flow_predictor(flow, gaussian_denoiser)
    x = sample_ancestral(flow, predict, noise, shifted_times(200, 3.0), generator=seeded())
    assert torch.allclose(x.mean(0), MEAN, rtol=0, atol=0.03)
    assert torch.allclose(x.T.cov(), COVARIANCE, rtol=0, atol=0.04)


def test_steps_with_new_noise_only_lose_variety():
    """The mean is right. One step keeps none of the variance, many steps half of it.

    At a small t a step turns the variance v into g^2 ((1 - t)^2 v + t^2) with the gain g of the best
    prediction, and that comes to rest at half of the data's.
    """
    flow, noise = RectifiedFlow(), white_noise(20000)
    predict, traces = flow_predictor(flow, gaussian_denoiser), []
    for steps in (1, 4, 16, 64, 256):
        x = sample_stochastic(flow, predict, noise, shifted_times(steps, 3.0), generator=seeded())
        assert torch.allclose(x.mean(0), MEAN, rtol=0, atol=0.03)
        traces.append(x.T.cov().trace().item())
    half = COVARIANCE.trace().item() / 2
    assert traces[0] < 1e-12 and traces == sorted(traces)
    assert 0.95 * half < traces[-1] < half


def test_a_part_of_the_flow():
    """From t = 1 to 0.4 the points get the distribution of that time, not of the data."""
    flow, noise = RectifiedFlow(), white_noise(2000)
    times = torch.linspace(1, 0.4, 50, dtype=torch.float64)
    x = sample_heun(flow, flow_predictor(flow, gaussian_denoiser), noise, times)
    expected = 0.36 * COVARIANCE + 0.16 * torch.eye(3, dtype=torch.float64)
    assert torch.allclose(x.mean(0), 0.6 * MEAN, atol=1e-3) and torch.allclose(x.T.cov(), expected, atol=1e-3)


MIXTURE_SAMPLERS = {
    "ddpm small": (ddpm("fixed_small"), "epsilon"),
    "ddpm large": (ddpm("fixed_large"), "v"),
    "ddim 0": (ddim(0.0, 100), "x0"),
    "ddim 1": (ddim(1.0, 250), "epsilon"),
    "dpm++": (dpm(50), "v"),
    "euler": (sample_euler, "velocity"),
    "heun": (sample_heun, "x0"),
}


@pytest.mark.parametrize("name", MIXTURE_SAMPLERS)
def test_modes_keep_their_weights(name):
    """1 in 5 near -2 and the others near 2, and none between: the noise is a grid of quantiles."""
    sample, prediction = MIXTURE_SAMPLERS[name]
    grid = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    noise = torch.special.ndtri(grid).view(4, 1000, 1)
    if name in ("euler", "heun"):
        flow = RectifiedFlow(prediction=prediction)
        x = sample(flow, flow_predictor(flow, mixture_denoiser), noise, shifted_times(100))
    else:
        process = GaussianDiffusion(BETAS, prediction)
        x = sample(process, gaussian_predictor(process, mixture_denoiser), noise)
    low = x < 0
    assert low.double().mean().item() == pytest.approx(0.2, abs=0.02)
    assert x[low].median().item() == pytest.approx(-2, abs=0.05)
    assert x[~low].median().item() == pytest.approx(2, abs=0.05)
    assert (x.abs() < 0.8).double().mean() < 0.005
    assert x[~low].std().item() == pytest.approx(0.3, abs=0.04)


def evenly_in_lambda(steps, prediction):
    """A process whose steps are even in ln(alpha / sigma), from -4 to 3."""
    alpha_bar = torch.sigmoid(2 * torch.linspace(3, -4, steps + 1, dtype=torch.float64))
    return GaussianDiffusion(betas_of(alpha_bar), prediction)


@pytest.mark.parametrize(("sampler", "order"), [(sample_ddim, 1), (sample_dpm_solver_pp, 2)])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_order_of_convergence(sampler, order, prediction):
    """Towards the exact probability-flow ODE; the last step, to the clean clip, is left out of the error."""
    noise, errors = white_noise(200), []
    for steps in (20, 40, 80, 160):
        process = evenly_in_lambda(steps, prediction)
        points = []
        sampler(
            process,
            gaussian_predictor(process, gaussian_denoiser),
            noise,
            spaced_timesteps(steps + 1, steps + 1),
            callback=lambda step, x, x0, points=points: points.append((x, x0)),
        )
        ends = [(a.double().sqrt(), (1 - a.double()).sqrt()) for a in process.alpha_bar[[-1, 0]]]
        exact = gaussian_flow(noise, *ends[0], to=ends[1])
        errors.append((points[-1][0] - exact).square().mean().sqrt().item())
        assert torch.allclose(points[-1][1], gaussian_denoiser(points[-1][0], *ends[1]), atol=1e-6)
    rates = [math.log2(a / b) for a, b in pairwise(errors)]
    assert rates[-1] == pytest.approx(order, abs=0.2), (errors, rates)
    assert errors[-1] < {1: 0.05, 2: 0.003}[order]


@pytest.mark.parametrize(("sampler", "order"), [(sample_euler, 1), (sample_heun, 2)])
@pytest.mark.parametrize("prediction", ["x0", "velocity"])
def test_order_of_convergence_of_a_flow(sampler, order, prediction):
    noise, errors = white_noise(200), []
    flow = RectifiedFlow(prediction=prediction)
    exact = gaussian_flow(noise, NIL, ONE, to=(ONE, NIL))
    for steps in (40, 80, 160, 320):
        found = sampler(flow, flow_predictor(flow, gaussian_denoiser), noise, shifted_times(steps))
        errors.append((found - exact).square().mean().sqrt().item())
    rates = [math.log2(a / b) for a, b in pairwise(errors)]
    assert rates[-1] == pytest.approx(order, abs=0.2), (errors, rates)
    assert errors[-1] < {1: 0.02, 2: 0.001}[order]


@pytest.mark.parametrize("steps", [10, 20, 50])
def test_second_order_pays_at_equal_steps(steps):
    """Against the exact ODE, and with the whole way to the clean clip: at most half the error."""
    noise, flow = white_noise(200), RectifiedFlow()
    process = GaussianDiffusion(rescale_zero_terminal_snr(BETAS), "v")
    # Both start from noise alone, so both should end at the same clips.
    exact = gaussian_flow(noise, NIL, ONE, to=(ONE, NIL))

    def error(x):
        return (x - exact).square().mean().sqrt().item()

    predict, times = flow_predictor(flow, gaussian_denoiser), shifted_times(steps)
    euler, heun = (error(sample(flow, predict, noise, times)) for sample in (sample_euler, sample_heun))
    predict, times = gaussian_predictor(process, gaussian_denoiser), spaced_timesteps(250, steps)
    first, second = (error(s(process, predict, noise, times)) for s in (sample_ddim, sample_dpm_solver_pp))
    assert heun < euler / 2 and second < first / 2, (euler, heun, first, second)
