"""Processes and samplers by the names that configurations give them."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from t2v_mini.configs import TrainConfig
from t2v_mini.diffusion.flow import RectifiedFlow
from t2v_mini.diffusion.process import GaussianDiffusion
from t2v_mini.diffusion.samplers import (
    Callback,
    Generators,
    Predict,
    sample_ancestral,
    sample_ddim,
    sample_ddpm,
    sample_dpm_solver_pp,
    sample_euler,
    sample_heun,
    sample_stochastic,
    shifted_times,
)
from t2v_mini.diffusion.schedules import SCHEDULES, make_betas, spaced_timesteps

Process = RectifiedFlow | GaussianDiffusion
# The first of each is the one that is taken where none is named.
FLOW_SAMPLERS: dict[str, Callable] = {
    "euler": sample_euler,
    "heun": sample_heun,
    "ancestral": sample_ancestral,
    "stochastic": sample_stochastic,
}
DIFFUSION_SAMPLERS: dict[str, Callable] = {
    "ddim": sample_ddim,
    "ddpm": sample_ddpm,
    "dpm-solver++": sample_dpm_solver_pp,
}


def make_process(settings: TrainConfig, device: str | torch.device = "cpu") -> Process:
    """The process that a configuration names, on a device: "flow", or a schedule of Gaussian diffusion.

    A schedule has 1000 steps, and keeps no signal in the last one (Lin et al. 2023) unless the noise is
    predicted, which says nothing there. Raises `ValueError` for an unknown process, and as the process does.
    """
    if settings.process == "flow":
        return RectifiedFlow(settings.time_mean, settings.time_std, prediction=settings.prediction)
    if settings.process not in SCHEDULES:
        raise ValueError(f"process must be one of flow, {', '.join(SCHEDULES)}, got {settings.process!r}")
    betas = make_betas(settings.process, zero_terminal_snr=settings.prediction != "epsilon")
    return GaussianDiffusion(betas, settings.prediction).to(device)


def samplers_of(process: Process) -> dict[str, Callable]:
    """The samplers that fit a process, by name."""
    return FLOW_SAMPLERS if isinstance(process, RectifiedFlow) else DIFFUSION_SAMPLERS


def sampler_of(process: Process, name: str = "") -> str:
    """The name of a sampler that fits a process, the first one if empty; `ValueError` for another's."""
    samplers = samplers_of(process)
    if name and name not in samplers:
        raise ValueError(f"sampler must be one of {', '.join(samplers)} for this process, got {name!r}")
    return name or next(iter(samplers))


def sample(
    process: Process,
    predict: Predict,
    noise: Float[Tensor, "B ..."],
    steps: int,
    sampler: str = "",
    shift: float = 1.0,
    generator: Generators = None,
    callback: Callback | None = None,
    last: float = 0.0,
) -> Float[Tensor, "B ..."]:
    """Sample in so many steps; `predict` takes the times that a denoiser is given, in [0, 1].

    `sampler` is one of `samplers_of`, the first one if empty. `shift` and `last` set the times of a flow, see
    `shifted_times`; the timesteps of a diffusion are spaced "trailing". `generator` draws the fresh noise of
    "ddpm", "ancestral" and "stochastic". Raises `ValueError` for a sampler of another process, and for steps
    that cannot be.
    """
    run = samplers_of(process)[sampler_of(process, sampler)]
    if isinstance(process, RectifiedFlow):
        times = shifted_times(steps, shift, last)
    elif type(steps) is not int or not 1 <= steps <= process.steps:
        raise ValueError(f"steps must be an integer from 1 to {process.steps}, got {steps!r}")
    else:
        times = spaced_timesteps(process.steps, steps)

    def at(x: Tensor, t: Tensor) -> Tensor:
        return predict(x, process.network_time(t))

    return run(process, at, noise, times, generator=generator, callback=callback)
