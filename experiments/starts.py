"""Runs that start from the denoiser of other weights."""

from dataclasses import replace
from pathlib import Path

from t2v_mini.configs import Config
from t2v_mini.models.generator import Generator
from t2v_mini.training.checkpoint import load_checkpoint
from t2v_mini.training.ema import EMA
from t2v_mini.training.shipped import filled, weights_path
from t2v_mini.training.trainer import Trainer


def start_from(weights: str | Path, config: Config, folder: Path) -> Trainer:
    """A run at its start, with the denoiser of `weights`. `ValueError` when the denoisers do not fit."""
    path = weights_path(weights)
    tensors, record = load_checkpoint(path)
    given = Config.from_dict(record["config"])
    source = filled(Generator(given.model), tensors, path).denoiser.state_dict()
    trainer = Trainer(replace(config, train=replace(config.train, start=record["hash"])), folder)
    try:
        trainer.model.denoiser.load_state_dict(source)
    except RuntimeError as error:
        raise ValueError(f"weights must have the denoiser of {config.name!r}, got {path}: {error}") from error
    trainer.ema = EMA(trainer.model, config.train.ema)
    return trainer
