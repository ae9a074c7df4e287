"""Shares of layouts among training clips, beside the accuracy of captions that ask for them."""

import json
from dataclasses import replace

import pytest
import torch

from experiments.layouts import Arguments, main, training_shares
from experiments.starts import deepened
from t2v_mini.configs import Config, DataConfig, TrainConfig
from t2v_mini.models.generator import Generator
from t2v_mini.pipeline import TextToVideo
from tests.tiny_generator import TINY_GENERATOR

TINY = Config("tiny", TINY_GENERATOR, DataConfig(level=2, height=32, width=32))


def test_shares_are_those_of_the_turns():
    train = TrainConfig(levels=(1, 3, 2, 2), kinds=("", "three", "in front", "two"))
    found = training_shares(replace(TINY, train=train), 40)
    assert [found[f"{n} object{'s' * (n > 1)}"] for n in (1, 2, 3)] == [0.25, 0.5, 0.25]
    assert 0.25 <= found["in front of"] <= 0.5
    plain = training_shares(TINY, 40)
    assert plain["2 objects"] == 1 and sum(plain.values()) == pytest.approx(2)  # and one relation each


def test_weights_are_measured_and_written(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    weights = tmp_path / "tiny.safetensors"
    TextToVideo(Generator(TINY_GENERATOR), TINY).save(weights)
    monkeypatch.setattr("experiments.results_file.RESULTS", tmp_path)
    main(Arguments((str(weights), str(weights)), clips=3, drawn=4))
    written = json.loads((tmp_path / "layouts.json").read_text())
    assert written["sampling"]["steps"] == TINY.sample.steps
    first, second = written["rows"]
    assert first == second and first["name"] == "tiny" and len(first["weights"]) == 64
    assert [row["level"] for row in first["levels"]] == [1, 2]
    assert first["levels"][1]["layouts"]["2 objects"] == {"clips": 3, "caption_accuracy": 0.0}
    assert "tiny, level 1, 1 object: 0.0% of 3 clips, 0.0% of the training clips" in capsys.readouterr().out


def test_further_blocks_change_nothing_at_first():
    torch.manual_seed(0)
    source = Generator(TINY_GENERATOR)
    with torch.no_grad():
        for weight in source.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    deeper = replace(TINY_GENERATOR, depth=TINY_GENERATOR.depth + 2, text_depth=TINY_GENERATOR.text_depth + 1)
    model = Generator(deeper)
    model.load_state_dict(deepened(source, model))
    captions = ["a red circle moves left", "a small blue square above a green triangle"]
    x, t = torch.randn(2, 3, 8, 16, 16), torch.tensor([0.3, 0.8])
    with torch.no_grad():
        made = [one.eval()(x, t, one.encode(captions)) for one in (source, model)]
    torch.testing.assert_close(*made)
    wider = Generator(replace(TINY_GENERATOR, width=2 * TINY_GENERATOR.width))
    with pytest.raises(RuntimeError, match="size mismatch"):
        wider.load_state_dict(deepened(source, wider))
