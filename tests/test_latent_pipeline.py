"""From prompts to clips through latents, and on from frames that are given."""

from dataclasses import replace

import pytest
import torch

from t2v_mini.configs import Config, DataConfig, ModelConfig, TrainConfig
from t2v_mini.layers.conditioning import give_beginnings, known_frames
from t2v_mini.models.generator import Generator
from t2v_mini.pipeline import TextToVideo, evaluate
from t2v_mini.training.latents import LatentTrainer, cache_latents
from t2v_mini.training.trainer import Trainer
from t2v_mini.training.video_vae import load_codec
from t2v_mini.world import CaptionError
from tests.tiny_codec import stored_codec, tiny_codec

DATA = DataConfig(level=2, frames=8, height=16, width=16)
MODEL = ModelConfig(channels=4, patch=(1, 1, 1), width=32, depth=1, heads=2, stem_width=32, given=True)
TRAIN = TrainConfig(steps=4, batch=8, warmup=2, give_frames=0.5, bf16=False, compile=False)
PROMPTS = ["a red circle moves left", "a blue square moves up"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = stored_codec(tmp_path_factory.mktemp("codec"))
    return Config("tiny", model=MODEL, data=DATA, train=TRAIN, codec=str(path))


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    codec, _ = load_codec(config.codec)
    cache = cache_latents(tmp_path_factory.mktemp("cache"), codec, (config.data,), 64, progress=False)
    trainer = LatentTrainer(config, cache)
    trainer.train(progress=False)
    return trainer


@pytest.fixture(scope="module")
def pipeline(trained):
    return TextToVideo.from_trainer(trained)


def clip(frames, batch=2, size=16):
    return torch.rand(batch, 3, frames, size, size, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_latents_become_clips_of_the_size_of_the_data(pipeline):
    # 8 frames are padded to 9, of which the codec makes 5, and rows and columns become a quarter.
    assert pipeline.made_shape == (4, 5, 4, 4)
    video = pipeline(PROMPTS, steps=2)
    assert video.shape == (2, 3, 8, 16, 16) and video.abs().max() <= 1
    torch.testing.assert_close(pipeline(PROMPTS[1], steps=2, seed=1), video[1:], atol=1e-4, rtol=0)
    # What is made is a normalised latent.
    made = pipeline.to_made(clip(8))
    z = pipeline.codec.encode(clip(8), pad=True).mode()
    torch.testing.assert_close(made, (z - 0.3) / 2, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(
        pipeline.to_video(made), pipeline.codec.decode(z, (8, 16, 16)).clamp(-1, 1), atol=1e-4, rtol=0
    )


def test_weights_find_their_codec_again_and_no_other(pipeline, trained, config, tmp_path):
    path = tmp_path / "weights.safetensors"
    pipeline.save(path)
    again = TextToVideo.from_pretrained(path)
    assert again.record["codec"] == trained.cache.fingerprint["codec"]
    assert torch.equal(again(PROMPTS, steps=2), pipeline(PROMPTS, steps=2))
    other = stored_codec(tmp_path, seed=1)
    changed = TextToVideo(pipeline.model, replace(config, codec=str(other)), pipeline.record, pipeline.codec)
    changed.save(path)
    with pytest.raises(ValueError, match="must make the latents that the weights were trained with, .*, got"):
        TextToVideo.from_pretrained(path)


def test_the_protocol_asks_for_a_level_up_to_the_weights_own(pipeline):
    for level in (1, 2):
        assert evaluate(pipeline, "unseen", 4, steps=1, level=level)["level"] == level
    with pytest.raises(CaptionError, match="these weights know captions up to level 2, but .* level 3"):
        evaluate(pipeline, "unseen", 4, steps=1, level=3)


def test_given_frames_are_kept_and_change_what_follows(pipeline):
    for count in (1, 3, 5):
        given = clip(count)
        video = pipeline(PROMPTS, steps=2, given=given)
        assert video.shape == (2, 3, 8, 16, 16) and torch.equal(video[:, :, :count], given)
    free = pipeline(PROMPTS, steps=2)
    assert not torch.allclose(video[:, :, 5:], free[:, :, 5:], atol=1e-4)
    # Each clip goes on from its own frames.
    other = given.clone()
    other[1] = -given[1]
    changed = pipeline(PROMPTS, steps=2, given=other)
    torch.testing.assert_close(changed[0], video[0], atol=1e-4, rtol=0)
    assert not torch.allclose(changed[1, :, 5:], video[1, :, 5:], atol=1e-3)


def test_known_frames_are_those_before_the_count():
    x = clip(5, batch=3)
    known = known_frames(x, torch.tensor([0, 2, 5]))
    assert known.shape == (3, 4, 5, 16, 16)
    assert not known[0].any()
    assert torch.equal(known[1, :3, :2], x[1, :, :2]) and not known[1, :, 2:].any()
    assert torch.equal(known[2, :3], x[2])
    assert torch.equal(known[:, 3, :, 0, 0].sum(1), torch.tensor([0.0, 2, 5]))


def test_training_gives_some_beginnings_of_every_length_but_the_whole():
    x = torch.ones(4000, 1, 4, 1, 1)
    counts = give_beginnings(x, 0.6, torch.Generator().manual_seed(0))[:, 1].sum((1, 2, 3))
    shares = torch.bincount(counts.long(), minlength=5) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.4, 0.3 + 0.1, 0.1, 0.1, 0.0]), atol=0.03, rtol=0)


def test_without_given_frames_the_channels_are_empty():
    torch.manual_seed(0)
    model = Generator(MODEL)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, t = torch.randn(2, 4, 3, 4, 4), torch.full((2,), 0.5)
    text = model.encode(PROMPTS)
    none = known_frames(x, torch.tensor([0, 0]))
    assert torch.equal(model(x, t, text), model(x, t, text, none))
    some = known_frames(x, torch.tensor([1, 1]))
    assert not torch.allclose(model(x, t, text), model(x, t, text, some), atol=1e-3)


BAD_FRAMES = {
    "too many": (clip(8), r"given must be \(2, 3, K, 16, 16\) with 0 < K < 8, got \(2, 3, 8, 16, 16\)"),
    "none": (clip(1)[:, :, :0], "0 < K < 8, got"),
    "one clip": (clip(1, batch=1), r"given must be \(2, 3, K, 16, 16\)"),
    "a picture without frames": (clip(1)[:, :, 0], r"got \(2, 3, 16, 16\)"),
    "another size": (clip(1, size=32), r"got \(2, 3, 1, 32, 32\)"),
    "uint8": (
        torch.zeros(2, 3, 1, 16, 16, dtype=torch.uint8),
        "given must be a float tensor, got torch.uint8",
    ),
    "out of range": (clip(1) * 3, r"given must lie in \[-1, 1\], got values from"),
    "not numbers": (clip(1) * float("nan"), "given must be finite, got NaN"),
    "a length that the codec splits": (clip(2), r"given must have 1 \+ a multiple of 2 frames"),
}


@pytest.mark.wrong_shapes
@pytest.mark.parametrize("name", BAD_FRAMES)
def test_bad_frames_are_refused(pipeline, name):
    given, message = BAD_FRAMES[name]
    with pytest.raises(ValueError, match=message):
        pipeline(PROMPTS, steps=1, given=given)


def test_weights_that_were_not_trained_for_it_refuse_frames(config):
    plain = replace(config, model=replace(MODEL, channels=3, patch=(2, 4, 4), given=False), codec="")
    pipeline = TextToVideo.from_trainer(Trainer(plain))
    with pytest.raises(ValueError, match="given must be None: these weights were not trained to go on"):
        pipeline(PROMPTS, steps=1, given=clip(1))
    with pytest.raises(ValueError, match="given must be None for a model without channels for given frames"):
        pipeline.model(
            clip(8),
            torch.zeros(2),
            pipeline.model.encode(PROMPTS),
            known_frames(clip(8), torch.tensor([1, 1])),
        )
    with pytest.raises(
        ValueError, match="codec must be given for latents, and only for them; .* makes pixels"
    ):
        TextToVideo(pipeline.model, plain, codec=tiny_codec())
