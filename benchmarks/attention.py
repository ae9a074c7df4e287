"""Time and memory of attention over a clip, against its size: `python -m benchmarks.attention --json`.

Joint, factorised and axial, written out and fused, with fitted exponents; and ratios against
blocks of diffusers and video-diffusion-pytorch on the same tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from einops import rearrange
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.measuring import PeakMemory, fair_clock, handed_over, interleaved
from experiments.results_file import conditions
from t2v_mini.layers.spacetime import KINDS, SpaceTimeAttention

GRIDS = ((2, 8, 8), (4, 8, 8), (8, 8, 8), (8, 16, 16), (16, 16, 16), (16, 32, 32))


@dataclass
class Arguments:
    """Measure attention over clips on this machine."""

    width: int = 64
    """Width of the tokens."""
    heads: int = 4
    """Heads."""
    repeats: int = 5
    """Measurements; the median is reported, beside the extremes."""
    largest: int = 16384
    """Tokens of the largest clip."""
    logits: float = 2.0
    """GiB that written-out logits may take; larger cases are left out and said to be."""
    json: bool = False
    """Print one JSON object instead of text."""
    out: Path | None = None
    """Also write the JSON object to this file."""


def training_pass(module: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """Forward and backward, for gradients of input and parameters."""
    leaf = x.detach().clone().requires_grad_()
    parameters = [p for p in module.parameters() if p.requires_grad] if isinstance(module, nn.Module) else []

    def work() -> None:
        out = module(leaf)
        torch.autograd.grad(out.sum(), [leaf, *parameters], allow_unused=True)

    return work


class OnGrid(nn.Module):
    """A module with its grid, as a function of tokens alone."""

    def __init__(self, module: nn.Module, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.module, self.grid = module, grid

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x, self.grid)


def logit_bytes(kind: str, grid: tuple[int, int, int], heads: int) -> int:
    """Bytes of the largest stage's float32 logits for one clip."""
    lengths, count = dict(zip("fhw", grid, strict=True)), int(np.prod(grid))
    return max(4 * heads * count * int(np.prod([lengths[a] for a in axes])) for axes in KINDS[kind])


def scaling_rows(arguments: Arguments) -> list[dict]:
    """One row for each kind, path and grid: seconds and peak memory of a training pass on one clip."""
    rows = []
    grids = [grid for grid in GRIDS if np.prod(grid) <= arguments.largest]
    with tqdm(total=2 * len(KINDS) * len(grids), unit="case", desc="scaling") as bar:
        for grid in grids:
            x = torch.randn(1, int(np.prod(grid)), arguments.width)
            works = {}
            for kind in KINDS:
                for path, fused in (("written out", False), ("fused", True)):
                    bar.update()
                    row = {"kind": kind, "path": path, "grid": list(grid), "tokens": x.shape[1]}
                    rows.append(row)
                    if not fused and logit_bytes(kind, grid, arguments.heads) > arguments.logits * 2**30:
                        row["left_out"] = (
                            f"its logits alone take {logit_bytes(kind, grid, arguments.heads)} bytes"
                        )
                        continue
                    module = SpaceTimeAttention(arguments.width, arguments.heads, kind, "rotary", fused=fused)
                    work = training_pass(OnGrid(module, grid), x)
                    with PeakMemory() as memory:
                        work()
                    row["peak_bytes"] = memory.peak
                    works[kind, path] = (row, work)
            times = interleaved({key: work for key, (_, work) in works.items()}, arguments.repeats)
            for key, (row, _) in works.items():
                row |= times[key]
    return rows


def exponents(rows: list[dict], last: int = 3) -> dict[str, dict]:
    """Slopes of time and memory over the number of tokens, on logarithmic axes, from the largest clips."""
    found = {}
    for kind in KINDS:
        for path in ("written out", "fused"):
            part = [r for r in rows if (r["kind"], r["path"]) == (kind, path) and "seconds" in r][-last:]
            if len(part) < 2:
                continue
            tokens = np.log([r["tokens"] for r in part])
            found[f"{kind}, {path}"] = {
                name: float(np.polyfit(tokens, np.log([r[key] for r in part]), 1)[0])
                for name, key in (("time", "seconds"), ("memory", "peak_bytes"))
            }
    return found


class LucidrainsTime(nn.Module):
    """Attention along time of video-diffusion-pytorch (Ho et al. 2022), on our tokens."""

    def __init__(self, width: int, heads: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        from rotary_embedding_torch import RotaryEmbedding
        from video_diffusion_pytorch.video_diffusion_pytorch import Attention

        self.grid = grid
        self.inner = Attention(width, heads, width // heads, RotaryEmbedding(width // heads))

    def forward(self, x: Tensor) -> Tensor:
        f, h, w = self.grid
        tokens = rearrange(x, "b (f h w) d -> b (h w) f d", f=f, h=h, w=w)
        return rearrange(self.inner(tokens), "b (h w) f d -> b (f h w) d", h=h, w=w)


class DiffusersJoint(nn.Module):
    """Self-attention of Wan 2.1 in diffusers, with its rotary positions, on our tokens."""

    def __init__(self, width: int, heads: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        from diffusers.models.transformers.transformer_wan import (
            WanAttention,
            WanAttnProcessor,
            WanRotaryPosEmbed,
        )

        self.inner = WanAttention(width, heads, width // heads, processor=WanAttnProcessor())
        # Kept out of the module tree: positions are no parameters.
        self.angles = WanRotaryPosEmbed(width // heads, (1, 1, 1), 64)(torch.zeros(1, 1, *grid))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, rotary_emb=self.angles)


class AlongTime(nn.Module):
    """The last stage of our factorised attention alone."""

    def __init__(self, width: int, heads: int, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.grid, self.inner = grid, SpaceTimeAttention(width, heads, "joint", "rotary")

    def forward(self, x: Tensor) -> Tensor:
        f, h, w = self.grid
        tokens = rearrange(x, "b (f h w) d -> (b h w) f d", f=f, h=h, w=w)
        return rearrange(self.inner(tokens, (f, 1, 1)), "(b h w) f d -> b (f h w) d", h=h, w=w)


def peer_rows(arguments: Arguments) -> list[dict]:
    """Ours against a peer on the same tokens, in turn; `ratio` is our seconds over theirs."""
    rows, width, heads, grid, batch = [], arguments.width, arguments.heads, (8, 8, 8), 4
    cases = {
        "joint, against diffusers WanAttention": (
            lambda: OnGrid(SpaceTimeAttention(width, heads, "joint", "rotary"), grid),
            lambda: DiffusersJoint(width, heads, grid),
        ),
        "along time, against video-diffusion-pytorch Attention": (
            lambda: AlongTime(width, heads, grid),
            lambda: LucidrainsTime(width, heads, grid),
        ),
    }
    for name, (ours, theirs) in cases.items():
        row = {"name": name, "grid": list(grid), "batch": batch, "dtype": "float32", "compile": False}
        rows.append(row)
        x = torch.randn(batch, int(np.prod(grid)), width)
        try:
            modules = {"ours": ours(), "peer": theirs()}
        except ImportError as error:
            row["left_out"] = f"the peer is not installed: {error}"
            continue
        works = {who: training_pass(module, x) for who, module in modules.items()}
        for who, work in works.items():
            row[f"{who}_parameters"] = sum(p.numel() for p in modules[who].parameters())
            with PeakMemory() as memory:
                work()
            row[f"{who}_peak_bytes"] = memory.peak
        row |= interleaved(works, 4 * arguments.repeats, warm_up=3)
        row["ratio"] = row["ours"][fair_clock()] / row["peer"][fair_clock()]
        row["verdict"] = "ours is faster" if row["ratio"] < 1 else "the peer is faster"
    return rows


def main(arguments: Arguments) -> None:
    """Measure, print and write."""
    rows = scaling_rows(arguments)
    result = {
        "settings": {"width": arguments.width, "heads": arguments.heads, "pass": "forward and backward"},
        "scaling": rows,
        "exponents": exponents(rows),
        "peers": peer_rows(arguments),
        "conditions": conditions(),
    }
    if handed_over(result, arguments.out, arguments.json):
        return
    for row in rows:
        found = row.get("left_out") or f"{1000 * row['seconds']:9.1f} ms {row['peak_bytes'] / 2**20:9.1f} MiB"
        print(f"{row['kind']:10} {row['path']:11} {row['tokens']:6} tokens  {found}")
    for name, slopes in result["exponents"].items():
        print(f"{name:24} time ~ N^{slopes['time']:.2f}, memory ~ N^{slopes['memory']:.2f}")
    for row in result["peers"]:
        found = row.get("left_out") or f"{row['ratio']:.2f} of the peer's time: {row['verdict']}"
        print(f"{row['name']}: {found}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
