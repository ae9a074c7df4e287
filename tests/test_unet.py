"""The video U-Net under the denoisers' contract."""

from dataclasses import replace

import pytest
import torch

from t2v_mini.configs import ModelConfig
from t2v_mini.layers.spacetime import KINDS
from t2v_mini.models.generator import Generator, parameter_count

SMALL = ModelConfig(
    denoiser="unet", patch=(1, 2, 2), width=16, depth=3, heads=2, text_width=16, text_heads=2, text_depth=1,
    attention="factorized", positions="rotary",
)  # fmt: skip


def make(**changes):
    torch.manual_seed(0)
    return Generator(replace(SMALL, **changes))


def inputs(model, frames=4, size=16):
    x = torch.randn(2, 3, frames, size, size, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([0.2, 0.9]), model.encode(["a red circle moves left", "a circle"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns(kind):
    model = make(attention=kind, positions="relative")
    x, t, _ = inputs(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):  # gates, tables and last convolutions start at zero
        optimizer.zero_grad()
        text = model.encode(["a red circle moves left", "a circle"])
        model(x, t, text).square().mean().backward()
        optimizer.step()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A key's bias vanishes in the softmax, and so does a query's where all keys are alike.
    assert all("to_kv.bias" in n or "to_q.bias" in n or "in_proj_bias" in n for n in without), without


@pytest.mark.parametrize("words", [True, False])
def test_without_words_only_the_pooled_vector_matters(words):
    model = make(words=words)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, t, text = inputs(model)
    out = model(x, t, text)
    spoken = replace(text, tokens=torch.randn_like(text.tokens))
    assert torch.equal(model(x, t, spoken), out) == (not words)
    other = replace(text, pooled=torch.randn_like(text.pooled))
    assert not torch.allclose(model(x, t, other), out, atol=1e-4)
    if not words:
        assert not [name for name, _ in model.denoiser.named_parameters() if "cross" in name]


def test_text_time_and_every_frame_matter():
    model = make()
    for parameter in model.parameters():
        if parameter.ndim > 1 or (parameter == 0).all():
            torch.nn.init.normal_(parameter, std=0.1)
    x, t, text = inputs(model)
    out = model(x, t, text)
    assert out.shape == x.shape
    other = model.encode(["a blue circle moves left", "a circle"])
    assert not torch.allclose(out[0], model(x, t, other)[0], atol=1e-4)
    assert torch.allclose(out[1], model(x, t, other)[1], atol=1e-5)  # samples do not mix
    assert not torch.allclose(out, model(x, t * 0.5, text), atol=1e-4)
    changed = x.clone()
    changed[:, :, 3] += 1
    assert not torch.allclose(out[:, :, 0], model(changed, t, text)[:, :, 0], atol=1e-5)


def test_any_legal_size_and_one_frame():
    model = make()
    text = model.encode(["a circle"])
    for shape in ((1, 3, 1, 8, 8), (1, 3, 5, 16, 24)):
        assert model(torch.zeros(shape), torch.zeros(1), text).shape == shape
    for shape in ((1, 3, 4, 12, 16), (1, 4, 4, 16, 16)):
        with pytest.raises(ValueError, match=r"x must have 3 channels and a multiple of \(1, 8, 8\)"):
            model(torch.zeros(shape), torch.zeros(1), text)


def test_unknown_denoiser():
    with pytest.raises(ValueError, match="denoiser must be one of dit, unet, got 'gan'"):
        make(denoiser="gan")


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("denoiser", ["unet", "dit"])
def test_trains_compiled_in_bf16(denoiser, device):
    """Compiled and in half precision, a step's gradient is that of the plain network, but for rounding."""
    model = make(denoiser=denoiser, depth=2).to(device)
    x, t, _ = (z.to(device) if isinstance(z, torch.Tensor) else z for z in inputs(model))
    with torch.no_grad():  # open the gates
        for parameter in model.denoiser.parameters():
            if (parameter == 0).all():
                parameter.normal_(std=0.05)
    grads = []
    for fast in (False, True):
        if fast:
            model.denoiser.compile()
        with torch.autocast(device, torch.bfloat16, enabled=fast):
            out = model(x, t, model.encode(["a red circle moves left", "a circle"]))
        model.zero_grad()
        (out.float() - x).square().mean().backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.isfinite(grads[1]).all()
    assert torch.nn.functional.cosine_similarity(*grads, dim=0) > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_towers_train_compiled_in_bf16(device):
    """The same for the towers of the encoder of clips and captions, through the loss."""
    from t2v_mini.configs import ClipConfig
    from t2v_mini.losses.contrastive import ContrastiveLoss
    from t2v_mini.models.text_video import mini_clip

    torch.manual_seed(0)
    config = ClipConfig(width=32, depth=1, heads=2, text_width=32, text_heads=2, text_depth=1, embed=32,
                        temporal_depth=1, temporal_heads=2)  # fmt: skip
    encoder, loss = mini_clip(config).to(device), ContrastiveLoss().to(device)
    torch.nn.init.normal_(encoder.head.out.weight, std=0.3)
    video = torch.rand(4, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1)).to(device) * 2 - 1
    texts = ["a red circle", "a blue square", "a small circle grows", "a white triangle moves left"]
    grads = []
    for fast in (False, True):
        if fast:
            encoder.clip.visual.compile()
            encoder.clip.text.compile()
        with torch.autocast(device, torch.bfloat16, enabled=fast):
            clips, captions = encoder.encode_video(video), encoder.encode_text(texts)
        encoder.zero_grad()
        loss(clips.float(), captions.float()).backward()
        grads.append(torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None]))
    assert torch.isfinite(grads[1]).all()
    assert torch.nn.functional.cosine_similarity(*grads, dim=0) > 0.95


def test_width_sets_the_size():
    assert parameter_count(make(width=32)) > 3 * parameter_count(make(width=16))
