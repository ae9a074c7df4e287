"""Runs that start from the denoiser of other weights."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from t2v_mini.configs import Config
from t2v_mini.models.generator import Generator
from t2v_mini.training.ema import EMA
from t2v_mini.training.latents import trainer_for
from t2v_mini.training.shipped import load_frozen
from t2v_mini.training.trainer import Trainer


def start_from(weights: str | Path, config: Config, folder: Path, device: str = "cpu") -> Trainer:
    """A run at its start, with the denoiser of `weights`, and with their text encoder if it trains its own.

    Further blocks of the configuration follow those of the weights, and change nothing at first. Raises
    `ValueError` when these do not fit.
    """
    source, record = load_frozen(
        weights, "generator", lambda values: Generator(Config.from_dict(values).model)
    )
    trainer = trainer_for(replace(config, train=replace(config.train, start=record["hash"])), folder, device)
    try:
        if config.train.text_weights:
            trainer.model.denoiser.load_state_dict(deepened(source.denoiser, trainer.model.denoiser))
        else:
            trainer.model.load_state_dict(deepened(source, trainer.model))
    except RuntimeError as error:
        told = f"weights must have the denoiser of {config.name!r}, got {weights}: {error}"
        raise ValueError(told) from error
    trainer.ema = EMA(trainer.model, config.train.ema)
    return trainer


def deepened(source: nn.Module, model: nn.Module) -> dict[str, Tensor]:
    """The weights of a source, and blocks that it lacks from a deeper model, starting as the identity.

    A Transformer's block is the identity where nothing leaves its branches (Bachlechner et al. 2021). A
    `DiTBlock` starts like that, a block of a text tower is made to. What else the source lacks stays missing.
    """
    found, own = source.state_dict(), model.state_dict()
    for name in own.keys() - found.keys():
        if "resblocks." in name:
            leaves = any(part in name for part in ("attn.out_proj.", "mlp.c_proj."))
            found[name] = torch.zeros_like(own[name]) if leaves else own[name]
        elif ".blocks." in f".{name}":
            found[name] = own[name]
    return found
