"""Multi-head attention: written out, and on PyTorch's fused kernel."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

# On a CPU the fused kernel is slow in bf16: with a few dozen keys, forward and backward took six times as
# long as written out. In float32 it wins from about 128 keys on (benchmarks/results/sampling.json).
FUSED_FROM_KEYS = 256


def naive_attention(
    q: Float[Tensor, "B H N D"],
    k: Float[Tensor, "B H L D"],
    v: Float[Tensor, "B H L D"],
    mask: Bool[Tensor, "B #H #N L"] | None = None,
) -> Float[Tensor, "B H N D"]:
    """softmax(q k^T / sqrt(D)) v, where `mask` is true (Vaswani et al. 2017, equation 1)."""
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf"))
    return logits.softmax(-1) @ v


class Attention(nn.Module):
    """Self-attention, or cross-attention where a context is given (Vaswani et al. 2017).

    Queries and keys are RMS-normalised per head, which keeps the logits bounded
    (Dehghani et al. 2023). `fused` chooses the path; by default the faster one is taken.
    Raises `ValueError` when `heads` does not divide `width`.
    """

    def __init__(
        self, width: int, heads: int, context_width: int | None = None, fused: bool | None = None
    ) -> None:
        super().__init__()
        if width % heads:
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
    ) -> Float[Tensor, "B N D"]:
        """Attend from `x` to `context` (default: to itself); `mask` is true where a key may be looked at."""
        source = x if context is None else context
        q = self.to_q(x)
        k, v = self.to_kv(source).chunk(2, dim=-1)
        q, k, v = (rearrange(z, "b n (h d) -> b h n d", h=self.heads) for z in (q, k, v))
        q, k = self.norm_q(q).to(v.dtype), self.norm_k(k).to(v.dtype)
        allowed = None if mask is None else mask[:, None, None, :]
        fused = self.fused
        if fused is None:
            fused = x.device.type != "cpu" or source.shape[1] >= FUSED_FROM_KEYS
        if fused:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        else:
            out = naive_attention(q, k, v, allowed)
        return self.to_out(rearrange(out, "b h n d -> b n (h d)"))
