"""Encoders of words: open_clip's text Transformer, alone or as half of a CLIP, and a bag of words."""

from jaxtyping import Int
from torch import Tensor, nn

from t2v_mini.data.tokenizer import PAD, VOCABULARY_SIZE
from t2v_mini.layers.attention import quick_attention
from t2v_mini.layers.conditioning import TextCondition, masked_mean


def text_tower(width: int, heads: int, depth: int, context: int, embed: int, tokens: bool) -> nn.Module:
    """CLIP's text Transformer over word tokens (Radford et al. 2021), built by open_clip.

    Unlike CLIP's own it is not causal: each word may look at the words after it, and none at
    padding. It returns the projected vector of the end token, and those of all `tokens` if asked.
    Raises `ImportError` where open_clip is not installed.
    """
    # Importing open_clip takes seconds, so it happens where a tower is built.
    try:
        from open_clip.transformer import TextTransformer
    except ImportError as error:
        raise ImportError(
            f"the text encoder needs open_clip: pip install open_clip_torch ({error})"
        ) from error
    return TextTransformer(
        context_length=context,
        vocab_size=VOCABULARY_SIZE,
        width=width,
        heads=heads,
        layers=depth,
        output_dim=embed,
        no_causal_mask=True,
        use_pad_mask=True,
        pad_id=PAD,
        output_tokens=tokens,
    )


class TextEncoder(nn.Module):
    """Encodes word tokens for a denoiser: one vector for each word, and one for the caption."""

    def __init__(self, width: int, heads: int, depth: int, context: int) -> None:
        super().__init__()
        self.context = context
        self.tower = text_tower(width, heads, depth, context, embed=width, tokens=True)

    def forward(self, ids: Int[Tensor, "B L"]) -> TextCondition:
        """Encode token ids; `ValueError` for rows longer than the context."""
        check_length(ids, self.context)
        with quick_attention(ids.device):
            pooled, tokens = self.tower(ids)
        return TextCondition(tokens, ids != PAD, pooled)


class BagOfWords(nn.Module):
    """Each word by itself, and their mean: the baseline that cannot know which word belongs to which.

    (Deep averaging networks, Iyyer et al. 2015, without their layers.)
    """

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.context = context
        self.token_embedding = nn.Embedding(VOCABULARY_SIZE, width)

    def forward(self, ids: Int[Tensor, "B L"]) -> TextCondition:
        """Encode token ids; `ValueError` for rows longer than the context."""
        check_length(ids, self.context)
        words, mask = self.token_embedding(ids), ids != PAD
        return TextCondition(words, mask, masked_mean(words, mask))


def check_length(ids: Int[Tensor, "B L"], context: int) -> None:
    """Raise `ValueError` for captions of more tokens than the context holds."""
    if ids.shape[1] > context:
        raise ValueError(f"ids must hold at most {context} tokens a caption, got {ids.shape[1]}")
