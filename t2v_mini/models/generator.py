"""Text encoder and denoiser together: what is trained, saved and shipped as one."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from t2v_mini.configs import ModelConfig
from t2v_mini.data.tokenizer import tokenize
from t2v_mini.layers.conditioning import TextCondition
from t2v_mini.models.dit import VideoDiT
from t2v_mini.models.text import BagOfWords, TextEncoder
from t2v_mini.models.unet import VideoUNet

DENOISERS = {"dit": VideoDiT, "unet": VideoUNet}


class Generator(nn.Module):
    """Predicts the clean clip from a noisy one, the time and captions.

    Raises `ValueError` for an unknown denoiser or text encoder.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.text = text_encoder(config)
        if config.denoiser not in DENOISERS:
            raise ValueError(f"denoiser must be one of {', '.join(DENOISERS)}, got {config.denoiser!r}")
        self.denoiser = DENOISERS[config.denoiser](config)

    def encode(self, captions: list[str]) -> TextCondition:
        """Encode captions; the empty one is the null prompt of guidance."""
        return self.text(tokenize(captions).to(next(self.parameters()).device))

    def forward(
        self,
        x: Float[Tensor, "B C F H W"],
        t: Float[Tensor, "B"],
        text: TextCondition,
        given: Float[Tensor, "B Y F H W"] | None = None,
    ) -> Float[Tensor, "B C F H W"]:
        """The prediction; `given` are frames to go on from, as `known_frames` makes them.

        Raises `ValueError` when a model without channels for given frames gets some.
        """
        if self.config.given:
            if given is None:
                given = x.new_zeros(len(x), self.config.channels + 1, *x.shape[2:])
            x = torch.cat([x, given], dim=1)
        elif given is not None:
            raise ValueError("given must be None for a model without channels for given frames")
        return self.denoiser(x, t, text)


def text_encoder(config: ModelConfig) -> nn.Module:
    """The encoder of words that the configuration asks for."""
    if config.text == "bag":
        return BagOfWords(config.text_width, config.text_context)
    if config.text != "transformer":
        raise ValueError(f"text must be 'transformer' or 'bag', got {config.text!r}")
    return TextEncoder(config.text_width, config.text_heads, config.text_depth, config.text_context)


def parameter_count(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def all_finite(model: nn.Module) -> bool:
    """Whether every parameter is a finite number."""
    return all(bool(torch.isfinite(p).all()) for p in model.parameters())
