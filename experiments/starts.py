"""Runs that start from the denoiser of other weights."""

from dataclasses import replace
from pathlib import Path

from t2v_mini.configs import Config
from t2v_mini.models.generator import Generator
from t2v_mini.training.checkpoint import load_checkpoint
from t2v_mini.training.ema import EMA
from t2v_mini.training.shipped import filled, weights_path
from t2v_mini.training.trainer import Trainer

# What reads the text: the vector's way into the modulation, and the attention to the words.
READS_TEXT = ("pooled.", ".cross.", ".norm_text.")


def start_from(
    weights: str | Path, config: Config, folder: Path, keep_reading: bool = True
) -> tuple[Trainer, list[str]]:
    """A run at its start with the denoiser of `weights`, and the names of what it took over.

    Without `keep_reading`, what reads the text starts anew: the run knows what clips look like, and not
    what its text means. Raises `ValueError` when the denoisers do not fit.
    """
    path = weights_path(weights)
    tensors, record = load_checkpoint(path)
    given = Config.from_dict(record["config"])
    source = filled(Generator(given.model), tensors, path).denoiser.state_dict()
    trainer = Trainer(replace(config, train=replace(config.train, start=record["hash"])), folder)
    own = trainer.model.denoiser.state_dict()
    taken = [name for name in own if keep_reading or not any(part in name for part in READS_TEXT)]
    try:
        trainer.model.denoiser.load_state_dict(own | {name: source[name] for name in taken})
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"weights must have the denoiser of {config.name!r}, got {path}: {error}") from error
    trainer.ema = EMA(trainer.model, config.train.ema)
    return trainer, taken
