"""Multi-head attention: written out, and on PyTorch's fused kernel."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from t2v_mini.layers.embeddings import rotate

# On a CPU the fused kernel is slow in bf16: with a few dozen keys, forward and backward took six times as
# long as written out. In float32 it wins from about 128 keys on (benchmarks/results/sampling.json).
FUSED_FROM_KEYS = 256


def quick_attention(device: torch.device) -> AbstractContextManager:
    """A context in which PyTorch's own attention is written out on a CPU, for the reason above."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def naive_attention(
    q: Float[Tensor, "B H N D"],
    k: Float[Tensor, "B H L D"],
    v: Float[Tensor, "B H L D"],
    mask: Bool[Tensor, "#B #H #N L"] | Float[Tensor, "#B #H #N L"] | None = None,
) -> Float[Tensor, "B H N D"]:
    """softmax(q k^T / sqrt(D)) v (Vaswani et al. 2017, equation 1).

    `mask` is true where a key may be looked at, or is added to the logits. A query that may look
    at no key gets zeros, as from PyTorch's kernel.
    """
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is None:
        return logits.softmax(-1) @ v
    logits = logits.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else logits + mask
    blind = (logits == float("-inf")).all(-1, keepdim=True)
    return logits.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0) @ v


class Attention(nn.Module):
    """Self-attention, or cross-attention where a context is given (Vaswani et al. 2017).

    Queries and keys are RMS-normalised per head, which keeps the logits bounded
    (Dehghani et al. 2023). `fused` chooses the path; by default the faster one is taken.
    Raises `ValueError` when `heads` does not divide `width`, and for inputs of another width
    or a mask of another length.
    """

    def __init__(
        self, width: int, heads: int, context_width: int | None = None, fused: bool | None = None
    ) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads must divide width, got width {width} and heads {heads}")
        self.heads, self.fused = heads, fused
        self.to_q = nn.Linear(width, width)
        self.to_kv = nn.Linear(context_width or width, 2 * width)
        self.norm_q, self.norm_k = nn.RMSNorm(width // heads), nn.RMSNorm(width // heads)
        self.to_out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "B N D"],
        context: Float[Tensor, "B L C"] | None = None,
        mask: Bool[Tensor, "B L"] | None = None,
        bias: Float[Tensor, "#H #N L"] | None = None,
        angles: Float[Tensor, "N P"] | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Attend from `x` to `context` (default: to itself).

        `mask` is true where a key may be looked at, `bias` is added to the logits (-inf forbids),
        `angles` turn queries and keys by their position (self-attention only).
        """
        q, k, v = self.project(x, context, angles)
        if mask is not None and mask.shape != (len(k), k.shape[2]):
            raise ValueError(f"mask must have shape {(len(k), k.shape[2])}, got {tuple(mask.shape)}")
        allowed = None if mask is None else mask[:, None, None, :]
        if bias is not None:
            # One batch axis, so that all samples share it.
            allowed = bias[None] if mask is None else bias[None].masked_fill(~allowed, float("-inf"))
            allowed = allowed.to(q.dtype)
        fused = self.fused
        if fused is None:
            fused = x.device.type != "cpu" or k.shape[2] >= FUSED_FROM_KEYS
        out = (F.scaled_dot_product_attention if fused else naive_attention)(q, k, v, allowed)
        return self.to_out(rearrange(out, "b h n d -> b n (h d)"))

    def project(
        self,
        x: Float[Tensor, "B N D"],
        context: Float[Tensor, "B L C"] | None = None,
        angles: Float[Tensor, "N P"] | None = None,
    ) -> tuple[Float[Tensor, "B H N E"], Float[Tensor, "B H L E"], Float[Tensor, "B H L E"]]:
        """Queries, keys and values of all heads, ready for `naive_attention`."""
        source = x if context is None else context
        for name, tensor, layer in (("x", x, self.to_q), ("context", source, self.to_kv)):
            if tensor.shape[-1] != layer.in_features:
                raise ValueError(f"{name} must have width {layer.in_features}, got {tensor.shape[-1]}")
        if len(source) != len(x):
            raise ValueError(f"context must hold {len(x)} samples as x does, got {len(source)}")
        q = self.to_q(x)
        k, v = self.to_kv(source).chunk(2, dim=-1)
        q, k, v = (rearrange(z, "b n (h d) -> b h n d", h=self.heads) for z in (q, k, v))
        q, k = self.norm_q(q), self.norm_k(k)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        return q.to(v.dtype), k.to(v.dtype), v
