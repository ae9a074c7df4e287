"""Checks of chapter 8: the video VAE."""

from functools import partial

import torch
from torch.distributions import Normal, kl_divergence

from t2v_mini.exercises import codecs  # noqa: F401  (registers 8.4 to 8.6)
from t2v_mini.exercises.answers import close, diagnose, number_of, tensor_of
from t2v_mini.exercises.mechanism import Wrong, exercise

_close = partial(close, tolerance=1e-6)


@exercise(
    id="8.1",
    title="Two posteriors",
    difficulty=1,
    minutes=10,
    hint="For one number: half of ln(var_p / var_q) + (var_q + (mean_q - mean_p)^2) / var_p - 1. "
    "exp(logvar) is a variance. Sum over all axes but the first.",
)
def check_kl(kl) -> None:
    rng = torch.Generator().manual_seed(0)
    for shape in ((3, 2, 2, 3, 4), (1, 4, 1, 2, 2), (5, 1, 1, 1, 1)):
        parts = torch.randn(4, *shape, generator=rng, dtype=torch.float64)
        mean_q, logvar_q, mean_p, logvar_p = parts
        name = f"kl of latents of shape {shape}"
        found = kl(*(part.clone() for part in parts))
        if isinstance(found, torch.Tensor) and found.ndim == 0 and shape[0] > 1:
            raise Wrong(f"{name} must be one number for each clip, yours is one for the whole batch.")
        if isinstance(found, torch.Tensor) and tuple(found.shape) == shape:
            raise Wrong(f"{name} must be one number for each clip: sum over all axes but the first.")
        found = tensor_of(name, found, (shape[0],))

        def divergence(mean_q, logvar_q, mean_p, logvar_p):
            q, p = (Normal(m, (v / 2).exp()) for m, v in ((mean_q, logvar_q), (mean_p, logvar_p)))
            return kl_divergence(q, p)

        def total(each):
            return each.flatten(1).sum(1)

        right = divergence(*parts)
        if _close(found, total(right)):
            continue
        var_q, var_p = logvar_q.exp(), logvar_p.exp()
        gap = (mean_q - mean_p).square()
        ratio = (gap + var_q) / var_p
        diagnose(
            found,
            (
                (2 * total(right), f"{name} is twice what it should be: a factor of 1/2 is missing."),
                (total(right + 0.5), f"{name} is too large: the -1 is missing. Of equal Gaussians it is 0."),
                (-total(right), f"{name} has the wrong sign. A divergence is never negative."),
                (total(divergence(mean_p, logvar_p, mean_q, logvar_q)),
                 f"{name}: q and p are exchanged. The mean is taken over q, and p's variance divides."),
                (right.flatten(1).mean(1),
                 f"{name} must be a sum over the latent, not a mean: nats of single numbers add up."),
                (total(divergence(mean_q, 2 * logvar_q, mean_p, 2 * logvar_p)),
                 f"{name}: exp(logvar) is a variance, and you take it as a deviation."),
                (total((logvar_p - logvar_q + (gap + var_q) - 1) / 2),
                 f"{name}: the squares must be divided by the variance of p."),
                (total((ratio - 1) / 2), f"{name}: the logarithm of the ratio of the variances is missing."),
                (total((logvar_q - logvar_p + ratio - 1) / 2),
                 f"{name}: the logarithm has the wrong sign. It is large where q is narrow."),
                (total((logvar_p - logvar_q + var_q / var_p - 1) / 2),
                 f"{name}: how far the means are apart is left out."),
                (total((mean_q.square() + var_q - 1 - logvar_q) / 2),
                 f"{name}: this is the divergence from N(0, 1). p has its own mean and variance."),
            ),
            _close,
        )  # fmt: skip
        raise Wrong(f"{name} is not the divergence of q from p, which torch.distributions gives.")


def _latent(frames: int, height: int, width: int, ratio: int, scale: int, causal: bool) -> tuple:
    first = int(causal)
    return first + -(-(frames - first) // ratio), -(-height // scale), -(-width // scale)


@exercise(
    id="8.2",
    title="What the codec makes of a size",
    difficulty=1,
    minutes=10,
    hint="Take the first frame away if the codec is causal, divide the rest by the ratio and round up, "
    "and put the first one back. Rows and columns are divided by the scale and rounded up.",
)
def check_latent_size(latent_size) -> None:
    cases = (
        (17, 32, 32, 2, 8, True), (16, 32, 32, 2, 8, True), (16, 32, 32, 2, 8, False), (1, 8, 8, 4, 8, True),
        (1, 8, 8, 4, 8, False), (10, 33, 40, 4, 8, True), (49, 480, 720, 4, 8, True), (7, 5, 31, 2, 4, False),
        (6, 30, 9, 4, 16, True),
    )  # fmt: skip
    found = []
    for case in cases:
        value = latent_size(*case)
        if not isinstance(value, tuple | list) or len(value) != 3:
            raise Wrong(f"latent_size{case} must be three numbers, frames, rows, columns, got {value!r}.")
        for part in value:
            number_of(f"latent_size{case}", part)
            if isinstance(part, float):
                raise Wrong(f"latent_size{case} must hold integers, got {part!r}. Use // and not /.")
        found.append(tuple(int(part) for part in value))
    right = [_latent(*case) for case in cases]
    if found == right:
        return

    def each(rule):
        return [rule(*case) for case in cases]

    def up(a, b):
        return -(-a // b)

    # A fault must explain all answers: some cases agree with several.
    diagnose(
        found,
        (
            (each(lambda f, h, w, r, s, c: (c + (f - c) // r, h // s, w // s)),
             "you round down. What does not fit would be dropped; it is padded, so round up."),
            (each(lambda f, h, w, r, s, c: (c + (f - c) // r, up(h, s), up(w, s))),
             "rows and columns are right, frames are rounded down. They are padded as well."),
            (each(lambda f, h, w, r, s, c: (c + up(f - c, r), h // s, w // s)),
             "frames are right, rows and columns are rounded down. They are padded as well."),
            (each(lambda f, h, w, r, s, c: (up(f, r), up(h, s), up(w, s))),
             "a causal codec keeps the first frame apart: 17 frames at ratio 2 are 1 + 8 latent frames."),
            (each(lambda f, h, w, r, s, c: (1 + up(f - 1, r), up(h, s), up(w, s))),
             "you keep the first frame apart always. Only a causal codec does."),
            (each(lambda f, h, w, r, s, c: (c + up(f, r), up(h, s), up(w, s))),
             "the first frame counts twice: take it away before you divide."),
            (each(lambda f, h, w, r, s, c: (1 - c + up(f - 1 + c, r), up(h, s), up(w, s))),
             "causal and not causal are exchanged."),
            (each(lambda f, h, w, r, s, c: (c + up(f - c, r) * r, up(h, s) * s, up(w, s) * s)),
             "this is the legal size of the clip. Its latent is asked for."),
            (each(lambda f, h, w, r, s, c: (c + (f - c) // r + 1, h // s + 1, w // s + 1)),
             "you add one even where the size divides."),
        ),
        lambda a, b: a == b,
    )  # fmt: skip
    for case, value, due in zip(cases, found, right, strict=True):
        if value != due:
            raise Wrong(f"latent_size{case} should be {due}, yours is {value}.")


@exercise(
    id="8.3",
    title="Statistics in one pass",
    difficulty=2,
    minutes=15,
    hint="Keep three things: how many numbers a channel has had, their sum, and the sum of their squares, "
    "the last two in float64. The variance is the mean of the squares minus the square of the mean.",
)
def check_statistics(channel_statistics) -> None:
    rng = torch.Generator().manual_seed(0)
    sizes = ((1, 5, 4, 4), (7, 2, 6, 3), (2, 9, 8, 8), (4, 1, 2, 2))
    centre = torch.tensor([0.0, 3.0, -800.0])[:, None, None, None]
    spread = torch.tensor([1.0, 0.2, 0.05])[:, None, None, None]
    batches = []
    for number, (B, *grid) in enumerate(sizes):
        noise = torch.randn(B, 3, *grid, generator=rng)
        batches.append(centre + spread * ((1 + 0.4 * number) * noise + number - 1.0))

    def stream():
        for z in batches:
            yield z.clone()

    answer = channel_statistics(stream())
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise Wrong(f"channel_statistics must return mean and deviation, got {type(answer).__name__}.")
    mean, std = answer
    for name, part in (("the mean", mean), ("the deviation", std)):
        if isinstance(part, torch.Tensor) and part.ndim == 0:
            raise Wrong(f"{name} must have one number for each channel, yours is one for all.")
    if isinstance(std, torch.Tensor) and std.shape == (3,) and not torch.isfinite(std).all():
        raise Wrong(
            "the deviation is not finite: the difference of two large numbers came out below 0, in float32. "
            "Add up in float64."
        )
    mean, std = tensor_of("the mean", mean, (3,)), tensor_of("the deviation", std, (3,))
    flat = [z.double().transpose(0, 1).flatten(1) for z in batches]
    every = torch.cat(flat, dim=1)

    def near(a, b):
        return a.shape == b.shape and bool(((a - b).abs() < 2e-3 * b.abs() + 1e-6).all())

    means = torch.stack([z.mean(1) for z in flat])
    diagnose(
        mean,
        (
            (means.mean(0) if not near(means.mean(0), every.mean(1)) else torch.full((3,), torch.nan),
             "the mean of the batches' means gives a small batch the weight of a large one."),
            (every.sum(1), "the mean is a sum: divide by how many numbers a channel has."),
        ),
        near,
    )  # fmt: skip
    if not _close(mean, every.mean(1)):
        if near(mean, every.mean(1)):
            if not (mean - every.mean(1)).abs().max() < 2e-3:
                raise Wrong("the mean has lost digits. Add up in float64.")
        else:
            raise Wrong("the mean is not that of all numbers of a channel, over all batches.")
    counts = torch.tensor([float(z.shape[1]) for z in flat], dtype=torch.float64)
    inner = torch.stack([z.std(1) for z in flat])
    variance = torch.stack([z.var(1, correction=0) for z in flat])
    weighted = (variance * counts[:, None]).sum(0) / counts.sum()
    diagnose(
        std,
        (
            (every.var(1), "the second result must be the deviation. This is the variance: take its root."),
            (inner.mean(0), "the mean of the batches' deviations leaves out how far their means are apart."),
            ((inner * counts[:, None]).sum(0) / counts.sum(),
             "the mean of the batches' deviations leaves out how far their means are apart."),
            (weighted.sqrt(), "the mean of the batches' variances leaves out how far their means are apart."),
            (every.square().mean(1).sqrt(),
             "this is the root of the mean square: take the square of the mean away first."),
            (flat[-1].std(1), "only the last batch counts. Is something overwritten in the loop?"),
        ),
        near,
    )  # fmt: skip
    right = every.std(1)
    if near(std, right):
        return
    if near(std[:2], right[:2]):
        raise Wrong(
            "the deviation of the channel whose mean is large has lost its digits. "
            "Add up in float64, from the first operation on."
        )
    raise Wrong("the deviation is not that of all numbers of a channel, over all batches.")
