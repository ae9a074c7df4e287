"""One token a word: the world's vocabulary is closed."""

import torch
from jaxtyping import Int
from torch import Tensor

from t2v_mini.world.caption import MAX_WORDS, VOCABULARY, words

PAD, START = 0, 1
_WORDS = (*VOCABULARY, ",")
_IDS = {word: index + 2 for index, word in enumerate(_WORDS)}
END = len(_IDS) + 2  # the highest id: open_clip's text towers pool at the largest one
VOCABULARY_SIZE = END + 1


def tokenize(captions: list[str], length: int | None = None) -> Int[Tensor, "B L"]:
    """Token ids [START, words..., END, PAD...]; the empty caption is the null prompt.

    `length` fixes the row length, the longest caption decides otherwise. Raises `ValueError` for a word that
    the world does not know, and for a caption longer than `length`.
    """
    if isinstance(captions, str):
        raise ValueError(f"captions must be a list of strings, got the string {captions!r:.60}")
    rows = [[START, *_ids(text), END] for text in captions]
    needed = max((len(row) for row in rows), default=0)
    length = needed if length is None else length
    if needed > length:
        raise ValueError(f"length must be at least {needed} for these captions, got {length}")
    return torch.tensor([row + [PAD] * (length - len(row)) for row in rows], dtype=torch.long).view(
        len(rows), length
    )


def _ids(text: str) -> list[int]:
    tokens = words(text) if text else []
    if len(tokens) > MAX_WORDS:
        raise ValueError(f"a caption has at most {MAX_WORDS} words, got {len(tokens)}")
    unknown = [word for word in tokens if word not in _IDS]
    if unknown:
        raise ValueError(f"captions must consist of the world's words, got {unknown[0]!r}")
    return [_IDS[word] for word in tokens]
