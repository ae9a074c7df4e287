"""Muon in the precision that the device computes in."""

from collections import defaultdict

import torch
from jaxtyping import Float
from torch import Tensor

from t2v_mini.training.precision import has_bf16


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal (Jordan et al. 2024), with AdamW's typical size (Liu et al. 2025).

    Does what `torch.optim.Muon` does with "match_rms_adamw", and two things that it does not: it works on
    processors without bf16, and takes kernels of convolutions, as matrices of a row for each output
    channel. Matrices of one shape are treated at once.
    """

    def __init__(
        self,
        params,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        ns_steps: int = 5,
        eps: float = 1e-7,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov}
        super().__init__(
            params, defaults | {"ns_coefficients": ns_coefficients, "ns_steps": ns_steps, "eps": eps}
        )

    @torch.no_grad()
    def step(self, closure=None):
        """One update; `closure`, if any, is called first and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            updates = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p.grad)
                buffer = state["momentum_buffer"]
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer
                matrix = update.flatten(1)
                updates[matrix.shape, p.device].append((p, matrix))
            for (shape, device), pairs in updates.items():
                stacked = torch.stack([matrix for _, matrix in pairs])
                dtype = torch.bfloat16 if has_bf16(device) else torch.float32
                made = orthogonalized(
                    stacked.to(dtype), group["ns_coefficients"], group["ns_steps"], group["eps"]
                )
                rate = group["lr"] * 0.2 * max(shape) ** 0.5
                for (p, _), update in zip(pairs, made, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update.view_as(p), alpha=-rate)
        return loss


def orthogonalized(
    matrices: Float[Tensor, "K M N"], coefficients: tuple[float, float, float], steps: int, eps: float
) -> Float[Tensor, "K M N"]:
    """The matrices with all singular values near 1, by Newton-Schulz steps (Jordan et al. 2024)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    # The largest singular value is at most the norm.
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(eps)
    a, b, c = coefficients
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
