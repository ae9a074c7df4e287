"""Where a generator errs: known for one that cannot err, for one that is blind, and for one that averages."""

import json

import pytest
import torch
from torch import nn

from experiments import noise_levels
from experiments.noise_levels import STARTS, Arguments, excess, finished, level_row, main, of_truth
from t2v_mini.configs import Config, DataConfig, TrainConfig
from t2v_mini.data.moving_shapes import evaluation_set
from t2v_mini.models.generator import Generator
from t2v_mini.pipeline import TextToVideo
from t2v_mini.world import caption, scene_for
from tests.tiny_generator import TINY_GENERATOR

TINY = Config("tiny", TINY_GENERATOR, DataConfig(height=32, width=32))
SCENES = evaluation_set(TINY.data, "unseen", 3)
CAPTIONS = [caption(scene.facts) for scene in SCENES]


class Answers(nn.Module):
    """A denoiser with a fixed answer, whatever it is asked."""

    def __init__(self, answer):
        super().__init__()
        self.answer = nn.Parameter(answer, requires_grad=False)

    def encode(self, captions):
        return captions

    def forward(self, x, t, text, given=None):
        return self.answer.expand_as(x)


def answering(answer: torch.Tensor) -> TextToVideo:
    return TextToVideo(Answers(answer), TINY, {"hash": "abc"})


def test_a_generator_that_knows_the_truth_finishes_it_from_every_level():
    truth = of_truth(answering(torch.zeros(1)), SCENES)
    knows = answering(truth)
    for start in STARTS:
        torch.testing.assert_close(finished(knows, truth, CAPTIONS, start), truth, atol=1e-5, rtol=0)
    row = level_row(knows, 1, Arguments(clips=3, captions=1, repeats=3))
    assert [one["caption_accuracy"] for one in row["starts"]] == [1.0] * len(STARTS)
    assert [one["start"] for one in row["starts"]] == list(STARTS) and row["clips"] == 3


def test_a_blind_generator_keeps_nothing_of_the_truth():
    blind = answering(torch.zeros(1))
    for start in (1.0, 0.5):
        assert finished(blind, of_truth(blind, SCENES), CAPTIONS, start).abs().max() < 1e-6


def test_the_excess_is_the_distance_to_the_mean_of_all_clips():
    scene = SCENES[0]
    many = of_truth(answering(torch.zeros(1)), [scene_for(scene.facts, k) for k in range(400)])
    mean, variance = many.mean(0, keepdim=True), many.var(0).mean().item()
    for shift in (0.0, 0.2):
        # Over other clips, a few at a time, it has no bias.
        found = [excess(answering(mean + shift), scene, 4, seed=1000 + 4 * k) for k in range(60)]
        floor, beyond = (sum(column) / 60 for column in zip(*found, strict=True))
        assert floor == pytest.approx(variance, rel=0.1)
        assert beyond == pytest.approx(shift**2, abs=0.004)


def test_all_levels_are_measured_and_written(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    weights = tmp_path / "tiny.safetensors"
    TextToVideo(Generator(TINY_GENERATOR), TINY).save(weights)
    monkeypatch.setattr("experiments.results_file.RESULTS", tmp_path)
    monkeypatch.setattr(noise_levels, "STARTS", (1.0, 0.5))
    main(Arguments(str(weights), clips=2, captions=1, repeats=2))
    written = json.loads((tmp_path / "noise_levels.json").read_text())
    assert [row["level"] for row in written["levels"]] == [1] and len(written["weights"]) == 64
    assert written["levels"][0]["answer to noise"]["captions"] == 1
    assert "pure noise: excess" in capsys.readouterr().out

    other = Config("tiny", TINY_GENERATOR, TINY.data, TrainConfig(process="cosine"))
    TextToVideo(Generator(TINY_GENERATOR), other).save(weights)
    with pytest.raises(ValueError, match="weights must be those of a flow, got 'cosine'"):
        main(Arguments(str(weights)))
