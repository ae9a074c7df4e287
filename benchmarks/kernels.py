"""Written-out attention against PyTorch's fused kernel: the rows behind `FUSED_FROM_KEYS`."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measuring import fair_clock, interleaved
from t2v_mini.layers.attention import naive_attention

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def attention_rows(
    batch: int,
    heads: int,
    head_width: int,
    lengths: list[tuple[int, int, bool]],
    dtypes: list[str],
    repeats: int,
) -> list[dict]:
    """One row for each (queries, keys, masked), dtype and pass; `ratio` is written-out / fused seconds."""
    rows = []
    for queries, keys, masked in lengths:
        for dtype in dtypes:
            q = torch.randn(batch, heads, queries, head_width, dtype=DTYPES[dtype])
            k, v = torch.randn(2, batch, heads, keys, head_width, dtype=DTYPES[dtype])
            mask = None
            if masked:
                words = torch.randint(max(1, keys // 2), keys + 1, (batch, 1, 1, 1))
                mask = torch.arange(keys) < words
            for backward in (False, True):
                works = {
                    "written out": _work(naive_attention, q, k, v, mask, backward),
                    "fused": _work(_fused, q, k, v, mask, backward),
                }
                found = interleaved(works, repeats, warm_up=2)
                clock = fair_clock()
                ratio = found["written out"][clock] / found["fused"][clock]
                rows.append(
                    {
                        "group": "attention",
                        "name": "naive_attention against F.scaled_dot_product_attention",
                        "shape": [batch, heads, queries, head_width],
                        "keys": keys,
                        "masked": masked,
                        "pass": "forward and backward" if backward else "forward",
                        "dtype": dtype,
                        "threads": torch.get_num_threads(),
                        "compile": False,
                        "written_out": found["written out"],
                        "fused": found["fused"],
                        "clock": clock,
                        "ratio": ratio,
                        "verdict": _verdict(ratio),
                    }
                )
    return rows


def fused_wins_from(rows: list[dict]) -> dict[str, int | None]:
    """By dtype and pass, the least number of unmasked keys from which on the fused kernel always won.

    None where it lost at the greatest number measured.
    """
    wins: dict[str, int | None] = {}
    kinds: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row["group"] == "attention" and not row["masked"]:
            kinds.setdefault(f"{row['dtype']}, {row['pass']}", []).append((row["keys"], row["ratio"]))
    for kind, found in kinds.items():
        wins[kind] = None
        for keys, ratio in sorted(found, reverse=True):
            if ratio <= 1:
                break
            wins[kind] = keys
    return wins


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _work(
    attend: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, backward: bool
) -> Callable[[], None]:
    leaves = [z.detach().clone().requires_grad_(backward) for z in (q, k, v)]
    gradient = torch.randn_like(q)

    def work() -> None:
        with torch.set_grad_enabled(backward):
            out = attend(*leaves, mask)
        if backward:
            torch.autograd.grad(out, leaves, gradient)

    return work


def _verdict(ratio: float) -> str:
    if ratio > 1:
        return f"fused wins: {ratio:.2f} times as fast"
    return f"written out wins: {1 / ratio:.2f} times as fast"
