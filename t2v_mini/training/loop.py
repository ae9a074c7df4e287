"""The training loop: reproducible step by step, and resumable from any checkpoint."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from t2v_mini.data.moving_shapes import Batch, training_batches
from t2v_mini.data.video_files import from_uint8
from t2v_mini.training.checkpoint import load_checkpoint, save_checkpoint, training_state
from t2v_mini.training.ema import EMA
from t2v_mini.training.learning_rate import trapezoid
from t2v_mini.training.optimizer import Optimizers


class TrainingLoop:
    """Trains `model` on `batches` by `loss`; a subclass defines the loss, and other batches if it needs them.

    Step n depends on the weights, on n and on the seed alone: a run that is stopped and resumed
    ends in the same weights as one that is not. Raises `ValueError` when a checkpoint belongs to
    another configuration, and `FloatingPointError` when the loss is not finite.
    """

    def __init__(self, config, model: nn.Module, folder: str | Path | None, device: str) -> None:
        self.config, self.device = config, torch.device(device)
        self.folder = Path(folder) if folder is not None else None
        self.model = model.to(self.device)
        self.optimizers = Optimizers(self.model, config.train)
        self.ema = EMA(self.model, config.train.ema)
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []
        self.curve: list[dict] = []  # what observers found on the way; it is kept with the state

    def batches(self, stop: int) -> Iterator[Batch]:
        """The batches from the present step up to `stop`: Moving Shapes, its levels in turn."""
        train = self.config.train
        return training_batches(self.config.training_data, self.step, stop, train.batch, train.seed)

    def loss(self, batch: Batch) -> Tensor:
        """The loss of one batch."""
        raise NotImplementedError

    def clips(self, batch: Batch) -> Float[Tensor, "B 3 F H W"]:
        """A batch's clips in [-1, 1], where the model is."""
        return from_uint8(batch.video).to(self.device)

    def random(self) -> torch.Generator:
        """The random numbers of the present step, the same in every run with this seed."""
        return torch.Generator().manual_seed(self.config.train.seed * 1_000_003 + self.step)

    @property
    def checkpoint(self) -> Path | None:
        """Where the training state is kept."""
        return training_state(self.folder, self.config.name) if self.folder is not None else None

    def train_step(self, batch: Batch) -> float:
        """One optimiser step on one batch; returns the loss."""
        settings, step = self.config.train, self.step
        loss = self.loss(batch)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(
                f"the loss is {loss.item()} at step {step} (seed {settings.seed}); "
                f"last checkpoint: {self.checkpoint}"
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimizers.step(trapezoid(step, settings.steps, settings.warmup, settings.cooldown))
        self.ema.update(self.model)
        self.step += 1
        return loss.item()

    def train(
        self,
        save_every: int = 500,
        observe_every: int = 0,
        observe: Callable[["TrainingLoop"], str] | None = None,
        stop_at: int | None = None,
        progress: bool = True,
    ) -> None:
        """Train up to the configured step count, or `stop_at`, from wherever the loop stands."""
        settings = self.config.train
        stop = min(settings.steps, stop_at) if stop_at is not None else settings.steps
        bar = tqdm(
            self.batches(stop),
            total=stop,
            initial=self.step,
            disable=not progress,
            unit="step",
            mininterval=2,
        )
        began, note = time.perf_counter(), ""
        for batch in bar:
            self.losses.append(self.train_step(batch))
            recent = self.losses[-100:]
            now = time.perf_counter()
            self.seconds, began = self.seconds + now - began, now
            if observe is not None and observe_every and self.step % observe_every == 0:
                note = observe(self)
                began = time.perf_counter()  # looking is not training
            rate = self.step * settings.batch / self.seconds
            bar.set_postfix_str(f"loss {sum(recent) / len(recent):.4f}, {rate:.0f} clips/s {note}")
            if self.checkpoint is not None and (self.step % save_every == 0 or self.step == stop):
                self.save()

    def record(self) -> dict:
        """What is written beside the weights."""
        return {"config": self.config.to_dict(), "step": self.step, "seconds": round(self.seconds, 1)}

    def save(self) -> None:
        """Write the whole training state, atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.ema.state.items()}
        tensors |= {f"optimizer.{name}": value for name, value in self.optimizers.state_tensors().items()}
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        kept = {"ema_updates": self.ema.updates, "curve": self.curve}
        save_checkpoint(self.checkpoint, tensors, self.record() | kept)

    def resume(self) -> None:
        """Take over the state of the checkpoint in the loop's folder."""
        tensors, record = load_checkpoint(self.checkpoint)
        if type(self.config).from_dict(record["config"]) != self.config:
            raise ValueError(
                f"{self.checkpoint} belongs to another configuration than {self.config.name!r}: give another "
                f"folder, or remove the file if that run is finished"
            )
        self.model.load_state_dict(_part(tensors, "model."))
        self.ema.load(_part(tensors, "ema."), record["ema_updates"])
        self.optimizers.load_state_tensors(_part(tensors, "optimizer."))
        self.step, self.seconds, self.losses = record["step"], record["seconds"], tensors["losses"].tolist()
        self.curve = record.get("curve", [])


def _part(tensors: dict, prefix: str) -> dict:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
