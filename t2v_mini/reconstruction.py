"""What a video VAE keeps of a clip, measured on clips that it never saw."""

import torch
from torch import Tensor

from t2v_mini.configs import DataConfig
from t2v_mini.data.moving_shapes import evaluation_set
from t2v_mini.losses.reconstruction import psnr
from t2v_mini.metrics.caption_accuracy import caption_accuracy
from t2v_mini.models.vae import VideoVAE
from t2v_mini.training.video_vae import BATCH
from t2v_mini.world import Facts, caption, judge_claims, render


@torch.no_grad()
def reconstructions(codec: VideoVAE, data: DataConfig, clips: int) -> tuple[Tensor, Tensor, list[Facts]]:
    """The first unseen clips of the frozen protocol, what the codec makes of them, and their claims."""
    scenes = evaluation_set(data, "unseen", clips)
    real, made = [], []
    for start in range(0, clips, BATCH):
        part = render(scenes[start : start + BATCH], data.frames, data.height, data.width)
        made.append(codec.reconstruct(part.to(codec.latent_mean.device)).cpu())
        real.append(part)
    return torch.cat(real), torch.cat(made), [scene.facts for scene in scenes]


def evaluate_codec(codec: VideoVAE, data: DataConfig, clips: int) -> dict:
    """What the codec keeps of clips that it never saw: median and worst PSNR in dB, and the judge's facts.

    `ceiling` is the share of reconstructions of which every fact holds: no generator of these latents
    can be expected to do better; `layouts` has it by number of objects and by relation. `failed` are the
    numbers of the others.
    """
    real, made, claims = reconstructions(codec, data, clips)
    verdicts = judge_claims(made, claims, [caption(claim) for claim in claims])
    accuracy = caption_accuracy(verdicts, claims)
    decibels = psnr(made, real)
    return {
        "level": data.level,
        "clips": clips,
        "psnr": decibels.median().item(),
        "worst_psnr": decibels.min().item(),
        "ceiling": accuracy.caption_accuracy,
        "interval": list(accuracy.interval),
        "facts": accuracy.facts,
        "layouts": accuracy.layouts,
        "failed": [number for number, verdict in enumerate(verdicts) if not verdict.correct],
    }
