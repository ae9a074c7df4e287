"""Checks of chapter 5: text conditioning."""

from functools import partial

import torch
import torch.nn.functional as F

from t2v_mini.exercises.answers import close, tensor_of
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
        if _close(found, tokens.mean(1)):
            raise Wrong("the mask has no effect: padding is counted.")
        if _close(found, (tokens * weight).mean(1)):
            raise Wrong("the sum is right, but you divide by L, padding included. Divide by the words.")
        if _close(found, (tokens * weight).sum(1)):
            raise Wrong("this is the sum over the words. Divide it by their number.")
        if _close(found, (tokens * (1 - weight)).sum(1) / (total - counts).clamp_min(1)):
            raise Wrong("the mask is the wrong way round: it is true where a token is REAL.")
        if _close(found, (tokens * weight).sum(1) / counts.sum()):
            raise Wrong("each caption has its own number of words; you divide by that of the whole batch.")
        if len(lengths) == total and _close(found, (tokens * weight).sum(0) / weight.sum(0).clamp_min(1)):
            raise Wrong("the mean runs over the captions of the batch. It must run over a caption's tokens.")
        if _close(found, tokens.masked_fill(weight == 0, float("-inf")).amax(1)):
            raise Wrong("this is the largest number of each channel, not the mean.")
        if (
            not mask.any(1).all()
            and _close(found[mask.any(1)], right[mask.any(1)])
            and not _close(found[~mask.any(1)], right[~mask.any(1)])
        ):
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
            parts=(0, 1, 2),
            one=1.0,
            act=F.silu,
            normed=None,
            keep=1.0,
            first=True,
            all_gated=False,
            x=x,
            c=c,
            weight=weight,
            bias=bias,
            late=False,
        ):
            """The right answer, or one with a fault."""
            raw = F.linear(act(c), weight, bias)
            pieces = (F.silu(raw) if late else raw)[:, None].chunk(3, -1)
            shift, scale, gate = (pieces[i] for i in parts)
            y = F.layer_norm(x, x.shape[-1:], eps=1e-6) if normed is None else normed
            y = sublayer(y * (one + scale) + shift) if first else sublayer(y) * (one + scale) + shift
            return gate * (x + y) if all_gated else keep * x + gate * y

        tall = partial(close, tolerance=1e-4)  # the eps of layer norm is a matter of taste
        if tall(found, answer()):
            continue
        if tall(found, answer(keep=0.0)):
            raise Wrong("the residual is missing: add x to what the gate lets through.")
        if tall(found, answer(all_gated=True)):
            raise Wrong("the gate closes the residual as well. At the start the block would give 0, not x.")
        if tall(found, answer(one=0.0)):
            raise Wrong("the scale must be 1 + scale: with weights at zero, layer norm must come out plain.")
        if tall(found, answer(parts=(1, 0, 2))):
            raise Wrong("shift and scale are exchanged. The order is shift, scale, gate.")
        if tall(found, answer(parts=(1, 2, 0))) or tall(found, answer(parts=(2, 1, 0))):
            raise Wrong("the gate is the last third. The order is shift, scale, gate.")
        if tall(found, answer(act=lambda z: z)):
            raise Wrong("SiLU is missing before the linear map.")
        if tall(found, answer(act=lambda z: z, late=True)):
            raise Wrong("SiLU belongs before the linear map. After it, no scale could fall below -0.278.")
        if tall(found, answer(normed=x)):
            raise Wrong("x is not normalised before it is scaled and shifted.")
        if tall(found, answer(first=False)):
            raise Wrong("scale and shift come before the sublayer; only the gate comes after it.")
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
        found = tensor_of("the result", cross(q, k, v, given, 2), (2, N, 12))
        if not torch.equal(given, mask):
            raise Wrong("you changed the mask itself. Make a new tensor.")

        def answer(mask=mask, scale=6**-0.5, axis=-1, after=False, low=-torch.inf, heads=2, q=q, k=k, v=v):
            """The right answer, or one with a fault."""
            parts = (z.unflatten(-1, (heads, -1)).transpose(1, 2) for z in (q, k, v))
            query, key, value = parts
            logits = query @ key.transpose(-1, -2) * scale
            forbidden = ~mask[:, None, None]
            if not after:
                logits = logits.masked_fill(forbidden, low)
            weights = logits.softmax(axis).nan_to_num()
            if after:
                weights = weights.masked_fill(forbidden, 0.0)
            return (weights @ value).transpose(1, 2).flatten(2)

        if _close(found, answer()):
            continue
        if _close(found, answer(mask=torch.ones_like(mask))):
            raise Wrong("the mask has no effect: padding is looked at.")
        some = ~mask.all(1)  # captions that have padding
        if _close(found[some], answer(mask=~mask)[some]):
            raise Wrong("the mask is the wrong way round: it is true where a word is REAL.")
        if _close(found, answer(after=True)):
            raise Wrong("the weights of a query no longer sum to 1: mask the logits before the softmax.")
        if _close(found, answer(low=0.0)):
            raise Wrong("a logit of 0 is no ban: exp(0) = 1. Which logit has the weight 0?")
        if _close(found, answer(scale=1.0)):
            raise Wrong("the logits must be divided by the root of E, the width of a head.")
        if _close(found, answer(scale=12**-0.5)):
            raise Wrong("you divide by the root of D. A head's queries have E = D / h numbers.")
        if _close(found, answer(scale=1 / 6)):
            raise Wrong("you divide by E. Divide by its root.")
        if _close(found, answer(heads=1, scale=12**-0.5)) or _close(found, answer(heads=1)):
            raise Wrong("this is one head of width D. Split the channels into heads.")
        if _close(found, answer(axis=-2)):
            raise Wrong(
                "the softmax runs over the patches. The weights of one patch must sum to 1 over words."
            )
        raise Wrong(
            "the numbers are not those of attention to the words. Head a has the channels aE ... aE + E - 1, "
            "and its answer goes back to the same place."
        )


@exercise(
    id="5.4",
    title="Guidance with rescale",
    difficulty=2,
    minutes=10,
    hint="Two numbers for each clip: the standard deviation of the guided prediction and that of the one "
    "with text, over all axes but the first. Keep the axes, so that they broadcast.",
)
def check_guide(guide) -> None:
    rng = torch.Generator().manual_seed(0)
    shape = (3, 2, 4, 5, 5)
    # Clips of unlike spread: a deviation over the whole batch gives itself away.
    spread = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64).view(3, 1, 1, 1, 1)
    with_text, without = spread * torch.randn(2, *shape, generator=rng, dtype=torch.float64)
    with_text = with_text + 0.7
    axes = (1, 2, 3, 4)

    def deviation(z, over=axes):
        return z.std(over, keepdim=True, correction=0)

    for scale, rescale in ((3.0, 0.0), (0.5, 0.0), (1.0, 0.6), (7.5, 0.7), (4.0, 1.0)):
        name = f"guide with scale {scale:g} and rescale {rescale:g}"
        wide = without + scale * (with_text - without)
        ratio = deviation(with_text) / deviation(wide)
        right = wide * (rescale * ratio + 1 - rescale)
        pair = with_text.clone(), without.clone()
        found = tensor_of(name, guide(*pair, scale, rescale), shape)
        if not (torch.equal(pair[0], with_text) and torch.equal(pair[1], without)):
            raise Wrong("you changed a prediction. Make a new tensor.")
        # Whether a deviation is taken with n or n - 1 cancels in the ratio.
        if _close(found, right):
            continue
        if rescale == 0:
            if _close(found, with_text + scale * (with_text - without)):
                raise Wrong("at scale 1 there must be no guidance: yours is the scale 1 + w of the paper.")
            if _close(found, with_text + scale * (without - with_text)):
                raise Wrong(
                    "the sign is wrong: start from the prediction WITHOUT text and go towards the other."
                )
            if _close(found, scale * (with_text - without)):
                raise Wrong("the prediction without text must be added: at scale 0 nothing else is left.")
            if _close(found, scale * with_text):
                raise Wrong("the prediction without text does not take part.")
            raise Wrong(f"{name}: without rescale it should be without + scale * (with_text - without).")
        if _close(found, wide):
            raise Wrong("rescale has no effect.")
        if _close(found, wide * (rescale + (1 - rescale) * ratio)):
            raise Wrong("rescale goes the wrong way: 0 must leave the guided prediction as it is.")
        if _close(found, wide * ratio):
            raise Wrong("rescale is the share of the way, from 0 to 1; yours always goes all the way.")
        whole = deviation(with_text, None) / deviation(wide, None)
        if _close(found, wide * (rescale * whole + 1 - rescale)):
            raise Wrong("each clip has its own deviation; yours is taken over the whole batch.")
        to_null = deviation(without) / deviation(wide)
        if _close(found, wide * (rescale * to_null + 1 - rescale)):
            raise Wrong("the deviation to go back to is that of the prediction WITH text.")
        if _close(found, wide * (rescale / ratio + 1 - rescale)):
            raise Wrong("the ratio is upside down: a prediction that is too wide must shrink.")
        if _close(found, wide * (rescale * ratio**2 + 1 - rescale)):
            raise Wrong("you use variances. Scaling by a factor changes the deviation by that factor.")
        mean = wide.mean(axes, keepdim=True)
        if _close(found, (wide - mean) * (rescale * ratio + 1 - rescale) + mean):
            raise Wrong("you keep the mean and scale about it. The method scales the whole prediction.")
        per_frame = deviation(with_text, (1, 3, 4)) / deviation(wide, (1, 3, 4))
        if _close(found, wide * (rescale * per_frame + 1 - rescale)):
            raise Wrong("a deviation for each frame makes a clip flicker. Take one for the whole clip.")
        raise Wrong(f"{name} is not the guided prediction, brought that share of the way to the deviation.")


@exercise(
    id="5.5",
    title="No call too many",
    difficulty=3,
    minutes=15,
    hint="Inside f, decide first how many calls are needed. One prediction is enough where the scale is 1 or "
    "the time lies outside the interval; which one?",
)
def check_closed(closed) -> None:
    calls: list[str] = []
    said = {"text": 3.0, "negative": 1.0}

    def predict(x: torch.Tensor, t: torch.Tensor, text: str) -> torch.Tensor:
        if tuple(t.shape) != (len(x),):
            raise Wrong(f"predict needs one time a sample, t of shape ({len(x)},), got {tuple(t.shape)}.")
        calls.append(text)
        return x + said[text] * t[:, None]

    x = torch.zeros(2, 3, dtype=torch.float64)
    ends = (0.25, 0.75)
    for scale, time in (
        (1.0, 0.5),
        (3.0, 0.5),
        (3.0, 0.125),
        (3.0, 0.875),
        (3.0, 0.25),
        (3.0, 0.75),
        (0.0, 0.5),
        (0.0, 0.875),
    ):
        calls.clear()
        f = closed(predict, "text", "negative", scale, ends)
        if calls:
            raise Wrong("closed calls predict before anybody asked: return a function f(x, t) that does.")
        if not callable(f):
            raise Wrong(f"closed must return a function f(x, t), got {type(f).__name__}.")
        name = f"f at t = {time:g} with scale {scale:g} and the interval {ends}"
        found = tensor_of(name, f(x, torch.full((2,), time, dtype=torch.float64)), (2, 3))
        inside = ends[0] <= time <= ends[1]
        value = 1 + scale * 2 if inside else 3.0
        got = found.mean().item() / time
        if not _close(found, torch.full_like(found, value * time)):
            guided, edge = 1 + scale * 2, time in ends
            if edge and abs(got - 3) < 1e-6:
                raise Wrong(f"{name}: the ends belong to the interval.")
            if not inside and abs(got - guided) < 1e-6:
                raise Wrong(f"{name}: there is no guidance outside the interval.")
            if not inside and abs(got - 1) < 1e-6:
                raise Wrong(f"{name}: outside the interval the prediction is that with the TEXT.")
            if scale == 1 and abs(got - 1) < 1e-6:
                raise Wrong(f"{name}: without guidance the prediction is that with the TEXT.")
            if inside and abs(got - 3) < 1e-6:
                raise Wrong(f"{name}: there must be guidance inside the interval.")
            if inside and abs(got - (3 + scale * 2)) < 1e-6:
                raise Wrong(f"{name}: at scale 1 there must be no guidance.")
            if inside and abs(got - (3 - scale * 2)) < 1e-6:
                raise Wrong(f"{name}: text and negative prompt are exchanged.")
            raise Wrong(f"{name} should be {value:g} times t, yours is {got:.3g} times t.")
        needed = {"text"} if scale == 1 or not inside else {"text", "negative"}
        if scale == 0 and inside:
            needed = {"negative"} if calls == ["negative"] else needed  # one call will do there, too
        if sorted(calls) != sorted(needed):
            raise Wrong(
                f"{name}: you call predict with {', '.join(calls)}; needed is {', '.join(sorted(needed))}."
            )
    # One closure serves a whole trajectory: it must ask for the time each time.
    calls.clear()
    f = closed(predict, "text", "negative", 3.0, ends)
    values = [
        f(x, torch.full((2,), time, dtype=torch.float64)).mean().item() / time for time in (1.0, 0.5, 0.125)
    ]
    if [round(value, 6) for value in values] != [3.0, 7.0, 3.0]:
        raise Wrong("f must decide at each call by the time it is given, not once for all.")
