"""Convolution in space and time, against PyTorch, torchvision and diffusers with copied weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from t2v_mini.layers.conv3d import (
    Conv3DBlock,
    EfficientVideoBlock,
    FrameGate,
    FrameNorm,
    PixelNorm,
    SeparableSpatioTemporalConv,
    SpaceTimeConv,
    SpatioTemporalUpsample,
)

CAUSAL = {
    "conv": lambda: SpaceTimeConv(8, 16, 3, causal=True),
    "long kernel": lambda: SpaceTimeConv(8, 16, (5, 1, 3), causal=True),
    "strided": lambda: SpaceTimeConv(8, 16, 3, (2, 2, 2), causal=True),
    "block, frame norm": lambda: Conv3DBlock(8, 16, causal=True),
    "block, pixel norm": lambda: Conv3DBlock(8, 8, causal=True, norm="pixel"),
    "separable": lambda: SeparableSpatioTemporalConv(8, 16, causal=True),
    "efficient": lambda: EfficientVideoBlock(8, causal=True),
    "upsample": lambda: SpatioTemporalUpsample(8, 8, causal=True),
    "upsample in time": lambda: SpatioTemporalUpsample(8, 8, time=True, causal=True),
}
every_causal = pytest.mark.parametrize("name", CAUSAL)


def scattered(module, std=0.2):
    """Leave the zero start."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


def clip(channels=8, frames=7, size=8, batch=2, seed=1):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, frames, size, size, generator=rng)


def same(found, right, tolerance=1e-5):
    torch.testing.assert_close(found, right, atol=tolerance, rtol=0)


@pytest.mark.parametrize("kernel", [1, 3, 5, (3, 1, 5)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_convolution_is_that_of_a_padded_clip_and_so_are_its_gradients(kernel, causal, batch):
    layer = scattered(SpaceTimeConv(8, 6, kernel, causal=causal))
    t, h, w = layer.kernel
    results = []
    for which in ("ours", "theirs"):
        x = clip(batch=batch).requires_grad_()
        if which == "ours":
            out = layer(x)
        else:
            ends = (t - 1, 0) if causal else (t // 2, t // 2)
            padded = F.pad(x, (0, 0, 0, 0, *ends), mode="replicate")
            padded = F.pad(padded, (w // 2, w // 2, h // 2, h // 2))
            out = F.conv3d(padded, layer.conv.weight, layer.conv.bias)
        assert out.shape == (batch, 6, 7, 8, 8)
        gradients = torch.autograd.grad(out.sin().sum(), [x, *layer.parameters()])
        results.append((out, *gradients))
    for ours, theirs in zip(*results, strict=True):
        same(ours, theirs, 1e-5 * max(1.0, theirs.abs().max().item()))


@pytest.mark.parametrize("stride", [1, 2])
def test_causal_convolution_equals_diffusers(stride):
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXCausalConv3d

    theirs = scattered(CogVideoXCausalConv3d(8, 6, 3, stride=stride))
    ours = SpaceTimeConv(8, 6, 3, (stride, 1, 1), causal=True)
    ours.conv.load_state_dict(theirs.conv.state_dict())
    same(ours(clip()), theirs(clip())[0])


def test_block_equals_diffusers_on_one_frame():
    """Theirs takes the statistics of all frames together, so that one frame is what can be compared."""
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXResnetBlock3D

    theirs = scattered(CogVideoXResnetBlock3D(8, 16, temb_channels=0, groups=8, eps=1e-5, pad_mode="first"))
    ours = Conv3DBlock(8, 16, causal=True)
    names = {
        "norm1.norm": "norm1",
        "norm2.norm": "norm2",
        "conv1.conv": "conv1.conv",
        "conv2.conv": "conv2.conv",
    }
    state = {
        f"{mine}.{kind}": theirs.state_dict()[f"{other}.{kind}"]
        for mine, other in (names | {"skip": "conv_shortcut"}).items()
        for kind in ("weight", "bias")
    }
    ours.load_state_dict(state)
    x = clip(frames=1)
    same(ours(x), theirs(x)[0])


@every_causal
def test_chunks_give_what_the_whole_clip_gives(name):
    layer = scattered(CAUSAL[name]()).double()
    x = clip(frames=13).double()
    whole = layer(x)
    for chunks in ([13], [5, 8], [1, 4, 4, 4], [5, 2, 2, 4], [1, 2, 6, 4]):
        memory = {}
        parts = [layer(part, memory) for part in x.split(chunks, dim=2)]
        same(torch.cat(parts, dim=2), whole, 1e-10)


def test_memory_holds_no_more_than_it_needs():
    layer, memory = SpaceTimeConv(8, 4, 3, causal=True), {}
    layer(clip(frames=50), memory)
    assert memory[layer].untyped_storage().nbytes() == 4 * 2 * 8 * 2 * 8 * 8  # two frames of two clips


@every_causal
def test_no_frame_sees_a_later_one_and_no_clip_its_neighbours(name):
    layer = scattered(CAUSAL[name]())
    x = clip(frames=9)
    before = layer(x)
    changed = x.clone()
    changed[:, :, 6:] += 1
    changed[1] += 1
    after = layer(changed)
    # The frames that the first 6 alone would give.
    kept = layer(x[:, :, :6]).shape[2]
    # (A difference of 0 would also come from a layer that ignores its input.)
    assert (after[0, :, kept:] - before[0, :, kept:]).abs().max() > 1e-3
    same(
        after[0, :, : kept - (name == "upsample in time")],
        before[0, :, : kept - (name == "upsample in time")],
    )


@every_causal
def test_a_clip_alone_gives_what_it_gives_in_a_batch(name):
    layer, x = scattered(CAUSAL[name]()), clip(frames=9)
    same(layer(x[:1]), layer(x)[:1])
    same(layer.double()(x[:1].double()).float(), layer(x.double())[:1].float())


@pytest.mark.parametrize("name", [n for n in CAUSAL if n != "upsample in time"])
def test_a_clip_that_does_not_change_has_no_dent_at_its_ends(name):
    still = clip(frames=1).expand(-1, -1, 9, -1, -1)
    out = scattered(CAUSAL[name]())(still)
    same(out, out[:, :, :1].expand_as(out))
    free = scattered(SpaceTimeConv(8, 6, 3))(still)
    same(free, free[:, :, :1].expand_as(free))


@pytest.mark.parametrize("frames", [1, 2, 5, 9])
def test_sizes(frames):
    x = clip(frames=frames, size=6)
    assert SpaceTimeConv(8, 4, 3, (2, 2, 2), causal=True)(x).shape == (2, 4, (frames + 1) // 2, 3, 3)
    assert SpaceTimeConv(8, 4, 3, 2)(x).shape == (2, 4, (frames + 1) // 2, 3, 3)
    assert SpatioTemporalUpsample(8, 4)(x).shape == (2, 4, frames, 12, 12)
    assert SpatioTemporalUpsample(8, 4, time=True)(x).shape == (2, 4, 2 * frames, 12, 12)
    assert SpatioTemporalUpsample(8, 4, time=True, causal=True)(x).shape == (2, 4, 2 * frames - 1, 12, 12)


def test_upsample_lays_its_frames_one_after_the_other():
    layer = SpatioTemporalUpsample(1, 1, time=True)
    with torch.no_grad():
        layer.conv.conv.weight.zero_()
        layer.conv.conv.weight[:, :, 1, 1, 1] = torch.tensor([[1.0], [10.0]])  # each frame, then ten times it
        layer.conv.conv.bias.zero_()
    x = torch.arange(1.0, 4).view(1, 1, 3, 1, 1).expand(-1, -1, -1, 2, 3)
    out = layer(x)
    assert out[0, 0, :, 0, 0].tolist() == [1, 10, 2, 20, 3, 30] and out.shape[-2:] == (4, 6)
    layer.causal = True
    assert layer(x)[0, 0, :, 3, 5].tolist() == [10, 2, 20, 3, 30]


@pytest.mark.parametrize("middle", [8, 16])
def test_without_its_nonlinearity_it_is_a_dense_kernel_of_low_rank(middle):
    layer = scattered(SeparableSpatioTemporalConv(8, 6, middle=middle))
    nn.init.zeros_(layer.space.conv.bias)
    along, within = layer.time.conv.weight[..., 0, 0], layer.space.conv.weight[:, :, 0]
    dense = SpaceTimeConv(8, 6)
    with torch.no_grad():
        dense.conv.weight.copy_(torch.einsum("omt,mihw->oithw", along, within))
        dense.conv.bias.copy_(layer.time.conv.bias)
    same(layer.time(layer.space(clip())), dense(clip()))


def test_separable_convolution_knows_where_things_move():
    """One whose time kernel sees the mean of a frame alone could not tell a dot's paths apart."""
    frames = torch.zeros(2, 1, 5, 8, 8)
    for i in range(5):
        frames[0, 0, i, 4, 1 + i] = frames[1, 0, i, 4, 5 - i] = 1
    layer = scattered(SeparableSpatioTemporalConv(1, 8))
    right, left = layer(frames)
    assert (right - left).abs().max() > 0.05


def test_numbers_of_weights():
    def count(layer):
        return sum(p.numel() for p in layer.parameters())

    dense, separable = SpaceTimeConv(64, 64), SeparableSpatioTemporalConv(64, 64)
    assert count(dense) == 27 * 64 * 64 + 64 == 110_656
    assert count(separable) - count(separable.norm) == (9 + 3) * 64 * 64 + 2 * 64 == 49_280
    assert count(EfficientVideoBlock(64)) < 0.4 * count(dense)


def test_gate_equals_torchvision_frame_by_frame():
    from torchvision.ops import SqueezeExcitation

    theirs = scattered(SqueezeExcitation(8, 2, nn.SiLU, lambda: lambda z: 2 * torch.sigmoid(z)))
    ours = FrameGate(8)
    with torch.no_grad():
        for mine, other in ((ours.squeeze, theirs.fc1), (ours.excite, theirs.fc2)):
            mine.weight.copy_(other.weight.flatten(1))
            mine.bias.copy_(other.bias)
    x = clip()
    same(ours(x), torch.stack([theirs(frame) for frame in x.unbind(2)], dim=2))
    same(FrameGate(8)(x), x)


def test_norms():
    x = clip()
    norm = scattered(FrameNorm(8, groups=4))
    same(norm(x), torch.stack([norm.norm(frame) for frame in x.unbind(2)], dim=2))
    pixel, theirs = scattered(PixelNorm(8)), nn.RMSNorm(8, eps=1e-6)
    theirs.weight = pixel.weight
    same(pixel(x), theirs(x.movedim(1, -1)).movedim(-1, 1))


def test_efficient_block_is_its_formula_and_stays_calm_when_stacked():
    block, x = scattered(EfficientVideoBlock(8)), clip()
    h = F.group_norm(x.transpose(1, 2).flatten(0, 1), 8, block.norm.norm.weight, block.norm.norm.bias)
    h = F.conv2d(h, block.space.conv.weight[:, :, 0], block.space.conv.bias, padding=1, groups=8)
    h = h.unflatten(0, (2, 7)).permute(0, 3, 4, 2, 1).flatten(0, 2)  # every pixel's channels along time
    h = F.conv1d(
        F.pad(h, (1, 1), mode="replicate"), block.time.conv.weight.flatten(2), block.time.conv.bias, groups=8
    )
    h = block.gate(h.unflatten(0, (2, 8, 8)).permute(0, 3, 4, 1, 2))
    wide = torch.einsum("bcfhw,oc->bofhw", h, block.widen.weight.flatten(1)) + block.widen.bias.view(
        -1, 1, 1, 1
    )
    wide = F.gelu(wide, approximate="tanh")
    out = torch.einsum("bcfhw,oc->bofhw", wide, block.narrow.weight.flatten(1)) + block.narrow.bias.view(
        -1, 1, 1, 1
    )
    same(block(x), x + block.scale * out, 1e-4)
    torch.manual_seed(0)
    y = x
    with torch.no_grad():
        for _ in range(12):
            y = EfficientVideoBlock(8)(y)
    assert abs(y.mean() - x.mean()) < 0.05 and abs(y.std() / x.std() - 1) < 0.1


@pytest.mark.parametrize("norm", ["group", "frame", "pixel"])
def test_a_new_block_is_the_identity(norm):
    x = clip()
    block = Conv3DBlock(8, 8, norm=norm)
    assert torch.equal(block(x), x)
    wider = Conv3DBlock(8, 16, norm=norm)
    assert torch.equal(wider(x), wider.skip(x))


def test_bad_input():
    layer = SpaceTimeConv(8, 4, 3, causal=True)
    with pytest.raises(
        ValueError, match=r"x must be \(B, 8, F, H, W\) with a frame or more, got \(2, 3, 4, 8, 8\)"
    ):
        layer(clip(channels=3, frames=4))
    with pytest.raises(ValueError, match="kernel must be odd along each axis, got .2, 3, 3."):
        SpaceTimeConv(8, 4, (2, 3, 3))
    for bad in (0, True, (3, 3), (1, -1, 1)):
        with pytest.raises(ValueError, match="stride must be a positive integer, or one each"):
            SpaceTimeConv(8, 4, 3, bad)
    with pytest.raises(ValueError, match="memory must be None where the convolution is not causal"):
        SpaceTimeConv(8, 4)(clip(), {})
    short = SpaceTimeConv(8, 4, (1, 3, 3), 2, causal=True)
    assert short(clip(frames=5)).shape[2] == 3  # a whole clip is no matter
    with pytest.raises(
        ValueError,
        match="memory must be None where the kernel is shorter than the stride along time, "
        "got a kernel of 1 and a stride of 2",
    ):
        short(clip(frames=1), {})
    with pytest.raises(ValueError, match="x must hold more frames in a chunk: 2 of the 3 needed are known"):
        strided, memory = SpaceTimeConv(8, 4, 3, 2, causal=True), {}
        strided(clip(frames=1), memory)
        strided(clip(frames=1), memory)
    for name, sizes in (("channels", (0, 4)), ("out_channels", (8, 0))):
        with pytest.raises(ValueError, match=f"^{name} must be 1 or more, got 0"):
            SpaceTimeConv(*sizes)
    with pytest.raises(ValueError, match="norm must be one of group, frame, pixel, got 'batch'"):
        Conv3DBlock(8, 8, norm="batch")
    for block in (lambda: Conv3DBlock(8, 8, causal=True, norm="group"),
                  lambda: EfficientVideoBlock(8, causal=True, norm="group")):  # fmt: skip
        with pytest.raises(ValueError, match="norm must be 'frame' or 'pixel' in a causal network"):
            block()
