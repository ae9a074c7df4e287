"""Training of a video VAE, the statistics of its latents, and its weights on disk."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from t2v_mini.configs import Config, VideoVAEConfig
from t2v_mini.data.moving_shapes import Batch
from t2v_mini.losses.perceptual import load_lpips
from t2v_mini.losses.reconstruction import gradient_difference
from t2v_mini.models.vae import VideoVAE
from t2v_mini.training.checkpoint import content_hash
from t2v_mini.training.loop import TrainingLoop
from t2v_mini.training.precision import autocast
from t2v_mini.training.shipped import frozen, load_frozen, save_weights

BATCH = 32
NOISY_SHARE = 0.75  # of the clips, where the loss has noise
NOTABLE_NOISE = 0.2  # deviation at which a clip counts half


class VideoVAETrainer(TrainingLoop):
    """Trains a `VideoVAE` on Moving Shapes; its levels take turns, one batch each.

    Where the loss has noise, three of four clips get some on their latents. They count less, the more
    noise they have, as their error is larger.

    Raises as `load_lpips` does where the loss has a perceptual term.
    """

    def __init__(self, config: VideoVAEConfig, folder: str | Path | None = None, device: str = "cpu") -> None:
        torch.manual_seed(config.train.seed)
        super().__init__(config, VideoVAE(config.model), folder, device)
        self.perceptual = load_lpips(device) if config.loss.perceptual else None
        if config.train.compile:
            self.model.compile()

    def shares(self, squared: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """How much each clip of a batch counts, given its mean squared error: each the same, here."""
        return torch.ones_like(squared)

    def deviations(self, count: int, generator: torch.Generator) -> Float[Tensor, "B"]:
        """Of the noise on each clip's latent."""
        most = self.config.loss.noise * torch.rand(count, generator=generator)
        return (most * (torch.rand(count, generator=generator) < NOISY_SHARE)).to(self.device)

    def loss(self, batch: Batch) -> Tensor:
        weights = self.config.loss
        x, rng = self.clips(batch), self.random()
        deviation = self.deviations(len(x), rng) if weights.noise else None
        with autocast(self.device, self.config.train.bf16):
            made, posterior = self.model(x, rng, deviation)
        made = made.float()
        squared = (made - x).square().mean((1, 2, 3, 4))
        calm = 1 if deviation is None else 1 / (1 + (deviation / NOTABLE_NOISE) ** 2)
        share = calm * self.shares((calm * squared).detach())
        loss = weights.squared * (share * squared).mean()
        if self.perceptual is not None:
            loss = loss + weights.perceptual * (share * self.perceptual(made, x)).mean()
        made, x = (share[:, None, None, None, None] * clips for clips in (made, x))
        loss = loss + (made - x).abs().mean() + weights.difference * gradient_difference(made, x)
        return loss + weights.kl * posterior.kl().sum() / posterior.mean.numel()


@torch.no_grad()
def measure_latents(codec: VideoVAE, clips: Tensor) -> None:
    """Store mean and deviation of each latent channel over these clips in the codec."""
    device = codec.latent_mean.device
    z = torch.cat([codec.encode(part.to(device), pad=True).mode() for part in clips.split(BATCH)])
    codec.latent_mean.copy_(z.mean((0, 2, 3, 4)))
    codec.latent_std.copy_(z.std((0, 2, 3, 4)))


def codec_of(config: VideoVAEConfig, averaged: dict[str, Tensor]) -> VideoVAE:
    """A frozen copy of a run's averaged weights, rounded as `save_codec` stores them."""
    return frozen(VideoVAE(config.model), averaged)


def save_codec(codec: VideoVAE, path: str | Path, record: dict) -> str:
    """Write a codec and its record as `save_weights` does; returns the hash.

    Raises `ValueError` while the latents' mean and deviation are not measured.
    """
    if not codec.latent_mean.any():
        raise ValueError("codec must have the statistics of its latents: call measure_latents first")
    return save_weights(codec, path, record | {"kind": "codec"})


def latents_hash(codec: VideoVAE) -> str:
    """Content hash of what makes a codec's latents: the encoder, and their mean and deviation, as stored.

    The decoder is not part of it: it may be trained further, and the models of the latents stay as they are.
    """
    state = codec.state_dict().items()
    return content_hash({name: value.half() for name, value in state if not name.startswith("decoder.")})


def load_codec(name: str | Path = "codec", device: str = "cpu") -> tuple[VideoVAE, dict]:
    """A shipped codec by name, or one by path, and its record, as `load_frozen` gives them."""

    def build(config: dict) -> VideoVAE:
        return VideoVAE(VideoVAEConfig.from_dict(config).model)

    return load_frozen(name, "codec", build, device)


def codec_for(config: Config, record: dict, device: str = "cpu") -> VideoVAE | None:
    """The codec whose latents a model makes; None for pixels.

    Raises `ValueError` when its latents are not those of the training: the record keeps their hash.
    """
    if not config.codec:
        return None
    codec, _ = load_codec(config.codec, device)
    found = latents_hash(codec)
    if record.get("codec", found) != found:
        raise ValueError(
            f"codec {config.codec!r} must make the latents that the weights were trained with, "
            f"{record['codec'][:16]}, got {found[:16]}"
        )
    return codec
