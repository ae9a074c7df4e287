"""Which motions and events a clip of Moving Shapes shows: a small convolutional classifier."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from t2v_mini.configs import ClassifierConfig
from t2v_mini.data.checks import check_video
from t2v_mini.layers.conv3d import SpaceTimeConv, norm_of
from t2v_mini.models.vae import halves_time, stage, through
from t2v_mini.world.vocabulary import EVENTS, MOTIONS, Facts

LABELS = (*MOTIONS, *EVENTS)


def labels_of(claims: list[Facts]) -> Float[Tensor, "B K"]:
    """For each clip and each of `LABELS`, 1 where one of its objects moves so or has that event, else 0."""
    rows = [{name for thing in claim.objects for name in (thing.motion, thing.event)} for claim in claims]
    return torch.tensor([[float(label in row) for label in LABELS] for row in rows])


class MotionClassifier(nn.Module):
    """Levels of residual blocks; what the last one finds, as a mean and as the strongest answer anywhere.

    An object fills a small part of a clip, so that a mean alone would be faint, and how often a thing is
    found is not in a maximum. Raises `ValueError` for sizes that do not divide, and for what is no clip in
    [-1, 1].
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config, widths = config, config.widths
        self.scale = config.patch * 2 ** (len(widths) - 1)
        self.stem = SpaceTimeConv(config.channels * config.patch**2, widths[0], causal=config.causal)
        self.levels = nn.ModuleList(stage(config, width) for width in widths)
        self.shrink = nn.ModuleList(
            SpaceTimeConv(a, b, 3, (1 + halves_time(config, i), 2, 2), causal=config.causal)
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.norm = norm_of(config.norm, widths[-1], config.causal)
        self.head = nn.Linear(2 * widths[-1], len(LABELS))

    def features(self, x: Float[Tensor, "B C F H W"]) -> Float[Tensor, "B D"]:
        """What the classifier sees in clips in [-1, 1], before it decides."""
        p, channels = self.config.patch, self.config.channels
        fits = x.ndim == 5 and x.shape[1] == channels and 0 not in x.shape
        if not fits or any(n % self.scale for n in x.shape[3:]):
            raise ValueError(
                f"x must be (B, {channels}, F, H, W) with multiples of {self.scale} rows and "
                f"columns, none of them 0, got {tuple(x.shape)}"
            )
        check_video("x", x)
        h = self.stem(rearrange(x, "b c f (h p) (w q) -> b (c p q) f h w", p=p, q=p))
        h = F.silu(self.norm(through(self.levels, self.shrink, h, None)))
        return torch.cat([h.mean((2, 3, 4)), h.amax((2, 3, 4))], dim=1)

    def forward(self, x: Float[Tensor, "B C F H W"]) -> Float[Tensor, "B K"]:
        """A logit for each of `LABELS`: above 0 where the clip is said to show it."""
        return self.head(self.features(x))
