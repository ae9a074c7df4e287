"""Checks of chapter 5 about guidance; `chapter_05` imports them."""

from functools import partial

import torch

from t2v_mini.exercises.answers import close, diagnose, number_of, tensor_of
from t2v_mini.exercises.mechanism import Wrong, exercise

_close = partial(close, tolerance=1e-6)


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
        gap = with_text - without
        if rescale == 0:
            faults = [
                (
                    with_text + scale * gap,
                    "at scale 1 there must be no guidance: yours is the scale 1 + w of the paper.",
                ),
                (
                    with_text - scale * gap,
                    "the sign is wrong: start from the prediction WITHOUT text and go towards the other.",
                ),
                (
                    scale * gap,
                    "the prediction without text must be added: at scale 0 nothing else is left.",
                ),
                (scale * with_text, "the prediction without text does not take part."),
            ]
            diagnose(found, faults, _close)
            raise Wrong(f"{name}: without rescale it should be without + scale * (with_text - without).")
        whole = deviation(with_text, None) / deviation(wide, None)
        to_null = deviation(without) / deviation(wide)
        per_frame = deviation(with_text, (1, 3, 4)) / deviation(wide, (1, 3, 4))
        mean, rest = wide.mean(axes, keepdim=True), 1 - rescale
        faults = [
            (wide, "rescale has no effect."),
            (
                wide * (rescale + rest * ratio),
                "rescale goes the wrong way: 0 must leave the guided prediction as it is.",
            ),
            (wide * ratio, "rescale is the share of the way, from 0 to 1; yours always goes all the way."),
            (
                wide * (rescale * whole + rest),
                "each clip has its own deviation; yours is taken over the whole batch.",
            ),
            (
                wide * (rescale * to_null + rest),
                "the deviation to go back to is that of the prediction WITH text.",
            ),
            (
                wide * (rescale / ratio + rest),
                "the ratio is upside down: a prediction that is too wide must shrink.",
            ),
            (
                wide * (rescale * ratio**2 + rest),
                "you use variances. Scaling by a factor changes the deviation by that factor.",
            ),
            (
                (wide - mean) * (rescale * ratio + rest) + mean,
                "you keep the mean and scale about it. The method scales the whole prediction.",
            ),
            (
                wide * (rescale * per_frame + rest),
                "a deviation for each frame makes a clip flicker. Take one for the whole clip.",
            ),
        ]
        diagnose(found, faults, _close)
        raise Wrong(f"{name} is not the guided prediction, brought that share of the way to the deviation.")


@exercise(
    id="5.5",
    title="No call too many",
    difficulty=3,
    minutes=15,
    hint="Inside f, decide first how many calls are needed. One prediction is enough where the time lies "
    "outside the interval, where the scale is 1, and where it is 0; which one?",
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
        needed = ["text"] if scale == 1 or not inside else ["negative", "text"]
        if scale == 0 and inside:
            needed = ["negative"]
        if sorted(calls) != needed:
            raise Wrong(f"{name}: you call predict with {', '.join(calls)}; needed is {', '.join(needed)}.")
    # One closure serves a whole trajectory: it must ask for the time each time.
    calls.clear()
    f = closed(predict, "text", "negative", 3.0, ends)
    values = [
        f(x, torch.full((2,), time, dtype=torch.float64)).mean().item() / time for time in (1.0, 0.5, 0.125)
    ]
    if [round(value, 6) for value in values] != [3.0, 7.0, 3.0]:
        raise Wrong("f must decide at each call by the time it is given, not once for all.")


@exercise(
    id="5.6",
    title="How narrow does an interval make it?",
    difficulty=3,
    minutes=25,
    hint="Without guidance x follows the caption's own variance, v_c(t). Guidance adds (s - 1) times the "
    "difference of the two growth rates, but only inside the interval. Integrate d ln v from t = 1 to 0.",
)
def check_interval_variance(interval_variance) -> None:
    def ratio(t: float, rho2: float) -> float:
        return ((1 - t) ** 2 * rho2 + t**2) / ((1 - t) ** 2 + t**2)

    cases = [
        (0.5, 1.0, 0.2, 0.8),
        (0.5, 3.0, 0.0, 1.0),
        (0.5, 3.0, 0.0, 0.5),
        (0.25, 2.0, 0.3, 0.7),
        (2.0, 2.0, 0.1, 0.9),
        (0.5, 0.0, 0.25, 0.75),
    ]
    for rho2, s, low, high in cases:
        name = f"interval_variance({rho2:g}, {s:g}, {low:g}, {high:g})"
        found = number_of(name, interval_variance(rho2, s, low, high))
        start, end = ratio(low, rho2), ratio(high, rho2)

        def answer(power=s - 1, quotient=start / end, whole=rho2) -> float:
            """The right answer, or one with a fault."""
            return whole * quotient**power

        def fits(value: float, found=found) -> bool:
            return abs(found - value) < 1e-6 * value

        if fits(answer()):
            continue
        if s == 1:
            raise Wrong(f"{name}: without guidance the flow makes the caption's own clips, of variance rho2.")
        if fits(answer(quotient=rho2)):
            raise Wrong(f"{name}: the interval has no effect. Guidance acts only while t is inside it.")
        if fits(answer(quotient=end / start)):
            raise Wrong(f"{name}: the flow runs from t = 1 down to 0. Which end of the interval comes last?")
        if fits(answer(power=s)):
            raise Wrong(f"{name}: at s = 1 nothing is added, so it is s - 1 that counts.")
        if fits(answer(whole=1.0)):
            raise Wrong(f"{name}: the factor rho2 of the flow without guidance is missing.")
        if fits(answer() ** 0.5):
            raise Wrong(f"{name}: this is the standard deviation. Return the variance.")
        raise Wrong(f"{name} should be {answer():.5f}, yours is {found:.5f}.")
