"""A small diffusion Transformer on space-time patches of a clip."""

import math

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from t2v_mini.configs import ModelConfig
from t2v_mini.layers.attention import Attention
from t2v_mini.layers.conditioning import AdaptiveLayerNorm, TextCondition, modulate, zero_linear
from t2v_mini.layers.embeddings import TimestepEmbedding, sincos_positions
from t2v_mini.layers.spacetime import SpaceTimeAttention


class DiTBlock(nn.Module):
    """Attention in space and time, cross-attention to the words, feed-forward; gated by AdaLN-Zero.

    Shift, scale and gate come from time and pooled text (Peebles & Xie 2023); gates and the
    cross-attention's output start at zero, so that the block starts as the identity. `words`
    leaves the cross-attention out where it is false.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        text_width: int,
        kind: str = "joint",
        positions: str = "none",
        words: bool = True,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = AdaptiveLayerNorm(width), AdaptiveLayerNorm(width)
        self.attention = SpaceTimeAttention(width, heads, kind, positions)
        self.norm_text = nn.LayerNorm(width) if words else None
        self.cross = Attention(width, heads, text_width) if words else None
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        if words:
            nn.init.zeros_(self.cross.to_out.weight)
            nn.init.zeros_(self.cross.to_out.bias)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        condition: Float[Tensor, "B D"],
        text: TextCondition,
        grid: tuple[int, int, int],
    ) -> Float[Tensor, "B N D"]:
        normed, gate = self.norm1(x, condition)
        x = x + gate * self.attention(normed, grid)
        if self.cross is not None:
            x = x + self.cross(self.norm_text(x), text.tokens, text.mask)
        normed, gate = self.norm2(x, condition)
        return x + gate * self.mlp(normed)


class VideoDiT(nn.Module):
    """Denoiser `model(x, t, text) -> prediction` on clips of any whole number of patches.

    Patches are read and written by two-layer networks: one linear map could carry at most
    `width` of a patch's numbers.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.patch = config.patch
        volume, width = math.prod(config.patch), config.width
        self.embed = nn.Sequential(
            nn.Linear(config.inputs * volume, config.stem_width),
            nn.GELU("tanh"),
            nn.Linear(config.stem_width, width),
        )
        self.time = TimestepEmbedding(width)
        self.pooled = nn.Linear(config.text_width, width)
        # Absolute positions are added once, the others act within attention.
        inside = "none" if config.positions == "sincos" else config.positions
        self.blocks = nn.ModuleList(
            DiTBlock(width, config.heads, config.text_width, config.attention, inside, config.words)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), zero_linear(width, 2 * width))
        self.head = nn.Sequential(
            nn.Linear(width, config.stem_width),
            nn.GELU("tanh"),
            nn.Linear(config.stem_width, config.channels * volume),
        )

    def forward(
        self, x: Float[Tensor, "B Y F H W"], t: Float[Tensor, "B"], text: TextCondition
    ) -> Float[Tensor, "B C F H W"]:
        """Predict the clean clip (or what the training target is) from `x` at time t in [0, 1].

        `x` has the configuration's `inputs` as its channels. Raises `ValueError` when it does not, and
        when the patches do not divide the clip.
        """
        pf, ph, pw = self.patch
        _, channels, frames, height, width = x.shape
        if channels != self.config.inputs or frames % pf or height % ph or width % pw:
            raise ValueError(
                f"x must have {self.config.inputs} channels and a multiple of {self.patch} frames, "
                f"rows and columns, got {tuple(x.shape)}"
            )
        grid = (frames // pf, height // ph, width // pw)
        tokens = rearrange(x, "b c (f pf) (h ph) (w pw) -> b (f h w) (c pf ph pw)", pf=pf, ph=ph, pw=pw)
        tokens = self.embed(tokens)
        if self.config.positions == "sincos":
            tokens = tokens + sincos_positions(*grid, tokens.shape[-1]).to(tokens)
        condition = self.time(t) + self.pooled(text.pooled)
        for block in self.blocks:
            tokens = block(tokens, condition, text, grid)
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        tokens = self.head(modulate(self.norm(tokens), shift, scale))
        f, h, w = grid
        return rearrange(
            tokens, "b (f h w) (c pf ph pw) -> b c (f pf) (h ph) (w pw)", f=f, h=h, w=w, pf=pf, ph=ph, pw=pw
        )
