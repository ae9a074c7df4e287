"""Latents of training clips, and a generator that is trained on them."""

import copy
from dataclasses import replace

import pytest
import torch

from t2v_mini.configs import Config, DataConfig, ModelConfig, TrainConfig
from t2v_mini.data.moving_shapes import FIRST_TRAINING_SEED
from t2v_mini.data.video_files import from_uint8
from t2v_mini.training.latents import CAPTIONS, LatentTrainer, cache_latents, trainer_for
from t2v_mini.training.trainer import Trainer
from t2v_mini.training.video_vae import load_codec
from t2v_mini.world import judge_claims, parse, render, sample_scene
from tests.tiny_codec import TINY_CODEC, stored_codec

DATA = tuple(DataConfig(level=level, frames=9, height=16, width=16) for level in (1, 2))
CONFIG = Config(
    "tiny",
    model=ModelConfig(channels=4, patch=(1, 1, 1), width=32, depth=1, heads=2, stem_width=32),
    train=TrainConfig(steps=6, batch=8, warmup=2, bf16=False, compile=False),
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """One whose codec is a file."""
    return replace(CONFIG, codec=str(stored_codec(tmp_path_factory.mktemp("codec"))))


@pytest.fixture(scope="module")
def codec(config):
    return load_codec(config.codec)[0]


@pytest.fixture(scope="module")
def cache(codec, tmp_path_factory):
    return cache_latents(tmp_path_factory.mktemp("cache"), codec, DATA, 301, progress=False)


def test_latents_are_those_of_the_clips_that_the_captions_are_about(codec, cache):
    assert len(cache) == 301
    # The levels take turns, across the blocks that are written at once.
    for n in (0, 1, 2, 255, 256, 257, 300):
        config = DATA[n % 2]
        scene = sample_scene(config.level, FIRST_TRAINING_SEED + n, split="seen")
        video = from_uint8(render([scene], 9, 16, 16, dtype=torch.uint8))
        with torch.no_grad():
            z = codec.normalize(codec.encode(video).mode())[0]
        stored = torch.tensor(cache.latents[n]).float()
        torch.testing.assert_close(stored, z, atol=1e-3, rtol=1e-3)
        assert len(cache.captions[n]) == CAPTIONS
        for text in cache.captions[n]:
            # Of 16 x 16 pixels not everything can be read, so the clip is drawn large.
            (verdict,) = judge_claims(render([scene], 16, 64, 64), [parse(text)], [text])
            assert verdict.correct, text
    assert len({text for texts in cache.captions for text in texts}) > 600


def test_a_cache_is_found_again_and_one_of_another_codec_is_not_touched(codec, cache):
    with torch.no_grad():
        other = copy.deepcopy(codec)
        other.decoder.head.conv.weight.mul_(2.0)  # a decoder that was trained further
        again = cache_latents(cache.folder, other, DATA, 301, progress=False)
        assert again.captions == cache.captions
        for change in (other.encoder.head.conv.weight, other.latent_mean, other.latent_std):
            other.load_state_dict(codec.state_dict())
            change.mul_(2.0)
            with pytest.raises(ValueError, match="folder must be empty or hold the same latents"):
                cache_latents(cache.folder, other, DATA, 301, progress=False)


def test_a_configuration_gets_the_trainer_that_it_needs(config, tmp_path):
    train = replace(config.train, levels=(1, 2), latents=12)
    made = trainer_for(replace(config, data=DATA[1], train=train), tmp_path)
    assert isinstance(made, LatentTrainer) and len(made.cache) == 12
    assert made.cache.folder == tmp_path / "latents"
    assert [data["level"] for data in made.cache.fingerprint["data"]] == [1, 2]
    made.train(stop_at=1, progress=False)
    again = trainer_for(made.config, tmp_path)
    assert again.cache.captions == made.cache.captions
    plain = replace(config, codec="", model=replace(config.model, channels=3))
    assert type(trainer_for(plain, tmp_path)) is Trainer
    with pytest.raises(ValueError, match="count must be a positive integer, got 0"):
        trainer_for(config, tmp_path / "none")


def test_clips_of_several_sizes_are_refused(codec, tmp_path):
    data = (DATA[0], replace(DATA[1], frames=17))
    with pytest.raises(ValueError, match="data must be clips of one size, got"):
        cache_latents(tmp_path, codec, data, 4)


def test_training_draws_from_the_cache_by_step_and_seed(config, cache):
    trainer = LatentTrainer(config, cache)
    batch, later = trainer.batches(2)
    assert batch.video.shape == (8, *cache.latents.shape[1:]) and len(batch.captions) == 8
    assert torch.equal(trainer.clips(batch), batch.video)
    assert not torch.equal(batch.video, later.video)
    stored = torch.tensor(cache.latents).float()
    found = [(stored == z).flatten(1).all(1).nonzero()[0].item() for z in batch.video]
    assert len(set(found)) > 4  # drawn, so one may come twice
    assert all(text in cache.captions[n] for n, text in zip(found, batch.captions, strict=True))
    other = LatentTrainer(replace(config, train=replace(config.train, seed=1)), cache)
    (second,) = other.batches(1)
    assert not torch.equal(batch.video, second.video)


def test_a_stopped_run_goes_on_and_ends_the_same(config, cache, tmp_path):
    whole = LatentTrainer(config, cache)
    whole.train(progress=False)
    LatentTrainer(config, cache, tmp_path).train(stop_at=3, progress=False)
    second = LatentTrainer(config, cache, tmp_path)
    second.resume()
    second.train(progress=False)
    assert second.losses == whole.losses and len(whole.losses) == 6
    for a, b in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_it_learns(config, cache):
    train = replace(config.train, steps=80, learning_rate=3e-3, warmup=5)
    trainer = LatentTrainer(replace(config, train=train), cache)
    trainer.train(progress=False)
    assert sum(trainer.losses[-10:]) < 0.8 * sum(trainer.losses[:10])


def test_a_model_of_other_channels_is_refused(config, cache):
    config = replace(config, model=replace(config.model, channels=3))
    with pytest.raises(ValueError, match="config must have a model of 4 channels, those of the lat.*, got 3"):
        LatentTrainer(config, cache)
    assert Trainer(replace(config, codec="")).model is not None  # it would do for pixels


def test_fewer_latents_than_levels_are_refused(config, codec, tmp_path):
    cache = cache_latents(tmp_path, codec, DATA, 1, progress=False)
    with pytest.raises(ValueError, match="cache must hold a latent or more of each of 2 levels, got 1"):
        LatentTrainer(config, cache)


def test_frames_are_not_given_to_a_model_of_latents_that_tell_of_later_frames(config, tmp_path):
    sizes = replace(TINY_CODEC, model=replace(TINY_CODEC.model, causal=False))
    path, data = stored_codec(tmp_path, sizes), replace(DATA[0], frames=8)
    cache = cache_latents(tmp_path / "cache", load_codec(path)[0], [data], 4, progress=False)
    config = replace(config, codec=str(path))
    assert LatentTrainer(config, cache).codec.config.causal is False
    with pytest.raises(ValueError, match="config must have a model without given frames: .* not causal"):
        LatentTrainer(replace(config, model=replace(config.model, given=True)), cache)


def test_a_configuration_without_the_codec_of_the_latents_is_refused(config, cache):
    with pytest.raises(ValueError, match="config must name the codec of the latents, got none"):
        LatentTrainer(replace(config, codec=""), cache)
    with pytest.raises(ValueError, match="codec 'codec' must make the latents that the weig.*trained with"):
        LatentTrainer(replace(config, codec="codec"), cache)
