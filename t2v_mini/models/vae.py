"""A video VAE: clips to latents and back, whole, in chunks of frames, or in tiles."""

import math
from itertools import pairwise, zip_longest

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from t2v_mini.configs import CodecConfig
from t2v_mini.data.checks import check_finite, check_video
from t2v_mini.layers.conv3d import (
    Conv3DBlock,
    EfficientVideoBlock,
    Memory,
    SpaceTimeConv,
    SpatioTemporalUpsample,
    norm_of,
)
from t2v_mini.models.posterior import Posterior, add_noise


def stage(config: CodecConfig, width: int) -> nn.ModuleList:
    """The blocks of one level. `ValueError` for an unknown kind of block."""
    if config.block not in ("dense", "efficient"):
        raise ValueError(f"block must be 'dense' or 'efficient', got {config.block!r}")
    sizes = (width, width) if config.block == "dense" else (width,)
    block = Conv3DBlock if config.block == "dense" else EfficientVideoBlock
    return nn.ModuleList(block(*sizes, causal=config.causal, norm=config.norm) for _ in range(config.depth))


def through(levels: nn.ModuleList, changes: nn.ModuleList, h: Tensor, memory: Memory | None) -> Tensor:
    """The blocks of each level, and after each but the last the change to the next."""
    for blocks, change in zip_longest(levels, changes):
        for block in blocks:
            h = block(h, memory)
        if change is not None:
            h = change(h, memory)
    return h


def halves_time(config: CodecConfig, level: int) -> bool:
    """Whether the step from a level to the next halves the frames too: the last steps do."""
    return level >= len(config.widths) - 1 - config.halvings


class VideoEncoder(nn.Module):
    """Patches to channels, then levels of blocks with strided convolutions between them.

    Returns means and log variances, one after the other, as `Posterior.of` takes them.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.patch, widths, causal = config.patch, config.widths, config.causal
        self.stem = SpaceTimeConv(config.channels * config.patch**2, widths[0], causal=causal)
        self.levels = nn.ModuleList(stage(config, width) for width in widths)
        self.shrink = nn.ModuleList(
            SpaceTimeConv(a, b, 3, (1 + halves_time(config, i), 2, 2), causal=causal)
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.norm = norm_of(config.norm, widths[-1], causal)
        self.head = SpaceTimeConv(widths[-1], 2 * config.latent, 1)
        # A start with little noise: with that of a standard normal the decoder would first see noise alone.
        nn.init.constant_(self.head.conv.bias[config.latent :], -6.0)

    def forward(
        self, x: Float[Tensor, "B C F H W"], memory: Memory | None = None
    ) -> Float[Tensor, "B Y G I J"]:
        p = self.patch
        h = self.stem(rearrange(x, "b c f (h p) (w q) -> b (c p q) f h w", p=p, q=p), memory)
        h = through(self.levels, self.shrink, h, memory)
        return self.head(F.silu(self.norm(h)))


class VideoDecoder(nn.Module):
    """The encoder's mirror. Its last layer is linear: clips are clamped when they are shown, not here."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.patch, widths, causal = config.patch, config.widths[::-1], config.causal
        steps = len(widths) - 1
        self.stem = SpaceTimeConv(config.latent, widths[0], causal=causal)
        self.levels = nn.ModuleList(stage(config, width) for width in widths)
        self.grow = nn.ModuleList(
            SpatioTemporalUpsample(a, b, halves_time(config, steps - 1 - i), causal)
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.norm = norm_of(config.norm, widths[-1], causal)
        self.head = SpaceTimeConv(widths[-1], config.channels * config.patch**2, causal=causal)

    def forward(
        self, z: Float[Tensor, "B Z G I J"], memory: Memory | None = None
    ) -> Float[Tensor, "B C F H W"]:
        h = through(self.levels, self.grow, self.stem(z, memory), memory)
        out, p = self.head(F.silu(self.norm(h)), memory), self.patch
        return rearrange(out, "b (c p q) f h w -> b c f (h p) (w q)", p=p, q=p)


class VideoVAE(nn.Module):
    """Encoder, decoder, and the mean and deviation of each latent channel, as measured on clips.

    `ratio` frames and `scale` rows and columns become one. A causal one keeps the first frame apart: of
    1 + n `ratio` frames it makes 1 + n, so that a picture is a clip of one frame. Raises `ValueError`
    for sizes that do not divide, unless `encode` is asked to pad.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        steps = len(config.widths) - 1
        if not 0 <= config.halvings <= steps:
            raise ValueError(
                f"halvings must be from 0 to {steps}, the steps between levels, got {config.halvings}"
            )
        self.config = config
        self.ratio, self.scale = 2**config.halvings, config.patch * 2**steps
        self.encoder, self.decoder = VideoEncoder(config), VideoDecoder(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent))
        self.register_buffer("latent_std", torch.ones(config.latent))

    def legal(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """The least size not below this one that the codec takes."""
        kept = int(self.config.causal)
        frames = kept + math.ceil((frames - kept) / self.ratio) * self.ratio
        return frames, *(math.ceil(n / self.scale) * self.scale for n in (height, width))

    def latent_size(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """The size of the latent of a clip; `ValueError` for a size that is not legal."""
        if self.legal(frames, height, width) != (frames, height, width):
            raise ValueError(f"size must have {self._sizes}, got {(frames, height, width)}")
        kept = int(self.config.causal)
        return kept + (frames - kept) // self.ratio, height // self.scale, width // self.scale

    def check_clip(
        self, x: Float[Tensor, "B C F H W"], pad: bool = False, name: str = "x"
    ) -> tuple[tuple, tuple]:
        """The size of a clip and the legal one; `name` is what messages call it.

        Raises `ValueError` for what is no clip in [-1, 1] with the codec's channels, and for other sizes
        than legal ones, unless `pad`.
        """
        self._check_shape(name, x, self.config.channels)
        check_video(name, x)
        size, legal = tuple(x.shape[2:]), self.legal(*x.shape[2:])
        if size != legal and not pad:
            raise ValueError(f"{name} must have {self._sizes} (pad=True makes it {legal}), got {size}")
        return size, legal

    @property
    def _sizes(self) -> str:
        frames = "1 + a multiple" if self.config.causal else "a multiple"
        return f"{frames} of {self.ratio} frames and multiples of {self.scale} rows and columns"

    def check_latent(self, z: Float[Tensor, "B Z G I J"]) -> None:
        """Raise `ValueError` for what is no latent of finite numbers with the codec's channels."""
        self._check_shape("z", z, self.config.latent)
        check_finite("z", z)

    def encode(self, x: Float[Tensor, "B C F H W"], pad: bool = False, chunk: int | None = None) -> Posterior:
        """The posterior of a clip in [-1, 1].

        `pad` repeats the last frame, row and column up to a legal size; pass the clip's own size to
        `decode` to cut them off again. `chunk` is the number of latent frames made at once, for long
        clips; the result is the same, and needs a causal codec. Raises `ValueError` as `check_clip` does,
        and for a chunk that cannot be.
        """
        size, legal = self.check_clip(x, pad)
        if size != legal:
            after = [wanted - have for wanted, have in zip(legal, size, strict=True)]
            x = F.pad(x, (0, after[2], 0, after[1], 0, after[0]), mode="replicate")
        if chunk is None:
            return Posterior.of(self.encoder(x))
        self._check_chunk(chunk)
        first = 1 + (chunk - 1) * self.ratio  # the first frame is one latent frame
        return Posterior.of(self._in_chunks(self.encoder, x, first, chunk * self.ratio))

    def decode(
        self,
        z: Float[Tensor, "B Z G I J"],
        size: tuple[int, int, int] | None = None,
        chunk: int | None = None,
    ) -> Float[Tensor, "B C F H W"]:
        """The clip of a latent, about in [-1, 1]; cut to `size` if given. `chunk` as in `encode`.

        Raises `ValueError` as `check_latent` does, and for a size that the latent does not hold.
        """
        self.check_latent(z)
        if chunk is None:
            x = self.decoder(z)
        else:
            self._check_chunk(chunk)
            x = self._in_chunks(self.decoder, z, chunk, chunk)
        if size is None:
            return x
        if any(n > have for n, have in zip(size, x.shape[2:], strict=True)):
            raise ValueError(f"size must not exceed what the latent holds, {tuple(x.shape[2:])}, got {size}")
        return x[:, :, : size[0], : size[1], : size[2]]

    def _check_shape(self, name: str, x: Tensor, channels: int) -> None:
        if x.ndim != 5 or x.shape[1] != channels or 0 in x.shape:
            raise ValueError(f"{name} must be (B, {channels}, F, H, W), none of them 0, got {tuple(x.shape)}")

    def _check_chunk(self, chunk: int) -> None:
        if not self.config.causal:
            raise ValueError("chunk must be None where the codec is not causal")
        if type(chunk) is not int or chunk < 1:
            raise ValueError(f"chunk must be a positive integer, got {chunk!r}")

    def _in_chunks(self, network: nn.Module, x: Tensor, first: int, later: int) -> Tensor:
        memory: Memory = {}
        parts = x[:, :, :first], *x[:, :, first:].split(later, dim=2)
        return torch.cat([network(part, memory) for part in parts if part.shape[2]], dim=2)

    def normalize(self, z: Float[Tensor, "B Z G I J"]) -> Float[Tensor, "B Z G I J"]:
        """Latents with mean 0 and deviation 1 on each channel, as a diffusion model wants them."""
        return (z - self.latent_mean[:, None, None, None]) / self.latent_std[:, None, None, None]

    def denormalize(self, z: Float[Tensor, "B Z G I J"]) -> Float[Tensor, "B Z G I J"]:
        """The inverse of `normalize`."""
        return z * self.latent_std[:, None, None, None] + self.latent_mean[:, None, None, None]

    def to_latent(self, x: Float[Tensor, "B C F H W"]) -> Float[Tensor, "B Z G I J"]:
        """What a diffusion model makes instead of a clip of any size: the normalised mode."""
        return self.normalize(self.encode(x, pad=True).mode())

    def reconstruct(self, x: Float[Tensor, "B C F H W"]) -> Float[Tensor, "B C F H W"]:
        """What comes back from the mode of a clip's posterior, at the clip's own size, in [-1, 1]."""
        return self.decode(self.encode(x, pad=True).mode(), tuple(x.shape[2:])).clamp(-1, 1)

    def forward(
        self,
        x: Float[Tensor, "B C F H W"],
        generator: torch.Generator | None = None,
        deviation: Float[Tensor, "B"] | None = None,
    ) -> tuple[Float[Tensor, "B C F H W"], Posterior]:
        """A reconstruction from a sample of the posterior, and the posterior, for training; any size.

        `deviation` adds noise to the sample, as `add_noise` does.
        """
        posterior = self.encode(x, pad=True)
        z = posterior.sample(generator)
        if deviation is not None:
            z = add_noise(z, deviation, generator)
        return self.decode(z, tuple(x.shape[2:])), posterior
