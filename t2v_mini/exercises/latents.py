"""Checks of chapter 9 about losses, given frames and samplers; `chapter_09` imports them."""

import math
from functools import partial
from itertools import pairwise

import torch

from t2v_mini.exercises.answers import agree, close, diagnose, number_of, tensor_of
from t2v_mini.exercises.mechanism import Wrong, exercise

_close = partial(close, tolerance=1e-6)


@exercise(
    id="9.4",
    title="The loss on latents",
    difficulty=2,
    minutes=15,
    hint="Normalise first. Then mix z0 and the noise with each clip's own t, ask the network, take the mean "
    "square of its error over everything but the batch, divide by max(t, 0.05) squared, and take the mean.",
)
def check_loss(loss) -> None:
    rng = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=rng, dtype=torch.float64)
    # In the second case there are as many clips as columns: a missing axis broadcasts in silence.
    for shape, least in (((3, 2, 2, 4, 5), 0.3), ((4, 3, 2, 4, 4), 0.01)):
        z, noise = 2 * draw(shape) + 1, draw(shape)
        mean, std = draw(shape[1]), draw(shape[1]).abs() + 0.5
        t = torch.linspace(least, 0.95, len(z), dtype=torch.float64)
        m, s = mean[:, None, None, None], std[:, None, None, None]
        asked: list[tuple[torch.Tensor, torch.Tensor]] = []
        weight = torch.ones((), dtype=torch.float64, requires_grad=True)

        def predict(zt, t, asked=asked, weight=weight):
            """Some network with a weight: it depends on everything it is given."""
            asked.append((zt.detach().clone(), t.detach().clone()))
            return weight * (torch.tanh(zt) + t.view(-1, *[1] * (zt.ndim - 1)))

        def network(zt, t):
            return torch.tanh(zt) + t.view(-1, 1, 1, 1, 1)

        given = z.clone()
        try:
            raw = loss(predict, given, mean.clone(), std.clone(), noise.clone(), t.clone())
        except RuntimeError as error:
            if "size of tensor" in str(error):
                raise Wrong("shapes do not fit: t has one number a clip, and needs four more axes.") from None
            raise
        if not torch.equal(given, z):
            raise Wrong("you changed z itself. Make a new tensor.")
        if not asked:
            raise Wrong("the network was never asked: call predict(zt, t).")
        found = number_of("the loss", raw.detach() if isinstance(raw, torch.Tensor) else raw)
        z0 = (z - m) / s
        at = t.view(-1, 1, 1, 1, 1)

        def value(
            z0=z0, at=at, time=t, weigh=lambda e, t: e / t.clamp(min=0.05) ** 2, target="z0",
            mix=lambda z, n, a: (1 - a) * z + a * n, total="mean", noise=noise,
        ):  # fmt: skip
            """The right loss, or one with a fault."""
            aim = {"z0": z0, "noise": noise, "u": noise - z0}[target]
            error = (network(mix(z0, noise, at), time) - aim).square()
            error = error.flatten(1).mean(1) if total == "mean" else error.flatten(1).sum(1)
            return weigh(error, time).mean().item()

        due = value()
        if math.isclose(found, due, rel_tol=1e-6):
            if not (isinstance(raw, torch.Tensor) and raw.requires_grad):
                raise Wrong(
                    "the number is right, but it is no tensor with a gradient: nothing would be learned."
                )
            continue
        faults = [
            (value(z0=z),
             "the latents are not normalised before noise is added: the SNR is that of another scale."),
            (value(z0=z * s + m),
             "this is the way back from normalised latents. Subtract the mean, then divide."),
            (value(z0=z / s), "the mean of the channels is left out."),
            (value(z0=z - m), "the deviation of the channels is left out."),
            (value(weigh=lambda e, t: e), "the weight 1 / max(t, 0.05)^2 is missing."),
            (value(weigh=lambda e, t: e / t.clamp(min=0.05)), "the weight has a square: 1 / max(t, 0.05)^2."),
            (value(weigh=lambda e, t: e * t.clamp(min=0.05) ** 2), "the weight divides, and you multiply."),
            (value(weigh=lambda e, t: e / t**2),
             "the weight is not bounded: below t = 0.05 it must stay as it is."),
            (value(target="noise"), "the network predicts the clean latent here, not the noise."),
            (value(target="u"), "the network predicts the clean latent here, not the velocity."),
            (value(mix=lambda z, n, a: a * z + (1 - a) * n),
             "signal and noise are exchanged: at t = 1 all is noise."),
            (value(mix=lambda z, n, a: (1 - a).sqrt() * z + a.sqrt() * n),
             "the flow has no roots: 1 - t and t."),
            (value(total="sum"), "take the mean over a latent's numbers, not the sum."),
            (value() * len(z), "take the mean over the clips, not the sum."),
            (network((1 - at) * z0 + at * noise, t).sub(z0).square().mean().div(t.mean() ** 2).item(),
             "each clip has its own weight: divide before you take the mean over the clips."),
        ]  # fmt: skip
        diagnose(found, faults, lambda a, b: math.isclose(a, b, rel_tol=1e-6))
        zt = asked[0][0]
        if zt.shape == z0.shape and not _close(zt, (1 - at) * z0 + at * noise):
            raise Wrong("what the network is shown is not (1 - t) z0 + t eps, with a t for each clip.")
        raise Wrong(f"the loss should be {due:.4f}, yours is {found:.4f}.")


@exercise(
    id="9.5",
    title="What the denoiser is shown",
    difficulty=2,
    minutes=15,
    hint="A mask (B, G) comes from comparing torch.arange(G) with counts[:, None]. Give it the axes of a "
    "clip, multiply z0 by it, and put three tensors side by side along the channels.",
)
def check_shown(shown) -> None:
    rng = torch.Generator().manual_seed(0)
    for clips, channels, frames, counts in (
        (3, 2, 5, [2, 0, 4]),
        (4, 3, 4, [1, 3, 0, 2]),  # as many clips as frames
        (2, 1, 3, [1, 1]),
    ):
        zt, z0 = (
            torch.randn(clips, channels, frames, 2, 3, generator=rng, dtype=torch.float64) for _ in range(2)
        )
        count = torch.tensor(counts)
        before = zt.clone(), z0.clone(), count.clone()
        found = shown(zt, z0, count)
        if not all(torch.equal(a, b) for a, b in zip((zt, z0, count), before, strict=True)):
            raise Wrong("you changed what you were given. Make new tensors.")
        shape = (clips, 2 * channels + 1, frames, 2, 3)
        if isinstance(found, torch.Tensor) and found.ndim == 5 and found.shape[1] != shape[1]:
            if found.shape[1] == 2 * channels:
                raise Wrong(
                    "the mask is missing: a latent of zeros is a possible one, so 0 does not say 'unknown'."
                )
            if found.shape[1] == 3 * channels:
                raise Wrong("the mask needs one channel, not one for each channel of the latent.")
            if found.shape[1] == channels:
                raise Wrong("put the three parts side by side along the channels: 2 Z + 1 of them.")
        found = tensor_of("the result", found, shape)

        def made(
            known=lambda f, c: f < c, order=(0, 1, 2), part=z0, cut=True, whole=None,
            zt=zt, count=count, frames=frames,
        ):  # fmt: skip
            """The right input, or one with a fault."""
            number = count if whole is None else torch.full_like(count, whole)
            mask = known(torch.arange(frames), number[:, None]).double()[:, None, :, None, None]
            mask = mask.expand(-1, -1, -1, *zt.shape[3:])
            parts = zt, part * mask if cut else part, mask
            return torch.cat([parts[i] for i in order], dim=1)

        if _close(found, made()):
            continue
        faults = [
            (made(known=lambda f, c: f <= c),
             "one frame too many: counts are numbers of frames, and frames count from 0."),
            (made(known=lambda f, c: f + 1 < c),
             "one frame too few: with a count of 1 the first frame is given."),
            (made(known=lambda f, c: f >= c),
             "the mask is the wrong way round: it is 1 where a frame IS given."),
            (made(cut=False), "the frames behind the count are shown as well. In use nobody has them."),
            (made(part=zt), "the given frames are noisy. They are known: take them from z0."),
            (made(order=(1, 0, 2)), "the order is noisy latents, given frames, mask."),
            (made(order=(2, 0, 1)), "the order is noisy latents, given frames, mask."),
            (made(order=(0, 2, 1)), "the order is noisy latents, given frames, mask."),
            (made(order=(1, 2, 0)), "the order is noisy latents, given frames, mask."),
            (made(whole=counts[0]), "each clip has its own count; you take the first one for all."),
            (made(whole=max(counts)), "each clip has its own count; you take the largest for all."),
        ]  # fmt: skip
        if clips == frames:
            grid = (torch.arange(frames)[:, None] < count[None]).double()[:, None, :, None, None]
            grid = grid.expand(-1, -1, -1, *zt.shape[3:])
            faults.append(
                (
                    torch.cat([zt, z0 * grid, grid], 1),
                    "the mask is transposed: clips run down, frames across.",
                )
            )
        diagnose(found, faults, _close)
        raise Wrong(
            "the channels must hold zt, then z0 where frames are given and 0 elsewhere, then the mask."
        )


@exercise(
    id="9.6",
    title="What Euler makes of noise",
    difficulty=3,
    minutes=25,
    hint="Everything is linear: write x = here + width * eps and follow both. The best denoiser is "
    "mean + gain (x - (1 - t) mean), with gain = (1 - t) std^2 / ((1 - t)^2 std^2 + t^2). A step keeps the "
    "share t_next / t of x, and takes the rest from x0.",
)
def check_euler_result(euler_result) -> None:
    rows = (
        [1.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.9, 0.75, 0.5, 0.0], [1 - i / 16 for i in range(17)],
        [0.05, 0.025, 0.0], [1.0, 0.3],
    )  # fmt: skip
    cases = [(mean, std, row) for mean, std in ((3.0, 0.5), (-1.0, 2.0), (0.5, 1.0)) for row in rows]
    found = []
    for mean, std, row in cases:
        name = f"euler_result({mean}, {std}, {[round(t, 4) for t in row]})"
        value = euler_result(mean, std, list(row))
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise Wrong(f"{name} must return two numbers, a mean and a deviation, got {value!r}.")
        found += [number_of(name, n) for n in value]

    def each(**fault):
        return [n for mean, std, row in cases for n in _euler_result(mean, std, row, **fault)]

    right = each()
    if agree(found, right):
        return
    ends = {n: found[n::2] for n in (0, 1)}
    if agree(ends[0], right[0::2]) and agree(ends[1], [k**2 for k in right[1::2]]):
        raise Wrong("the second number is the variance. Asked is the deviation.")
    diagnose(
        found,
        (
            (each(centred=False), "the surprise is x - (1 - t) mean, not x: the noisy data have that mean."),
            (each(whole=True), "the surprise is x - (1 - t) mean, not x - mean: noise has shrunk the mean."),
            (each(level="after"), "the denoiser is asked at the START of a step, at t and not at t'."),
            (each(power=1), "the gain has the variance of the data, std squared."),
            (each(preserve=True), "the flow has the scales 1 - t and t, whose sum is 1, not the roots."),
            (each(blind=True), "the denoiser looks at x: its answer is not the mean of the data at every t."),
            (each(start=None), "you start from the data's mean. Noise has the mean 0."),
            (each(turned=True),
             "the step goes the wrong way: what is left of x is t' / t, what is new is the rest."),
            (each(fresh=True),
             "Euler adds no noise in a step: the deviation comes from the first noise alone."),
        ),
        agree,
    )  # fmt: skip
    for number, (mean, std, row) in enumerate(cases):
        mine, due = found[2 * number : 2 * number + 2], right[2 * number : 2 * number + 2]
        if not agree(mine, due):
            times = [round(t, 4) for t in row]
            raise Wrong(
                f"euler_result({mean}, {std}, {times}) should be {due[0]:.4f} and {due[1]:.4f}, "
                f"yours is {mine[0]:.4f} and {mine[1]:.4f}."
            )


def _euler_result(
    mean, std, times, centred=True, whole=False, level="before", power=2, preserve=False, blind=False,
    start=0.0, turned=False, fresh=False,
):  # fmt: skip
    """Mean and deviation after Euler's steps from standard noise, or a version with a fault."""
    m, k = (mean if start is None else start), 1.0
    for t, after in pairwise(times):
        at = after if level == "after" else t
        a, b = ((1 - at) ** 0.5, at**0.5) if preserve else (1 - at, at)
        spread = a**2 * std**2 + b**2
        gain = 0.0 if blind or not spread else a * std**power / spread
        offset = (mean if whole else a * mean) if centred else 0.0
        c = after / t
        if turned:
            c = 1 - c
        m, k = c * m + (1 - c) * (mean + gain * (m - offset)), abs(c + (1 - c) * gain) * k
        if fresh:
            k = math.hypot(k, after * (1 - c) ** 0.5)
    return m, k
