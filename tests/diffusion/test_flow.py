"""Rectified flow: its line, its conversions, its loss and its times."""

import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from t2v_mini.diffusion.flow import PREDICTIONS, RectifiedFlow
from tests.diffusion.toys import video

TIMES = torch.tensor([0.1, 0.4, 0.9, 1.0])


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_conversions_undo_the_target(prediction, dtype):
    flow = RectifiedFlow(prediction=prediction)
    x0, noise, t = video(0, dtype, 4), video(1, dtype, 4), TIMES.to(dtype)
    xt, said = flow.corrupt(x0, noise, t), flow.target(x0, noise, t)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert torch.allclose(flow.to_x0(said, xt, t), x0, atol=tolerance)
    assert torch.allclose(flow.to_velocity(said, xt, t), noise - x0, atol=10 * tolerance)
    assert torch.equal(said, x0 if prediction == "x0" else noise - x0)
    assert (
        xt.dtype
        == said.dtype
        == flow.to_x0(said, xt, t).dtype
        == flow.to_velocity(said, xt, t).dtype
        == dtype
    )


def test_corrupt_is_the_forward_process_of_diffusers():
    scheduler = FlowMatchEulerDiscreteScheduler()
    x0, noise = video(0, batch=4), video(1, batch=4)
    times = scheduler.timesteps[[0, 99, 500, 999]]
    expected = scheduler.scale_noise(x0, times, noise)
    assert torch.allclose(RectifiedFlow().corrupt(x0, noise, times / 1000), expected, atol=1e-6)


def test_ends_of_the_line():
    flow, x0, noise = RectifiedFlow(), video(0), video(1)
    assert torch.equal(flow.corrupt(x0, noise, torch.zeros(2)), x0)
    assert torch.equal(flow.corrupt(x0, noise, torch.ones(2)), noise)


def test_each_sample_of_a_video_has_its_own_time():
    """B = C = 4: a t that meets the channels instead gives no error, only the wrong clips."""
    x0 = torch.full((4, 4, 2, 3, 3), 5.0)
    xt = RectifiedFlow().corrupt(x0, torch.zeros_like(x0), TIMES)
    assert torch.allclose(xt, (5 - 5 * TIMES)[:, None, None, None, None].expand_as(xt))
    flow = RectifiedFlow(prediction="velocity")
    assert torch.allclose(flow.to_x0(torch.ones_like(xt), xt, TIMES)[:, 3, 1, 2, 0], 5 - 6 * TIMES)
    said = RectifiedFlow().to_velocity(torch.zeros_like(xt), torch.ones_like(xt), TIMES)
    assert torch.allclose(said[:, 3, 1, 2, 0], 1 / TIMES)


@pytest.mark.parametrize("shape", [(4,), (4, 4), (4, 4, 2, 3, 3)])
def test_the_loss_is_that_of_the_velocity(shape):
    """Also where the network predicts x0; there 1 / t^2 is bounded."""
    generator = torch.Generator().manual_seed(0)
    x0, noise, error = (torch.randn(shape, generator=generator) for _ in range(3))
    t = torch.tensor([0.0, 0.03, 0.4, 1.0])
    square = error.square().reshape(4, -1).mean(1)
    flow = RectifiedFlow(prediction="velocity")
    assert torch.allclose(flow.loss(noise - x0 + error, x0, noise, t), square, rtol=1e-4)
    found = RectifiedFlow().loss(x0 + error, x0, noise, t)
    assert torch.allclose(found, square * torch.tensor([400, 400, 6.25, 1]), rtol=1e-4)
    found = RectifiedFlow(least_t=1.0).loss(x0 + error, x0, noise, t)
    assert torch.allclose(found, square, rtol=1e-4)
    # Where t is above the bound, it is the error of the velocity that the prediction implies.
    flow, late = RectifiedFlow(), t[2:]
    xt = flow.corrupt(x0[2:], noise[2:], late)
    implied = flow.to_velocity(x0[2:] + error[2:], xt, late) - (noise - x0)[2:]
    expected = implied.square().reshape(2, -1).mean(1)
    assert torch.allclose(flow.loss(x0[2:] + error[2:], x0[2:], noise[2:], late), expected, rtol=1e-4)


@pytest.mark.parametrize(("mean", "std"), [(0.8, 1.0), (-1.0, 1.0), (1.5, 1.5), (0.0, 0.25)])
def test_training_times_are_logit_normal(mean, std):
    flow = RectifiedFlow(mean=mean, std=std)
    times = flow.draw_times(20000, torch.Generator().manual_seed(0))
    assert times.min() > 0 and times.max() < 1
    logits = times.double().logit()
    assert logits.mean().item() == pytest.approx(mean, abs=0.02 * std)
    assert logits.std().item() == pytest.approx(std, rel=0.02)
    assert torch.equal(times, flow.draw_times(20000, torch.Generator().manual_seed(0)))
    assert torch.equal(flow.network_time(times), times)


METHODS = {
    "corrupt": lambda f, a, b, t: f.corrupt(a, b, t),
    "target": lambda f, a, b, t: f.target(a, b, t),
    "to_x0": lambda f, a, b, t: f.to_x0(b, a, t),
    "to_velocity": lambda f, a, b, t: f.to_velocity(b, a, t),
    "loss": lambda f, a, b, t: f.loss(b, a, a, t),
}


@pytest.mark.wrong_shapes
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_what_the_methods_refuse(method, prediction):
    flow, call = RectifiedFlow(prediction=prediction), METHODS[method]
    good, t = torch.zeros(4, 3, 1), TIMES
    call(flow, good, good, t)
    for bad in ([-0.1, 0, 0, 0], [0, 0, 0, 1.1], [0, math.nan, 0, 0]):
        with pytest.raises(ValueError, match=r"t must be in \[0, 1\], got \["):
            call(flow, good, good, torch.tensor(bad))
    for bad in (t[:3], t[:1], t[:, None], t[0]):
        with pytest.raises(ValueError, match=r"t must hold one number a sample, shape \(4,\), got"):
            call(flow, good, good, bad)
    for bad in (torch.zeros(4, 3), torch.zeros(4, 1, 1), torch.zeros(1, 3, 1)):
        with pytest.raises(ValueError, match="(noise|prediction) must have the shape of (x0|xt), "):
            call(flow, good, bad, t)


def test_no_velocity_from_x0_at_time_0():
    x, t = torch.zeros(2, 1), torch.tensor([0.5, 0.0])
    with pytest.raises(ValueError, match="t must be above 0 to turn x0 into a velocity, got 0.0"):
        RectifiedFlow().to_velocity(x, x, t)
    assert torch.equal(RectifiedFlow(prediction="velocity").to_velocity(x + 1, x, t), x + 1)


@given(value=st.floats())
def test_bad_settings_are_refused(value):
    if not math.isfinite(value):
        with pytest.raises(ValueError, match="mean must be a finite number, got"):
            RectifiedFlow(mean=value)
    if not 0 < value < math.inf:
        with pytest.raises(ValueError, match="std must be a positive, finite number, got"):
            RectifiedFlow(std=value)
    if not 0 < value <= 1:
        with pytest.raises(ValueError, match=r"least_t must be in \(0, 1\], got"):
            RectifiedFlow(least_t=value)
    with pytest.raises(ValueError, match="prediction must be one of x0, velocity, got"):
        RectifiedFlow(prediction=str(value))
