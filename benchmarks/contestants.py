"""Our denoiser, and denoisers of other packages that are scaled to about its number of parameters."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from t2v_mini.configs import Config
from t2v_mini.layers.conditioning import TextCondition
from t2v_mini.models.dit import VideoDiT
from t2v_mini.models.generator import parameter_count

WORDS = 11  # the longest caption of level 1 with its two ends

OURS = "t2v_mini VideoDiT"
WAN = "diffusers WanTransformer3DModel"
COGVIDEOX = "diffusers CogVideoXTransformer3DModel"
UNET = "video-diffusion-pytorch Unet3D"


@dataclass
class Contestant:
    """A denoiser with the call that hands it a noisy clip, a time in [0, 1] and a text."""

    name: str
    model: nn.Module
    call: Callable[[nn.Module, Tensor, Tensor, TextCondition], Tensor]
    configuration: dict
    tokens: int
    note: str
    micro_batch: int | None = None  # clips at once, where a whole batch would take too much memory
    measured: int | None = None  # clips that are measured, where a whole batch would take too long

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return parameter_count(self.model)


@dataclass
class Missing:
    """A peer that cannot be measured here, and why."""

    name: str
    reason: str


def text_condition(batch: int, width: int, words: int = WORDS) -> TextCondition:
    """A stand-in for encoded captions of 5 to `words` tokens; drawn from PyTorch's global generator."""
    lengths = torch.randint(min(5, words), words + 1, (batch, 1))
    lengths[0] = words
    return TextCondition(
        torch.randn(batch, words, width), torch.arange(words)[None] < lengths, torch.randn(batch, width)
    )


def on_latents(config: Config, size: tuple[int, int, int]) -> Config:
    """The configuration with latents of this size for clips, and without channels for given frames.

    So all denoisers take the same numbers, and patches are counted on the latents.
    """
    frames, height, width = size
    return replace(
        config,
        model=replace(config.model, given=False),
        data=replace(config.data, frames=frames, height=height, width=width),
        codec="",
    )


def patch_grid(config: Config) -> tuple[int, int, int]:
    """Patches of one clip along frames, rows and columns."""
    data, (pf, ph, pw) = config.data, config.model.patch
    return data.frames // pf, data.height // ph, data.width // pw


def token_count(config: Config) -> int:
    """Patches of one clip."""
    return math.prod(patch_grid(config))


def ours(config: Config) -> Contestant:
    """The denoiser of this project, without its text encoder."""
    sizes = config.model
    configuration = {
        name: getattr(sizes, name)
        for name in ("channels", "patch", "width", "depth", "heads", "stem_width", "text_width", "given")
    }
    return Contestant(
        OURS,
        VideoDiT(sizes),
        lambda model, x, t, text: model(x, t, text),
        configuration,
        token_count(config),
        "joint attention over all patches, cross-attention to the words",
    )


def wan(config: Config, parameters: int) -> Contestant | Missing:
    """Wan's Transformer with our patches, width and heads, and the depth nearest to `parameters`."""
    try:
        from diffusers import WanTransformer3DModel
    except ImportError:
        return Missing(WAN, "not installed: pip install diffusers")
    sizes = config.model

    def settings(depth: int) -> dict:
        return {
            "patch_size": sizes.patch,
            "num_attention_heads": sizes.heads,
            "attention_head_dim": sizes.width // sizes.heads,
            "in_channels": sizes.channels,
            "out_channels": sizes.channels,
            "text_dim": sizes.text_width,
            "freq_dim": 128,
            "ffn_dim": 4 * sizes.width,
            "num_layers": depth,
        }

    chosen = _nearest(
        [settings(depth) for depth in range(1, 3 * sizes.depth + 1)],
        lambda s: WanTransformer3DModel(**s),
        parameters,
    )
    return Contestant(
        WAN,
        WanTransformer3DModel(**chosen),
        lambda model, x, t, text: model(x, 1000 * t, text.tokens, return_dict=False)[0],
        chosen,
        token_count(config),
        "the same patches and words as ours; it takes no mask of the words",
    )


def cogvideox(config: Config, parameters: int) -> Contestant | Missing:
    """CogVideoX 1.5's Transformer with our patches, width and heads, and the depth nearest to `parameters`.

    Patches must be square, and the width of a head a multiple of 16.
    """
    try:
        from diffusers import CogVideoXTransformer3DModel
        from diffusers.models.embeddings import get_3d_rotary_pos_embed
    except ImportError:
        return Missing(COGVIDEOX, "not installed: pip install diffusers")
    sizes, (frames, *picture) = config.model, patch_grid(config)

    def settings(depth: int) -> dict:
        return {
            "patch_size": sizes.patch[1],
            "patch_size_t": sizes.patch[0],
            "num_attention_heads": sizes.heads,
            "attention_head_dim": sizes.width // sizes.heads,
            "in_channels": sizes.channels,
            "out_channels": sizes.channels,
            "text_embed_dim": sizes.text_width,
            "time_embed_dim": sizes.width // 4,
            "use_rotary_positional_embeddings": True,
            "num_layers": depth,
        }

    chosen = _nearest(
        [settings(depth) for depth in range(1, 3 * sizes.depth + 1)],
        lambda s: CogVideoXTransformer3DModel(**s),
        parameters,
    )
    # Its pipeline, too, makes the positions once for all steps.
    positions = get_3d_rotary_pos_embed(
        sizes.width // sizes.heads, None, picture, frames, grid_type="slice", max_size=picture
    )

    def call(model: nn.Module, x: Tensor, t: Tensor, text: TextCondition) -> Tensor:
        frames_first = x.transpose(1, 2)
        made = model(frames_first, text.tokens, 1000 * t, image_rotary_emb=positions, return_dict=False)[0]
        return made.transpose(1, 2)

    return Contestant(
        COGVIDEOX,
        CogVideoXTransformer3DModel(**chosen),
        call,
        chosen,
        token_count(config),
        "the same patches and words as ours; the words join the patches in attention, without a mask",
    )


def unet(config: Config, parameters: int, measured: int | None = None) -> Contestant | Missing:
    """Lucidrains' Unet3D with its own defaults, and the `dim` that comes nearest to `parameters`.

    Only multiples of 8 are tried: other channel counts would slow the peer's kernels down. It works
    through 4 clips at once, which was faster than 8, and through `measured` of a batch in all.
    """
    try:
        from video_diffusion_pytorch import Unet3D
    except ImportError as error:
        # It leaves its own dependencies to pip, so one of these may be the missing one.
        return Missing(UNET, f"not installed: pip install video-diffusion-pytorch ({error})")
    sizes, data = config.model, config.data
    chosen = _nearest(
        [
            {
                "dim": dim,
                "dim_mults": (1, 2, 4, 8),
                "channels": sizes.channels,
                "cond_dim": sizes.text_width,
                "attn_heads": 8,
                "attn_dim_head": 32,
            }
            for dim in range(8, 65, 8)
        ],
        lambda s: Unet3D(**s),
        parameters,
    )
    return Contestant(
        UNET,
        Unet3D(**chosen),
        lambda model, x, t, text: model(x, 1000 * t, cond=text.pooled),
        chosen,
        data.frames * data.height * data.width,
        "works on pixels: its tokens are the positions of its finest level, it halves rows and columns three "
        "times, and attends along space and along time apart; sees the pooled text only",
        micro_batch=4,
        measured=measured,
    )


def _nearest(candidates: list[dict], build: Callable[[dict], nn.Module], parameters: int) -> dict:
    """The candidate whose number of parameters is nearest by ratio; counted without allocating them."""

    def distance(settings: dict) -> float:
        with torch.device("meta"):
            count = parameter_count(build(settings))
        return max(count, parameters) / min(count, parameters)

    return min(candidates, key=distance)
