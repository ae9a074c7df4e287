"""Runs that start from the denoiser of other weights."""

from dataclasses import replace
from pathlib import Path

from t2v_mini.configs import Config
from t2v_mini.models.generator import Generator
from t2v_mini.training.checkpoint import load_checkpoint
from t2v_mini.training.ema import EMA
from t2v_mini.training.latents import trainer_for
from t2v_mini.training.shipped import filled, weights_path
from t2v_mini.training.trainer import Trainer


def start_from(weights: str | Path, config: Config, folder: Path, device: str = "cpu") -> Trainer:
    """A run at its start, with the denoiser of `weights`, and with their text encoder if it trains its own.

    Raises `ValueError` when these do not fit.
    """
    path = weights_path(weights)
    tensors, record = load_checkpoint(path)
    given = Config.from_dict(record["config"])
    source = filled(Generator(given.model), tensors, path)
    trainer = trainer_for(replace(config, train=replace(config.train, start=record["hash"])), folder, device)
    try:
        if config.train.text_weights:
            trainer.model.denoiser.load_state_dict(source.denoiser.state_dict())
        else:
            trainer.model.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise ValueError(f"weights must have the denoiser of {config.name!r}, got {path}: {error}") from error
    trainer.ema = EMA(trainer.model, config.train.ema)
    return trainer
