"""Training of the classifier of motions and events, and what it finds on clips that it never saw."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from t2v_mini.configs import DataConfig, VideoClassifierConfig
from t2v_mini.data.moving_shapes import Batch, evaluation_set
from t2v_mini.models.classifier import LABELS, MotionClassifier, labels_of
from t2v_mini.training.loop import TrainingLoop
from t2v_mini.training.precision import autocast
from t2v_mini.training.shipped import frozen, load_frozen, save_weights
from t2v_mini.world import render

BATCH = 64


class ClassifierTrainer(TrainingLoop):
    """Trains a `MotionClassifier` on Moving Shapes; its levels take turns, one batch each."""

    def __init__(
        self, config: VideoClassifierConfig, folder: str | Path | None = None, device: str = "cpu"
    ) -> None:
        torch.manual_seed(config.train.seed)
        super().__init__(config, MotionClassifier(config.model), folder, device)
        if config.train.compile:
            self.model.compile()

    def loss(self, batch: Batch) -> Tensor:
        with autocast(self.device, self.config.train.bf16):
            logits = self.model(self.clips(batch))
        return F.binary_cross_entropy_with_logits(logits.float(), labels_of(batch.claims).to(self.device))


def classifier_of(config: VideoClassifierConfig, averaged: dict[str, Tensor]) -> MotionClassifier:
    """A copy of a run's averaged weights, rounded as `save_classifier` stores them."""
    return frozen(MotionClassifier(config.model), averaged)


def save_classifier(model: MotionClassifier, path: str | Path, record: dict) -> str:
    """Write a classifier and its record as `save_weights` does; returns the hash."""
    return save_weights(model, path, record | {"kind": "classifier"})


def load_classifier(name: str | Path = "classifier", device: str = "cpu") -> tuple[MotionClassifier, dict]:
    """A shipped classifier by name, or one by path, and its record, as `load_frozen` gives them."""

    def build(config: dict) -> MotionClassifier:
        return MotionClassifier(VideoClassifierConfig.from_dict(config).model)

    return load_frozen(name, "classifier", build, device)


@torch.no_grad()
def classifier_accuracy(model: MotionClassifier, data: DataConfig, clips: int) -> dict:
    """On the first unseen clips of the frozen protocol: how often all labels are right, and each of them.

    `labels` has for each label the shares found where it holds and where it does not; `None` where no clip
    is of that kind. Raises `ValueError` for a number of clips that cannot be.
    """
    if type(clips) is not int or clips < 1:
        raise ValueError(f"clips must be a positive integer, got {clips!r}")
    scenes, device = evaluation_set(data, "unseen", clips), next(model.parameters()).device
    truth = labels_of([scene.facts for scene in scenes]).bool()
    found = torch.cat(
        [
            (
                model(render(scenes[start : start + BATCH], data.frames, data.height, data.width).to(device))
                > 0
            ).cpu()
            for start in range(0, clips, BATCH)
        ]
    )

    def share(where: Tensor, column: int) -> float | None:
        return found[where, column].float().mean().item() if where.any() else None

    return {
        "all labels": (found == truth).all(1).float().mean().item(),
        "labels": {name: (share(truth[:, k], k), share(~truth[:, k], k)) for k, name in enumerate(LABELS)},
        "clips": clips,
        "level": data.level,
    }
