"""Muon for the matrices inside a network, AdamW for everything else."""

import torch
from torch import Tensor, nn

from t2v_mini.configs import TrainConfig
from t2v_mini.training.muon import Muon

# Tables and the layers that touch data: their rows are not directions to be made orthogonal (Jordan 2024).
OUTER = (
    "token_embedding",
    "positional_embedding",
    "head.positions",
    "denoiser.embed.0",
    "denoiser.head.2",
    "encoder.stem",
    "decoder.head",
)


class Optimizers:
    """AdamW (Loshchilov & Hutter 2019) and Muon (Jordan et al. 2024), stepped as one.

    Muon orthogonalises the momentum of a matrix, so that all its directions learn at the same
    pace; its rate is scaled to AdamW's typical update (Liu et al. 2025).
    """

    def __init__(self, model: nn.Module, settings: TrainConfig) -> None:
        matrices, decayed, others = [], [], []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if parameter.ndim < 2:
                others.append(parameter)
                continue
            inner = parameter.ndim == 2 or settings.matrix_kernels
            if settings.matrix_learning_rate and inner and not any(o in name for o in OUTER):
                matrices.append(parameter)
            else:
                decayed.append(parameter)
        groups = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.99), fused=True)
        }
        self.rates = {"adamw": settings.learning_rate, "muon": settings.matrix_learning_rate}
        if matrices:
            self.optimizers["muon"] = Muon(
                matrices,
                lr=settings.matrix_learning_rate,
                weight_decay=settings.weight_decay,
            )

    def step(self, factor: float) -> None:
        """Update all parameters with their rates times `factor`, and forget their gradients."""
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.rates[name] * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """The state of both as named tensors, for a checkpoint."""
        return {
            f"{name}.{index}.{key}": value
            for name, optimizer in self.optimizers.items()
            for index, state in optimizer.state_dict()["state"].items()
            for key, value in state.items()
        }

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `state_tensors`."""
        states: dict[str, dict[int, dict]] = {name: {} for name in self.optimizers}
        for path, value in tensors.items():
            name, index, key = path.split(".")
            states[name].setdefault(int(index), {})[key] = value
        for name, optimizer in self.optimizers.items():
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": states[name], "param_groups": groups})
