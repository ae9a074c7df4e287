"""Attention over the tokens of a clip: joint, factorised or axial, with positions in space and time."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from t2v_mini.layers.attention import Attention
from t2v_mini.layers.embeddings import rotary_angles

Grid = tuple[int, int, int]  # frames, rows, columns

# Which axes of the grid look at each other, one stage after the other.
KINDS = {"joint": ("fhw",), "factorized": ("hw", "f"), "axial": ("w", "h", "f")}
POSITIONS = ("rotary", "relative", "none")


class RelativePositionBias(nn.Module):
    """Adds `table[q - k + reach - 1]` to the logits, a learned table for each axis.

    A bias is a number, as in Swin (Liu et al. 2021, equation 4); that it is a sum over the axes is
    from MViTv2 (Li et al. 2022). The tables start at zero. Offsets of `reach` and more share the last
    entry (Shaw et al. 2018), so that any size of grid works.
    """

    def __init__(self, heads: int, reach: tuple[int, ...]) -> None:
        super().__init__()
        if min(reach) < 1:
            raise ValueError(f"reach must be at least 1 on each axis, got {reach}")
        self.reach = reach
        self.tables = nn.ParameterList(nn.Parameter(torch.zeros(heads, 2 * r - 1)) for r in reach)

    def forward(self, sizes: tuple[int, ...]) -> Float[Tensor, "H N N"]:
        """The bias between all pairs of cells of a grid, in row-major order."""
        if len(sizes) != len(self.reach):
            raise ValueError(f"sizes must have {len(self.reach)} axes, got {sizes}")
        grid = torch.meshgrid(*(torch.arange(n) for n in sizes), indexing="ij")
        total = 0
        for axis, table, reach in zip(grid, self.tables, self.reach, strict=True):
            cells = axis.flatten().to(table.device)
            offsets = (cells[:, None] - cells[None, :]).clamp(1 - reach, reach - 1)
            total = total + table[:, offsets + reach - 1]
        return total


class SpaceTimeAttention(nn.Module):
    """Self-attention over a clip's tokens in row-major order (frames, rows, columns).

    `kind`: "joint" lets all tokens look at all; "factorized" looks within a frame, then along time
    (ViViT model 3, Arnab et al. 2021); "axial" along rows, columns and time, one after the other
    (Ho et al. 2019). `positions`: "rotary" angles, "relative" bias tables that reach as far as
    `reach` says, or "none". With `causal`, no token looks at a later frame.

    Returns what is to be added to x; x itself should come normalised. Raises `ValueError` for an
    unknown kind or positions, and for tokens or a mask that do not fit the grid.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kind: str = "joint",
        positions: str = "rotary",
        causal: bool = False,
        reach: Grid = (16, 16, 16),
        fused: bool | None = None,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if positions not in POSITIONS:
            raise ValueError(f"positions must be one of {', '.join(POSITIONS)}, got {positions!r}")
        self.width, self.kind, self.positions, self.causal = width, kind, positions, causal
        self.stages = nn.ModuleList(Attention(width, heads, fused=fused) for _ in KINDS[kind])
        # The caller normalises for the first stage.
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in KINDS[kind][1:])
        self.biases = nn.ModuleList(
            RelativePositionBias(heads, tuple(reach["fhw".index(a)] for a in axes))
            for axes in (KINDS[kind] if positions == "relative" else ())
        )

    def forward(
        self, x: Float[Tensor, "B N D"], grid: Grid, mask: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """Attend within the grid; `mask` is true for the tokens that may be looked at."""
        if x.shape[1] != grid[0] * grid[1] * grid[2]:
            raise ValueError(f"x must hold one token for each cell of the grid {grid}, got {x.shape[1]}")
        if mask is not None and mask.shape != x.shape[:2]:
            raise ValueError(f"mask must have shape {tuple(x.shape[:2])}, got {tuple(mask.shape)}")
        update = torch.zeros_like(x)
        for index, axes in enumerate(KINDS[self.kind]):
            source = self.norms[index - 1](x + update) if index else x
            update = update + self._stage(index, axes, source, grid, mask)
        return update

    def _stage(self, index: int, axes: str, x: Tensor, grid: Grid, mask: Tensor | None) -> Tensor:
        lengths = dict(zip("fhw", grid, strict=True))
        rest = [a for a in "fhw" if a not in axes]
        apart, whole = f"(b {' '.join(rest)}) ({' '.join(axes)})", "b (f h w)"
        sizes = tuple(lengths[a] for a in axes)
        tokens = rearrange(x, f"{whole} d -> {apart} d", **lengths)
        keys = None if mask is None else rearrange(mask, f"{whole} -> {apart}", **lengths)
        attention = self.stages[index]
        angles = bias = None
        if self.positions == "rotary":
            angles = rotary_angles(sizes, self.width // attention.heads).to(x.device)
        if self.positions == "relative":
            bias = self.biases[index](sizes)
        if self.causal and "f" in axes:
            later = later_frames(sizes, x.device)
            bias = (torch.zeros_like(later, dtype=x.dtype) if bias is None else bias).masked_fill(
                later, float("-inf")
            )
        out = attention(tokens, mask=keys, bias=bias, angles=angles)
        return rearrange(out, f"{apart} d -> {whole} d", **lengths)


def later_frames(sizes: tuple[int, ...], device: torch.device | None = None) -> Bool[Tensor, "1 N N"]:
    """True where a key lies in a later frame than its query; frames are the first of the axes."""
    frame = torch.arange(sizes[0], device=device).repeat_interleave(torch.Size(sizes[1:]).numel())
    return (frame[None, :] > frame[:, None])[None]
