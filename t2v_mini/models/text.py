"""The text encoder that is trained together with its denoiser: open_clip's text Transformer."""

from jaxtyping import Int
from torch import Tensor, nn

from t2v_mini.data.tokenizer import PAD, VOCABULARY_SIZE
from t2v_mini.layers.conditioning import TextCondition


class TextEncoder(nn.Module):
    """CLIP's text Transformer over word tokens (Radford et al. 2021), built by open_clip.

    Unlike CLIP's own it is not causal: each word may look at the words after it, and none at padding.
    `pooled` is the projected vector of the end token.
    Raises `ImportError` where open_clip is not installed.
    """

    def __init__(self, width: int, heads: int, depth: int, context: int) -> None:
        super().__init__()
        # Importing open_clip takes seconds, so it happens where a tower is built.
        try:
            from open_clip.transformer import TextTransformer
        except ImportError as error:
            raise ImportError(
                f"the text encoder needs open_clip: pip install open_clip_torch ({error})"
            ) from error
        self.context = context
        self.tower = TextTransformer(
            context_length=context,
            vocab_size=VOCABULARY_SIZE,
            width=width,
            heads=heads,
            layers=depth,
            output_dim=width,
            no_causal_mask=True,
            use_pad_mask=True,
            pad_id=PAD,
            output_tokens=True,
        )

    def forward(self, ids: Int[Tensor, "B L"]) -> TextCondition:
        """Encode token ids; `ValueError` for rows longer than the context."""
        if ids.shape[1] > self.context:
            raise ValueError(f"ids must hold at most {self.context} tokens a caption, got {ids.shape[1]}")
        pooled, tokens = self.tower(ids)
        return TextCondition(tokens, ids != PAD, pooled)
