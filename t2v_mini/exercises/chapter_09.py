"""Checks of chapter 9: latent diffusion."""

import math
from functools import partial

import torch

from t2v_mini.exercises import latents  # noqa: F401  (registers 9.4 to 9.6)
from t2v_mini.exercises.answers import agree, close, diagnose, number_of, tensor_of
from t2v_mini.exercises.mechanism import Wrong, exercise

_close = partial(close, tolerance=1e-6)


@exercise(
    id="9.1",
    title="Channels of deviation 1",
    difficulty=1,
    minutes=5,
    hint="mean and std have one number a channel, and the channel is the second axis of z. Give them three "
    "more axes behind. The way back undoes both steps in the opposite order.",
)
def check_normalize(normalize) -> None:
    rng = torch.Generator().manual_seed(0)
    # As many channels as columns, rows, frames or clips: a missing axis broadcasts in silence.
    for shape in ((2, 7, 3, 4, 4), (3, 3, 3, 3, 3), (2, 4, 5, 3, 4), (1, 5, 1, 2, 5)):
        channels = shape[1]
        z = torch.randn(shape, generator=rng, dtype=torch.float64)
        mean = torch.randn(channels, generator=rng, dtype=torch.float64)
        std = torch.rand(channels, generator=rng, dtype=torch.float64) * 3 + 0.3
        m, s = mean[:, None, None, None], std[:, None, None, None]
        for back in (False, True):
            name = f"normalize(z, mean, std, back={back})"
            given = z.clone()
            try:
                found = normalize(given, mean.clone(), std.clone(), back)
            except RuntimeError as error:
                if "size of tensor" in str(error):
                    raise Wrong(
                        "shapes do not fit: mean and std need axes behind the channels, for frames, rows and "
                        "columns."
                    ) from None
                raise
            if not torch.equal(given, z):
                raise Wrong("you changed z itself. Make a new tensor.")
            found = tensor_of(name, found, shape)
            due = z * s + m if back else (z - m) / s
            if _close(found, due):
                continue
            there, home = (z - m) / s, z * s + m
            own = z.mean((0, 2, 3, 4), keepdim=True), z.std((0, 2, 3, 4), keepdim=True)
            faults = [
                (there if back else home, "this is the other way: `back` goes from normalised to raw."),
                ((z - m) * s if not back else z / s + m, "the deviation multiplies where it should divide, "
                 "or the other way round."),
                ((z + m) / s if not back else z * s - m, "the mean has the wrong sign."),
                ((z + m) * s if back else z / s - m, "the two steps stand in the wrong order."),
                (z * s if back else z / s, "the mean is left out."),
                (z + m if back else z - m, "the deviation is left out."),
                (z * s**2 + m if back else (z - m) / s**2, "you divide by the variance, not the deviation."),
                ((z - own[0]) / own[1], "these are the statistics of the batch at hand. They must be the "
                 "stored ones, or one clip's latent would depend on its neighbours."),
                (z * std.mean() + mean.mean() if back else (z - mean.mean()) / std.mean(),
                 "one number for all channels: each has its own."),
            ]  # fmt: skip
            if channels == shape[4]:
                faults.append(
                    (z * std + mean if back else (z - mean) / std,
                     "the numbers are laid along the last axis, the columns. They belong to the channels.")
                )  # fmt: skip
            if channels == shape[0]:
                along = mean.view(-1, 1, 1, 1, 1), std.view(-1, 1, 1, 1, 1)
                faults.append(
                    (z * along[1] + along[0] if back else (z - along[0]) / along[1],
                     "the numbers are laid along the clips of the batch. They belong to the channels.")
                )  # fmt: skip
            diagnose(found, faults, _close)
            raise Wrong(f"{name} is not what the stored statistics say.")


@exercise(
    id="9.2",
    title="How many tokens?",
    difficulty=1,
    minutes=10,
    hint="First the latent: 1 + ceil((frames - 1) / ratio) frames, and rows and columns in blocks of "
    "`scale`, rounded up. Then ask of each of the three whether the patch divides it, and multiply what "
    "comes out.",
)
def check_tokens(tokens) -> None:
    cases = (
        (16, 32, 32, 2, 4, (3, 2, 2)), (17, 32, 32, 2, 4, (1, 1, 1)), (1, 64, 48, 4, 8, (1, 2, 2)),
        (49, 480, 720, 4, 8, (1, 2, 2)), (81, 480, 832, 4, 8, (1, 2, 2)), (8, 30, 33, 4, 4, (3, 2, 3)),
        (2, 5, 7, 2, 8, (2, 1, 1)), (33, 256, 512, 8, 16, (5, 2, 4)), (6, 24, 40, 4, 8, (1, 3, 5)),
    )  # fmt: skip
    found = [number_of(f"tokens{case}", tokens(*case)) for case in cases]

    def each(rule):
        return [rule(*case) for case in cases]

    def up(n, k):
        return -(-n // k)

    def cut(latent, patch):
        return math.prod(n / p for n, p in zip(latent, patch, strict=True))

    right = each(lambda f, h, w, r, s, p: cut((1 + up(f - 1, r), up(h, s), up(w, s)), p))
    if found != right:
        diagnose(
            found,
            (
                (each(lambda f, h, w, r, s, p: cut((up(f, r), up(h, s), up(w, s)), p)),
                 "the latent's frames are off: keep the first one apart, and let what does not divide make "
                 "one more."),
                (each(lambda f, h, w, r, s, p: cut((1 + (f - 1) // r, h // s, w // s), p)),
                 "what does not divide is cut off. The clip is padded first: round up."),
                (each(lambda f, h, w, r, s, p: cut((1 + (f - 1) / r, h / s, w / s), p)),
                 "some sizes of the latent are not whole. The clip is padded first: round up."),
                (each(lambda f, h, w, r, s, p: cut((1 + up(f - 1, r), up(h, s), up(w, s)), (1, 1, 1))),
                 "these are the places of the latent. A token holds a whole patch of them."),
                (each(lambda f, h, w, r, s, p: cut((1 + up(f - 1, r), up(h, s), up(w, s)), (1, *p[1:]))),
                 "patches have a length in time, too."),
                (each(lambda f, h, w, r, s, p: cut((f, h, w), p)),
                 "these are the tokens of pixels. The codec comes first."),
                (each(lambda f, h, w, r, s, p: cut((1 + up(f - 1, s), up(h, r), up(w, r)), p)),
                 "ratio and scale are exchanged: ratio is for frames, scale for rows and columns."),
            ),
            agree,
        )  # fmt: skip
        for case, mine, due in zip(cases, found, right, strict=True):
            if mine != due:
                raise Wrong(f"tokens{case} should be {due:g}, yours is {mine:g}.")
    if any(isinstance(tokens(*case), float) for case in cases):
        raise Wrong("the numbers are right, but a count must be an integer. Use // and not /.")
    for case in ((16, 32, 32, 2, 4, (2, 2, 2)), (16, 32, 32, 2, 4, (3, 3, 2)), (17, 32, 40, 2, 4, (3, 2, 4))):
        try:
            value = tokens(*case)
        except ValueError:
            continue
        raise Wrong(
            f"tokens{case} must raise ValueError: that patch does not divide the latent. Got {value}."
        )


@exercise(
    id="9.3",
    title="Training times for another scale",
    difficulty=2,
    minutes=10,
    hint="ln(t / (1 - t)) is std n + mean. Latents of deviation s at time t have the SNR of normalised ones "
    "at t_unit, with t_unit / (1 - t_unit) = t / (s (1 - t)). Take the logarithm of both sides.",
)
def check_shifted_mean(shifted_mean) -> None:
    cases = [(mean, scale) for scale in (5.49, 1.0, 0.2, 2.0) for mean in (0.8, 0.0, -0.5)]
    found = [number_of(f"shifted_mean{case}", shifted_mean(*case)) for case in cases]

    def each(rule):
        return [rule(mean, scale) for mean, scale in cases]

    right = each(lambda m, s: m + math.log(s))
    if agree(found, right):
        return
    diagnose(
        found,
        (
            (each(lambda m, s: m), "the scale has no effect."),
            (each(lambda m, s: m - math.log(s)),
             "the sign is wrong: large latents stand out from the noise, so they need noisier times, and "
             "t = 1 is noise."),
            (each(lambda m, s: m + 2 * math.log(s)),
             "the SNR has squares, but so has the SNR on the other side: ln(scale) enters once."),
            (each(lambda m, s: m * s), "a factor shifts nothing where the mean is 0. The logarithm adds."),
            (each(lambda m, s: m / s), "a factor shifts nothing where the mean is 0. The logarithm adds."),
            (each(lambda m, s: m + s), "the scale multiplies t / (1 - t): its LOGARITHM grows."),
            (each(lambda m, s: m + s - 1), "the scale multiplies t / (1 - t): its LOGARITHM grows."),
            (each(lambda m, s: m + math.log10(s)), "take the natural logarithm: the sigmoid has e in it."),
            (each(lambda m, s: m + math.log2(s)), "take the natural logarithm: the sigmoid has e in it."),
            (each(lambda m, s: s / (s + math.exp(-m))),
             "this is the median of the training times. Asked for is the mean before the sigmoid."),
        ),
        agree,
    )  # fmt: skip
    for case, mine, due in zip(cases, found, right, strict=True):
        if not math.isclose(mine, due, rel_tol=1e-6, abs_tol=1e-9):
            raise Wrong(f"shifted_mean{case} should be {due:.4f}, yours is {mine:.4f}.")
