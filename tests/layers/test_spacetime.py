"""Attention over clips, against loops over all pairs of tokens, PyTorch's kernel and diffusers."""

import itertools
import math

import pytest
import torch

from t2v_mini.layers.attention import Attention
from t2v_mini.layers.embeddings import rotary_angles, rotate
from t2v_mini.layers.spacetime import KINDS, RelativePositionBias, SpaceTimeAttention

WIDTH, HEADS = 24, 2
GRID = (3, 2, 4)
COUNT = math.prod(GRID)


def make(kind="joint", positions="relative", grid=GRID, **options):
    """A module whose parameters, tables too, have left their start, and tokens for it."""
    torch.manual_seed(0)
    module = SpaceTimeAttention(WIDTH, HEADS, kind, positions, reach=(3, 2, 4), **options)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module, torch.randn(2, math.prod(grid), WIDTH)


def by_hand(module, x, grid, axes, attention, bias, mask, causal):
    """One stage, written as loops over heads, queries and keys."""
    cells = list(itertools.product(*(range(n) for n in grid)))
    head = WIDTH // HEADS

    def rms(z, norm):
        return z / (z.square().mean(-1, keepdim=True) + torch.finfo(z.dtype).eps).sqrt() * norm.weight

    out = torch.zeros_like(x)
    for sample, h in itertools.product(range(len(x)), range(HEADS)):
        rows = slice(h * head, (h + 1) * head)
        q = x[sample] @ attention.to_q.weight[rows].T + attention.to_q.bias[rows]
        wk, wv = attention.to_kv.weight.chunk(2)
        bk, bv = attention.to_kv.bias.chunk(2)
        k, v = x[sample] @ wk[rows].T + bk[rows], x[sample] @ wv[rows].T + bv[rows]
        q, k = rms(q, attention.norm_q), rms(k, attention.norm_k)
        for i, here in enumerate(cells):
            keys, logits = [], []
            for j, there in enumerate(cells):
                apart = [a for a in range(3) if "fhw"[a] not in axes]
                if any(here[a] != there[a] for a in apart):
                    continue
                if (mask is not None and not mask[sample, j]) or (causal and there[0] > here[0]):
                    continue
                logit = q[i] @ k[j] / math.sqrt(head)
                if bias is not None:
                    for table, reach, a in zip(bias.tables, bias.reach, axes, strict=True):
                        a = "fhw".index(a)
                        logit = logit + table[h, here[a] - there[a] + reach - 1]
                keys.append(j)
                logits.append(logit)
            if keys:
                out[sample, i, rows] = torch.stack(logits).softmax(0) @ v[keys]
    return out @ attention.to_out.weight.T + attention.to_out.bias


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_equals_loops_over_all_pairs(kind, fused, causal, masked):
    module, x = make(kind, causal=causal, fused=fused)
    mask = torch.rand(2, COUNT, generator=torch.Generator().manual_seed(1)) < 0.6 if masked else None
    expected = torch.zeros_like(x)
    for index, axes in enumerate(KINDS[kind]):
        source = module.norms[index - 1](x + expected) if index else x
        expected = expected + by_hand(
            module, source, GRID, axes, module.stages[index], module.biases[index], mask, causal
        )
    assert (module(x, GRID, mask) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("positions", ["relative", "rotary", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_naive_and_fused_agree_with_gradients(kind, positions):
    outcomes = []
    for fused in (False, True):
        module, x = make(kind, positions, causal=True, fused=fused)
        x.requires_grad_()
        out = module(x, GRID)
        weights = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
        outcomes.append([out, *torch.autograd.grad((out * weights).sum(), [x, *module.parameters()])])
    for naive, fused in zip(*outcomes, strict=True):
        assert (naive - fused).abs().max() <= 1e-5 * max(1.0, naive.abs().max().item())


def test_every_entry_of_the_tables_learns():
    module, x = make("joint", fused=False)
    module(x, GRID).square().sum().backward()
    for table in module.biases[0].tables:
        assert (table.grad.abs() > 0).all()


def test_bias_starts_at_zero_and_is_toeplitz():
    bias = RelativePositionBias(2, (5,))
    assert torch.equal(bias((5,)), torch.zeros(2, 5, 5))
    torch.nn.init.normal_(bias.tables[0])
    matrix = bias((5,))
    assert torch.equal(matrix[:, 1:, 1:], matrix[:, :-1, :-1])
    assert not torch.equal(matrix[:, 0], matrix[:, 1])
    # Beyond its reach an offset keeps the last entry.
    longer = bias((9,))
    assert torch.equal(longer[:, 8, 0], longer[:, 4, 0])
    assert torch.equal(longer[:, :5, :5], matrix)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("positions", ["relative", "rotary"])
@pytest.mark.parametrize("grid", [(1, 4, 4), (5, 1, 1), (1, 1, 1), (20, 3, 2)])
def test_any_size(kind, positions, grid):
    module, x = make(kind, positions, grid)
    out = module(x, grid)
    assert out.shape == x.shape and torch.isfinite(out).all()


@pytest.mark.parametrize("kind", KINDS)
def test_causal_never_looks_ahead(kind):
    module, x = make(kind, causal=True)
    cell = GRID[1] * GRID[2]
    changed = x.clone()
    changed[:, 2 * cell :] += 1
    before, after = module(x, GRID), module(changed, GRID)
    assert torch.equal(before[:, : 2 * cell], after[:, : 2 * cell])
    assert not torch.allclose(before[:, 2 * cell :], after[:, 2 * cell :])
    # The first frame of a clip is what the clip of one frame gives.
    assert torch.allclose(module(x[:, :cell], (1, *GRID[1:])), before[:, :cell], atol=1e-6)


def test_a_masked_token_is_never_seen():
    module, x = make("joint")
    mask = torch.ones(2, COUNT, dtype=torch.bool)
    mask[:, 5] = False
    changed = x.clone()
    changed[:, 5] += 10
    others = [i for i in range(COUNT) if i != 5]
    assert torch.equal(module(x, GRID, mask)[:, others], module(changed, GRID, mask)[:, others])


def test_no_key_at_all_gives_zero_and_no_nan():
    for fused in (False, True):
        module, x = make("joint", fused=fused)
        x.requires_grad_()
        out = module(x, GRID, torch.zeros(2, COUNT, dtype=torch.bool))
        assert torch.allclose(out, module.stages[0].to_out.bias.expand_as(out))
        out.sum().backward()
        assert torch.isfinite(x.grad).all()


def test_rotary_equals_diffusers():
    """Wan 2.1's rotary embedding: the same channels, the same turn."""
    from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

    width, grid = 32, (3, 4, 5)
    theirs = WanRotaryPosEmbed(width, (1, 1, 1), 8)
    cos, sin = theirs(torch.zeros(1, 1, *grid))
    x = torch.randn(2, 3, math.prod(grid), width)
    turned = rotate(x, rotary_angles(grid, width))
    cos, sin = cos[:, :, 0, 0::2], sin[:, :, 0, 1::2]  # (1, N, width / 2)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    expected = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)
    assert (turned - expected).abs().max() < 1e-5


def test_rotary_products_depend_on_offsets_alone():
    grid, width = (4, 5, 6), 24
    q, k = torch.randn(width), torch.randn(width)
    angles = rotary_angles(grid, width)
    turned_q, turned_k = rotate(q.expand(120, -1), angles), rotate(k.expand(120, -1), angles)
    products = (turned_q @ turned_k.T).reshape(*grid, *grid)
    assert torch.allclose(products[1, 2, 3, 0, 1, 1], products[3, 4, 5, 2, 3, 3], atol=1e-4)
    assert not torch.allclose(products[1, 2, 3, 0, 1, 1], products[1, 2, 3, 1, 2, 3], atol=1e-2)
    assert torch.allclose(turned_q.norm(dim=-1), q.norm().expand(120), atol=1e-4)


def test_axes_have_their_own_angles():
    assert rotary_angles((2, 3, 4), 12).shape == (24, 6)
    assert torch.equal(rotary_angles((1, 1, 1), 6), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="head_width must be even and at least 6, got 4"):
        rotary_angles((2, 2, 2), 4)


@pytest.mark.wrong_shapes
def test_bad_input():
    module, x = make()
    cases = [
        (lambda: SpaceTimeAttention(24, 5), "heads must divide width, got width 24 and heads 5"),
        (lambda: SpaceTimeAttention(24, 2, "spatial"), "kind must be one of joint, factorized, axial"),
        (lambda: SpaceTimeAttention(24, 2, positions="sine"), "positions must be one of rotary, relative"),
        (lambda: RelativePositionBias(2, (0,)), "reach must be at least 1"),
        (lambda: RelativePositionBias(2, (2,))((2, 3)), "sizes must have 1 axes"),
        (lambda: module(x[:, 1:], GRID), "x must hold one token for each cell of the grid"),
        (lambda: module(x, GRID, torch.ones(2, 5).bool()), r"mask must have shape \(2, 24\), got \(2, 5\)"),
        (lambda: module(x[..., :8], GRID), "x must have width 24, got 8"),
        (lambda: Attention(24, 2, 16)(x, x), "context must have width 16, got 24"),
        (lambda: Attention(24, 2)(x, x[:1]), "context must hold 2 samples as x does, got 1"),
        (lambda: Attention(24, 2)(x, mask=torch.ones(2, 3).bool()), "mask must have shape"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
