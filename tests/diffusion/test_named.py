"""Processes and samplers by name: the right one is built, and data of a known law come out of each."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from t2v_mini.configs import Config, DataConfig, SampleConfig, TrainConfig
from t2v_mini.diffusion.flow import RectifiedFlow
from t2v_mini.diffusion.named import make_process, sample, sampler_of, samplers_of
from t2v_mini.diffusion.process import GaussianDiffusion
from t2v_mini.models.generator import Generator
from t2v_mini.pipeline import TextToVideo
from t2v_mini.training.trainer import Trainer
from tests.tiny_generator import TINY_GENERATOR

DEVIATION, MEAN = 0.5, 1.5
WAYS = [("flow", prediction) for prediction in ("x0", "velocity")]
WAYS += [("cosine", prediction) for prediction in ("x0", "v", "epsilon")] + [("linear", "v")]
EVERY = [
    (process, prediction, sampler)
    for process, prediction in WAYS
    for sampler in samplers_of(make_process(TrainConfig(process=process, prediction=prediction)))
]


def best(process, prediction):
    """The best predictor for data from N(MEAN, DEVIATION^2), by network time."""

    def predict(x, t):
        if isinstance(process, RectifiedFlow):
            alpha, sigma = 1 - t, t
        else:
            level = process.alpha_bar[(t * process.steps).round().long() - 1]
            alpha, sigma = level.sqrt(), (1 - level).sqrt()
        alpha, sigma = alpha[:, None], sigma[:, None]
        gain = alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + sigma**2)
        x0 = MEAN + gain * (x - alpha * MEAN)
        eps = (x - alpha * x0) / sigma
        return {"x0": x0, "epsilon": eps, "velocity": eps - x0, "v": alpha * eps - sigma * x0}[prediction]

    return predict


@pytest.mark.parametrize(("name", "prediction", "sampler"), EVERY)
def test_every_sampler_of_every_process_reaches_the_data(name, prediction, sampler):
    process = make_process(TrainConfig(process=name, prediction=prediction))
    noise = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    rng = torch.Generator().manual_seed(1)
    x = sample(process, best(process, prediction), noise, 200, sampler, generator=rng)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.04)
    if sampler == "stochastic":  # which loses variety, see test_sampler_theory.py
        assert x.std().item() < 0.9 * DEVIATION
    else:
        assert x.std().item() == pytest.approx(DEVIATION, abs=0.04)


def test_names_lead_to_their_process():
    flow = make_process(TrainConfig(time_mean=0.3, time_std=1.5, prediction="velocity"))
    assert flow == RectifiedFlow(mean=0.3, std=1.5, prediction="velocity")
    diffusion = make_process(TrainConfig(process="cosine"))
    assert isinstance(diffusion, GaussianDiffusion) and diffusion.prediction == "x0"
    assert diffusion.alpha_bar[-1] == 0  # nothing of the clip is left to be seen
    assert make_process(TrainConfig(process="cosine", prediction="epsilon")).alpha_bar[-1] > 0
    assert list(samplers_of(flow)) == ["euler", "heun", "ancestral", "stochastic"]
    assert list(samplers_of(diffusion)) == ["ddim", "ddpm", "dpm-solver++"]


def test_names_of_something_else_are_refused():
    with pytest.raises(ValueError, match="process must be one of flow, linear, .*, got 'jump'"):
        make_process(TrainConfig(process="jump"))
    with pytest.raises(ValueError, match="prediction must be one of x0, velocity, got 'epsilon'"):
        make_process(TrainConfig(prediction="epsilon"))
    flow, noise = make_process(TrainConfig()), torch.zeros(1, 1)
    known = "euler, heun, ancestral, stochastic"
    with pytest.raises(ValueError, match=f"sampler must be one of {known} for this process, got 'ddim'"):
        sample(flow, best(flow, "x0"), noise, 4, "ddim")
    assert (sampler_of(flow), sampler_of(flow, "heun")) == ("euler", "heun")
    diffusion = make_process(TrainConfig(process="cosine"))
    with pytest.raises(ValueError, match="steps must be an integer from 1 to 1000, got 1001"):
        sample(diffusion, best(diffusion, "x0"), noise, 1001)


TRAIN = TrainConfig(steps=3, batch=4, warmup=1, bf16=False, compile=False)
TINY = Config("tiny", TINY_GENERATOR, DataConfig(height=16, width=16), TRAIN, SampleConfig(steps=3))


@pytest.mark.parametrize(("name", "prediction"), WAYS)
def test_a_generator_trains_and_samples_with_every_process(name, prediction, tmp_path):
    config = replace(TINY, train=replace(TRAIN, process=name, prediction=prediction))
    trainer, times = Trainer(config), []
    trainer.model.register_forward_pre_hook(lambda _, arguments: times.append(arguments[1]))
    trainer.train(progress=False)
    assert trainer.step == len(times) == 3
    assert all(((t > 0) & (t <= 1)).all() and t.is_floating_point() for t in times)
    pipeline, path = TextToVideo.from_trainer(trainer), tmp_path / "tiny.safetensors"
    pipeline.save(path)
    again = TextToVideo.from_pretrained(path)
    samplers = list(samplers_of(pipeline.process))
    made = {sampler: pipeline("a red circle", sampler=sampler) for sampler in samplers}
    for sampler, video in made.items():
        assert video.shape == (1, 3, 8, 16, 16)
        assert torch.equal(again("a red circle", sampler=sampler), video)
    assert torch.equal(pipeline("a red circle"), made[samplers[0]])
    if prediction != "epsilon":  # which, untrained, leads far out of the range that clips are clamped to
        for one, other in combinations(samplers, 2):
            assert not torch.equal(made[one], made[other])


def test_fresh_noise_is_not_the_first_noise_once_more():
    torch.manual_seed(0)
    pipeline = TextToVideo(Generator(TINY_GENERATOR), replace(TINY, train=replace(TRAIN, process="cosine")))
    points = []
    pipeline("a red circle", sampler="ddpm", callback=lambda step, x, x0: points.append((x, x0)))
    (first, clean), (second, _) = points[:2]
    fresh = second - clean * second.std() / first.std()
    alike = torch.corrcoef(torch.stack([first.flatten(), fresh.flatten()]))[0, 1]
    assert abs(alike) < 0.1


def test_guidance_reaches_every_time_of_a_diffusion():
    torch.manual_seed(0)
    model = Generator(TINY_GENERATOR)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # as they start, text makes no difference
    pipeline = TextToVideo(model, replace(TINY, train=replace(TRAIN, process="cosine")))
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    plain = pipeline("a red circle", guidance=1.0)
    assert len(calls) == 3
    guided = pipeline("a red circle", guidance=3.0)
    assert len(calls) == 3 + 6 and not torch.equal(plain, guided)
