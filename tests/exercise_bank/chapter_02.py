"""Chapter 2: the solutions as they stand in the notebook, other right answers, and wrong ones."""

import numpy as np
import torch

SOLUTIONS = {
    "2.1": """
def corrupt(x0, noise, t, alpha_bar):
    kept = alpha_bar[t].view(-1, *[1] * (x0.ndim - 1))
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise
""",
    "2.2": """
def from_v(v, xt, kept):
    signal, sigma = kept**0.5, (1 - kept) ** 0.5
    return signal * xt - sigma * v, sigma * xt + signal * v
""",
    "2.3": """
def trailing(T, count):
    return [T * (count - i) // count - 1 for i in range(count)]
""",
    "2.4": """
def ddim_step(x, x0, now, before, eta, z):
    eps = (x - now**0.5 * x0) / (1 - now) ** 0.5
    variance = eta**2 * (1 - before) / (1 - now) * (1 - now / before)
    kept_noise = (1 - before - variance) ** 0.5
    return before**0.5 * x0 + kept_noise * eps + variance**0.5 * z
""",
    "2.5": """
def best_x0(xt, data, signal, sigma):
    squares = (xt[:, None] - signal * data).square().sum(2)
    return (-squares / (2 * sigma**2)).softmax(1) @ data
""",
}


def _mix(signal, sigma, pick=lambda alpha_bar, t: alpha_bar[t], axis=0):
    """A batch answer with the given factors, functions of alpha_bar."""

    def corrupt(x0, noise, t, alpha_bar):
        kept = pick(alpha_bar, t)
        if kept.ndim:
            kept = kept.view(*[1] * axis, -1, *[1] * (x0.ndim - 1 - axis))
        return signal(kept) * x0 + sigma(kept) * noise

    return corrupt


def _root(kept):
    return kept**0.5


def _rest(kept):
    return (1 - kept) ** 0.5


def _by_einsum(x0, noise, t, alpha_bar):
    kept = alpha_bar[t]
    signal = torch.einsum("b,b...->b...", kept.sqrt(), x0)
    return signal + torch.einsum("b,b...->b...", (1 - kept).sqrt(), noise)


def _four_axes(x0, noise, t, alpha_bar):
    kept = alpha_bar[t][:, None, None, None, None]
    return kept.sqrt() * x0 + (1 - kept).sqrt() * noise


def _in_place(x0, noise, t, alpha_bar):
    kept = alpha_bar[t].view(-1, *[1] * (x0.ndim - 1))
    return x0.mul_(kept.sqrt()).add_((1 - kept).sqrt() * noise)


def _v(clean=(1, -1), noise=(1, 1), divide=False, swap=False):
    def from_v(v, xt, kept):
        a, b = kept**0.5, (1 - kept) ** 0.5
        x0 = clean[0] * a * xt + clean[1] * b * v
        eps = (xt - a * x0) / b if divide == "eps" else noise[0] * b * xt + noise[1] * a * v
        if divide == "x0":
            x0 = (xt - b * eps) / a
        return (eps, x0) if swap else (x0, eps)

    return from_v


def _minus_float(T, count):
    found, time = [], float(T)
    while time > 0:
        found.append(round(time) - 1)
        time -= T / count
    return found


def _ddim(old="room", fresh="sigma", noise="own", upside_down=False, levels="new"):
    def step(x, x0, now, before, eta, z):
        eps = (x - now**0.5 * x0) / (1 - now) ** 0.5 if noise == "own" else z
        share = 1 - now / before
        variance = eta**2 * (1 - before) / (1 - now) * (1 / max(share, 1e-9) if upside_down else share)
        level = before if levels == "new" else now
        room = torch.tensor(1 - level - (variance if old == "room" else 0.0)).sqrt()
        scale = variance if fresh == "variance" else variance**0.5
        return level**0.5 * x0 + room * eps + scale * z

    return step


def _by_posterior(x, x0, now, before, eta, z):
    """The same with old noise as a share."""
    eps = (x - now**0.5 * x0) / (1 - now) ** 0.5
    share = eta * ((1 - now / before) / (1 - now)) ** 0.5
    return before**0.5 * x0 + (1 - before) ** 0.5 * ((1 - share**2) ** 0.5 * eps + share * z)


def _weigh(power=2, factor=2.0, shrink=True, stable=True):
    def best_x0(xt, data, signal, sigma):
        distance = torch.cdist(xt, signal * data if shrink else data)
        logits = -(distance**power) / (factor * sigma**2)
        if stable:
            return logits.softmax(1) @ data
        weight = logits.exp()
        return weight @ data / weight.sum(1, keepdim=True)

    return best_x0


RIGHT = {
    "2.1": [("einsum", _by_einsum), ("power", _mix(_root, _rest))],
    "2.2": [("eps from x0", _v(divide="eps"))],
    "2.3": [
        ("array", lambda T, count: T * np.arange(count, 0, -1) // count - 1),
        ("numpy integers", lambda T, count: list(T * np.arange(count, 0, -1) // count - 1)),
        ("tensor", lambda T, count: T * torch.arange(count, 0, -1) // count - 1),
    ],
    "2.4": [("share of noise", _by_posterior)],
    "2.5": [("cdist", _weigh())],
}

WRONG = {
    "2.1": [
        ("along channels", _mix(_root, _rest, axis=1), "along the channels"),
        ("no roots", _mix(lambda k: k, lambda k: 1 - k), "square roots"),
        ("variance", _mix(_root, lambda k: 1 - k), "root of that"),
        ("exchanged", _mix(_rest, _root), "exchanged"),
        ("first time", _mix(_root, _rest, lambda a, t: a[t[0]]), "time of the first"),
        ("five axes only", _four_axes, "must have the shape|fails for a batch"),
        ("in place", _in_place, "changed x0"),
        ("numpy", lambda x0, noise, t, a: x0.numpy(), "must be a tensor"),
    ],
    "2.2": [
        ("sign of x0", _v(clean=(1, 1)), "sign is wrong in x0"),
        ("sign of eps", _v(noise=(1, -1)), "In eps a sign"),
        ("swapped", _v(swap=True), "x0 comes first"),
        ("divides by 0", _v(divide="x0"), "Do not divide"),
        ("only x0", lambda v, xt, kept: kept**0.5 * xt - (1 - kept) ** 0.5 * v, "two tensors"),
        ("no roots", lambda v, xt, kept: (kept * xt - (1 - kept) * v, v), "square roots"),
        ("eps is v", lambda v, xt, kept: (kept**0.5 * xt - (1 - kept) ** 0.5 * v, v), "eps is not"),
    ],
    "2.3": [
        (
            "leading",
            lambda T, count: [T // count * i for i in reversed(range(count))],
            "must start at the last",
        ),
        ("to the end", lambda T, count: list(range(T - 1, -1, -(T // count))), "must have"),
        ("floats", lambda T, count: [T - 1 - i * T / count for i in range(count)], "list of integers"),
        ("drifts", _minus_float, "must have|leaves 0|apart"),
        ("from T", lambda T, count: [T * (count - i) // count for i in range(count)], "leaves 0"),
        (
            "linspace",
            lambda T, count: [round(x) for x in torch.linspace(T - 1, 0, count).tolist()],
            "apart",
        ),
        (
            "rounded",
            lambda T, n: [int(i) - 1 for i in np.round(np.arange(T, 0, -T / n))],
            "must have|leaves 0",
        ),
        ("same gap", lambda T, count: [T - 1 - i * (T // count) for i in range(count)], "apart"),
    ],
    "2.4": [
        ("no room", _ddim(old="all"), "make room"),
        ("sigma squared", _ddim(fresh="variance"), "not a variance"),
        ("fresh at eta 0", _ddim(noise="z"), "use the noise that is in x"),
        ("upside down", _ddim(upside_down=True), "not a number"),
        ("old levels", _ddim(levels="old"), "factors of the old time|must return x0"),
        (
            "own noise",
            lambda x, x0, now, before, eta, z: _ddim()(x, x0, now, before, eta, torch.randn_like(z)),
            "two results",
        ),
        ("returns x0", lambda x, x0, now, before, eta, z: x0, "already with eta = 0"),
    ],
    "2.5": [
        ("nearest", lambda x, d, a, s: d[torch.cdist(x, a * d).argmin(1)], "nearest data point"),
        ("mean", lambda x, d, a, s: d.mean(0).expand(len(x), -1), "mean of all data"),
        ("no half", _weigh(factor=1.0), "factor 1/2"),
        ("no square", _weigh(power=1), "square of the distance"),
        ("not shrunk", _weigh(shrink=False), "shrunk"),
        ("overflow", _weigh(stable=False), "run out of range"),
        (
            "other axis",
            lambda x, d, a, s: (-(torch.cdist(x, a * d) ** 2) / (2 * s**2)).softmax(0) @ d,
            "over N",
        ),
        ("mean over D", _weigh(factor=10.0), "not their mean"),
        ("floor of sigma", lambda x, d, a, s: _weigh()(x, d, a, max(s, 0.05)), "not the mean of x0"),
        ("scaled", lambda x, d, a, s: x / a, "not the mean of x0"),
    ],
}
