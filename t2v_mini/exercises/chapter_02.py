"""Checks of chapter 2: diffusion."""

from functools import partial
from numbers import Integral

import torch

from t2v_mini.exercises.answers import close, tensor_of
from t2v_mini.exercises.mechanism import Wrong, exercise

_close = partial(close, tolerance=1e-4)


@exercise(
    id="2.1",
    title="Noise for a batch",
    difficulty=1,
    minutes=5,
    hint="alpha_bar[t] has the shape (B,). Which shape must it have to multiply (B, C, F, H, W), "
    "and how do you build that shape from x0.ndim?",
)
def check_corrupt(corrupt) -> None:
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
    # Three samples of three channels: a factor on the wrong axis fits as well.
    t = torch.tensor([0, 300, 999])
    for shape in ((3, 3, 2, 4, 4), (3, 3, 5, 5), (3, 3)):
        rng = torch.Generator().manual_seed(0)
        x0, noise = torch.randn(shape, generator=rng), torch.randn(shape, generator=rng)
        before = x0.clone()
        try:
            found = corrupt(x0, noise, t, alpha_bar)
        except RuntimeError as error:
            raise Wrong(
                f"it fails for a batch of shape {shape}: the factors need the shape (B, 1, ..., 1). "
                f"PyTorch says: {str(error).splitlines()[0]}"
            ) from None
        found = tensor_of("the result", found, shape)
        if not torch.equal(x0, before):
            raise Wrong("you changed x0 itself. Make a new tensor.")
        kept = alpha_bar[t].view(-1, *[1] * (len(shape) - 1)).double()
        if _close(found, kept.sqrt() * x0 + (1 - kept).sqrt() * noise):
            continue
        other = alpha_bar[t].view(1, -1, *[1] * (len(shape) - 2)).double()
        if len(shape) > 2 and _close(found, other.sqrt() * x0 + (1 - other).sqrt() * noise):
            raise Wrong("your factors lie along the channels. Each sample of the batch has its own t.")
        if _close(found, kept * x0 + (1 - kept) * noise):
            raise Wrong("the factors are the square roots of alpha_bar and 1 - alpha_bar.")
        if _close(found, kept.sqrt() * x0 + (1 - kept) * noise):
            raise Wrong("1 - alpha_bar is the variance of the noise. Its factor is the root of that.")
        if _close(found, (1 - kept).sqrt() * x0 + kept.sqrt() * noise):
            raise Wrong("signal and noise are exchanged: at t = 0 nearly all is signal.")
        first = alpha_bar[t[0]].double()
        if _close(found, first.sqrt() * x0 + (1 - first).sqrt() * noise):
            raise Wrong("you give every sample the time of the first one.")
        raise Wrong(f"for shape {shape} the numbers do not satisfy the equation of the forward process.")


@exercise(
    id="2.2",
    title="Everything from v",
    difficulty=1,
    minutes=5,
    hint="Write xt and v as two equations in x0 and eps. Multiply one by the root of alpha_bar, the other "
    "by the root of 1 - alpha_bar, and add or subtract: the squares of the roots sum to 1.",
)
def check_from_v(from_v) -> None:
    rng = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 6, 3, generator=rng, dtype=torch.float64)
    for kept in (0.9, 0.3, torch.tensor([[0.99], [0.7], [0.5], [0.2], [0.01], [0.0]], dtype=torch.float64)):
        signal, sigma = kept**0.5, (1 - kept) ** 0.5
        xt, v = signal * x0 + sigma * eps, signal * eps - sigma * x0
        found = from_v(v, xt, kept)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise Wrong(f"from_v must return two tensors (x0, eps), got {type(found).__name__}.")
        if any(isinstance(part, torch.Tensor) and not torch.isfinite(part).all() for part in found):
            raise Wrong("at alpha_bar = 0 you return numbers that are not finite. Do not divide.")
        clean, noise = (tensor_of(n, f, (6, 3)) for n, f in zip(("x0", "eps"), found, strict=True))
        if _close(clean, eps) and _close(noise, x0):
            raise Wrong("x0 comes first, then eps.")
        if _close(clean, signal * xt + sigma * v) or _close(clean, -x0):
            raise Wrong("a sign is wrong in x0: v holds minus the root of 1 - alpha_bar times x0.")
        if _close(clean, kept * xt - (1 - kept) * v):
            raise Wrong("the factors are the square roots of alpha_bar and 1 - alpha_bar.")
        if not _close(clean, x0):
            raise Wrong("x0 is wrong: putting it back into the definition of v does not give v.")
        if _close(noise, sigma * xt - signal * v):
            raise Wrong("x0 is right. In eps a sign is wrong.")
        if not _close(noise, eps):
            raise Wrong("x0 is right, eps is not: xt must be signal * x0 + sigma * eps again.")


@exercise(
    id="2.3",
    title="Which steps?",
    difficulty=2,
    minutes=15,
    hint="Compute each time from its number i, not from the time before. With integers, "
    "T * (count - i) // count falls from T to T / count. What is left to subtract?",
)
def check_trailing(trailing) -> None:
    cases = [(1000, 10), (1000, 1), (1000, 1000), (1000, 7), (50, 50), (1000, 3), (200, 33)]
    # Rounding goes wrong for some counts only, such as 61.
    for total, count in (*cases, *((1000, count) for count in range(1, 1000, 3)), (50, 29)):
        found = trailing(total, count)
        name = f"trailing({total}, {count})"
        if hasattr(found, "tolist"):  # a tensor or an array
            found = found.tolist()
        if not isinstance(found, (list, tuple)) or not all(isinstance(step, Integral) for step in found):
            raise Wrong(f"{name} must be a list of integers.")
        found = list(found)
        if len(found) != count:
            raise Wrong(f"{name} must have {count} steps, yours has {len(found)}.")
        if min(found) < 0 or max(found) >= total:
            raise Wrong(f"{name} leaves 0 ... {total - 1}: it runs from {max(found)} to {min(found)}.")
        if found[0] != total - 1:
            raise Wrong(f"{name} must start at the last step, {total - 1}, yours starts at {found[0]}.")
        if len(set(found)) < count:
            raise Wrong(f"{name} names a step twice.")
        gaps = [a - b for a, b in zip(found, [*found[1:], -1], strict=True)]
        if min(gaps) < total // count or max(gaps) > -(-total // count):
            raise Wrong(
                f"in {name} the steps should be {total} / {count} = {total / count:.1f} apart, rounded, also "
                f"the last one (down to -1, the clean clip), but yours are {min(gaps)} to {max(gaps)} apart."
            )


@exercise(
    id="2.4",
    title="One step of DDIM",
    difficulty=2,
    minutes=10,
    hint="First find the noise eps that makes x out of x0. Then sigma squared. How much room does it leave, "
    "so that old and fresh noise have the variance 1 - before together?",
)
def check_ddim_step(ddim_step) -> None:
    rng = torch.Generator().manual_seed(0)
    x, x0, z = torch.randn(3, 50, generator=rng, dtype=torch.float64)
    for now, before, eta in ((0.3, 0.6, 0.0), (0.3, 1.0, 0.0), (0.3, 0.6, 1.0), (0.05, 0.5, 0.5),
                             (0.9, 1.0, 1.0)):  # fmt: skip
        try:
            found = ddim_step(x, x0, now, before, eta, z)
        except TypeError as error:
            raise Wrong(f"for eta = {eta} it fails: {error}") from None
        if isinstance(found, torch.Tensor) and (found.is_complex() or torch.isnan(found).any()):
            if eta == 0:
                raise Wrong("already with eta = 0 the result is not a number: a root of something negative.")
            raise Wrong(
                f"for eta = {eta} the result is not a number: your sigma^2 is larger than "
                "1 - before, which leaves no room for the old noise."
            )
        found = tensor_of("the result", found, (50,))
        if not torch.equal(found, tensor_of("the result", ddim_step(x, x0, now, before, eta, z), (50,))):
            raise Wrong("called twice, it gives two results: use the noise z that it is given, draw none.")
        eps = (x - now**0.5 * x0) / (1 - now) ** 0.5
        variance = eta**2 * (1 - before) / (1 - now) * (1 - now / before)
        expected = before**0.5 * x0 + (1 - before - variance) ** 0.5 * eps + variance**0.5 * z
        if _close(found, expected):
            continue
        if before == 1:
            raise Wrong(f"the step to before = 1 must return x0 (eta = {eta}).")
        if eta == 0:
            if _close(found, before**0.5 * x0 + (1 - before) ** 0.5 * z):
                raise Wrong("with eta = 0 nothing is drawn: use the noise that is in x, not z.")
            raise Wrong(
                "already with eta = 0 the step is wrong: take eps out of x with the factors of the old time "
                "(now), then build the result with those of the new time (before)."
            )
        if _close(found, before**0.5 * x0 + (1 - before) ** 0.5 * eps + variance**0.5 * z):
            raise Wrong("you add fresh noise, but you do not take away old noise to make room for it.")
        if _close(found, expected - variance**0.5 * z + variance * z):
            raise Wrong("z is scaled by sigma squared. A deviation scales noise, not a variance.")
        raise Wrong(f"eta = 0 is right; for eta = {eta} sigma is not that of the equation.")


@exercise(
    id="2.5",
    title="The perfect memory",
    difficulty=3,
    minutes=20,
    hint="Bayes: the weight of a data point is the density of N(signal * x0, sigma^2 I) at xt. A softmax of "
    "the logarithms does not overflow.",
)
def check_best_x0(best_x0) -> None:
    rng = torch.Generator().manual_seed(0)
    data = torch.randn(40, 5, generator=rng, dtype=torch.float64)
    # A sampler also meets points that are far from all data: the last pair.
    # In the one before, the points lie so close that a sigma of 0.01 tells them apart and 0.05 would not.
    everything = data
    cases = [(0.7, 0.714, 0.714, 1.0), (0.1, 0.995, 0.995, 1.0)]
    cases += [(0.999, 0.01, 0.01, 0.02), (0.999, 0.01, 1.0, 1.0)]
    for signal, sigma, away, size in cases:
        data = size * everything
        xt = signal * data[:8] + away * torch.randn(8, 5, generator=rng, dtype=torch.float64)
        found = best_x0(xt, data, signal, sigma)
        if isinstance(found, torch.Tensor) and not torch.isfinite(found).all():
            raise Wrong(f"for sigma = {sigma} the result is not finite: exp() has run out of range.")
        found = tensor_of("the result", found, (8, 5))
        squares = torch.cdist(xt, signal * data) ** 2
        if _close(found, (-squares / (2 * sigma**2)).softmax(1) @ data):
            continue
        nearest = data[squares.argmin(1)]
        if _close(found, nearest):
            raise Wrong("you return the nearest data point. Under noise, others fit too: weigh all of them.")
        if _close(found, data.mean(0).expand(8, 5)):
            raise Wrong("this is the mean of all data. Points that do not fit xt must count less.")
        if _close(found, (-squares / sigma**2).softmax(1) @ data):
            raise Wrong("a Gaussian's exponent has a factor 1/2.")
        if _close(found, (-squares.sqrt() / (2 * sigma**2)).softmax(1) @ data):
            raise Wrong("a Gaussian's exponent holds the square of the distance.")
        if _close(found, (-squares / (2 * sigma**2)).softmax(0) @ data):
            raise Wrong(
                "the weights of the N data points must sum to 1 for each sample: the softmax is over N."
            )
        if _close(found, (-squares / (2 * 5 * sigma**2)).softmax(1) @ data):
            raise Wrong("the squared distance is a sum over the D numbers, not their mean.")
        plain = torch.cdist(xt, data) ** 2
        if _close(found, (-plain / (2 * sigma**2)).softmax(1) @ data):
            raise Wrong("compare xt with signal * data: the clean points were shrunk before noise was added.")
        raise Wrong(f"for signal = {signal} and sigma = {sigma} this is not the mean of x0 given xt.")
