"""Chapter 5: the solutions as they stand in the notebook, other right answers, and wrong ones."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange

SOLUTIONS = {
    "5.1": """
def masked_mean(tokens, mask):
    weight = mask[..., None].to(tokens.dtype)
    return (tokens * weight).sum(1) / weight.sum(1).clamp_min(1)
""",
    "5.2": """
def gated(x, c, weight, bias, sublayer):
    shift, scale, gate = (
        part[:, None] for part in F.linear(F.silu(c), weight, bias).chunk(3, 1)
    )
    normed = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    return x + gate * sublayer(normed * (1 + scale) + shift)
""",
    "5.3": """
def cross(q, k, v, mask, heads):
    q, k, v = (
        z.unflatten(-1, (heads, -1)).transpose(1, 2) for z in (q, k, v)
    )
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    logits = logits.masked_fill(~mask[:, None, None], float("-inf"))
    return (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
""",
    "5.4": """
def guide(with_text, without, scale, rescale):
    guided = without + scale * (with_text - without)
    axes = tuple(range(1, guided.ndim))
    narrow = with_text.std(axes, keepdim=True)
    wide = guided.std(axes, keepdim=True)
    return guided * (rescale * narrow / wide + 1 - rescale)
""",
    "5.5": """
def closed(predict, text, negative, scale, interval):
    low, high = interval

    def f(x, t):
        if scale == 1 or not low <= t[0] <= high:
            return predict(x, t, text)
        without = predict(x, t, negative)
        if scale == 0:
            return without
        return without + scale * (predict(x, t, text) - without)

    return f
""",
    "5.6": """
def interval_variance(rho2, s, low, high):
    def ratio(t):
        return ((1 - t) ** 2 * rho2 + t**2) / ((1 - t) ** 2 + t**2)

    return rho2 * (ratio(low) / ratio(high)) ** (s - 1)
""",
}


def _mean(weight=lambda mask: mask, divide="own", axis=1):
    """A mean with a fault in its weights, its divisor or its axis."""

    def masked_mean(tokens, mask):
        w = weight(mask)[..., None].to(tokens.dtype)
        total = (tokens * w).sum(axis)
        if divide == "own":
            return total / w.sum(axis).clamp_min(1)
        if divide == "batch":
            return total / w.sum()
        if divide == "bare":
            return total / w.sum(axis)
        return total / (tokens.shape[1] if divide == "L" else 1)

    return masked_mean


def _mean_by_loops(tokens, mask):
    out = torch.zeros(len(tokens), tokens.shape[2], dtype=tokens.dtype)
    for row, (vectors, real) in enumerate(zip(tokens, mask, strict=True)):
        if real.any():
            out[row] = vectors[real].mean(0)
    return out


def _largest(tokens, mask):
    return tokens.masked_fill(~mask[..., None], float("-inf")).amax(1)


def _mean_in_place(tokens, mask):
    tokens[~mask] = 0
    return tokens.sum(1) / mask.sum(1, keepdim=True).clamp_min(1)


def _gated(
    parts=(0, 1, 2), one=1.0, act=F.silu, late=None, norm=True, residual=True, where="before", axis=True
):
    """AdaLN-Zero with a fault."""

    def gated(x, c, weight, bias, sublayer):
        pieces = F.linear(act(c), weight, bias)
        pieces = (pieces if late is None else late(pieces)).chunk(3, 1)
        if axis:
            pieces = [piece[:, None] for piece in pieces]
        shift, scale, gate = (pieces[i] for i in parts)
        y = F.layer_norm(x, x.shape[-1:], eps=1e-6) if norm else x
        y = sublayer(y * (one + scale) + shift) if where == "before" else sublayer(y) * (one + scale) + shift
        if residual == "inside":
            return gate * (x + y)
        return (x if residual else 0) + gate * y

    return gated


def _gated_by_hand(x, c, weight, bias, sublayer):
    D = x.shape[-1]
    m = (c * torch.sigmoid(c)) @ weight.T + bias
    normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    inner = torch.einsum("bnd,bd->bnd", normed, 1 + m[:, D : 2 * D]) + m[:, None, :D]
    return x + torch.einsum("bnd,bd->bnd", sublayer(inner), m[:, 2 * D :])


def _gated_in_place(x, c, weight, bias, sublayer):
    return x.copy_(_gated()(x.clone(), c, weight, bias, sublayer))


def _cross(
    flip=False, masked="before", scale="E", axis=-1, low=float("-inf"), pattern="b n (h e) -> b h n e"
):
    """Attention to the words with a fault."""

    def cross(q, k, v, mask, heads):
        D = q.shape[-1]
        q, k, v = (rearrange(z, pattern, h=heads) for z in (q, k, v))
        divisor = {"E": q.shape[-1] ** 0.5, "none": 1, "D": D**0.5, "square": q.shape[-1]}[scale]
        logits = q @ k.transpose(-1, -2) / divisor
        forbidden = (mask if flip else ~mask)[:, None, None]
        if masked == "before":
            logits = logits.masked_fill(forbidden, low)
        weights = logits.softmax(axis).nan_to_num()
        if masked == "after":
            weights = weights.masked_fill(forbidden, 0.0)
        return rearrange(weights @ v, "b h n e -> b n (h e)")

    return cross


def _cross_fused(q, k, v, mask, heads):
    q, k, v = (rearrange(z, "b n (h e) -> b h n e", h=heads) for z in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
    return rearrange(out, "b h n e -> b n (h e)")


def _one_head(q, k, v, mask, heads):
    return _cross_fused(q, k, v, mask, 1)


def _not_merged(q, k, v, mask, heads):
    out = rearrange(_cross_fused(q, k, v, mask, heads), "b n (h e) -> b h n e", h=heads)
    return out.reshape(q.shape)


def _guide(base="null", target="text", power=1, share="right", over="clip", centred=False):
    """Guidance with a fault in the formula or in its rescale."""

    def guide(with_text, without, scale, rescale):
        gap = with_text - without
        guided = {
            "null": without + scale * gap,
            "text": with_text + scale * gap,
            "sign": with_text - scale * gap,
            "gap": scale * gap,
            "alone": scale * with_text,
        }[base]
        axes = {"clip": (1, 2, 3, 4), "batch": None, "frame": (1, 3, 4)}[over]
        narrow = (with_text if target == "text" else without).std(axes, keepdim=True)
        ratio = (narrow / guided.std(axes, keepdim=True)) ** power
        amount = {"right": rescale, "all": float(rescale > 0), "none": 0.0, "back": 1 - rescale}[share]
        if share == "back" and rescale == 0:
            amount = 0.0
        factor = amount * ratio + 1 - amount
        mean = guided.mean((1, 2, 3, 4), keepdim=True) if centred else 0
        return (guided - mean) * factor + mean

    return guide


def _guide_by_lerp(with_text, without, scale, rescale):
    guided = torch.lerp(without, with_text, scale)
    ratio = with_text.flatten(1).std(1, correction=0) / guided.flatten(1).std(1, correction=0)
    return torch.lerp(guided, guided * ratio.view(-1, 1, 1, 1, 1), rescale)


def _guide_in_place(with_text, without, scale, rescale):
    out = _guide()(with_text.clone(), without.clone(), scale, rescale)
    return with_text.copy_(out)


def _closed(
    ends=True, saves=True, outside="text", eager=False, paper=False, swapped=False, once=False, thrift=True
):
    """A closure with a fault."""

    def closed(predict, text, negative, scale, interval):
        low, high = interval
        decided = []
        if eager:
            start = torch.zeros(2, 3), torch.full((2,), high)
            predict(*start, text)
        if swapped:
            text, negative = negative, text

        def f(x, t):
            time = float(t[0])
            inside = low <= time <= high if ends else low < time < high
            if once:
                decided.append(inside)
                inside = decided[0]
            if outside == "guided":
                inside = True
            if outside == "swapped":
                inside = not inside
            if saves and (scale == 1 or not inside):
                return predict(x, t, negative if outside == "negative" else text)
            if thrift and saves and scale == 0 and not paper:
                return predict(x, t, negative)
            yes, no = predict(x, t, text), predict(x, t, negative)
            s = (scale if inside else 1) + paper
            return no + s * (yes - no)

        return f

    return closed


def _closed_by_lerp(predict, text, negative, scale, interval):
    """It asks for all times, not for the first."""

    def f(x, t):
        if scale == 1 or not bool((t >= interval[0]).all() & (t <= interval[1]).all()):
            return predict(x, t, text)
        if scale == 0:
            return predict(x, t, negative)
        return torch.lerp(predict(x, t, negative), predict(x, t, text), scale)

    return f


def _cross_inverted_bare(q, k, v, mask, heads):
    """The inverted mask without a guard: NaN where a caption has no padding."""
    q, k, v = (rearrange(z, "b n (h e) -> b h n e", h=heads) for z in (q, k, v))
    logits = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(mask[:, None, None], float("-inf"))
    return rearrange(logits.softmax(-1) @ v, "b h n e -> b n (h e)")


def _cross_on_heads(q, k, v, mask, heads):
    """One new axis too few: with as many captions as heads it broadcasts in silence."""
    q, k, v = (rearrange(z, "b n (h e) -> b h n e", h=heads) for z in (q, k, v))
    logits = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~mask[:, None], float("-inf"))
    return rearrange(logits.softmax(-1) @ v, "b h n e -> b n (h e)")


def _variance(everywhere=False, backwards=False, shift=1, factor=True, root=1.0):
    """The variance of the flow guided on an interval, with a fault."""

    def interval_variance(rho2, s, low, high):
        def ratio(t):
            return ((1 - t) ** 2 * rho2 + t**2) / ((1 - t) ** 2 + t**2)

        quotient = rho2 if everywhere else ratio(low) / ratio(high)
        quotient = 1 / quotient if backwards else quotient
        return ((rho2 if factor else 1) * quotient ** (s - shift)) ** root

    return interval_variance


def _variance_by_steps(rho2, s, low, high, steps=20_000):
    """The linear flow itself, with the midpoint rule; a time step never straddles an end of the interval."""
    ends = sorted({0.0, low, high, 1.0})
    total = 0.0
    for start, stop in pairwise(ends):
        width = (stop - start) / steps
        inside = low <= start and stop <= high
        for number in range(steps):
            t = start + (number + 0.5) * width
            own = (t - (1 - t) * rho2) / ((1 - t) ** 2 * rho2 + t**2)
            all_ = (t - (1 - t)) / ((1 - t) ** 2 + t**2)
            rate = own + (s - 1) * (own - all_) if inside else own
            total -= 2 * rate * width
    return math.exp(total)


RIGHT = {
    "5.1": [("loops", _mean_by_loops)],
    "5.2": [("by hand", _gated_by_hand)],
    "5.3": [("fused", _cross_fused)],
    "5.4": [("lerp", _guide_by_lerp)],
    "5.5": [("lerp", _closed_by_lerp)],
    "5.6": [("by steps", _variance_by_steps)],
}

WRONG = {
    "5.1": [
        ("counts pads", lambda tokens, mask: tokens.mean(1), "padding is counted"),
        ("by L", _mean(divide="L"), "divide by L"),
        ("sum", _mean(divide="nothing"), "this is the sum"),
        ("inverted", _mean(weight=lambda mask: ~mask), "wrong way round"),
        ("of the batch", _mean(divide="batch"), "whole batch"),
        ("no guard", _mean(divide="bare"), "0 by 0"),
        ("over captions", _mean(axis=0), "over the captions"),
        ("largest", _largest, "largest number"),
        ("in place", _mean_in_place, "changed the tokens"),
        ("first word", lambda tokens, mask: tokens[:, 0], "not the mean over"),
    ],
    "5.2": [
        ("no residual", _gated(residual=False), "residual is missing"),
        ("gates all", _gated(residual="inside"), "closes the residual"),
        ("no one", _gated(one=0.0), r"1 \+ scale"),
        ("scale first", _gated(parts=(1, 0, 2)), "shift and scale are exchanged"),
        ("gate first", _gated(parts=(1, 2, 0)), "gate is the last"),
        ("no SiLU", _gated(act=lambda z: z), "SiLU is missing"),
        ("late SiLU", _gated(act=lambda z: z, late=F.silu), "SiLU belongs before"),
        ("no norm", _gated(norm=False), "not normalised"),
        ("after", _gated(where="after"), "come before the sublayer"),
        ("no axis", _gated(axis=False), "axis for the tokens"),
        ("in place", _gated_in_place, "changed x"),
        ("gate squashed", _gated(late=torch.tanh), "do not satisfy"),
    ],
    "5.3": [
        ("no mask", _cross(masked="nowhere"), "no effect"),
        ("inverted", _cross(flip=True), "wrong way round"),
        ("inverted, bare", _cross_inverted_bare, "wrong way round"),
        ("mask on heads", _cross_on_heads, "falls on the heads|need. two axes"),
        ("after softmax", _cross(masked="after"), "no longer sum to 1"),
        ("zero", _cross(low=0.0), "no ban"),
        ("no scale", _cross(scale="none"), "root of E, the width"),
        ("by root D", _cross(scale="D"), "root of D"),
        ("by E", _cross(scale="square"), "divide by E"),
        ("one head", _one_head, "one head"),
        ("over patches", _cross(axis=-2), "over the patches"),
        ("interleaved", _cross(pattern="b n (e h) -> b h n e"), "are not those of attention"),
        ("not merged", _not_merged, "are not those of attention"),
    ],
    "5.4": [
        ("one plus w", _guide(base="text"), "no guidance"),
        ("sign", _guide(base="sign"), "sign is wrong"),
        ("gap alone", _guide(base="gap"), "must be added"),
        ("text alone", _guide(base="alone"), "does not take part"),
        ("no rescale", _guide(share="none"), "no effect"),
        ("always all", _guide(share="all"), "share of the way"),
        ("wrong way", _guide(share="back"), "wrong way"),
        ("batch", _guide(over="batch"), "whole batch"),
        ("frame", _guide(over="frame"), "flicker"),
        ("to null", _guide(target="null"), "WITH text"),
        ("upside down", _guide(power=-1), "upside down"),
        ("variance", _guide(power=2), "variances"),
        ("centred", _guide(centred=True), "keep the mean"),
        ("in place", _guide_in_place, "changed a prediction"),
    ],
    "5.5": [
        ("two calls always", _closed(saves=False), "you call predict with"),
        ("two calls at 0", _closed(thrift=False), "you call predict with"),
        ("open ends", _closed(ends=False), "ends belong"),
        ("ignores the interval", _closed(outside="guided"), "no guidance outside"),
        ("negative outside", _closed(outside="negative"), "that with the TEXT"),
        ("inside out", _closed(outside="swapped"), "guidance inside|no guidance outside"),
        ("eager", _closed(eager=True), "before anybody asked"),
        ("paper's scale", _closed(paper=True), "should be|no guidance"),
        ("exchanged", _closed(swapped=True), "that with the TEXT|exchanged"),
        ("decides once", _closed(once=True), "at each call"),
        ("returns a clip", lambda predict, *others: torch.zeros(2, 3), "return a function"),
    ],
    "5.6": [
        ("everywhere", _variance(everywhere=True), "no effect"),
        ("backwards", _variance(backwards=True), "comes last"),
        ("power s", _variance(shift=0), "s - 1|own clips"),
        ("no factor", _variance(factor=False), "factor rho2|own clips"),
        ("deviation", _variance(root=0.5), "standard deviation|own clips"),
        ("another", lambda rho2, s, low, high: rho2**s, "own clips|no effect|should be"),
    ],
}  # fmt: skip
