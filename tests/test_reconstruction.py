"""Losses and measures of reconstructions, and a video VAE that learns."""

from dataclasses import replace

import pytest
import torch

from t2v_mini.configs import CodecConfig, DataConfig, TrainConfig, VideoVAEConfig
from t2v_mini.losses.reconstruction import gradient_difference, psnr, ssim
from t2v_mini.models.vae import VideoVAE
from t2v_mini.reconstruction import evaluate_codec, reconstructions
from t2v_mini.training.video_vae import (
    VideoVAETrainer,
    codec_of,
    load_codec,
    measure_latents,
    save_codec,
)

TINY = VideoVAEConfig(
    "tiny",
    model=CodecConfig(widths=(8, 16), depth=1),
    data=(
        DataConfig(level=1, frames=8, height=16, width=16),
        DataConfig(level=2, frames=10, height=16, width=16),
    ),
    train=TrainConfig(steps=6, batch=4, warmup=2, bf16=False, compile=False),
)


def clips(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_gradient_difference_is_its_formula():
    a, b = clips(2, 3, 4, 5, 6), clips(2, 3, 4, 5, 6, seed=1)
    total = 0
    for axis in (2, 3, 4):
        n = a.shape[axis]
        steps = [z.narrow(axis, 1, n - 1) - z.narrow(axis, 0, n - 1) for z in (a, b)]
        total = total + (steps[0] - steps[1]).abs().mean() / 3
    torch.testing.assert_close(gradient_difference(a, b), total)
    assert gradient_difference(a, a) == 0 and gradient_difference(a, a + 0.3) < 1e-6
    one = clips(2, 3, 1, 5, 6)
    assert gradient_difference(one, -one) > 0
    # A frozen clip is charged for the motion that it lacks.
    assert gradient_difference(a[:, :, :1].expand_as(a), a) > gradient_difference(a, a)


def test_structural_similarity_equals_torchmetrics():
    from torchmetrics.functional.image import structural_similarity_index_measure

    a = clips(2, 3, 3, 20, 24).clamp(-1, 1)
    b = (a + 0.3 * clips(2, 3, 3, 20, 24)).clamp(-1, 1)
    for found, mine, other in zip(ssim(b, a), a, b, strict=True):
        _, places = structural_similarity_index_measure(
            other.transpose(0, 1), mine.transpose(0, 1), data_range=2.0, sigma=1.5, return_full_image=True
        )
        # Theirs counts the margin, too, where the window does not fit and what it looks at is mirrored.
        torch.testing.assert_close(found, places[..., 5:-5, 5:-5].mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ssim(a, a), torch.ones(2))


def test_psnr_equals_torchmetrics():
    from torchmetrics.functional.image import peak_signal_noise_ratio

    a, b = clips(3, 3, 2, 8, 8), clips(3, 3, 2, 8, 8, seed=1)
    for found, mine, other in zip(psnr(a, b), a, b, strict=True):
        torch.testing.assert_close(found, peak_signal_noise_ratio(mine, other, data_range=2.0))
    assert psnr(3 * torch.ones(1, 1), torch.ones(1, 1)).isinf()  # what is shown is clamped


@pytest.mark.wrong_shapes
def test_bad_input():
    with pytest.raises(ValueError, match="found and clip must have one shape"):
        gradient_difference(clips(1, 3, 2, 4, 4), clips(1, 3, 2, 4, 5))
    with pytest.raises(ValueError, match="clip must have more than one frame, row or column"):
        gradient_difference(clips(2, 3, 1, 1, 1), clips(2, 3, 1, 1, 1))
    for size in ((12, 10), (12, 12)):
        with pytest.raises(ValueError, match="found and clip must have one shape, with 11 rows and columns"):
            ssim(clips(1, 3, 2, 12, 10), clips(1, 3, 2, *size))


def test_resumed_run_equals_uninterrupted_run(tmp_path):
    whole = VideoVAETrainer(TINY)
    whole.train(progress=False)
    first = VideoVAETrainer(TINY, tmp_path)
    first.train(stop_at=3, progress=False)
    second = VideoVAETrainer(TINY, tmp_path)
    second.resume()
    second.train(progress=False)
    assert second.losses == whole.losses and len(whole.losses) == 6
    for a, b in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_it_learns_and_its_latents_are_measured():
    config = replace(
        TINY, data=TINY.data[:1], train=replace(TINY.train, steps=60, learning_rate=3e-3, warmup=5)
    )
    trainer = VideoVAETrainer(config)
    before = evaluate_codec(trainer.model, config.data[0], 8)
    trainer.train(progress=False)
    after = evaluate_codec(trainer.model, config.data[0], 8)
    assert after["psnr"] > before["psnr"] + 3 and after["worst_psnr"] <= after["psnr"]
    assert set(after) >= {"ceiling", "interval", "facts", "clips", "level"}
    assert after["layouts"]["1 object"] == {"clips": 8, "caption_accuracy": after["ceiling"]}
    front = replace(config.data[0], level=2, kind="in front")
    assert evaluate_codec(trainer.model, front, 2)["layouts"].keys() == {"2 objects", "in front of"}
    real, made, claims = reconstructions(trainer.model, config.data[0], 8)
    assert real.shape == made.shape == (8, 3, 8, 16, 16) and len(claims) == 8
    assert made.abs().max() <= 1
    measure_latents(trainer.model, real)
    z = trainer.model.to_latent(real)
    torch.testing.assert_close(z.mean((0, 2, 3, 4)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3, 4)), torch.ones(4), atol=1e-4, rtol=0)


def test_a_saved_codec_makes_the_same_clips(tmp_path):
    trainer = VideoVAETrainer(TINY)
    trainer.train(stop_at=3, progress=False)
    codec, path = codec_of(TINY, trainer.ema.state), tmp_path / "codec.safetensors"
    with pytest.raises(ValueError, match="codec must have the statistics of its latents: call measure_lat"):
        save_codec(codec, path, trainer.record())
    x = clips(3, 3, 9, 16, 16)
    measure_latents(codec, x)
    digest = save_codec(codec, path, trainer.record())
    again, record = load_codec(path)
    assert record["hash"] == digest and VideoVAEConfig.from_dict(record["config"]) == TINY
    assert not any(p.requires_grad for p in again.parameters())
    z, z_again = (c.normalize(c.encode(x).mode()) for c in (codec, again))
    # Mean and deviation are rounded to half precision as well.
    torch.testing.assert_close(z, z_again, atol=2e-3, rtol=2e-3)
    assert torch.equal(codec.decode(z), again.decode(z))


def test_weights_of_another_kind_are_no_codec(tmp_path):
    with pytest.raises(ValueError, match="weights must be a .safetensors file or one of those shipped"):
        load_codec("mini")
    with pytest.raises(ValueError, match="path must be a checkpoint file"):
        load_codec(tmp_path / "none.safetensors")
    from t2v_mini.training.shipped import PRETRAINED

    with pytest.raises(ValueError):
        load_codec(PRETRAINED / "mini.safetensors")


def test_each_term_of_the_loss_counts():
    batch = next(iter(VideoVAETrainer(TINY).batches(1)))
    losses = []
    for weights in (
        {"difference": 0.0, "kl": 0.0},
        {"difference": 1.0, "kl": 0.0},
        {"difference": 0.0, "kl": 1.0},
    ):
        trainer = VideoVAETrainer(replace(TINY, loss=replace(TINY.loss, **weights)))
        losses.append(trainer.loss(batch).item())
    assert losses[1] > losses[0] + 1e-3 and losses[2] > losses[0] + 1e-3


def test_clips_with_noise_on_their_latents_count_less():
    terms = replace(TINY.loss, squared=1.0, difference=0.0, kl=0.0, noise=0.8)
    trainer = VideoVAETrainer(replace(TINY, loss=terms))
    batch = next(iter(trainer.batches(1)))
    x, rng = trainer.clips(batch), trainer.random()
    deviation = trainer.deviations(len(x), rng)
    error = trainer.model(x, rng, deviation)[0] - x
    share = 1 / (1 + (deviation / 0.2) ** 2)
    right = (share * error.square().mean((1, 2, 3, 4))).mean()
    right = right + (share * error.abs().mean((1, 2, 3, 4))).mean()
    torch.testing.assert_close(trainer.loss(batch), right)
    drawn = trainer.deviations(4000, torch.Generator().manual_seed(0))
    assert 0.7 < (drawn > 0).float().mean() < 0.8 and 0.75 < drawn.max() <= 0.8


def test_configurations_survive_json():
    import json

    again = VideoVAEConfig.from_dict(json.loads(json.dumps(TINY.to_dict())))
    assert again == TINY
    VideoVAE(again.model)
    with pytest.raises(ValueError, match="values must hold the fields of a configuration"):
        VideoVAEConfig.from_dict(TINY.to_dict() | {"loss": {"sharpness": 1}})
