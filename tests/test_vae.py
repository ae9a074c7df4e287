"""The video VAE: posterior, sizes, chunks, tiles."""

from dataclasses import replace

import pytest
import torch

from t2v_mini.configs import CodecConfig
from t2v_mini.models.posterior import Posterior, add_noise
from t2v_mini.models.tiling import decode_tiled, encode_tiled, margin
from t2v_mini.models.vae import VideoVAE

TINY = CodecConfig(latent=3, patch=2, widths=(8, 16), depth=1, halvings=1)
KINDS = {
    "causal, 2 in time": TINY,
    "causal, 4 in time": replace(TINY, widths=(8, 8, 16), halvings=2),
    "causal, efficient": replace(TINY, block="efficient"),
    "free": replace(TINY, causal=False),
    "free, frame norm": replace(TINY, causal=False, norm="frame"),
}
CAUSAL = [name for name, config in KINDS.items() if config.causal]
every_kind = pytest.mark.parametrize("name", KINDS)
every_causal = pytest.mark.parametrize("name", CAUSAL)


def codec_of(config, std=0.2):
    """A codec that has left its zero start, in double precision."""
    torch.manual_seed(0)
    codec = VideoVAE(config)
    for parameter in codec.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return codec.double()


def clip(frames=9, height=16, width=16, batch=2):
    rng = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, frames, height, width, generator=rng, dtype=torch.float64) * 2 - 1


def same(found, right, tolerance=1e-10):
    torch.testing.assert_close(found, right, atol=tolerance, rtol=0)


def test_posterior_equals_diffusers_and_torch():
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    moments = 3 * torch.randn(4, 6, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    ours, theirs = Posterior.of(moments), DiagonalGaussianDistribution(moments)
    assert torch.equal(ours.mode(), theirs.mode())
    # Theirs sums over three axes only, as for pictures.
    normal = torch.distributions.Normal
    right = torch.distributions.kl_divergence(
        normal(ours.mean, (ours.logvar / 2).exp()), normal(torch.zeros(()), torch.ones(()))
    )
    torch.testing.assert_close(ours.kl(), right.flatten(1).sum(1), rtol=1e-5, atol=1e-4)
    flat = DiagonalGaussianDistribution(moments.flatten(2, 3))
    torch.testing.assert_close(ours.kl(), flat.kl(), rtol=1e-5, atol=1e-4)
    draws = [d.sample(torch.Generator().manual_seed(3)) for d in (ours, theirs)]
    torch.testing.assert_close(*draws)
    extreme = Posterior.of(torch.full((1, 2, 1, 1, 1), 1e3))
    assert extreme.logvar.item() == 20 and extreme.kl().isfinite().all()


def test_posterior_learns_by_its_samples():
    moments = torch.randn(2, 4, 1, 2, 2, requires_grad=True)
    posterior = Posterior.of(moments)
    posterior.sample(torch.Generator().manual_seed(0)).square().sum().backward()
    assert (moments.grad.abs() > 0).all()
    assert Posterior.of(torch.zeros(1, 2, 1, 1, 1)).kl().item() == 0


def test_noise_on_latents_has_its_own_deviation_on_each_clip():
    scales = torch.tensor([0.5, 3.0]).view(1, 2, 1, 1, 1)
    z = scales * torch.randn(2, 2, 20, 30, 30, generator=torch.Generator().manual_seed(0)) + 7
    noisy = add_noise(z, torch.tensor([0.0, 0.4]), torch.Generator().manual_seed(1))
    assert torch.equal(noisy[0], z[0])
    found = (noisy[1] - z[1]).std((1, 2, 3))
    torch.testing.assert_close(found, 0.4 * z.std((0, 2, 3, 4)), rtol=0.02, atol=0)
    # Larger latents get larger noise, and the gradient knows it.
    scale = torch.ones((), requires_grad=True)
    larger = add_noise(scale * z, torch.tensor([0.4, 0.4]), torch.Generator().manual_seed(1))
    ratio = (larger - scale * z).square().mean() / (scale * z).var()
    assert abs(torch.autograd.grad(ratio, scale)[0]) < 1e-5


@every_kind
@pytest.mark.parametrize("size", [(1, 8, 8), (5, 16, 8), (9, 24, 16), (8, 16, 16), (16, 32, 32)])
def test_sizes_are_legal_or_padded_or_refused(name, size):
    codec, x = codec_of(KINDS[name]), clip(*size)
    legal = codec.legal(*size)
    if legal != size:
        with pytest.raises(ValueError, match="x must have .* frames and multiples of .* .pad=True makes it"):
            codec.encode(x)
    z = codec.encode(x, pad=True).mode()
    assert tuple(z.shape) == (2, 3, *codec.latent_size(*legal))
    assert codec.decode(z).shape == (2, 3, *legal)
    assert codec.decode(z, size).shape == x.shape
    # Padding repeats what is at the end.
    longer = x[:, :, torch.arange(legal[0]).clamp_max(size[0] - 1)]
    longer = longer[..., torch.arange(legal[1]).clamp_max(size[1] - 1), :]
    longer = longer[..., torch.arange(legal[2]).clamp_max(size[2] - 1)]
    same(codec.encode(longer).mode(), z)


def test_scales_and_ratios():
    deep = VideoVAE(replace(TINY, widths=(8, 8, 16), halvings=2))
    assert (deep.ratio, deep.scale) == (4, 8)
    assert deep.legal(16, 32, 32) == (17, 32, 32) and deep.latent_size(17, 32, 32) == (5, 4, 4)
    assert VideoVAE(replace(TINY, causal=False)).latent_size(16, 32, 32) == (8, 8, 8)
    with pytest.raises(ValueError, match=r"size must have 1 \+ a multiple of 4 frames .* got \(16, 32, 32\)"):
        deep.latent_size(16, 32, 32)
    # The last steps halve the frames: the finest grid keeps them all.
    late = VideoVAE(replace(TINY, widths=(8, 8, 16), halvings=1))
    assert [layer.stride[0] for layer in late.encoder.shrink] == [1, 2]
    assert [layer.twice for layer in late.decoder.grow] == [True, False]


@every_causal
@pytest.mark.parametrize("chunk", [1, 2, 3, 50])
def test_chunks_give_what_the_whole_clip_gives(name, chunk):
    codec = codec_of(KINDS[name])
    x = clip(1 + 8 * codec.ratio, 8, 8)
    z = codec.encode(x)
    found = codec.encode(x, chunk=chunk)
    same(found.mean, z.mean)
    same(found.logvar, z.logvar)
    same(codec.decode(z.mean, chunk=chunk), codec.decode(z.mean))


@every_causal
def test_the_first_frame_is_a_picture_of_its_own(name):
    codec, x = codec_of(KINDS[name]), clip()
    same(codec.encode(x[:, :, :1]).mode(), codec.encode(x).mode()[:, :, :1])
    z = codec.encode(x).mode()
    same(codec.decode(z[:, :, :1]), codec.decode(z)[:, :, :1])


@pytest.mark.parametrize("name", ["causal, 2 in time", "causal, 4 in time", "free"])
@pytest.mark.parametrize("tile", [3, 8])
def test_tiles_give_what_the_whole_frame_gives(name, tile):
    codec = codec_of(KINDS[name])
    # More than a tile and its margins, or there would be nothing to cut.
    cells = 2 * margin(codec, tile) + 2 * tile + 1
    x = clip(codec.ratio + codec.config.causal, 2 * codec.scale, cells * codec.scale, batch=1)
    z = codec.encode(x)
    tiles = encode_tiled(codec, x, tile)
    same(tiles.mean, z.mean)
    same(tiles.logvar, z.logvar)
    same(decode_tiled(codec, z.mean, tile), codec.decode(z.mean))


def test_margin_is_no_larger_than_it_must_be_by_more_than_one():
    codec, around = codec_of(TINY), margin(codec_of(TINY), 4)
    z = torch.zeros(1, 3, 1, 1, 2 * around + 5, dtype=torch.float64, requires_grad=True)
    middle = codec.decode(z)[..., (around + 2) * codec.scale : (around + 3) * codec.scale]
    (gradient,) = torch.autograd.grad(middle.square().sum(), z)
    seen = gradient.abs().sum((0, 1, 2, 3)).nonzero().flatten()
    reach = max(around + 2 - seen.min().item(), seen.max().item() - around - 2)
    assert around - 1 <= reach <= around


def test_latents_are_normalized_by_what_was_measured():
    codec = codec_of(TINY)
    codec.latent_mean.copy_(torch.tensor([1.0, -2.0, 0.5]))
    codec.latent_std.copy_(torch.tensor([2.0, 0.5, 1.0]))
    z = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64)
    same(codec.normalize(z)[:, 1], (z[:, 1] + 2) / 0.5)
    same(codec.denormalize(codec.normalize(z)), z)
    assert {"latent_mean", "latent_std"} <= set(codec.state_dict())


def test_two_codecs_of_one_configuration_are_alike():
    first, second = VideoVAE(TINY), VideoVAE(TINY)
    assert [p.shape for p in first.parameters()] == [p.shape for p in second.parameters()]


@every_kind
def test_every_weight_learns(name):
    torch.manual_seed(0)
    codec = VideoVAE(KINDS[name])
    x = clip(9 if codec.config.causal else 8).float()
    optimizer = torch.optim.SGD(codec.parameters(), lr=0.1)
    for _ in range(3):  # the blocks start as the identity
        optimizer.zero_grad()
        made, posterior = codec(x, torch.Generator().manual_seed(0))
        ((made - x).square().mean() + 1e-3 * posterior.kl().mean()).backward()
        optimizer.step()
    silent = [n for n, p in codec.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_bad_input():
    codec = codec_of(TINY)
    with pytest.raises(
        ValueError, match=r"x must be \(B, 3, F, H, W\), none of them 0, got \(1, 4, 9, 16, 16\)"
    ):
        codec.encode(torch.zeros(1, 4, 9, 16, 16, dtype=torch.float64))
    with pytest.raises(
        ValueError, match=r"z must be \(B, 3, F, H, W\), none of them 0, got \(1, 4, 5, 4, 4\)"
    ):
        codec.decode(torch.zeros(1, 4, 5, 4, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"size must not exceed what the latent holds, \(3, 8, 8\), got"):
        codec.decode(torch.zeros(1, 3, 2, 2, 2, dtype=torch.float64), (4, 8, 8))
    with pytest.raises(ValueError, match="halvings must be from 0 to 1, the steps between levels, got 2"):
        VideoVAE(replace(TINY, halvings=2))
    with pytest.raises(ValueError, match="block must be 'dense' or 'efficient', got 'big'"):
        VideoVAE(replace(TINY, block="big"))
    with pytest.raises(ValueError, match="chunk must be a positive integer, got 0"):
        codec.encode(clip(), chunk=0)
    for bad in (1.5, True):
        with pytest.raises(ValueError, match="chunk must be a positive integer, got"):
            codec.decode(torch.zeros(1, 3, 5, 4, 4, dtype=torch.float64), chunk=bad)
    for block, depth in (("dense", 1), ("efficient", 1), ("dense", 0)):
        with pytest.raises(ValueError, match="norm must be 'frame' or 'pixel' in a causal network"):
            VideoVAE(replace(TINY, norm="group", block=block, depth=depth))
    free = codec_of(replace(TINY, causal=False))
    with pytest.raises(ValueError, match="chunk must be None where the codec is not causal"):
        free.encode(clip(8), chunk=2)
    with pytest.raises(ValueError, match="norm must be 'pixel' for tiles: 'frame' looks at whole frames"):
        decode_tiled(codec_of(replace(TINY, norm="frame")), torch.zeros(1, 3, 1, 8, 8).double(), 4)
    with pytest.raises(ValueError, match="block must be 'dense' for tiles: the gate of 'efficient' looks at"):
        encode_tiled(codec_of(KINDS["causal, efficient"]), clip(), 4)
    with pytest.raises(ValueError, match="tile must be at least 1, got 0"):
        encode_tiled(codec, clip(), 0)
