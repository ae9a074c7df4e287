"""Nearest training clips: found where they are known, and told apart from new ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments import memory
from experiments.memory import Arguments, level_row, main, nearest
from t2v_mini.configs import Config, DataConfig, ModelConfig, TrainConfig
from t2v_mini.models.generator import Generator
from t2v_mini.pipeline import TextToVideo
from t2v_mini.training.latents import cache_latents
from t2v_mini.training.video_vae import load_codec
from tests.tiny_codec import stored_codec

TINY = Config(
    "tiny",
    model=ModelConfig(channels=4, patch=(1, 1, 1), width=32, depth=1, heads=2, stem_width=32),
    data=DataConfig(level=2, frames=9, height=16, width=16),
    train=TrainConfig(levels=(1, 2), latents=12),
)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    path = stored_codec(tmp_path_factory.mktemp("codec"))
    config = replace(TINY, codec=str(path))
    torch.manual_seed(0)
    return TextToVideo(Generator(config.model), config, {"hash": "abc"}, load_codec(path)[0])


@pytest.fixture(scope="module")
def cache(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return cache_latents(folder, pipeline.codec, TINY.training_data, 12, progress=False)


def test_the_nearest_is_the_nearest_across_blocks(monkeypatch):
    monkeypatch.setattr(memory, "BLOCK", 3)
    rng = np.random.default_rng(0)
    stock = rng.normal(size=(10, 2, 2, 1, 1)).astype(np.float16)
    z = torch.from_numpy(stock[[7, 0, 4]].astype(np.float32)) + 0.01
    distance, place = nearest(z, stock)
    assert place.tolist() == [7, 0, 4]
    whole = torch.cdist(z.flatten(1), torch.from_numpy(stock.astype(np.float32)).flatten(1)).min(1)
    torch.testing.assert_close(distance, whole.values, atol=1e-4, rtol=1e-4)


def test_numbers_of_training_clips_are_those_of_the_stream(pipeline, cache):
    for turn, level in enumerate((1, 2)):
        row = level_row(pipeline, cache, level, 3)
        assert row["level"] == level and row["training clips"] == 6
        for group in row["groups"].values():
            assert len(group["distances"]) == 3 and min(group["distances"]) >= 0
        assert len(row["closest"]) == 3
        for pair in row["closest"]:
            assert pair["training clip"] % 2 == turn and 0 <= pair["training clip"] < 12
        distances = [pair["distance"] for pair in row["closest"]]
        assert distances == sorted(distances)


def test_a_copy_is_found_and_named(pipeline, cache, monkeypatch):
    # As if decoder and encoder lost nothing, and the generator knew one training clip by heart.
    stored = torch.from_numpy(cache.latents[:].astype(np.float32))
    monkeypatch.setattr(memory, "CLOSEST", 1)
    monkeypatch.setattr(memory, "latents_of", lambda pipeline, clips: clips)
    monkeypatch.setattr(memory, "render", lambda scenes, *size: torch.randn(len(scenes), *stored.shape[1:]))

    class Parrot:
        config, to_video = pipeline.config, staticmethod(lambda z: z)

        def __call__(self, prompts):
            made = torch.randn(len(prompts), *stored.shape[1:])
            made[2] = stored[7]
            return made

    row = level_row(Parrot(), cache, level=2, clips=3)
    assert row["copies that find their own"] == 1.0
    assert row["groups"]["copies of training clips"]["median"] == 0
    assert row["groups"]["new clips of the world"]["least"] > 1
    (pair,) = row["closest"]
    assert (pair["seed"], pair["training clip"], pair["distance"]) == (2, 7, 0)


def test_results_name_the_weights(pipeline, cache, monkeypatch):
    monkeypatch.setattr(memory.TextToVideo, "from_pretrained", lambda weights: pipeline)
    written = {}
    monkeypatch.setattr(memory, "write_results", lambda name, values: written.update({name: values}))
    main(Arguments(folder=cache.folder.parent / "none", clips=2, out="demo"))
    assert written["demo"]["weights"] == "abc" and len(written["demo"]["levels"]) == 2
    plain = TextToVideo(Generator(ModelConfig(width=24, depth=1, heads=2, stem_width=32)), Config("plain"))
    monkeypatch.setattr(memory.TextToVideo, "from_pretrained", lambda weights: plain)
    with pytest.raises(ValueError, match="weights must make latents, but 'latent' make pixels"):
        main(Arguments())
