"""Exponential moving average of weights."""

import torch
from torch import Tensor, nn


class EMA:
    """Average of a model's floating-point state; the decay warms up as (1 + n) / (10 + n)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.decay, self.updates = decay, 0
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = model.state_dict()
        floating = [name for name, value in self.state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.state[n] for n in floating], [current[n] for n in floating], 1 - decay)

    def load(self, state: dict[str, Tensor], updates: int) -> None:
        """Take over a saved average."""
        self.state = {name: state[name].clone() for name in self.state}
        self.updates = updates
