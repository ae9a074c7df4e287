"""Chapter 3: the solutions as they stand in the notebook, other right answers, and wrong ones."""

import torch
import torch.nn.functional as F
from einops import rearrange

SOLUTIONS = {
    "3.1": """
def attend(q, k, v, mask):
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return logits.masked_fill(~mask, float("-inf")).softmax(-1) @ v
""",
    "3.2": """
def to_heads(x, heads):
    B, N, D = x.shape
    return x.view(B, N, heads, D // heads).transpose(1, 2)
""",
    "3.3": """
def pairs(grid, kind, causal=False):
    F, H, W = grid
    N = F * H * W
    frames = F * (F + 1) // 2 if causal else F * F  # query, key
    if kind == "joint":
        return frames * (H * W) ** 2
    space = N * H * W if kind == "factorized" else N * (H + W)
    return space + frames * H * W
""",
    "3.4": """
def bias(table, n):
    reach = (table.shape[1] + 1) // 2
    places = torch.arange(n)
    offsets = places[:, None] - places
    return table[:, offsets.clamp(1 - reach, reach - 1) + reach - 1]
""",
    "3.5": """
def factorized(x, grid, space, time):
    B, (F, H, W) = len(x), grid
    frames = x.reshape(B * F, H * W, -1)
    x = x + space(frames).reshape(x.shape)
    columns = x.reshape(B, F, H * W, -1).transpose(1, 2)
    out = time(columns.reshape(B * H * W, F, -1))
    back = out.reshape(B, H * W, F, -1).transpose(1, 2)
    return x + back.reshape(x.shape)
""",
    "3.6": """
def stream(q, k, v, cache):
    if cache is not None:
        k = torch.cat([cache[0], k], dim=2)
        v = torch.cat([cache[1], v], dim=2)
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return logits.softmax(-1) @ v, (k, v)
""",
}


def _attend(scale=0.5, flip=False, where="before", fill=float("-inf"), axis=-1):
    """Attention with a fault in its scale, mask or softmax."""

    def attend(q, k, v, mask):
        logits = q @ k.transpose(-1, -2) / q.shape[-1] ** scale
        allowed = ~mask if flip else mask
        if where == "times":
            return (logits * allowed).softmax(axis) @ v
        if where == "before":
            logits = logits.masked_fill(~allowed, fill)
        weights = logits.softmax(axis)
        if where == "after":
            weights = weights.masked_fill(~allowed, 0.0)
        return weights @ v

    return attend


def _mask_in_place(q, k, v, mask):
    out = _attend()(q, k, v, mask)
    mask.fill_(True)
    return out


def _split(pattern):
    def split_heads(x, heads):
        return rearrange(x, pattern, h=heads)

    return split_heads


def _reversed_heads(x, heads):
    return _split("b n (h e) -> b h n e")(x, heads).flip(1)


def _count(joint=lambda F, S, N: N * N, space=lambda F, H, W: F * H * W * H * W, half=None):
    """A count of pairs; `half` says what a causal mask leaves of the whole."""

    def pairs(grid, kind, causal=False):
        frames, H, W = grid
        N = frames * H * W
        if kind == "joint":
            whole = joint(frames, H * W, N)
        elif kind == "factorized":
            whole = space(frames, H, W) + N * frames
        else:
            whole = N * (H + W + frames)
        return half(whole, frames, N) if causal and half else whole

    return pairs


def _one_stage(grid, kind, causal=False):
    frames, H, W = grid
    N = frames * H * W
    return N * N if kind == "joint" else N * H * W


def _both_full(grid, kind, causal=False):
    frames, H, W = grid
    return (frames * H * W) ** 2 * (1 if kind == "joint" else 2)


def _one_query(grid, kind, causal=False):
    frames, H, W = grid
    return frames * H * W if kind == "joint" else frames + (H * W if kind == "factorized" else H + W)


def _per_token(grid, kind, causal=False):
    frames, H, W = grid
    N = frames * H * W
    past = N * (frames + 1) // 2 if causal else N * frames
    if kind == "joint":
        return N * (N + 1) // 2 if causal else N * N
    return N * (H * W if kind == "factorized" else H + W) + past


def _bias(offset=lambda q, k: q - k, clamp=True, middle=True):
    def bias(table, n):
        reach = (table.shape[1] + 1) // 2
        places = torch.arange(n)
        offsets = offset(places[:, None], places)
        if clamp:
            offsets = offsets.clamp(1 - reach, reach - 1)
        return table[:, offsets + (reach - 1 if middle else 0)]

    return bias


def _around(table, n):
    places = torch.arange(n)
    return table[:, (places[:, None] - places).remainder(table.shape[1])]


def _by_loops(table, n):
    reach = (table.shape[1] + 1) // 2
    out = torch.zeros(len(table), n, n, dtype=table.dtype)
    for q in range(n):
        for k in range(n):
            offset = max(1 - reach, min(reach - 1, q - k))
            out[:, q, k] = table[:, offset + reach - 1]
    return out


def _rearranged(x, grid, space, time):
    sizes = dict(zip("fhw", grid, strict=True))
    tokens = space(rearrange(x, "b (f h w) d -> (b f) (h w) d", **sizes))
    x = x + rearrange(tokens, "(b f) (h w) d -> b (f h w) d", **sizes)
    tokens = time(rearrange(x, "b (f h w) d -> (b h w) f d", **sizes))
    return x + rearrange(tokens, "(b h w) f d -> b (f h w) d", **sizes)


def _staged(residual=(True, True), order="st", parallel=False, joint=False, views=False):
    def factorized(x, grid, space, time):
        sizes = dict(zip("fhw", grid, strict=True))
        start = x

        def in_space(x):
            if joint:
                return space(x)
            tokens = space(rearrange(x, "b (f h w) d -> (b f) (h w) d", **sizes))
            return rearrange(tokens, "(b f) (h w) d -> b (f h w) d", **sizes)

        def in_time(x):
            if views:  # only the shape is right
                frames, rows, columns = grid
                return time(x.reshape(len(x) * rows * columns, frames, -1)).reshape(x.shape)
            tokens = time(rearrange(x, "b (f h w) d -> (b h w) f d", **sizes))
            return rearrange(tokens, "(b h w) f d -> b (f h w) d", **sizes)

        for number, stage in enumerate((in_space, in_time) if order == "st" else (in_time, in_space)):
            update = stage(start if parallel else x)
            x = x + update if residual[number] else update
        return x

    return factorized


def _in_place(x, grid, space, time):
    return x.copy_(_rearranged(x, grid, space, time))


def _stream(append="all", masked=False, scale=0.5):
    def stream(q, k, v, cache):
        new = k, v
        if cache is not None and append != "none":
            k, v = (torch.cat([old, now], 2) for old, now in zip(cache, new, strict=True))
        logits = q @ k.transpose(-1, -2) / q.shape[-1] ** scale
        if masked:
            ban = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1 + k.shape[2] - q.shape[2])
            logits = logits.masked_fill(ban, float("-inf"))
        return logits.softmax(-1) @ v, (new if append == "last" else (k, v))

    return stream


_kept = []


def _global_cache(q, k, v, cache):
    _kept.append((k, v))
    k, v = (torch.cat(parts, 2) for parts in zip(*_kept, strict=True))
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v, None


def _list_cache(q, k, v, cache):
    kept = [*(cache or []), (k, v)]
    k, v = (torch.cat(parts, 2) for parts in zip(*kept, strict=True))
    return F.scaled_dot_product_attention(q, k, v), kept


RIGHT = {
    "3.1": [("fused", lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, mask))],
    "3.2": [("rearrange", _split("b n (h e) -> b h n e"))],
    "3.3": [],
    "3.4": [("loops", _by_loops)],
    "3.5": [("rearrange", _rearranged)],
    "3.6": [("list", _list_cache)],
}

WRONG = {
    "3.1": [
        ("no scale", _attend(scale=0), "divided by the root"),
        ("by D", _attend(scale=1), "Divide by its root"),
        ("no mask", _attend(where="nowhere"), "no effect"),
        ("inverted", _attend(flip=True, fill=-1e9), "wrong way round|not finite"),
        ("after softmax", _attend(where="after"), "no longer sum to 1"),
        ("times mask", _attend(where="times"), "no ban"),
        ("over queries", _attend(axis=-2), "over the queries|not finite"),
        ("minus nine", _attend(fill=-1.0), "do not satisfy"),
        ("spoils the mask", _mask_in_place, "changed the mask"),
    ],
    "3.2": [
        ("view", lambda x, heads: x.reshape(len(x), heads, x.shape[1], -1), "keeps the order"),
        ("not exchanged", _split("b n (h e) -> b n h e"), "before the tokens"),
        ("interleaved", _split("b n (e h) -> b h n e"), "every heads-th"),
        ("merged", lambda x, heads: x, "must have the shape"),
        ("reversed", _reversed_heads, "does not give head h"),
    ],
    "3.3": [
        ("one stage", _one_stage, "one stage of two"),
        ("both full", _both_full, "a part of the tokens|mask changes nothing"),
        ("one query", _one_query, "Multiply by the queries"),
        ("no mask", _count(), "mask changes nothing"),
        ("half", _count(half=lambda whole, frames, N: whole // 2), "half is not exact"),
        ("token by token", _per_token, "own frame"),
        ("square of the side", _count(space=lambda F, H, W: F * H * W * max(H, W)), "should be|one stage"),
    ],
    "3.4": [
        ("k - q", _bias(lambda q, k: k - q), "sign of the offset"),
        ("key alone", _bias(lambda q, k: k + 0 * q), "all rows are equal"),
        ("distance", _bias(lambda q, k: (q - k).abs()), "before and after"),
        ("no clamp", _bias(clamp=False), "Clamp them|come round|far offsets"),
        ("not shifted", _bias(middle=False), "middle entry"),
        ("round", _around, "middle entry|come round|far offsets"),
        ("one head", lambda table, n: _by_loops(table, n)[:1], "must have the shape"),
    ],
    "3.5": [
        ("joint", _staged(joint=True), "must not see another"),
        ("time first", _staged(order="ts"), "call space once and then time"),
        ("parallel", _staged(parallel=True), "what space has made"),
        ("no residual", _staged(residual=(False, False)), "residual is missing"),
        ("no residual in time", _staged(residual=(True, False)), "residual is missing"),
        ("view", _staged(views=True), "view cannot exchange"),
        ("in place", _in_place, "changed x"),
        ("space only", lambda x, grid, space, time: x + space(x.reshape(len(x) * grid[0], -1, x.shape[2]))
         .reshape(x.shape), "you called space"),
    ],
    "3.6": [
        ("no cache", _stream(append="none"), "sees itself alone"),
        ("token by token", _stream(masked=True), "also those behind it"),
        ("last frame only", _stream(append="last"), "forget those before"),
        ("no scale", _stream(scale=0), "first frame is wrong"),
        ("global", _global_cache, "a later one is not|first frame is wrong"),
        ("no pair", lambda q, k, v, cache: F.scaled_dot_product_attention(q, k, v), "return a pair"),
    ],
}  # fmt: skip
