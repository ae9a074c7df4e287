"""How a condition enters a network, against diffusers and PyTorch with copied weights."""

import pytest
import torch
import torch.nn.functional as F

from t2v_mini.layers.attention import Attention
from t2v_mini.layers.conditioning import (
    AdaptiveLayerNorm,
    ConditionedUpsample,
    FiLM,
    TextCondition,
    drop_condition,
    masked_mean,
)
from t2v_mini.models.dit import DiTBlock

WIDTH = 24


def scatter(module, std=0.3):
    """Leave the zero initialisation."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return module


def text_of(lengths, total, width=16):
    tokens = torch.randn(len(lengths), total, width, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(total)[None] < torch.tensor(lengths)[:, None]
    return TextCondition(tokens, mask, masked_mean(tokens, mask))


def test_masked_mean_does_not_count_padding():
    text = text_of([2, 5], 5)
    assert torch.allclose(text.pooled[0], text.tokens[0, :2].mean(0))
    assert torch.allclose(text.pooled[1], text.tokens[1].mean(0))
    assert torch.equal(masked_mean(text.tokens, torch.zeros(2, 5).bool()), torch.zeros(2, 16))


def test_adaptive_layer_norm_equals_diffusers():
    from diffusers.models.normalization import AdaLayerNormZero

    theirs = scatter(AdaLayerNormZero(WIDTH))
    first, second = AdaptiveLayerNorm(WIDTH), AdaptiveLayerNorm(WIDTH)
    with torch.no_grad():  # theirs makes what both sublayers of a block need
        for ours, part in zip((first, second), (slice(0, 3), slice(3, 6)), strict=True):
            weight = theirs.linear.weight.view(6, WIDTH, WIDTH)[part]
            ours.modulation[1].weight.copy_(weight.reshape(3 * WIDTH, WIDTH))
            ours.modulation[1].bias.copy_(theirs.linear.bias.view(6, WIDTH)[part].flatten())
    outcomes = []
    for which in ("ours", "theirs"):
        x = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(2)).requires_grad_()
        c = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(3)).requires_grad_()
        if which == "ours":
            normed, gate1 = first(x, c)
            later, gate2 = second(normed, c)
            gates = (gate1[:, 0], gate2[:, 0])
        else:
            normed, gate1, shift2, scale2, gate2 = theirs(x, emb=c)
            later = theirs.norm(normed) * (1 + scale2[:, None]) + shift2[:, None]
            gates = (gate1, gate2)
        total = sum((z * torch.linspace(-1, 1, z.numel()).view_as(z)).sum() for z in (later, *gates))
        outcomes.append([normed, later, *gates, *torch.autograd.grad(total, [x, c])])
    for mine, other in zip(*outcomes, strict=True):
        assert (mine - other).abs().max() < 1e-5


def test_adaptive_layer_norm_starts_plain_with_a_closed_gate():
    x, c = torch.randn(2, 5, WIDTH), torch.randn(2, 7)
    normed, gate = AdaptiveLayerNorm(WIDTH, 7)(x, c)
    assert torch.allclose(normed, F.layer_norm(x, (WIDTH,), eps=1e-6), atol=1e-6)
    assert torch.equal(gate, torch.zeros(2, 1, WIDTH))


def test_block_starts_as_identity_and_keeps_a_residual_stream():
    text, c = text_of([3, 5], 5), torch.randn(2, WIDTH)
    x = torch.randn(2, 12, WIDTH)
    block = DiTBlock(WIDTH, 2, 16)
    assert torch.equal(block(x, c, text, (3, 2, 2)), x)
    block = scatter(block, 0.1)
    # The amplitude of the noise is information: a block must not normalise it away.
    small, large = block(x, c, text, (3, 2, 2)), block(100 * x, c, text, (3, 2, 2))
    assert large.norm() > 20 * small.norm()
    assert not torch.allclose(block(x + 7, c, text, (3, 2, 2)), small + 0.0, atol=1.0)


def test_padding_moves_nothing():
    block = scatter(DiTBlock(WIDTH, 2, 16), 0.2)
    x, c = torch.randn(2, 12, WIDTH), torch.randn(2, WIDTH)
    short = text_of([3, 3], 3)
    padded = TextCondition(
        F.pad(short.tokens, (0, 0, 0, 20), value=5.0), F.pad(short.mask, (0, 20)), short.pooled
    )
    difference = block(x, c, short, (3, 2, 2)) - block(x, c, padded, (3, 2, 2))
    assert difference.abs().max() < 1e-5
    blind = TextCondition(padded.tokens, torch.ones_like(padded.mask), padded.pooled)
    assert (block(x, c, short, (3, 2, 2)) - block(x, c, blind, (3, 2, 2))).abs().max() > 1e-3


def test_cross_attention_equals_multihead_attention_with_gradients():
    ours = scatter(Attention(WIDTH, 3, 16))
    ours.norm_q, ours.norm_k = torch.nn.Identity(), torch.nn.Identity()
    theirs = torch.nn.MultiheadAttention(WIDTH, 3, kdim=16, vdim=16, batch_first=True)
    with torch.no_grad():
        key, value = ours.to_kv.weight.chunk(2)
        for target, source in (
            (theirs.q_proj_weight, ours.to_q.weight),
            (theirs.k_proj_weight, key),
            (theirs.v_proj_weight, value),
            (theirs.in_proj_bias, torch.cat([ours.to_q.bias, ours.to_kv.bias])),
            (theirs.out_proj.weight, ours.to_out.weight),
            (theirs.out_proj.bias, ours.to_out.bias),
        ):
            target.copy_(source)
    text = text_of([3, 7], 7)
    outcomes = []
    for attend in (
        lambda x, t: ours(x, t, text.mask),
        lambda x, t: theirs(x, t, t, key_padding_mask=~text.mask, need_weights=False)[0],
    ):
        x = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(2)).requires_grad_()
        tokens = text.tokens.clone().requires_grad_()
        out = attend(x, tokens)
        outcomes.append([out, *torch.autograd.grad(out.square().sum(), [x, tokens])])
    for mine, other in zip(*outcomes, strict=True):
        assert (mine - other).abs().max() <= 1e-5 * max(1.0, other.abs().max().item())


def test_film_starts_as_group_norm_and_reaches_any_scale():
    film = FiLM(16, 8)
    x, c = torch.randn(2, 16, 3, 4, 5), torch.randn(2, 8)
    assert torch.allclose(film(x, c), F.group_norm(x, 8), atol=1e-6)
    scatter(film.modulation, 2.0)
    scale = film.modulation(torch.randn(500, 8))[:, :16]
    assert scale.min() < -1.0  # SiLU as the last step would have stopped at -0.278


def test_upsample_equals_diffusers():
    from diffusers.models.upsampling import Upsample2D

    ours, theirs = ConditionedUpsample(8, 16, 4), Upsample2D(8, use_conv=True, out_channels=16)
    with torch.no_grad():
        theirs.conv.weight.copy_(ours.conv.weight[:, :, 0])
        theirs.conv.bias.copy_(ours.conv.bias)
    x = torch.randn(2, 8, 3, 4, 5)
    made = ours(x, torch.randn(2, 4))
    assert made.shape == (2, 16, 3, 8, 10)
    frames = theirs(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 3)).transpose(1, 2)
    assert torch.allclose(made, F.group_norm(frames, 8), atol=1e-5)


def test_upsample_is_not_blocky_and_can_look_along_time():
    x, c = torch.randn(1, 8, 3, 4, 4), torch.randn(1, 4)
    made = ConditionedUpsample(8, 8, 4)(x, c)
    blocks = made.unflatten(-1, (4, 2)).unflatten(-3, (4, 2))
    assert blocks.std(dim=(-3, -1)).min() > 1e-3
    changed = x.clone()
    changed[:, :, 2] += 1
    for temporal in (1, 3):
        layer = ConditionedUpsample(8, 8, 4, temporal)
        layer.film.norm = torch.nn.Identity()  # its statistics see all frames
        same = torch.equal(layer(x, c)[:, :, 1], layer(changed, c)[:, :, 1])
        assert same == (temporal == 1)


def test_dropped_captions():
    captions = [f"caption {i}" for i in range(2000)]
    kept = drop_condition(captions, 0.1, torch.Generator().manual_seed(0))
    assert 150 < sum(text == "" for text in kept) < 250
    assert all(new in ("", old) for new, old in zip(kept, captions, strict=True))
    assert drop_condition(captions, 0.0, torch.Generator()) == captions


@pytest.mark.wrong_shapes
def test_bad_input():
    x = torch.zeros(2, 5, WIDTH)
    cases = [
        (lambda: AdaptiveLayerNorm(WIDTH)(x, torch.zeros(3, WIDTH)), r"condition must have shape \(2, 24\)"),
        (lambda: FiLM(12, 4), "groups must divide channels, got 12 channels and 8 groups"),
        (lambda: ConditionedUpsample(8, 8, 4, 2), "temporal must be odd, got 2"),
        (
            lambda: ConditionedUpsample(8, 8, 4)(torch.zeros(1, 3, 1, 4, 4), torch.zeros(1, 4)),
            "x must have 8 channels, got 3",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
