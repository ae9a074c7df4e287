"""Gaussian diffusion: corruption, targets, posterior and loss, against diffusers and by hand."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from hypothesis import given
from hypothesis import strategies as st

from t2v_mini.diffusion.process import PREDICTIONS, GaussianDiffusion
from t2v_mini.diffusion.schedules import SCHEDULES, alpha_bar_of, make_betas
from tests.diffusion.toys import video

THEIRS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
TIMES = torch.tensor([0, 300, 600, 999])


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "cosine"])
def test_corrupt_is_add_noise(schedule):
    betas = make_betas(schedule)
    process = GaussianDiffusion(betas)
    scheduler = DDPMScheduler(trained_betas=betas.tolist())
    assert torch.allclose(process.alpha_bar, scheduler.alphas_cumprod, atol=1e-6)
    x0, noise = video(0, batch=4), video(1, batch=4)
    assert torch.allclose(process.corrupt(x0, noise, TIMES), scheduler.add_noise(x0, noise, TIMES), atol=1e-5)
    process = GaussianDiffusion(betas, "v")
    expected = scheduler.get_velocity(x0, noise, TIMES)
    assert torch.allclose(process.target(x0, noise, TIMES), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_corrupt_is_add_noise_to_the_last_bit(schedule, dtype):
    """On one table of alpha_bar, at every timestep."""
    process, scheduler = GaussianDiffusion(make_betas(schedule), "v"), DDPMScheduler()
    scheduler.alphas_cumprod = process.alpha_bar
    x0, noise, t = video(0, dtype, 1000), video(1, dtype, 1000), torch.arange(1000)
    assert torch.equal(process.corrupt(x0, noise, t), scheduler.add_noise(x0, noise, t))
    assert torch.equal(process.target(x0, noise, t), scheduler.get_velocity(x0, noise, t))


def test_each_sample_of_a_video_has_its_own_time():
    """B = C = 4: a t that meets the channels instead gives no error, only the wrong clips."""
    process = GaussianDiffusion()
    x0 = torch.full((4, 4, 2, 3, 3), 5.0)
    xt = process.corrupt(x0, torch.zeros_like(x0), TIMES)
    expected = 5 * alpha_bar_of(make_betas())[TIMES].sqrt().float()
    assert torch.allclose(xt, expected[:, None, None, None, None].expand_as(xt), atol=1e-6)
    noisy = process.corrupt(torch.zeros_like(x0), torch.ones_like(x0), TIMES)
    spread = (1 - alpha_bar_of(make_betas())[TIMES]).sqrt().float()
    assert torch.allclose(noisy, spread[:, None, None, None, None].expand_as(noisy), atol=1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("shape", [(4,), (4, 4), (4, 4, 2, 3, 3)])
def test_a_batch_equals_its_samples(prediction, shape):
    process = GaussianDiffusion(prediction=prediction, weighting="min_snr")
    generator = torch.Generator().manual_seed(0)
    x0, noise, said = (torch.randn(shape, generator=generator) for _ in range(3))
    xt = process.corrupt(x0, noise, TIMES)
    pairs = {
        "corrupt": (xt, lambda i: process.corrupt(x0[i], noise[i], TIMES[i])),
        "target": (process.target(x0, noise, TIMES), lambda i: process.target(x0[i], noise[i], TIMES[i])),
        "to_x0": (process.to_x0(said, xt, TIMES), lambda i: process.to_x0(said[i], xt[i], TIMES[i])),
        "to_eps": (process.to_eps(said, xt, TIMES), lambda i: process.to_eps(said[i], xt[i], TIMES[i])),
        "loss": (
            process.loss(said, x0, noise, TIMES),
            lambda i: process.loss(said[i], x0[i], noise[i], TIMES[i]),
        ),
        "posterior": (
            process.posterior(x0, xt, TIMES)[0],
            lambda i: process.posterior(x0[i], xt[i], TIMES[i])[0],
        ),
    }
    for name, (whole, part) in pairs.items():
        parts = torch.cat([part(slice(i, i + 1)) for i in range(4)])
        assert torch.allclose(whole, parts, rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_conversions_undo_the_target(schedule, prediction):
    """In 64 bits, where 1 / alpha = 2e4 at the end of the cosine schedule leaves digits enough."""
    process = GaussianDiffusion(make_betas(schedule), prediction)
    x0, noise = video(0, torch.float64, batch=4), video(1, torch.float64, batch=4)
    xt, said = process.corrupt(x0, noise, TIMES), process.target(x0, noise, TIMES)
    assert torch.allclose(process.to_x0(said, xt, TIMES), x0, atol=1e-9)
    assert torch.allclose(process.to_eps(said, xt, TIMES), noise, atol=1e-9)
    assert said.dtype == torch.float64
    assert torch.equal(said, {"epsilon": noise, "x0": x0}.get(prediction, said))


@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_no_signal_at_the_end(prediction):
    """Zero terminal SNR: the last xt is the noise itself, and nothing divides by 0."""
    process = GaussianDiffusion(make_betas(zero_terminal_snr=True), prediction, "min_snr")
    x0, noise, t = video(0), video(1), torch.tensor([999, 999])
    xt, said = process.corrupt(x0, noise, t), process.target(x0, noise, t)
    assert torch.equal(xt, noise) and process.snr(t).tolist() == [0, 0]
    assert torch.allclose(process.to_x0(said, xt, t), x0) and torch.allclose(
        process.to_eps(said, xt, t), noise
    )
    mean, variance = process.posterior(x0, xt, t)
    before = process.alpha_bar[998]
    assert torch.allclose(mean, before.sqrt() * x0) and torch.allclose(variance, 1 - before)
    assert process.loss(said + 1, x0, noise, t).tolist() == [0, 0]
    if prediction == "v":
        assert torch.equal(said, -x0)
    with pytest.raises(ValueError, match="prediction must be x0 or v where the last step keeps no signal"):
        GaussianDiffusion(make_betas(zero_terminal_snr=True))


# In 32 bits their 1 - alpha_bar_t / alpha_bar_(t-1) keeps three digits at t = 1; at 20 it has enough.
@pytest.mark.parametrize(
    ("dtype", "t"),
    [(torch.float32, t) for t in (20, 499, 999)] + [(torch.float64, t) for t in (1, 20, 499, 999)],
)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_posterior_is_the_ddpm_step(dtype, t, variance, prediction):
    process = GaussianDiffusion(prediction=prediction)
    scheduler = DDPMScheduler(variance_type=variance, prediction_type=THEIRS[prediction], clip_sample=False)
    scheduler.alphas_cumprod = process.alpha_bar.to(dtype)
    x0, noise, times = video(0, dtype), video(1, dtype), torch.tensor([t, t])
    xt = process.corrupt(x0, noise, times)
    said = process.target(x0, noise, times)
    theirs = scheduler.step(said, t, xt, generator=torch.Generator().manual_seed(5)).prev_sample
    mean, small = process.posterior(process.to_x0(said, xt, times), xt, times)
    assert small.shape == (2, 1, 1, 1, 1)
    large = 1 - process.alpha_bar[t].double() / process.alpha_bar[t - 1].double()
    assert large.item() == pytest.approx(process.betas[t].item(), rel=1e-3)
    spread = small if variance == "fixed_small" else large.to(dtype)
    fresh = torch.randn(xt.shape, generator=torch.Generator().manual_seed(5), dtype=dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-9
    assert torch.allclose(mean + spread.sqrt() * fresh, theirs, rtol=tolerance, atol=tolerance)


def test_posterior_is_bayes_rule():
    """For any two times: a line through the joint Gaussian of x_previous and xt, given x0."""
    process = GaussianDiffusion(make_betas("scaled_linear"))
    t, previous = torch.tensor([999, 500, 40, 7]), torch.tensor([0, 480, 3, -1])
    x0, noise = video(0, torch.float64, 4), video(1, torch.float64, 4)
    xt = process.corrupt(x0, noise, t)
    mean, variance = process.posterior(x0, xt, t, previous)
    now = process.alpha_bar[t].double()
    before = torch.cat([process.alpha_bar, torch.ones(1)])[previous].double()
    covariance = (now / before).sqrt() * (1 - before)  # of x_previous and xt
    slope = covariance / (1 - now)
    for i in range(4):
        expected = before[i].sqrt() * x0[i] + slope[i] * (xt[i] - now[i].sqrt() * x0[i])
        assert torch.allclose(mean[i], expected, atol=1e-10)
        assert variance[i].item() == pytest.approx((1 - before - slope * covariance)[i].item(), rel=1e-6)
    assert torch.allclose(mean[3], x0[3]) and variance[3] == 0  # the clean clip
    # By default one step back, from t = 0 to the clean clip.
    first = process.posterior(x0, xt, torch.tensor([5, 0, 1, 9]))
    same = process.posterior(x0, xt, torch.tensor([5, 0, 1, 9]), torch.tensor([4, -1, 0, 8]))
    assert torch.equal(first[0], same[0]) and torch.equal(first[1], same[1])


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_loss_and_min_snr_weights(prediction):
    """The weights as diffusers' training scripts write them: over SNR for epsilon, over SNR + 1 for v."""
    t = torch.arange(0, 1000, 37)
    plain = GaussianDiffusion(prediction=prediction)
    weighted = GaussianDiffusion(prediction=prediction, weighting="min_snr")
    snr = compute_snr(DDPMScheduler(), t)
    assert torch.allclose(plain.snr(t), snr, rtol=1e-3)  # 1 - alpha_bar of 32-bit numbers near 1
    capped = torch.stack([snr, torch.full_like(snr, 5.0)]).amin(0)
    weight = {"epsilon": capped / snr, "x0": capped, "v": capped / (snr + 1)}[prediction]
    generator = torch.Generator().manual_seed(0)
    x0, noise, said = (torch.randn(len(t), 3, 2, 2, 2, generator=generator) for _ in range(3))
    error = (said - plain.target(x0, noise, t)).square().mean((1, 2, 3, 4))
    assert torch.allclose(plain.loss(said, x0, noise, t), error, rtol=1e-5)
    found = weighted.loss(said, x0, noise, t)
    assert torch.allclose(found, error * weight, rtol=1e-3)
    middle = snr < 100
    assert torch.allclose(found[middle], (error * weight)[middle], rtol=1e-5)
    # Another gamma moves the cap; where the SNR is below it, nothing changes.
    other = GaussianDiffusion(prediction=prediction, weighting="min_snr", gamma=1.0).loss(said, x0, noise, t)
    assert torch.allclose(other[snr < 1], found[snr < 1])
    assert torch.allclose(other[snr > 5] * 5, found[snr > 5], rtol=1e-5)


def test_the_weighted_losses_are_one():
    """Min-SNR weighs an error in x0, whatever the network predicts."""
    x0, noise, t = video(0, batch=4), video(1, batch=4), TIMES
    losses = []
    for prediction in PREDICTIONS:
        process = GaussianDiffusion(make_betas("scaled_linear"), prediction, "min_snr")
        xt = process.corrupt(x0, noise, t)
        clean = x0 + 0.1
        alpha, sigma = (process.alpha_bar[t].sqrt(), (1 - process.alpha_bar[t]).sqrt())
        alpha, sigma = alpha.view(4, 1, 1, 1, 1), sigma.view(4, 1, 1, 1, 1)
        eps = (xt - alpha * clean) / sigma
        said = {"epsilon": eps, "x0": clean, "v": alpha * eps - sigma * clean}[prediction]
        losses.append(process.loss(said, x0, noise, t))
    expected = 0.01 * process.snr(t).clamp_max(5)
    for loss in losses:
        assert torch.allclose(loss, expected, rtol=2e-3)


def test_times():
    process = GaussianDiffusion(make_betas(steps=10))
    times = process.draw_times(20000, torch.Generator().manual_seed(0))
    assert times.dtype == torch.int64 and process.steps == 10
    assert torch.allclose(times.bincount() / 20000, torch.full((10,), 0.1), atol=0.01)
    assert torch.equal(times, process.draw_times(20000, torch.Generator().manual_seed(0)))
    assert torch.allclose(process.network_time(torch.arange(10)), torch.linspace(0.1, 1, 10))


def test_buffers_move_and_are_saved():
    process = GaussianDiffusion(make_betas("cosine"))
    assert set(process.state_dict()) == {"betas", "alpha_bar"}
    assert process.alpha_bar.dtype == process.betas.dtype == torch.float32
    other = GaussianDiffusion()
    assert not torch.equal(other.alpha_bar, process.alpha_bar)
    other.load_state_dict(process.state_dict())
    assert torch.equal(other.alpha_bar, process.alpha_bar) and torch.equal(other.betas, process.betas)
    assert not list(process.parameters())
    for name, buffer in process.to("meta").named_buffers():
        assert buffer.device.type == "meta", name
    # Computed in 64 bits: rounded once, not once a step.
    exact = alpha_bar_of(make_betas())
    assert torch.equal(GaussianDiffusion().alpha_bar, exact.float())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_dtypes_are_kept(dtype):
    process = GaussianDiffusion(prediction="v")
    x0, noise = video(0, dtype, 4), video(1, dtype, 4)
    xt = process.corrupt(x0, noise, TIMES)
    said = process.target(x0, noise, TIMES)
    mean, variance = process.posterior(x0, xt, TIMES)
    for value in (xt, said, process.to_x0(said, xt, TIMES), process.to_eps(said, xt, TIMES), mean, variance):
        assert value.dtype == dtype
    # 16 bits have no number between 1 - 5e-4 and 1: 1 - alpha_bar must not be taken in them.
    spread = process.corrupt(torch.zeros_like(x0), torch.ones_like(x0), TIMES)[0, 0, 0, 0, 0].item()
    assert spread == pytest.approx(0.01, rel=0.01)


METHODS = {
    "corrupt": lambda p, a, b, t: p.corrupt(a, b, t),
    "target": lambda p, a, b, t: p.target(a, b, t),
    "to_x0": lambda p, a, b, t: p.to_x0(b, a, t),
    "to_eps": lambda p, a, b, t: p.to_eps(b, a, t),
    "posterior": lambda p, a, b, t: p.posterior(a, b, t),
    "loss": lambda p, a, b, t: p.loss(b, a, a, t),
}


@pytest.mark.wrong_shapes
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_what_the_methods_refuse(method, prediction):
    process, call = GaussianDiffusion(prediction=prediction), METHODS[method]
    good, t = torch.zeros(2, 3, 1), torch.tensor([0, 999])
    call(process, good, good, t)
    for bad in ([-1, 5], [5, 1000]):
        with pytest.raises(ValueError, match=r"t must be in 0 ... 999, got \["):
            call(process, good, good, torch.tensor(bad))
    for bad in (t.int(), t.float(), t[:, None], t[0]):
        with pytest.raises(ValueError, match=r"t must be int64 of shape \(B,\), got"):
            call(process, good, good, bad)
    for bad in (torch.tensor([5]), torch.tensor([5, 5, 5])):
        with pytest.raises(ValueError, match=r"t must hold one number a sample, shape \(2,\), got"):
            call(process, good, good, bad)
    for bad in (torch.zeros(2, 3), torch.zeros(2, 1, 1), torch.zeros(1, 3, 1)):
        with pytest.raises(ValueError, match="(noise|prediction|xt) must have the shape of (x0|xt), "):
            call(process, good, bad, t)


@pytest.mark.wrong_shapes
def test_what_times_alone_refuse():
    process = GaussianDiffusion()
    for call in (process.snr, process.network_time):
        with pytest.raises(ValueError, match="t must be in 0 ... 999"):
            call(torch.tensor([-1]))
        with pytest.raises(ValueError, match="t must be int64"):
            call(torch.tensor([1.0]))
    x, t = torch.zeros(2, 1), torch.tensor([5, 5])
    for bad in ([5, 0], [0, -2], [0, 6]):
        with pytest.raises(ValueError, match="previous must be int64, one a sample, -1 <= previous < t"):
            process.posterior(x, x, t, torch.tensor(bad))
    for bad in (torch.tensor([1]), torch.tensor([1.0, 1.0]), torch.tensor(1)):
        with pytest.raises(ValueError, match="previous must be int64, one a sample"):
            process.posterior(x, x, t, bad)


@pytest.mark.wrong_shapes
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prediction": "noise"}, "prediction must be one of epsilon, x0, v, got 'noise'"),
        ({"weighting": "snr"}, "weighting must be one of uniform, min_snr, got 'snr'"),
        ({"betas": torch.full((2, 2), 0.1)}, r"betas must be one row of numbers in \(0, 1\]"),
        ({"betas": torch.zeros(0)}, "betas must be one row of numbers"),
        ({"betas": torch.tensor(0.1)}, "betas must be one row of numbers"),
        ({"betas": torch.tensor([1e-9, 0.1])}, "betas must leave noise after the first step"),
        ({"betas": torch.tensor([0.1, 1.0, 0.1])}, "and signal before the last one"),
    ],
)
def test_what_a_process_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianDiffusion(**arguments)


@given(bad=st.floats(max_value=0) | st.floats(min_value=1, exclude_min=True) | st.just(math.nan))
def test_bad_betas_are_refused(bad):
    with pytest.raises(ValueError, match=r"betas must be one row of numbers in \(0, 1\]"):
        GaussianDiffusion(torch.tensor([0.1, bad, 0.1], dtype=torch.float64))


@given(gamma=st.floats(max_value=0) | st.sampled_from([math.inf, math.nan]))
def test_bad_gammas_are_refused(gamma):
    with pytest.raises(ValueError, match="gamma must be positive and finite, got"):
        GaussianDiffusion(gamma=gamma)


@given(t=st.integers(-(2**40), 2**40))
def test_times_out_of_range_are_refused(t):
    process, x = GaussianDiffusion(make_betas(steps=10)), torch.ones(1, 2)
    if 0 <= t < 10:
        assert process.corrupt(x, x, torch.tensor([t])).isfinite().all()
    else:
        with pytest.raises(ValueError, match="t must be in 0 ... 9, got"):
            process.corrupt(x, x, torch.tensor([t]))
