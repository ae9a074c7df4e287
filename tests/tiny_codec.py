"""A codec as small as one can be, with weights from a seed and statistics as if measured."""

from pathlib import Path

import torch

from t2v_mini.configs import CodecConfig, VideoVAEConfig
from t2v_mini.models.vae import VideoVAE
from t2v_mini.training.video_vae import save_codec

TINY_CODEC = VideoVAEConfig("tiny codec", model=CodecConfig(widths=(8, 16), depth=1))


def tiny_codec(config: VideoVAEConfig = TINY_CODEC, seed: int = 0) -> VideoVAE:
    """The codec, frozen."""
    torch.manual_seed(seed)
    codec = VideoVAE(config.model).requires_grad_(False).eval()
    codec.latent_mean.fill_(0.3)
    codec.latent_std.fill_(2.0)
    return codec


def stored_codec(folder: Path, config: VideoVAEConfig = TINY_CODEC, seed: int = 0) -> Path:
    """Its file in a folder."""
    path = folder / "codec.safetensors"
    save_codec(tiny_codec(config, seed), path, {"config": config.to_dict()})
    return path
