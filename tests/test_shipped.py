"""Weights as they are written: in half precision, or with matrices in eight bits."""

from dataclasses import replace

import pytest
import torch

from t2v_mini.configs import Config
from t2v_mini.models.generator import Generator
from t2v_mini.pipeline import TextToVideo
from t2v_mini.training.checkpoint import load_checkpoint
from t2v_mini.training.shipped import SCALE, restored, stored
from tests.tiny_generator import TINY_GENERATOR


@pytest.fixture
def model() -> Generator:
    model = Generator(TINY_GENERATOR)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():  # zero ones, too, which a new model has
            weight.add_(0.1 * torch.randn(weight.shape, generator=rng))
    return model


def test_eight_bits_miss_a_weight_by_half_a_step_of_its_row_at_most(model):
    state = model.state_dict()
    found = stored(state, 8)
    back = restored(found)
    assert back.keys() == state.keys()
    for name, value in state.items():
        if value.ndim < 2:
            assert torch.equal(back[name], value.half().float())
        else:
            assert found[name].dtype == torch.int8
            step = value.flatten(1).abs().amax(1) / 127
            assert ((back[name] - value).flatten(1).abs() <= 0.51 * step[:, None]).all()
    # Written again, they do not change.
    again = stored(back, 8)
    assert all(torch.equal(again[name], value) for name, value in found.items())
    size = sum(value.numel() * value.element_size() for value in found.values())
    assert size < 0.6 * sum(2 * value.numel() for value in state.values())


def test_half_precision_is_kept_and_zero_rows_are_too():
    state = {"a": torch.tensor([[0.0, 0.0], [1.0, -2.0]]), "b": torch.tensor([1 / 3])}
    assert torch.equal(restored(stored(state))["b"], torch.tensor([1 / 3]).half().float())
    eight = stored(state, 8)
    assert eight["a" + SCALE][0] == 0 and eight["a"].tolist() == [[0, 0], [64, -127]]
    assert restored(eight)["a"][0].tolist() == [0, 0]
    with pytest.raises(ValueError, match="bits must be 8 or 16, got 4"):
        stored(state, 4)


def test_a_pipeline_is_written_with_the_bits_of_its_configuration(model, tmp_path):
    config = Config("tiny", model=TINY_GENERATOR)
    clips = {}
    for bits in (8, 16):
        settings = replace(config, train=replace(config.train, bits=bits))
        path = tmp_path / f"{bits}.safetensors"
        TextToVideo(model, settings).save(path)
        again = TextToVideo.from_pretrained(path)
        assert again.config == settings
        clips[bits] = again("a red circle moves left", steps=2)
        again.save(tmp_path / "again.safetensors")
        first, second = (load_checkpoint(p)[1]["hash"] for p in (path, tmp_path / "again.safetensors"))
        assert first == second
    assert (tmp_path / "8.safetensors").stat().st_size < 0.7 * (tmp_path / "16.safetensors").stat().st_size
    assert 0 < (clips[8] - clips[16]).abs().mean() < 0.05
