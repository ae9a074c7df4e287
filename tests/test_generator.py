"""The denoiser, its layers and its text encoder."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from t2v_mini.configs import CONFIGS, Config, get_config
from t2v_mini.data.tokenizer import END, PAD, START, VOCABULARY_SIZE, tokenize
from t2v_mini.layers.attention import Attention, naive_attention
from t2v_mini.layers.embeddings import sincos_positions, sinusoidal
from t2v_mini.models.dit import DiTBlock
from t2v_mini.models.generator import Generator, all_finite, parameter_count, text_encoder
from t2v_mini.models.text import BagOfWords, TextEncoder
from t2v_mini.world import caption, sample_scenes
from tests.tiny_generator import TINY_GENERATOR

SMALL = replace(TINY_GENERATOR, depth=2)


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
    assert torch.equal(block(x, torch.randn(2, 24), text, (1, 1, 5)), x)


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


MASKS = {
    "no mask": None,
    "one row a sample": torch.arange(7)[None, None, None] < torch.tensor([7, 4])[:, None, None, None],
    "one row a query": torch.ones(5, 7).tril(2).bool().expand(2, 1, 5, 7),
}


@pytest.mark.parametrize("mask", MASKS)
def test_naive_and_fused_attention_agree(mask):
    """Values and gradients of the written-out equation and of PyTorch's kernel."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8)]
    upstream = torch.randn(2, 3, 5, 8, generator=generator)
    values = [torch.randn(shape, generator=generator) for shape in shapes]
    results = []
    for attend in (naive_attention, F.scaled_dot_product_attention):
        q, k, v = leaves = [value.clone().requires_grad_() for value in values]
        out = attend(q, k, v, MASKS[mask])
        results.append([out, *torch.autograd.grad(out, leaves, upstream)])
    for naive, fused in zip(*results, strict=True):
        assert torch.allclose(naive, fused, rtol=0, atol=1e-5)
        assert naive.abs().max() > 0.1
    if mask == "one row a sample":
        # Nothing reaches a key or a value that no query may look at.
        assert results[0][2][1, :, 4:].abs().max() == results[0][3][1, :, 4:].abs().max() == 0


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cross", [False, True])
def test_both_paths_of_a_layer_agree(masked, cross):
    torch.manual_seed(0)
    naive = Attention(24, 3, 16 if cross else None, fused=False)
    fused = Attention(24, 3, 16 if cross else None, fused=True)
    fused.load_state_dict(naive.state_dict())
    x, context = torch.randn(2, 7, 24), torch.randn(2, 7, 16) if cross else None
    mask = torch.arange(7)[None] < torch.tensor([[7], [4]]) if masked else None
    upstream, results = torch.randn(2, 7, 24), []
    for layer in (naive, fused):
        leaf = x.clone().requires_grad_()
        out = layer(leaf, context, mask)
        gradients = torch.autograd.grad(out, [leaf, *layer.parameters()], upstream)
        results.append([out, *gradients])
    for one, other in zip(*results, strict=True):
        # A key's bias vanishes in the softmax: its gradient is rounding.
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)
    # What is hidden changes nothing, and without a mask it does.
    changed, hidden = (context if cross else x).clone(), results[0][0]
    changed[1, 4:] += 1
    after = naive(x, changed, mask) if cross else naive(changed, None, mask)
    same = torch.allclose(after[1, :4], hidden[1, :4], atol=1e-6)
    assert same == masked and torch.equal(after[0], hidden[0])


def test_text_that_is_too_long():
    """Rows of just the context's length pass; longer ones are refused before open_clip sees them."""
    encoder = TextEncoder(width=16, heads=2, depth=1, context=6)
    ids = tokenize(["a red circle"], length=6)
    assert encoder(ids).tokens.shape == (1, 6, 16)
    with pytest.raises(ValueError, match="ids must hold at most 6 tokens a caption, got 7"):
        encoder(tokenize(["a red circle"], length=7))


EXCHANGED = ["a red circle is left of a blue square", "a blue circle is left of a red square"]


def test_a_bag_of_words_is_a_mean_that_knows_no_order():
    torch.manual_seed(0)
    bag = BagOfWords(width=16, context=20)
    ids = tokenize(["a red circle", *EXCHANGED])
    found = bag(ids)
    for row, tokens, mask, pooled in zip(ids, found.tokens, found.mask, found.pooled, strict=True):
        said = [number for number in row.tolist() if number != PAD]
        by_hand = sum(bag.token_embedding.weight[number] for number in said) / len(said)
        assert torch.allclose(pooled, by_hand, atol=1e-6) and mask.sum() == len(said)
        assert torch.equal(tokens, bag.token_embedding.weight[row])
    assert torch.allclose(found.pooled[1], found.pooled[2], atol=1e-6)
    assert (found.pooled[0] - found.pooled[1]).abs().max() > 0.1
    ordered = TextEncoder(width=16, heads=2, depth=1, context=20)(ids).pooled
    assert (ordered[1] - ordered[2]).abs().max() > 1e-3


def test_padding_does_not_enter_a_bag_of_words():
    bag = BagOfWords(width=16, context=20)
    plain, longer = (bag(tokenize(["a red circle"], length=length)) for length in (5, 20))
    assert torch.allclose(plain.pooled, longer.pooled, atol=1e-6)
    assert longer.mask[0].tolist() == 5 * [True] + 15 * [False]
    with pytest.raises(ValueError, match="ids must hold at most 20 tokens a caption, got 21"):
        bag(tokenize(["a red circle"], length=21))


def test_gradients_of_a_bag_reach_the_words_that_were_said():
    bag = BagOfWords(width=16, context=20)
    ids = tokenize(["a red circle", "a circle is left of a square"])
    bag(ids).pooled.square().sum().backward()
    reached = bag.token_embedding.weight.grad.abs().sum(1) > 0
    assert set(reached.nonzero().flatten().tolist()) == set(ids.flatten().tolist()) - {PAD}


@pytest.mark.parametrize("words", [False, True])
def test_a_generator_with_a_bag_of_words_cannot_tell_whose_colour_it_is(words):
    """Neither from the pooled vector nor by attention to the words, which have no places."""
    torch.manual_seed(0)
    model = Generator(replace(SMALL, text="bag", words=words))
    assert isinstance(model.text, BagOfWords)
    for parameter in model.parameters():  # leave the identity of the zero initialisation
        torch.nn.init.normal_(parameter, std=0.1)
    x, t = inputs(model, 1)[0].expand(3, -1, -1, -1, -1), torch.full((3,), 0.5)
    red, blue, other = model(x, t, model.encode([*EXCHANGED, "a red circle is left of a red square"]))
    assert red.shape == x.shape[1:] and red.isfinite().all()
    assert torch.allclose(red, blue, atol=1e-4)
    assert not torch.allclose(red, other, atol=1e-3)


def test_the_text_of_a_configuration_is_a_transformer_or_a_bag():
    assert isinstance(text_encoder(SMALL), TextEncoder)
    with pytest.raises(ValueError, match="text must be 'transformer' or 'bag', got 'rnn'"):
        text_encoder(replace(SMALL, text="rnn"))


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


def test_configs():
    assert set(CONFIGS) == {"mini", "latent"}
    for config in CONFIGS.values():
        # Through JSON, which has lists only.
        assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        assert parameter_count(Generator(config.model)) < 5.6e6
    assert [data.level for data in get_config("mini").training_data] == [1]
    turns = get_config("latent").training_data
    assert {data.level for data in turns} == {1, 2, 3} and {data.frames for data in turns} == {16}
    assert {data.kind for data in turns} == {"", "one", "two", "three", "in front"}
    with pytest.raises(ValueError, match="config must be one of mini, latent, got 'maxi'"):
        get_config("maxi")
    with pytest.raises(ValueError, match="values must hold the fields of a configuration"):
        Config.from_dict({"name": "x", "model": {"depht": 3}, "data": {}, "train": {}, "sample": {}})
