"""A small video U-Net: convolutions within frames, attention along space and time, skips between levels."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from t2v_mini.configs import ModelConfig
from t2v_mini.layers.attention import Attention
from t2v_mini.layers.conditioning import ConditionedUpsample, FiLM, TextCondition
from t2v_mini.layers.embeddings import TimestepEmbedding
from t2v_mini.layers.spacetime import SpaceTimeAttention


class ResidualBlock(nn.Module):
    """x + conv(SiLU(FiLM(conv(SiLU(norm x))))), convolutions within each frame (Dhariwal & Nichol 2021)."""

    def __init__(self, channels: int, out_channels: int, condition_width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv3d(channels, out_channels, (1, 3, 3), padding=(0, 1, 1))
        self.film = FiLM(out_channels, condition_width)
        self.conv2 = nn.Conv3d(out_channels, out_channels, (1, 3, 3), padding=(0, 1, 1))
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)
        self.skip = nn.Conv3d(channels, out_channels, 1) if channels != out_channels else nn.Identity()
        self.act = nn.SiLU()

    def forward(
        self, x: Float[Tensor, "B C F H W"], condition: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B O F H W"]:
        h = self.conv1(self.act(self.norm(x)))
        return self.skip(x) + self.conv2(self.act(self.film(h, condition)))


class AttentionBlock(nn.Module):
    """Attention in space and time, then to the words if the model has any; both start by adding nothing."""

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = SpaceTimeAttention(channels, config.heads, config.attention, config.positions)
        self.norm_text = nn.LayerNorm(channels) if config.words else None
        self.cross = Attention(channels, config.heads, config.text_width) if config.words else None
        self.gate = nn.Parameter(torch.zeros(1 + config.words, channels))

    def forward(self, x: Float[Tensor, "B C F H W"], text: TextCondition) -> Float[Tensor, "B C F H W"]:
        grid = tuple(x.shape[2:])
        tokens = rearrange(x, "b c f h w -> b (f h w) c")
        tokens = tokens + self.gate[0] * self.attention(self.norm(tokens), grid)
        if self.cross is not None:
            tokens = tokens + self.gate[1] * self.cross(self.norm_text(tokens), text.tokens, text.mask)
        f, h, w = grid
        return rearrange(tokens, "b (f h w) c -> b c f h w", f=f, h=h, w=w)


class Level(nn.Module):
    """A residual block, and attention where the level has some."""

    def __init__(self, channels: int, out_channels: int, config: ModelConfig, attend: bool) -> None:
        super().__init__()
        self.block = ResidualBlock(channels, out_channels, config.width)
        self.attention = AttentionBlock(out_channels, config) if attend else None

    def forward(self, x: Tensor, condition: Tensor, text: TextCondition) -> Tensor:
        x = self.block(x, condition)
        return x if self.attention is None else self.attention(x, text)


class VideoUNet(nn.Module):
    """Denoiser `model(x, t, text) -> prediction` (Ho et al. 2022, Video Diffusion Models).

    A clip is cut into patches, which become channels; `config.depth` levels follow, each with half
    the rows and columns of the one before. Frames keep their number. Attention works on all levels
    but the first, where its cost would be highest.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.patch = config, config.patch
        volume = math.prod(config.patch)
        widths = [config.width * min(2**level, 4) for level in range(config.depth)]
        self.embed = nn.Conv3d(config.inputs * volume, widths[0], (1, 3, 3), padding=(0, 1, 1))
        self.time = TimestepEmbedding(config.width)
        self.pooled = nn.Linear(config.text_width, config.width)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        before = widths[0]
        for level, width in enumerate(widths):
            self.down.append(Level(before, width, config, attend=level > 0))
            if level + 1 < config.depth:
                self.shrink.append(nn.Conv3d(width, width, (1, 3, 3), (1, 2, 2), (0, 1, 1)))
            before = width
        self.middle = Level(before, before, config, attend=True)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(config.depth)):
            width = widths[level]
            self.up.append(Level(before + width, width, config, attend=level > 0))
            if level:
                self.grow.append(ConditionedUpsample(width, widths[level - 1], config.width))
                before = widths[level - 1]
        self.head = nn.Sequential(
            nn.GroupNorm(8, widths[0]),
            nn.SiLU(),
            nn.Conv3d(widths[0], config.channels * volume, (1, 3, 3), padding=(0, 1, 1)),
        )

    def forward(
        self, x: Float[Tensor, "B Y F H W"], t: Float[Tensor, "B"], text: TextCondition
    ) -> Float[Tensor, "B C F H W"]:
        """Predict the clean clip (or what the training target is) from `x` at time t in [0, 1].

        `x` has the configuration's `inputs` as its channels. Raises `ValueError` when it does not, and
        when patches and levels do not divide the clip.
        """
        pf, ph, pw = self.patch
        halvings = 2 ** (self.config.depth - 1)
        _, channels, frames, height, width = x.shape
        unit = (pf, ph * halvings, pw * halvings)
        if channels != self.config.inputs or frames % pf or height % unit[1] or width % unit[2]:
            raise ValueError(
                f"x must have {self.config.inputs} channels and a multiple of {unit} frames, "
                f"rows and columns, got {tuple(x.shape)}"
            )
        condition = self.time(t) + self.pooled(text.pooled)
        h = self.embed(rearrange(x, "b c (f pf) (h ph) (w pw) -> b (c pf ph pw) f h w", pf=pf, ph=ph, pw=pw))
        skips = []
        for index, level in enumerate(self.down):
            h = level(h, condition, text)
            skips.append(h)
            if index < len(self.shrink):
                h = self.shrink[index](h)
        h = self.middle(h, condition, text)
        for index, level in enumerate(self.up):
            h = level(torch.cat([h, skips.pop()], dim=1), condition, text)
            if index < len(self.grow):
                h = self.grow[index](h, condition)
        out = self.head(h)
        return rearrange(out, "b (c pf ph pw) f h w -> b c (f pf) (h ph) (w pw)", pf=pf, ph=ph, pw=pw)
