"""Checks of chapter 3: attention in space and time."""

from functools import partial

import torch

from t2v_mini.exercises.answers import close, tensor_of
from t2v_mini.exercises.mechanism import Wrong, exercise

_close = partial(close, tolerance=1e-6)


@exercise(
    id="3.1",
    title="Attention with a mask",
    difficulty=1,
    minutes=10,
    hint="A key that must not be looked at needs the weight 0 after the softmax. Which logit gives "
    "exp(...) = 0, and where does the tensor's method masked_fill put it?",
)
def check_attend(attend) -> None:
    rng = torch.Generator().manual_seed(0)
    # As many queries as keys: a softmax over the wrong axis fits as well.
    q, k, v = torch.randn(3, 2, 5, 9, generator=rng, dtype=torch.float64)
    mask = torch.rand(2, 5, 5, generator=rng) < 0.5
    mask[:, torch.arange(5), torch.arange(5)] = True
    mask[0, 0, 1:] = False
    logits = q @ k.transpose(-1, -2)
    scaled = logits / 3
    low = float("-inf")
    given = mask.clone()
    raw = attend(q, k, v, given)
    if isinstance(raw, torch.Tensor) and raw.isnan().any():
        raise Wrong(
            "the result holds NaN: a softmax had nothing to choose from. Is the mask the wrong way round "
            "(true = may look), or does the softmax run over the queries?"
        )
    found = tensor_of("the result", raw, (2, 5, 9))
    if not torch.equal(given, mask):
        raise Wrong("you changed the mask itself. Make a new tensor.")
    if _close(found, scaled.masked_fill(~mask, low).softmax(-1) @ v):
        return
    if _close(found, logits.masked_fill(~mask, low).softmax(-1) @ v):
        raise Wrong("the logits must be divided by the root of E, the length of a query.")
    if _close(found, (logits / 9).masked_fill(~mask, low).softmax(-1) @ v):
        raise Wrong("you divide by E. Divide by its root.")
    if _close(found, scaled.softmax(-1) @ v):
        raise Wrong("the mask has no effect: forbidden keys are still looked at.")
    some = ~mask.all(-1)  # the queries that may look at some keys either way
    if _close(found[some], (scaled.masked_fill(mask, low).softmax(-1) @ v)[some]):
        raise Wrong("the mask is the wrong way round: it is true where a key MAY be looked at.")
    if _close(found, scaled.softmax(-1).masked_fill(~mask, 0.0) @ v):
        raise Wrong("the weights of a query no longer sum to 1: mask the logits before the softmax.")
    if _close(found, (scaled * mask).softmax(-1) @ v):
        raise Wrong("a logit of 0 is no ban: exp(0) = 1. Which logit has the weight 0?")
    if _close(found, scaled.masked_fill(~mask, low).softmax(-2).nan_to_num() @ v):
        raise Wrong(
            "the softmax runs over the queries. The weights of one query must sum to 1 over the keys."
        )
    raise Wrong("the numbers do not satisfy the equation of attention.")


@exercise(
    id="3.2",
    title="Heads",
    difficulty=1,
    minutes=5,
    hint="Channels h * E ... h * E + E - 1 of each token belong to head h. First split the last axis in two, "
    "then exchange two axes; view alone cannot exchange.",
)
def check_split_heads(split_heads) -> None:
    # In the second case there are as many tokens as heads: an axis in the wrong place fits as well.
    for tokens, heads, width in ((6, 2, 5), (4, 4, 3), (3, 1, 4)):
        x = torch.arange(2.0 * tokens * heads * width).reshape(2, tokens, heads * width)
        name = f"split_heads of {tuple(x.shape)} with {heads} heads"
        right = x.reshape(2, tokens, heads, width).transpose(1, 2).double()
        found = split_heads(x, heads)
        if isinstance(found, torch.Tensor) and tuple(found.shape) == (2, tokens, heads, width) != right.shape:
            raise Wrong("the heads must stand before the tokens: (B, heads, N, E).")
        found = tensor_of(name, found, tuple(right.shape))
        if _close(found, right):
            continue
        if _close(found, x.reshape(2, heads, tokens, width).double()):
            raise Wrong(
                "view or reshape to (B, heads, N, E) keeps the order of the numbers: a head gets whole "
                "tokens, not a part of each. Split the last axis first."
            )
        if _close(found, x.reshape(2, tokens, width, heads).permute(0, 3, 1, 2).double()):
            raise Wrong("each head gets every heads-th channel. It should get neighbouring ones.")
        raise Wrong(f"{name} does not give head h the channels h * E ... h * E + E - 1 of each token.")


def _pairs(grid: tuple[int, int, int], kind: str, causal: bool) -> int:
    F, H, W = grid
    N, past = F * H * W, F * (F + 1) // 2
    if kind == "joint":
        return (H * W) ** 2 * past if causal else N * N
    within = N * H * W if kind == "factorized" else N * (H + W)
    return within + (H * W * past if causal else N * F)


@exercise(
    id="3.3",
    title="Counting pairs",
    difficulty=2,
    minutes=10,
    hint="Ask for one stage how many keys one query sees, and multiply by the queries. Causal: a query in "
    "frame f (from 0) sees f + 1 frames, so sum over f.",
)
def check_pairs(pairs) -> None:
    for causal in (False, True):
        for grid in ((2, 2, 2), (1, 3, 5), (8, 4, 6), (16, 32, 32), (3, 5, 2)):
            for kind in ("joint", "factorized", "axial"):
                name = f"pairs({grid}, {kind!r}, causal={causal})"
                found = pairs(grid, kind, causal)
                if isinstance(found, bool) or not isinstance(found, (int, float)):
                    raise Wrong(f"{name} must be a number, got {type(found).__name__}.")
                right, whole = _pairs(grid, kind, causal), _pairs(grid, kind, False)
                if found == right:
                    continue
                F, H, W = grid
                N = F * H * W
                if not causal and kind == "factorized" and found in (N * H * W, N * F):
                    raise Wrong(f"{name}: you count one stage of two.")
                if not causal and kind == "factorized" and found == 2 * N * N:
                    raise Wrong(f"{name}: each stage looks at a part of the tokens, not at all of them.")
                if not causal and found == right // N:
                    raise Wrong(f"{name}: this is what one query sees. Multiply by the queries.")
                if causal and found == whole:
                    raise Wrong(f"{name}: the mask changes nothing in your count.")
                if causal and found in (whole / 2, whole // 2):
                    raise Wrong(
                        f"{name}: half is not exact: a frame sees itself, and stages within a frame "
                        "stay whole."
                    )
                if causal and kind == "joint" and found == N * (N + 1) // 2:
                    raise Wrong(
                        f"{name}: a token sees all tokens of its own frame, not only those before it."
                    )
                raise Wrong(f"{name} should be {right}, yours is {found}.")


@exercise(
    id="3.4",
    title="A bias for each offset",
    difficulty=2,
    minutes=10,
    hint="Make an (n, n) tensor of offsets q - k from one arange, clamp it, shift it so that the least is 0, "
    "and use it as an index: table[:, index].",
)
def check_bias(bias) -> None:
    rng = torch.Generator().manual_seed(0)
    for heads, reach, n in ((2, 4, 4), (3, 3, 7), (1, 6, 4), (2, 1, 5), (2, 5, 1)):
        table = torch.randn(heads, 2 * reach - 1, generator=rng, dtype=torch.float64)
        name = f"bias for a table of {2 * reach - 1} entries and n = {n}"
        offsets = torch.arange(n)[:, None] - torch.arange(n)
        index = offsets.clamp(1 - reach, reach - 1) + reach - 1
        right = table[:, index]
        try:
            found = bias(table, n)
        except IndexError:
            raise Wrong(
                f"{name} fails: offsets of {reach} and more have no entry of their own. Clamp them."
            ) from None
        found = tensor_of(name, found, (heads, n, n))
        if _close(found, right):
            continue
        if _close(found, right.transpose(1, 2)):
            raise Wrong("the sign of the offset is wrong: it is q - k, the query's place minus the key's.")
        if n > 1 and _close(found, found[:, :1].expand(-1, n, -1)):
            raise Wrong("all rows are equal: your bias depends on the key alone, not on the offset.")
        if _close(found, table[:, offsets.abs().clamp(max=reach - 1) + reach - 1]):
            raise Wrong("you use the distance, so that before and after are the same. Keep the sign.")
        if n > reach and _close(found, table[:, offsets.remainder(2 * reach - 1)]):
            raise Wrong("an index below 0 or beyond the end has come round on the other side.")
        if _close(found, table[:, offsets.clamp(1 - reach, reach - 1)]):
            raise Wrong(
                "offset 0 must use the middle entry, reach - 1. A negative index counts from the end."
            )
        raise Wrong(
            f"{name} does not hold table[q - k + reach - 1], with far offsets at the ends of the table."
        )


@exercise(
    id="3.5",
    title="Space, then time",
    difficulty=2,
    minutes=15,
    hint="Which axis do the tokens of one sequence share, and which axes count sequences? Put the latter to "
    "the batch, (b f) (h w) d and (b h w) f d, and bring everything back after each stage.",
)
def check_factorized(factorized) -> None:
    rng = torch.Generator().manual_seed(0)
    for grid in ((2, 3, 4), (3, 3, 3), (4, 2, 1), (1, 2, 2)):
        F, H, W = grid
        x = torch.randn(2, F * H * W, 5, generator=rng, dtype=torch.float64)
        before = x.clone()
        seen: list[tuple[str, tuple[int, ...]]] = []

        def stage(name: str, weight: float, seen=seen):
            def mix(tokens: torch.Tensor) -> torch.Tensor:
                """Running sums along the sequence: they tell which tokens share one, and their order."""
                seen.append((name, tuple(tokens.shape)))
                return weight * tokens.cumsum(1)

            return mix

        found = factorized(x, grid, stage("space", 0.3), stage("time", 0.2))
        found = tensor_of("the result", found, tuple(x.shape))
        if not torch.equal(x, before):
            raise Wrong("you changed x itself. Make a new tensor.")
        in_space = x + 0.3 * x.reshape(2, F, H * W, 5).cumsum(2).reshape(x.shape)
        right = in_space + 0.2 * in_space.reshape(2, F, H * W, 5).cumsum(1).reshape(x.shape)
        names = [name for name, _ in seen]
        if names != ["space", "time"]:
            raise Wrong(f"call space once and then time once; you called {', '.join(names) or 'neither'}.")
        if _close(found, right):
            continue
        shapes = dict(seen)
        if shapes["space"] == tuple(x.shape) != (2 * F, H * W, 5):
            raise Wrong("space gets all tokens of a clip at once. A frame must not see another one.")
        if shapes["space"] != (2 * F, H * W, 5):
            raise Wrong(f"space should get the shape {(2 * F, H * W, 5)}, it got {shapes['space']}.")
        if shapes["time"] != (2 * H * W, F, 5):
            raise Wrong(f"time should get the shape {(2 * H * W, F, 5)}, it got {shapes['time']}.")
        parallel = in_space + 0.2 * x.reshape(2, F, H * W, 5).cumsum(1).reshape(x.shape)
        if _close(found, parallel):
            raise Wrong("time must work on what space has made, not on x.")
        bare = 0.06 * (in_space - x) / 0.3
        bare = bare.reshape(2, F, H * W, 5).cumsum(1).reshape(x.shape)
        if any(_close(found, other) for other in (right - in_space, right - x, bare)):
            raise Wrong("a residual is missing: each stage adds to its input.")
        raise Wrong(
            "the shapes are right, the tokens are not: view cannot exchange axes, and what was moved must be "
            "moved back in the same order."
        )


@exercise(
    id="3.6",
    title="One frame at a time",
    difficulty=3,
    minutes=20,
    hint="A causal query looks at its own frame and at earlier ones: nothing that comes later can change it. "
    "So keep the keys and values that have been seen, append those of the new frame, and use no mask.",
)
def check_stream(stream) -> None:
    rng = torch.Generator().manual_seed(0)
    frames, cells, width = 4, 3, 6
    q, k, v = torch.randn(3, 2, 2, frames * cells, width, generator=rng, dtype=torch.float64)

    def due(rule) -> torch.Tensor:
        place = torch.arange(frames * cells)
        allowed = rule(place[:, None], place)
        logits = (q @ k.transpose(-1, -2) / width**0.5).masked_fill(~allowed, float("-inf"))
        return logits.softmax(-1) @ v

    right = due(lambda a, b: b // cells <= a // cells)
    # Two clips take turns: a cache that is kept anywhere but in what is handed over mixes them.
    found, caches = [[], []], [None, None]
    for f in range(frames):
        for clip in (0, 1):
            part = slice(f * cells, (f + 1) * cells)
            new = [z[clip : clip + 1, :, part] for z in (q, k, v)]
            answer = stream(*new, caches[clip])
            if not isinstance(answer, (tuple, list)) or len(answer) != 2:
                raise Wrong(f"stream must return a pair (out, cache), got {type(answer).__name__}.")
            out, caches[clip] = answer
            found[clip].append(tensor_of(f"out for frame {f}", out, (1, 2, cells, width)))
    made = torch.cat([torch.cat(parts, 2) for parts in found])
    if _close(made, right):
        return
    if _close(made, due(lambda a, b: b // cells == a // cells)):
        raise Wrong("each frame sees itself alone: the cache is never used, or it is not handed on.")
    if _close(made, due(lambda a, b: b <= a)):
        raise Wrong("within its own frame a token may look at all tokens, also those behind it.")
    if _close(made, due(lambda a, b: (b // cells <= a // cells) & (b // cells >= a // cells - 1))):
        raise Wrong("you keep one frame and forget those before it. Append, do not replace.")
    if not _close(made[:, :, :cells], right[:, :, :cells]):
        raise Wrong(
            "already the first frame is wrong: it should be plain attention within it, scaled by 1/sqrt(D)."
        )
    raise Wrong(
        "the first frame is right; a later one is not what causal attention over the whole clip gives."
    )
