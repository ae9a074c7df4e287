"""The denoiser, its text encoder, the process and the sampler."""

import math

import pytest
import torch
import torch.nn.functional as F

from t2v_mini.configs import CONFIGS, Config, ModelConfig, get_config
from t2v_mini.data.tokenizer import END, PAD, START, VOCABULARY_SIZE, tokenize
from t2v_mini.diffusion.flow import RectifiedFlow
from t2v_mini.diffusion.guidance import guided
from t2v_mini.diffusion.samplers import sample_euler, shifted_times
from t2v_mini.layers.attention import Attention
from t2v_mini.layers.embeddings import sincos_positions, sinusoidal
from t2v_mini.models.dit import DiTBlock
from t2v_mini.models.generator import Generator, all_finite, parameter_count
from t2v_mini.world import caption, sample_scenes

SMALL = ModelConfig(width=24, depth=2, heads=2, stem_width=32, text_width=16, text_heads=2, text_depth=1)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Generator(SMALL)


def inputs(model, batch=2, frames=8):
    x = torch.randn(batch, 3, frames, 32, 32, generator=torch.Generator().manual_seed(1))
    return x, torch.rand(batch), model.encode(["a red circle moves left", "a circle"][:batch])


def test_shapes_and_gradients(model):
    x, t, text = inputs(model)
    out = model(x, t, text)
    assert out.shape == x.shape and all_finite(model)
    # The last layers of the gates start at zero, so one step is needed before all parameters matter.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(x, t, model.encode(["a red circle moves left", "a circle"])).square().mean().backward()
        optimizer.step()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A query's bias and a key's bias may vanish in the softmax; nothing else may.
    assert all("to_kv.bias" in name or "in_proj_bias" in name for name in without), without


def test_block_starts_as_identity():
    block = DiTBlock(24, 2, 16)
    x = torch.randn(2, 5, 24)
    text = Generator(SMALL).encode(["a red circle", "a circle moves left"])
    assert torch.equal(block(x, torch.randn(2, 24), text), x)


def test_padding_changes_nothing(model):
    ids = tokenize(["a red circle moves left"])
    padded = tokenize(["a red circle moves left"], length=30)
    plain, longer = model.text(ids), model.text(padded)
    assert torch.allclose(plain.pooled, longer.pooled, atol=1e-5)
    x, t, _ = inputs(model, 1)
    assert torch.allclose(model(x, t, plain), model(x, t, longer), atol=1e-4)


def test_text_time_and_position_matter(model):
    for parameter in model.parameters():  # leave the identity of the zero initialisation
        torch.nn.init.normal_(parameter, std=0.1)
    x, t, text = inputs(model, 1)
    out = model(x, t, text)
    assert not torch.allclose(out, model(x, t, model.encode(["a blue circle moves left"])), atol=1e-4)
    assert not torch.allclose(out, model(x, t * 0.5, text), atol=1e-4)
    moved = model(x.roll(8, -1), t, text).roll(-8, -1)
    assert not torch.allclose(out, moved, atol=1e-4)


def test_any_whole_number_of_patches(model):
    text = model.encode(["a circle"])
    for shape in ((1, 3, 2, 16, 24), (1, 3, 16, 64, 8)):
        assert model(torch.zeros(shape), torch.zeros(1), text).shape == shape
    for shape in ((1, 3, 7, 32, 32), (1, 3, 8, 30, 32), (1, 4, 8, 32, 32)):
        with pytest.raises(ValueError, match="x must have 3 channels and a multiple of"):
            model(torch.zeros(shape), torch.zeros(1), text)


def test_attention_is_scaled_dot_product_attention():
    """Against PyTorch's own multi-head attention with the same weights and no normalisation."""
    torch.manual_seed(0)
    ours = Attention(24, 3)
    ours.norm_q, ours.norm_k = torch.nn.Identity(), torch.nn.Identity()
    theirs = torch.nn.MultiheadAttention(24, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.to_q.weight, ours.to_kv.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.to_q.bias, ours.to_kv.bias]))
        theirs.out_proj.weight.copy_(ours.to_out.weight)
        theirs.out_proj.bias.copy_(ours.to_out.bias)
    x, context = torch.randn(2, 5, 24), torch.randn(2, 7, 24)
    mask = torch.arange(7)[None] < torch.tensor([[7], [4]])
    expected = theirs(x, context, context, key_padding_mask=~mask, need_weights=False)[0]
    assert torch.allclose(ours(x, context, mask), expected, atol=1e-5)
    with pytest.raises(ValueError, match="heads must divide width, got width 24 and heads 5"):
        Attention(24, 5)


def test_embeddings():
    features = sinusoidal(torch.tensor([0.0, 2.0]), 8)
    assert torch.equal(features[0], torch.tensor([1.0] * 4 + [0.0] * 4))
    assert features[1, 0].item() == pytest.approx(math.cos(2)) and features[1, 4].item() == pytest.approx(
        math.sin(2)
    )
    positions = sincos_positions(4, 4, 4, 26)
    assert positions.shape == (64, 26) and torch.equal(positions[:, 24:], torch.zeros(64, 2))
    assert torch.cdist(positions, positions).add(torch.eye(64) * 9).min() > 0.1  # all places differ
    with pytest.raises(ValueError, match="width must be even, got 7"):
        sinusoidal(torch.zeros(1), 7)


def test_tokens():
    ids = tokenize(["a red circle", ""])
    assert ids[0, 0] == START and ids[1].tolist() == [START, END, PAD, PAD, PAD]
    assert ids[0].argmax() == 4 and ids.max() == END == VOCABULARY_SIZE - 1
    every = [caption(s.facts, seed=i) for level in (1, 2, 3) for i, s in enumerate(sample_scenes(level, 50))]
    assert tokenize(every).shape[0] == 150
    with pytest.raises(ValueError, match="captions must consist of the world's words, got 'purple'"):
        tokenize(["a purple circle"])
    with pytest.raises(ValueError, match="length must be at least 5 for these captions, got 4"):
        tokenize(["a red circle"], length=4)
    with pytest.raises(ValueError, match="captions must be a list of strings"):
        tokenize("a red circle")


def test_flow_conversions():
    flow = RectifiedFlow()
    x0, noise, t = torch.randn(4, 3, 2), torch.randn(4, 3, 2), torch.tensor([0.1, 0.4, 0.9, 1.0])
    xt, u = flow.corrupt(x0, noise, t), flow.target(x0, noise)
    assert torch.allclose(flow.to_x0(u, xt, t), x0, atol=1e-5)
    assert torch.allclose(flow.velocity(x0, xt, t), u, atol=1e-4)
    predicted = x0 + 0.1
    expected = F.mse_loss(flow.velocity(predicted, xt, t), u, reduction="none").mean((1, 2))
    assert torch.allclose(flow.loss(predicted, x0, t), expected, rtol=1e-4)
    assert torch.equal(flow.corrupt(x0, noise, torch.zeros(4)), x0)
    assert torch.equal(flow.corrupt(x0, noise, torch.ones(4)), noise)
    times = flow.draw_times(20000, torch.Generator().manual_seed(0))
    assert times.min() > 0 and times.max() < 1
    assert times.median().item() == pytest.approx(1 / (1 + math.exp(-0.8)), abs=0.01)


@pytest.mark.wrong_shapes
def test_times_of_another_batch():
    with pytest.raises(ValueError, match="t must hold one time a sample, 4, got shape"):
        RectifiedFlow().corrupt(torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(3))


def gaussian_velocity(mean, deviation):
    """Exact velocity E[eps - x0 | xt] when x0 is N(mean, deviation^2) and eps is N(0, 1)."""

    def predict(x, t):
        t = t[:, None]
        variance = (1 - t) ** 2 * deviation**2 + t**2
        residual = x - (1 - t) * mean
        return t / variance * residual - mean - (1 - t) * deviation**2 / variance * residual

    return predict


@pytest.mark.parametrize(("mean", "deviation"), [(3.0, 0.5), (-1.0, 2.0)])
def test_euler_samples_a_gaussian(mean, deviation):
    """The exact field carries noise to mean + deviation * noise; Euler's error falls like 1 / steps."""
    noise = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
    exact = mean + deviation * noise
    errors = []
    for steps in (50, 100, 400):
        found = sample_euler(gaussian_velocity(mean, deviation), noise, shifted_times(steps))
        errors.append((found - exact).abs().mean().item())
    assert errors[2] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15) and errors[1] / errors[2] == pytest.approx(
        4, rel=0.15
    )


def test_sampler_calls_back_and_checks():
    seen = []
    sample_euler(
        gaussian_velocity(0.0, 1.0), torch.zeros(2, 1), shifted_times(3), lambda i, x, x0: seen.append(i)
    )
    assert seen == [0, 1, 2]
    times = shifted_times(4, shift=3.0)
    assert (
        times[0] == 1 and times[-1] == 0 and times[2].item() == pytest.approx(0.75)
    )  # 3 * .5 / (1 + 2 * .5)
    for steps in (0, -1, 2.5):
        with pytest.raises(ValueError, match="steps must be a positive integer"):
            shifted_times(steps)
    with pytest.raises(ValueError, match="shift must be positive"):
        shifted_times(4, shift=0.0)


def test_guidance():
    calls = []

    def predict(x, t, text):
        calls.append(text)
        return torch.full_like(x, {"yes": 3.0, "no": 1.0}[text])

    x, t = torch.zeros(2, 1), torch.zeros(2)
    assert guided(predict, "yes", "no", 1.0)(x, t)[0] == 3 and calls == ["yes"]
    assert guided(predict, "yes", "no", 2.0)(x, t)[0] == 5
    assert guided(predict, "yes", "no", 0.0)(x, t)[0] == 1
    for scale in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="guidance must be a finite number >= 0"):
            guided(predict, "yes", "no", scale)


def test_configs():
    config = get_config("mini")
    assert Config.from_dict(config.to_dict()) == config and set(CONFIGS) == {"mini"}
    assert parameter_count(Generator(config.model)) < 5e6
    with pytest.raises(ValueError, match="config must be one of mini, got 'maxi'"):
        get_config("maxi")
    with pytest.raises(ValueError, match="values must hold the fields of a configuration"):
        Config.from_dict({"name": "x", "model": {"depht": 3}, "data": {}, "train": {}, "sample": {}})
