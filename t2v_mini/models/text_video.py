"""One space for clips and captions: any open_clip model on frames, and a Transformer along time."""

import difflib
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from t2v_mini.configs import ClipConfig
from t2v_mini.data.tokenizer import tokenize
from t2v_mini.layers.conditioning import masked_mean, zero_linear
from t2v_mini.layers.embeddings import sinusoidal
from t2v_mini.models.text import text_tower

Tokenizer = Callable[[list[str]], Int[Tensor, "B L"]]


class TemporalHead(nn.Module):
    """A Transformer along time on top of frame features (CLIP4Clip's seqTransf, Luo et al. 2021).

    It adds to its input, and starts by adding nothing: what follows then is mean-pooled CLIP. Its
    positions are learned and start as sines, at about the scale of the features: from small random
    ones, a short training finds no order. Raises `ValueError` when `heads` does not divide `width`.
    """

    def __init__(self, width: int, heads: int = 8, depth: int = 3, frames: int = 32) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads must divide width, got width {width} and heads {heads}")
        self.positions = nn.Parameter(sinusoidal(torch.arange(float(frames)), width, period=100.0))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.out = zero_linear(width, width)

    def forward(self, frames: Float[Tensor, "B F D"], mask: Bool[Tensor, "B F"]) -> Float[Tensor, "B F D"]:
        """`mask` is true for real frames, false for padding; `ValueError` for too many frames."""
        count = frames.shape[1]
        if count > len(self.positions):
            raise ValueError(f"video must have at most {len(self.positions)} frames, got {count}")
        seen = self.encoder(frames + self.positions[:count], src_key_padding_mask=~mask)
        return frames + self.out(seen)


class TextVideoEncoder(nn.Module):
    """Clips and captions as vectors whose cosine says how well they fit.

    `clip` is any open_clip model, `tokenizer` its own. Frames are resized and normalised inside, so
    that gradients reach the pixels. A frozen model gets no gradient of its own and stays in
    evaluation mode, but lets gradients through.
    """

    def __init__(
        self,
        clip: nn.Module,
        tokenizer: Tokenizer,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        head: TemporalHead | None = None,
        frozen: bool = True,
        frames: int | None = None,
    ) -> None:
        super().__init__()
        self.clip, self.tokenizer, self.size, self.frozen = clip, tokenizer, size, frozen
        self.frames = frames
        self.head = head
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.clip.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> "TextVideoEncoder":
        """As `nn.Module.train`, but a frozen model stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.clip.eval()
        return self

    def preprocess(self, video: Float[Tensor, "B C F H W"]) -> Float[Tensor, "N C S S"]:
        """All frames of clips in [-1, 1], in the size and range that the model expects."""
        if video.shape[1] != 3:
            raise ValueError(f"video must have 3 channels (B, C, F, H, W), got {tuple(video.shape)}")
        frames = rearrange(video, "b c f h w -> (b f) c h w")
        height, width = frames.shape[-2:]
        if min(height, width) != self.size:
            share = self.size / min(height, width)
            target = (round(height * share), round(width * share))
            frames = F.interpolate(frames, target, mode="bicubic", antialias=True).clamp(-1, 1)
        top, left = (frames.shape[-2] - self.size) // 2, (frames.shape[-1] - self.size) // 2
        frames = frames[..., top : top + self.size, left : left + self.size]
        return ((frames + 1) / 2 - self.mean) / self.std

    def encode_frames(self, video: Float[Tensor, "B C F H W"]) -> Float[Tensor, "B F D"]:
        """One vector a frame, as the model gives it."""
        return rearrange(self.clip.encode_image(self.preprocess(video)), "(b f) d -> b f d", b=len(video))

    def encode_video(
        self, video: Float[Tensor, "B C F H W"], mask: Bool[Tensor, "B F"] | None = None
    ) -> Float[Tensor, "B D"]:
        """One vector a clip: the mean over its frames, after the head along time.

        `mask` is true for the frames that count. Of a clip with more than `frames` of
        them, as many are picked evenly, both ends included. Raises `ValueError` for a mask of another shape.
        """
        shape = (video.shape[0], video.shape[2])
        if mask is None:
            mask = torch.ones(shape, dtype=torch.bool, device=video.device)
        if mask.shape != shape:
            raise ValueError(f"mask must have shape {shape}, got {tuple(mask.shape)}")
        if self.frames is not None and video.shape[2] > self.frames:
            video, mask = pick_frames(video, mask, self.frames)
        frames = self.encode_frames(video)
        return masked_mean(frames if self.head is None else self.head(frames, mask), mask)

    def encode_text(self, captions: list[str]) -> Float[Tensor, "B D"]:
        """One vector a caption; what cannot be tokenised raises `ValueError`."""
        return self.clip.encode_text(self.tokenizer(captions).to(self.mean.device))

    def similarity(self, video: Float[Tensor, "B C F H W"], captions: list[str]) -> Float[Tensor, "B K"]:
        """Cosine between each clip and each caption, in [-1, 1]."""
        clips = F.normalize(self.encode_video(video), dim=-1)
        return clips @ F.normalize(self.encode_text(captions), dim=-1).T


def pick_frames(
    video: Float[Tensor, "B C F H W"], mask: Bool[Tensor, "B F"], count: int
) -> tuple[Float[Tensor, "B C K H W"], Bool[Tensor, "B K"]]:
    """`count` frames of each clip, spread evenly over those that its mask allows, and their mask."""
    real = mask.sum(1, keepdim=True)
    steps = torch.arange(count, device=mask.device).expand(len(mask), -1)
    spread = (steps * (real - 1) / max(count - 1, 1)).round().long()
    # The real frames come first, in their order, wherever the padding stands.
    order = mask.int().argsort(dim=1, descending=True, stable=True)
    picked = order.gather(1, torch.where(real > count, spread, steps))
    rows = torch.arange(len(video), device=mask.device)[:, None]
    return video.transpose(1, 2)[rows, picked].transpose(1, 2), steps < real


def mini_clip(config: ClipConfig) -> TextVideoEncoder:
    """A small open_clip model over word tokens, to be trained from scratch, with its temporal head."""
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

    sizes = (config.text_width, config.text_heads, config.text_depth, config.text_context)
    clip = CustomTextCLIP(
        config.embed,
        CLIPVisionCfg(
            layers=config.depth,
            width=config.width,
            head_width=config.width // config.heads,
            patch_size=config.patch,
            image_size=config.image_size,
            pos_embed_type="sin_cos_2d",  # a start only: they are trained
        ),
        CLIPTextCfg(vocab_size=2, width=8, heads=1, layers=1),
    )
    # open_clip's configuration cannot ask for a mask over padding; its text Transformer can.
    clip.text = text_tower(*sizes, embed=config.embed, tokens=False)
    del clip.logit_scale, clip.logit_bias  # the loss has the temperature
    head = TemporalHead(config.embed, config.temporal_heads, config.temporal_depth, config.frames)
    half = (0.5, 0.5, 0.5)
    return TextVideoEncoder(
        clip, tokenize, config.image_size, half, half, head, frozen=False, frames=config.frames
    )


def open_clip_encoder(
    name: str = "ViT-B-32-quickgelu",
    pretrained: str | Path | None = None,
    head: bool = True,
    frozen: bool = True,
    **head_options: int,
) -> TextVideoEncoder:
    """Any open_clip model by name, with its own tokenizer, size, mean and standard deviation.

    `pretrained` is one of open_clip's tags, such as "openai", which needs a network once, or the
    path of a checkpoint; without it the weights are random. Raises `ValueError` for an unknown
    name or tag and for a checkpoint that does not fit, `ConnectionError` where weights cannot be fetched.
    """
    import open_clip

    known = open_clip.list_models()
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, 3, 0.3)) or ", ".join(known[:3])
        raise ValueError(f"name must be a model of open_clip, got {name!r}; near it: {near}")
    tags = open_clip.list_pretrained_tags_by_model(name)
    local = pretrained is not None and Path(pretrained).is_file()
    if pretrained is not None and not local and str(pretrained) not in tags:
        raise ValueError(
            f"pretrained must be a checkpoint file or a tag of {name} "
            f"({', '.join(tags) or 'it has none'}), got {str(pretrained)!r}"
        )
    if pretrained == "openai" and "openai" in tags and not name.endswith("-quickgelu") and name[0] in "VR":
        quick = f"{name}-quickgelu"
        if quick in known:
            raise ValueError(
                f"OpenAI's weights were trained with QuickGELU: name must be {quick!r}, got {name!r}"
            )
    try:
        clip = open_clip.create_model(name, pretrained=None if pretrained is None else str(pretrained))
    except (RuntimeError, KeyError, UnpicklingError) as error:
        if local:
            raise ValueError(f"pretrained must fit {name}, got {pretrained}: {error}") from error
        raise ConnectionError(_how_to_get(name, pretrained, error)) from error
    except OSError as error:
        raise ConnectionError(_how_to_get(name, pretrained, error)) from error
    settings = clip.visual
    size = settings.image_size[0] if isinstance(settings.image_size, tuple) else settings.image_size
    width = clip.encode_text(torch.zeros(1, clip.context_length, dtype=torch.long)).shape[-1]
    return TextVideoEncoder(
        clip,
        open_clip.get_tokenizer(name),
        size,
        settings.image_mean or open_clip.OPENAI_DATASET_MEAN,
        settings.image_std or open_clip.OPENAI_DATASET_STD,
        TemporalHead(width, **head_options) if head else None,
        frozen,
    )


def _how_to_get(name: str, pretrained: str | Path | None, error: Exception) -> str:
    return (
        f"the weights {str(pretrained)!r} of {name} could not be fetched ({str(error)[:200]}). "
        f"Where there is a network, run open_clip.create_model({name!r}, pretrained={str(pretrained)!r}) "
        "once and copy its cache, or pass the path of a checkpoint file as pretrained."
    )
