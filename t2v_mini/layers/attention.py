"""Multi-head attention on PyTorch's fused kernel."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention, or cross-attention where a context is given (Vaswani et al. 2017).

    Queries and keys are RMS-normalised per head, which keeps the logits bounded
    (Dehghani et al. 2023). Raises `ValueError` when `heads` does not divide `width`.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads must divide width, got width {width} and heads {heads}")
        self.heads = heads
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
        allowed = None if mask is None else mask[:, None, None, :]
        out = F.scaled_dot_product_attention(self.norm_q(q), self.norm_k(k), v, attn_mask=allowed)
        return self.to_out(rearrange(out, "b h n d -> b n (h d)"))
