"""Training of a video VAE, and the statistics of its latents."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from t2v_mini.configs import VideoVAEConfig
from t2v_mini.data.moving_shapes import Batch, training_batches
from t2v_mini.losses.reconstruction import gradient_difference
from t2v_mini.models.vae import VideoVAE
from t2v_mini.training.loop import TrainingLoop
from t2v_mini.training.precision import autocast

BATCH = 32


class VideoVAETrainer(TrainingLoop):
    """Trains a `VideoVAE` on Moving Shapes; its levels take turns, one batch each."""

    def __init__(self, config: VideoVAEConfig, folder: str | Path | None = None, device: str = "cpu") -> None:
        torch.manual_seed(config.train.seed)
        super().__init__(config, VideoVAE(config.model), folder, device)
        if config.train.compile:
            self.model.compile()

    def batches(self, stop: int) -> Iterator[Batch]:
        train = self.config.train
        return training_batches(self.config.data, self.step, stop, train.batch, train.seed)

    def loss(self, batch: Batch) -> Tensor:
        weights = self.config.loss
        x = self.clips(batch)
        with autocast(self.device, self.config.train.bf16):
            made, posterior = self.model(x, self.random())
        made = made.float()
        error = (made - x).abs().mean() + weights.difference * gradient_difference(made, x)
        return error + weights.kl * posterior.kl().sum() / posterior.mean.numel()


@torch.no_grad()
def measure_latents(codec: VideoVAE, clips: Tensor) -> None:
    """Store mean and deviation of each latent channel over these clips in the codec."""
    z = torch.cat([codec.encode(part, pad=True).mode() for part in clips.split(BATCH)])
    codec.latent_mean.copy_(z.mean((0, 2, 3, 4)))
    codec.latent_std.copy_(z.std((0, 2, 3, 4)))
