"""The text encoder that is trained together with its denoiser."""

import torch
from jaxtyping import Int
from torch import Tensor, nn

from t2v_mini.data.tokenizer import PAD
from t2v_mini.layers.conditioning import TextCondition
from t2v_mini.layers.embeddings import sinusoidal


class TextEncoder(nn.Module):
    """A small pre-norm Transformer over word tokens."""

    def __init__(self, vocabulary: int, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width, padding_idx=PAD)
        nn.init.normal_(self.embed.weight, std=0.5)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Int[Tensor, "B L"]) -> TextCondition:
        """Encode token ids; padding is masked everywhere, also in the mean that makes `pooled`."""
        mask = ids != PAD
        positions = torch.arange(ids.shape[1], device=ids.device, dtype=torch.float32)
        x = self.embed(ids) + sinusoidal(positions, self.embed.embedding_dim, period=100.0)
        x = self.norm(self.blocks(x, src_key_padding_mask=~mask))
        weight = mask[..., None].to(x.dtype)
        return TextCondition(x, mask, (x * weight).sum(1) / weight.sum(1).clamp_min(1))
