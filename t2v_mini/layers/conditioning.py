"""What a denoiser is conditioned on, and how it enters a network."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass
class TextCondition:
    """A batch of encoded captions: one vector a token, which of them are words, and one vector in all."""

    tokens: Float[Tensor, "B L D"]
    mask: Bool[Tensor, "B L"]
    pooled: Float[Tensor, "B P"]


def masked_mean(tokens: Float[Tensor, "B L D"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B D"]:
    """Mean over the tokens that `mask` allows; zero where it allows none."""
    weight = mask[..., None].to(tokens)
    return (tokens * weight).sum(1) / weight.sum(1).clamp_min(1)


def modulate(
    x: Float[Tensor, "B N D"], shift: Float[Tensor, "B D"], scale: Float[Tensor, "B D"]
) -> Float[Tensor, "B N D"]:
    """Scale by 1 + `scale`, then shift; one vector a sample for all its tokens (DiT, Peebles & Xie 2023)."""
    return x * (1 + scale[:, None]) + shift[:, None]


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer whose weights start at zero, so that what it adds starts at nothing."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class AdaptiveLayerNorm(nn.Module):
    """AdaLN-Zero: layer norm whose shift, scale and gate a condition decides (Peebles & Xie 2023).

    The condition holds the diffusion time and pooled text. The last layer starts at zero: at the
    start this is plain layer norm, with a closed gate.
    """

    def __init__(self, width: int, condition_width: int | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), zero_linear(condition_width or width, 3 * width))

    def forward(
        self, x: Float[Tensor, "B N D"], condition: Float[Tensor, "B C"]
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B 1 D"]]:
        """The normalised tokens, and the gate for what a layer makes of them."""
        if condition.shape != (len(x), self.modulation[1].in_features):
            expected = (len(x), self.modulation[1].in_features)
            raise ValueError(f"condition must have shape {expected}, got {tuple(condition.shape)}")
        shift, scale, gate = self.modulation(condition).chunk(3, dim=-1)
        return modulate(self.norm(x), shift, scale), gate[:, None]


class FiLM(nn.Module):
    """Group norm, then a scale and a shift for each channel that a condition decides (Perez et al. 2018).

    For clips (B, C, F, H, W). Starts as plain group norm. The condition's nonlinearity stands before
    the last layer: after it, no scale could fall below the least value of SiLU, -0.278.
    """

    def __init__(self, channels: int, condition_width: int, groups: int = 8) -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(f"groups must divide channels, got {channels} channels and {groups} groups")
        self.norm = nn.GroupNorm(groups, channels)
        self.modulation = nn.Sequential(nn.SiLU(), zero_linear(condition_width, 2 * channels))

    def forward(
        self, x: Float[Tensor, "B C F H W"], condition: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B C F H W"]:
        scale, shift = self.modulation(condition)[..., None, None, None].chunk(2, dim=1)
        return self.norm(x) * (1 + scale) + shift


class ConditionedUpsample(nn.Module):
    """Twice the rows and columns: nearest neighbour, convolution, FiLM; for clips of any length.

    The convolution comes after the enlargement, or every block of 2 x 2 pixels would stay constant
    (Odena et al. 2016). `temporal` is the kernel's length in time; 1 treats each frame alone.
    """

    def __init__(self, channels: int, out_channels: int, condition_width: int, temporal: int = 1) -> None:
        super().__init__()
        if temporal % 2 == 0:
            raise ValueError(f"temporal must be odd, got {temporal}")
        self.conv = nn.Conv3d(channels, out_channels, (temporal, 3, 3), padding=(temporal // 2, 1, 1))
        self.film = FiLM(out_channels, condition_width)

    def forward(
        self, x: Float[Tensor, "B C F H W"], condition: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B O F H2 W2"]:
        if x.shape[1] != self.conv.in_channels:
            raise ValueError(f"x must have {self.conv.in_channels} channels, got {x.shape[1]}")
        return self.film(self.conv(enlarge(x)), condition)


def enlarge(x: Float[Tensor, "B C F H W"]) -> Float[Tensor, "B C F H2 W2"]:
    """Each pixel becomes a block of 2 x 2."""
    frames = rearrange(x, "b c f h w -> (b f) c h w")
    return rearrange(F.interpolate(frames, scale_factor=2), "(b f) c h w -> b c f h w", b=len(x))


def drop_condition(captions: list[str], share: float, generator: torch.Generator) -> list[str]:
    """Replace a share of captions by the null prompt, "", on which guidance rests (Ho & Salimans 2022)."""
    dropped = torch.rand(len(captions), generator=generator) < share
    return ["" if drop else text for drop, text in zip(dropped.tolist(), captions, strict=True)]


def known_frames(x: Float[Tensor, "B C F H W"], counts: Int[Tensor, "B"]) -> Float[Tensor, "B Y F H W"]:
    """The first `counts` frames of each clip, zeros behind them, and as one more channel the mask: 1 or 0.

    What a denoiser gets beside the noisy clip in order to go on from a picture or from a beginning.
    """
    known = torch.arange(x.shape[2], device=x.device) < counts[:, None].to(x.device)
    mask = known[:, None, :, None, None].to(x.dtype)
    return torch.cat([x * mask, mask.expand(-1, -1, -1, *x.shape[3:])], dim=1)


def give_beginnings(
    x: Float[Tensor, "B C F H W"], share: float, generator: torch.Generator
) -> Float[Tensor, "B Y F H W"]:
    """`known_frames` for training: of a share of the clips the beginning is known, and never the last frame.

    Of every second of these it is one frame, since a picture is what is given most; of the others any number.
    """
    frames = x.shape[2]
    given = torch.rand(len(x), generator=generator) < share
    counts = torch.randint(1, max(2, frames), (len(x),), generator=generator)
    counts[torch.rand(len(x), generator=generator) < 0.5] = 1
    return known_frames(x, torch.where(given, counts, 0))
