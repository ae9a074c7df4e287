"""Samplers compared on the same weights: all arms are there, with the calls that they really cost."""

import json

import pytest
import torch

from experiments import sampling
from experiments.sampling import ARMS, Arguments, calls, main
from t2v_mini.configs import Config, DataConfig, TrainConfig
from t2v_mini.diffusion.named import FLOW_SAMPLERS
from t2v_mini.models.generator import Generator
from t2v_mini.pipeline import TextToVideo
from tests.tiny_generator import TINY_GENERATOR

TINY = Config("tiny", TINY_GENERATOR, DataConfig(height=32, width=32))


def tiny() -> TextToVideo:
    torch.manual_seed(0)
    return TextToVideo(Generator(TINY_GENERATOR), TINY)


def test_every_sampler_of_a_flow_has_an_arm():
    assert {sampler for sampler, _, _ in ARMS} == set(FLOW_SAMPLERS)


@pytest.mark.parametrize("sampler", FLOW_SAMPLERS)
@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.0])
def test_calls_are_counted_as_they_happen(sampler, guidance):
    pipeline, count = tiny(), []
    pipeline.model.denoiser.register_forward_hook(lambda *_: count.append(1))
    pipeline("a red circle", steps=3, guidance=guidance, sampler=sampler)
    assert len(count) == calls(sampler, 3, guidance)


def test_arms_are_measured_and_written(tmp_path, monkeypatch, capsys):
    weights = tmp_path / "tiny.safetensors"
    tiny().save(weights)
    monkeypatch.setattr("experiments.results_file.RESULTS", tmp_path)
    monkeypatch.setattr(sampling, "ARMS", (("euler", 2, 1.0), ("stochastic", 2, 2.0)))
    main(Arguments(str(weights), clips=2))
    written = json.loads((tmp_path / "sampling.json").read_text())
    assert len(written["weights"]) == 64
    found = [(row["sampler"], row["level"], row["steps"], row["calls"]) for row in written["rows"]]
    assert found == [("euler", 1, 2, 2), ("stochastic", 1, 2, 4)]
    assert "stochastic, 2 steps, guidance 2, 4 calls, level 1: " in capsys.readouterr().out

    other = Config("tiny", TINY_GENERATOR, TINY.data, TrainConfig(process="cosine"))
    TextToVideo(Generator(TINY_GENERATOR), other).save(weights)
    with pytest.raises(
        ValueError, match="sampler must be one of ddim, ddpm, dpm-solver\\+\\+ for this process, got 'euler'"
    ):
        main(Arguments(str(weights)))
