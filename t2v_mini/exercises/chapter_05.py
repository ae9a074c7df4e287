"""Checks of chapter 5: text conditioning."""

from functools import partial

import torch
import torch.nn.functional as F

from t2v_mini.exercises import guidance  # noqa: F401  (registers 5.4 to 5.6)
from t2v_mini.exercises.answers import close, diagnose, tensor_of
from t2v_mini.exercises.mechanism import Wrong, exercise

_close = partial(close, tolerance=1e-6)


@exercise(
    id="5.1",
    title="A mean that does not count padding",
    difficulty=1,
    minutes=5,
    hint="Turn the mask into numbers 0 and 1 with one more axis, so that it multiplies each token's vector. "
    "What do you divide by, and what keeps that from being 0?",
)
def check_masked_mean(masked_mean) -> None:
    rng = torch.Generator().manual_seed(0)
    # As many captions as tokens in the first case: a mean over the wrong axis fits as well.
    for lengths, total in (([4, 1, 2, 3], 4), ([2, 5, 1], 5), ([0, 3], 3)):
        tokens = torch.randn(len(lengths), total, 6, generator=rng, dtype=torch.float64) + 1
        mask = torch.arange(total) < torch.tensor(lengths)[:, None]
        right = torch.stack(
            [z[m].mean(0) if m.any() else torch.zeros(6) for z, m in zip(tokens, mask, strict=True)]
        )
        given, kept = tokens.clone(), mask.clone()
        found = masked_mean(given, kept)
        if not (torch.equal(given, tokens) and torch.equal(kept, mask)):
            raise Wrong("you changed the tokens or the mask. Make new tensors.")
        if isinstance(found, torch.Tensor) and not mask.any(1).all() and not torch.isfinite(found).all():
            raise Wrong("a caption without any token must give zeros. Yours divides 0 by 0.")
        found = tensor_of("the result", found, (len(lengths), 6))
        if _close(found, right):
            continue
        weight = mask[..., None].double()
        counts = weight.sum(1)
        faults = [
            (tokens.mean(1), "the mask has no effect: padding is counted."),
            (
                (tokens * weight).mean(1),
                "the sum is right, but you divide by L, padding included. Divide by the words.",
            ),
            ((tokens * weight).sum(1), "this is the sum over the words. Divide it by their number."),
            (
                (tokens * (1 - weight)).sum(1) / (total - counts).clamp_min(1),
                "the mask is the wrong way round: it is true where a token is REAL.",
            ),
            (
                (tokens * weight).sum(1) / counts.sum(),
                "each caption has its own number of words; you divide by that of the whole batch.",
            ),
            (
                (tokens * weight).sum(0) / weight.sum(0).clamp_min(1),
                "the mean runs over the captions of the batch. It must run over a caption's tokens.",
            ),
            (
                tokens.masked_fill(weight == 0, float("-inf")).amax(1),
                "this is the largest number of each channel, not the mean.",
            ),
        ]
        diagnose(found, faults, _close)
        empty = ~mask.any(1)
        if empty.any() and _close(found[~empty], right[~empty]):
            raise Wrong("a caption without any token must give zeros.")
        raise Wrong("the numbers are not the mean over the tokens that the mask allows.")


@exercise(
    id="5.2",
    title="AdaLN-Zero",
    difficulty=2,
    minutes=15,
    hint="SiLU of c, then the linear map, then chunk in three: shift, scale, gate. Each of the three is "
    "(B, D); a new axis in the middle makes one vector serve all tokens of its sample.",
)
def check_gated(gated) -> None:
    rng = torch.Generator().manual_seed(0)

    def sublayer(x: torch.Tensor) -> torch.Tensor:
        """Mixes tokens and channels, so that it matters what happens before it and what after."""
        return torch.tanh(x.cumsum(1)) + 0.5 * x.flip(-1)

    # In the second case there are as many tokens as samples: a missing axis broadcasts in silence.
    for samples, tokens, width, inner in ((2, 5, 8, 6), (4, 4, 8, 8)):
        draw = partial(torch.randn, generator=rng, dtype=torch.float64)
        x, c = 2 * draw(samples, tokens, width) + 1, draw(samples, inner)
        weight, bias = 0.4 * draw(3 * width, inner), 0.3 * draw(3 * width)
        before = x.clone()
        try:
            found = gated(x, c, weight, bias, sublayer)
        except RuntimeError as error:
            if "size of tensor" in str(error):
                raise Wrong(
                    "shapes do not fit: shift, scale and gate are (B, D) and need an axis for the tokens."
                ) from None
            raise
        if not torch.equal(x, before):
            raise Wrong("you changed x itself. Make a new tensor.")
        found = tensor_of("the result", found, tuple(x.shape))

        def answer(
            parts=(0, 1, 2), one=1.0, act=F.silu, norm=True, keep=1.0, first=True, closes=False, late=False
        ):
            """The right answer, or one with a fault."""
            raw = F.linear(act(c), weight, bias)  # noqa: B023
            pieces = (F.silu(raw) if late else raw)[:, None].chunk(3, -1)
            shift, scale, gate = (pieces[i] for i in parts)
            y = F.layer_norm(x, x.shape[-1:], eps=1e-6) if norm else x  # noqa: B023
            y = sublayer(y * (one + scale) + shift) if first else sublayer(y) * (one + scale) + shift
            return gate * (x + y) if closes else keep * x + gate * y  # noqa: B023

        tall = partial(close, tolerance=1e-4)  # the eps of layer norm is a matter of taste
        if tall(found, answer()):
            continue
        faults = [
            (answer(keep=0.0), "the residual is missing: add x to what the gate lets through."),
            (
                answer(closes=True),
                "the gate closes the residual as well. At the start the block would give 0, not x.",
            ),
            (
                answer(one=0.0),
                "the scale must be 1 + scale: with weights at zero, layer norm must come out plain.",
            ),
            (answer(parts=(1, 0, 2)), "shift and scale are exchanged. The order is shift, scale, gate."),
            (answer(parts=(1, 2, 0)), "the gate is the last third. The order is shift, scale, gate."),
            (answer(parts=(2, 1, 0)), "the gate is the last third. The order is shift, scale, gate."),
            (answer(act=torch.clone), "SiLU is missing before the linear map."),
            (
                answer(act=torch.clone, late=True),
                "SiLU belongs before the linear map. After it, no scale could fall below -0.278.",
            ),
            (answer(norm=False), "x is not normalised before it is scaled and shifted."),
            (
                answer(first=False),
                "scale and shift come before the sublayer; only the gate comes after it.",
            ),
        ]
        diagnose(found, faults, tall)
        pieces = F.linear(F.silu(c), weight, bias).chunk(3, -1)
        if samples == tokens:
            normed = F.layer_norm(x, x.shape[-1:], eps=1e-6)
            if tall(found, x + pieces[2] * sublayer(normed * (1 + pieces[1]) + pieces[0])):
                raise Wrong(
                    "with as many tokens as samples, your vectors fall on the tokens: they need an axis for "
                    "the tokens, (B, 1, D)."
                )
        raise Wrong("the numbers do not satisfy the equation of AdaLN-Zero.")


@exercise(
    id="5.3",
    title="Looking at the words",
    difficulty=2,
    minutes=15,
    hint="Split the last axis of q, k and v into heads first, and bring the heads before the tokens. The "
    "mask is (B, L); it must broadcast over heads and queries, so it needs two new axes.",
)
def check_cross(cross) -> None:
    rng = torch.Generator().manual_seed(0)
    # In the second case N = L, and in the third also N = h: wrong axes fit as well.
    for N, L, lengths in ((6, 4, [2, 4]), (5, 5, [3, 1]), (2, 2, [1, 2])):
        q = torch.randn(2, N, 12, generator=rng, dtype=torch.float64)
        k, v = torch.randn(2, 2, L, 12, generator=rng, dtype=torch.float64)
        mask = torch.arange(L) < torch.tensor(lengths)[:, None]
        given = mask.clone()
        try:
            found = cross(q, k, v, given, 2)
        except RuntimeError as error:
            if "expand" in str(error) or "size of tensor" in str(error):
                raise Wrong(
                    "shapes do not fit. The logits are (B, h, N, L): a mask (B, L) needs two axes in between."
                ) from None
            raise
        if not torch.equal(given, mask):
            raise Wrong("you changed the mask itself. Make a new tensor.")
        if isinstance(found, torch.Tensor) and found.shape == q.shape and not found.isfinite().all():
            raise Wrong(
                "a caption has all of its words masked: 0 / 0. Is the mask the wrong way round? It is true "
                "where a word is REAL."
            )
        found = tensor_of("the result", found, (2, N, 12))

        def answer(mask=mask, scale=6**-0.5, axis=-1, after=False, low=-torch.inf, heads=2, places=None):
            """The right answer, or one with a fault."""
            parts = (z.unflatten(-1, (heads, -1)).transpose(1, 2) for z in (q, k, v))  # noqa: B023
            query, key, value = parts
            logits = query @ key.transpose(-1, -2) * scale
            forbidden = ~(mask[:, None, None] if places is None else places)
            if not after:
                logits = logits.masked_fill(forbidden, low)
            weights = logits.softmax(axis).nan_to_num()
            if after:
                weights = weights.masked_fill(forbidden, 0.0)
            return (weights @ value).transpose(1, 2).flatten(2)

        if _close(found, answer()):
            continue
        some = ~mask.all(1)  # captions that have padding
        if _close(found[some], answer(mask=~mask)[some]):
            raise Wrong("the mask is the wrong way round: it is true where a word is REAL.")
        faults = [
            (answer(mask=torch.ones_like(mask)), "the mask has no effect: padding is looked at."),
            (
                answer(places=mask[:, None]),
                "the mask falls on the heads: with logits (B, h, N, L) it needs two new axes.",
            ),
            (
                answer(after=True),
                "the weights of a query no longer sum to 1: mask the logits before the softmax.",
            ),
            (answer(low=0.0), "a logit of 0 is no ban: exp(0) = 1. Which logit has the weight 0?"),
            (answer(scale=1.0), "the logits must be divided by the root of E, the width of a head."),
            (
                answer(scale=12**-0.5),
                "you divide by the root of D. A head's queries have E = D / h numbers.",
            ),
            (answer(scale=1 / 6), "you divide by E. Divide by its root."),
            (answer(heads=1), "this is one head of width D. Split the channels into heads."),
            (
                answer(heads=1, scale=12**-0.5),
                "this is one head of width D. Split the channels into heads.",
            ),
            (
                answer(axis=-2),
                "the softmax runs over the patches. The weights of one patch must sum to 1 over words.",
            ),
        ]
        diagnose(found, faults, _close)
        raise Wrong(
            "the numbers are not those of attention to the words. Head a has the channels aE ... aE + E - 1, "
            "and its answer goes back to the same place."
        )
