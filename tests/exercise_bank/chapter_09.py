"""Chapter 9: the solutions as they stand in the notebook, other right answers, and wrong ones."""

import math
from itertools import pairwise

import torch
from einops import rearrange

SOLUTIONS = {
    "9.1": """
def normalize(z, mean, std, back):
    mean, std = (v[:, None, None, None] for v in (mean, std))
    return z * std + mean if back else (z - mean) / std
""",
    "9.2": """
def tokens(frames, height, width, ratio, scale, patch):
    latent = (
        1 + math.ceil((frames - 1) / ratio),
        math.ceil(height / scale),
        math.ceil(width / scale),
    )
    if any(n % p for n, p in zip(latent, patch, strict=True)):
        raise ValueError(f"patch {patch} does not divide {latent}")
    return math.prod(latent) // math.prod(patch)
""",
    "9.3": """
def shifted_mean(mean, scale):
    return mean + math.log(scale)
""",
    "9.4": """
def loss(predict, z, mean, std, noise, t):
    mean, std = (v[:, None, None, None] for v in (mean, std))
    z0 = (z - mean) / std
    at = t[:, None, None, None, None]
    predicted = predict((1 - at) * z0 + at * noise, t)
    error = (predicted - z0).square().mean((1, 2, 3, 4))
    return (error / t.clamp(min=0.05) ** 2).mean()
""",
    "9.5": """
def shown(zt, z0, counts):
    known = torch.arange(z0.shape[2]) < counts[:, None]
    mask = known[:, None, :, None, None].to(z0.dtype)
    wide = mask.expand(-1, -1, -1, *z0.shape[3:])
    return torch.cat([zt, mask * z0, wide], dim=1)
""",
    "9.6": """
def euler_result(mean, std, times):
    here, width = 0.0, 1.0  # x = here + width * eps
    for t, after in pairwise(times):
        spread = (1 - t) ** 2 * std**2 + t**2
        gain = (1 - t) * std**2 / spread
        x0 = mean + gain * (here - (1 - t) * mean)
        kept = after / t
        here = kept * here + (1 - kept) * x0
        width = width * (kept + (1 - kept) * gain)
    return here, width
""",
}


def _normalize(there=lambda z, m, s: (z - m) / s, home=lambda z, m, s: z * s + m, shape=(-1, 1, 1, 1)):
    """Normalisation with a fault in one direction or in its axes."""

    def normalize(z, mean, std, back):
        m, s = mean.reshape(shape), std.reshape(shape)
        return home(z, m, s) if back else there(z, m, s)

    return normalize


def _normalize_by_loop(z, mean, std, back):
    out = torch.empty_like(z)
    for channel in range(z.shape[1]):
        part = z[:, channel]
        out[:, channel] = (
            part * std[channel] + mean[channel] if back else (part - mean[channel]) / std[channel]
        )
    return out


def _normalize_by_batch(z, mean, std, back):
    return (z - z.mean((0, 2, 3, 4), keepdim=True)) / z.std((0, 2, 3, 4), keepdim=True)


def _normalize_in_place(z, mean, std, back):
    m, s = mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)
    return z.mul_(s).add_(m) if back else z.sub_(m).div_(s)


def _one_number(z, mean, std, back):
    return z * std.mean() + mean.mean() if back else (z - mean.mean()) / std.mean()


def _up(n, k):
    return -(-n // k)


def _tokens(
    latent=lambda f, h, w, r, s: (1 + _up(f - 1, r), _up(h, s), _up(w, s)), patch=lambda p: p, strict=True,
    kind=int,
):  # fmt: skip
    """The number of tokens with a fault."""

    def tokens(frames, height, width, ratio, scale, size):
        sizes = latent(frames, height, width, ratio, scale)
        if strict and any(n % p for n, p in zip(sizes, size, strict=True)):
            raise ValueError("the patch does not divide the latent")
        return kind(math.prod(sizes) / math.prod(patch(size)))

    return tokens


LOOSE = {"strict": False, "kind": float}


def _euler(fault="none"):
    """Euler's result with a fault."""

    def euler_result(mean, std, times):
        m, k = (mean if fault == "start" else 0.0), 1.0
        for t, after in pairwise(times):
            at = after if fault == "after" else t
            a, b = ((1 - at) ** 0.5, at**0.5) if fault == "roots" else (1 - at, at)
            spread = a**2 * std**2 + b**2
            gain = a * (std if fault == "power" else std**2) / spread if spread and fault != "blind" else 0.0
            offset = {"centred": 0.0, "whole": mean}.get(fault, a * mean)
            kept = 1 - after / t if fault == "turned" else after / t
            m = kept * m + (1 - kept) * (mean + gain * (m - offset))
            k = k * abs(kept + (1 - kept) * gain)
            if fault == "fresh":
                k = math.hypot(k, after * (1 - kept) ** 0.5)
        return (m, k**2) if fault == "variance" else (m, k)

    return euler_result


def _euler_by_two_points(mean, std, times):
    ends = []
    for x in (0.0, 1.0):
        for t, after in pairwise(times):
            gain = (1 - t) * std**2 / ((1 - t) ** 2 * std**2 + t**2)
            u = (x - mean - gain * (x - (1 - t) * mean)) / t
            x = x + (after - t) * u
        ends.append(x)
    return ends[0], ends[1] - ends[0]


def _loss(
    prepare=lambda z, m, s: (z - m) / s, weigh=lambda e, t: e / t.clamp(min=0.05) ** 2, target="z0",
    mix=lambda z, n, a: (1 - a) * z + a * n, total="mean", over="mean", axes=4, early=False,
):  # fmt: skip
    """The loss with a fault."""

    def loss(predict, z, mean, std, noise, t):
        z0 = prepare(z, mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1))
        at = t.view(-1, *[1] * axes)
        aim = {"z0": z0, "noise": noise, "u": noise - z0}[target]
        error = (predict(mix(z0, noise, at), t) - aim).square().flatten(1)
        error = error.mean(1) if total == "mean" else error.sum(1)
        if early:
            return error.mean() / t.mean() ** 2
        weighted = weigh(error, t)
        return weighted.mean() if over == "mean" else weighted.sum()

    return loss


def _loss_by_loop(predict, z, mean, std, noise, t):
    z0 = torch.stack([(z[:, c] - mean[c]) / std[c] for c in range(z.shape[1])], dim=1)
    zt = torch.stack([torch.lerp(a, b, w) for a, b, w in zip(z0, noise, t, strict=True)])
    errors = (predict(zt, t) - z0) ** 2
    total = sum(e.mean() / max(float(w), 0.05) ** 2 for e, w in zip(errors, t, strict=True))
    return total / len(z)


def _loss_as_float(predict, z, mean, std, noise, t):
    return _loss()(predict, z, mean, std, noise, t).item()


def _loss_in_place(predict, z, mean, std, noise, t):
    z.sub_(mean.view(-1, 1, 1, 1)).div_(std.view(-1, 1, 1, 1))
    return _loss(prepare=lambda z, m, s: z)(predict, z, mean, std, noise, t)


def _shown(
    known=lambda f, c: f < c, order=(0, 1, 2), source="clean", cut=True, counts=lambda c: c, mask="one",
):  # fmt: skip
    """The denoiser's input with a fault."""

    def shown(zt, z0, number):
        frames = torch.arange(z0.shape[2])
        seen = known(frames, counts(number)[:, None]).to(z0.dtype)[:, None, :, None, None]
        wide = seen.expand(-1, -1, -1, *z0.shape[3:])
        part = zt if source == "noisy" else z0
        parts = zt, part * wide if cut else part, wide
        if mask == "none":
            parts = parts[:2]
            return torch.cat(parts, dim=1)
        if mask == "all":
            return torch.cat([*parts[:2], wide.expand(-1, z0.shape[1], -1, -1, -1)], dim=1)
        return torch.cat([parts[i] for i in order], dim=1)

    return shown


def _shown_by_loop(zt, z0, counts):
    out = torch.zeros(len(zt), 2 * zt.shape[1] + 1, *zt.shape[2:], dtype=zt.dtype)
    out[:, : zt.shape[1]] = zt
    for row, count in enumerate(counts.tolist()):
        out[row, zt.shape[1] : -1, :count] = z0[row, :, :count]
        out[row, -1, :count] = 1
    return out


def _shown_added(zt, z0, counts):
    mask = (torch.arange(z0.shape[2]) < counts[:, None])[:, None, :, None, None]
    return torch.where(mask, z0, zt)


def _shown_transposed(zt, z0, counts):
    mask = rearrange(torch.arange(z0.shape[2])[:, None] < counts[None], "b f -> b 1 f 1 1").to(z0.dtype)
    if mask.shape[0] != len(z0) or mask.shape[2] != z0.shape[2]:
        return _shown()(zt, z0, counts)
    wide = mask.expand(-1, -1, -1, *z0.shape[3:])
    return torch.cat([zt, z0 * wide, wide], dim=1)


def _shown_in_place(zt, z0, counts):
    mask = (torch.arange(z0.shape[2]) < counts[:, None])[:, None, :, None, None].to(z0.dtype)
    z0.mul_(mask)
    return torch.cat([zt, z0, mask.expand(-1, -1, -1, *z0.shape[3:])], dim=1)


RIGHT = {
    "9.1": [
        ("by loop", _normalize_by_loop),
        ("reshaped", _normalize(shape=(1, -1, 1, 1, 1))),
    ],
    "9.2": [("by quotients", _tokens())],
    "9.3": [
        ("by median", lambda m, s: math.log(s * math.exp(m))),
        ("a tensor", lambda m, s: torch.tensor(s, dtype=torch.float64).log() + m),
    ],
    "9.4": [("by loop", _loss_by_loop)],
    "9.5": [("by loop", _shown_by_loop)],
    "9.6": [("by two points", _euler_by_two_points)],
}

WRONG = {
    "9.1": [
        ("other way", lambda z, m, s, back: _normalize()(z, m, s, not back), "the other way"),
        ("multiplies", _normalize(there=lambda z, m, s: (z - m) * s), "multiplies where"),
        ("divides back", _normalize(home=lambda z, m, s: z / s + m), "multiplies where"),
        ("sign", _normalize(there=lambda z, m, s: (z + m) / s), "wrong sign"),
        ("order back", _normalize(home=lambda z, m, s: (z + m) * s), "wrong order"),
        ("order", _normalize(there=lambda z, m, s: z / s - m), "wrong order"),
        ("no mean", _normalize(there=lambda z, m, s: z / s, home=lambda z, m, s: z * s), "mean is left out"),
        ("no deviation", _normalize(there=lambda z, m, s: z - m), "deviation is left out"),
        ("variance", _normalize(there=lambda z, m, s: (z - m) / s**2), "variance, not the deviation"),
        ("batch", _normalize_by_batch, "statistics of the batch"),
        ("one number", _one_number, "one number for all channels"),
        ("columns", lambda z, m, s, back: z * s + m if back else (z - m) / s, "axes behind the channels"),
        ("in place", _normalize_in_place, "changed z"),
        ("half the way", lambda z, m, s, back: z, "is not what"),
    ],
    "9.2": [
        ("no first", _tokens(lambda f, h, w, r, s: (_up(f, r), _up(h, s), _up(w, s)), **LOOSE),
         "keep the first"),
        ("cut", _tokens(lambda f, h, w, r, s: (1 + (f - 1) // r, h // s, w // s), **LOOSE),
         "is cut off"),
        ("not whole", _tokens(lambda f, h, w, r, s: (1 + (f - 1) / r, h / s, w / s), **LOOSE),
         "are not whole"),
        ("places", _tokens(patch=lambda p: (1, 1, 1)), "places of the latent"),
        ("flat patch", _tokens(patch=lambda p: (1, *p[1:])), "length in time"),
        ("pixels", _tokens(lambda f, h, w, r, s: (f, h, w), **LOOSE), "tokens of pixels"),
        ("exchanged",
         _tokens(lambda f, h, w, r, s: (1 + _up(f - 1, s), _up(h, r), _up(w, r)), **LOOSE),
         "are exchanged"),
        ("float", _tokens(kind=float), "must be an integer"),
        ("lenient", _tokens(strict=False), "must raise ValueError"),
        ("one more", lambda *case: 1 + _tokens(strict=False)(*case), "should be"),
        ("sizes", lambda f, h, w, r, s, p: (f, h, w), "must be a number"),
    ],
    "9.3": [
        ("nothing", lambda m, s: m, "no effect"),
        ("other way", lambda m, s: m - math.log(s), "sign is wrong"),
        ("squared", lambda m, s: m + 2 * math.log(s), "enters once"),
        ("multiplies", lambda m, s: m * s, "a factor shifts nothing"),
        ("divides", lambda m, s: m / s, "a factor shifts nothing"),
        ("adds", lambda m, s: m + s, "LOGARITHM"),
        ("adds the excess", lambda m, s: m + s - 1, "LOGARITHM"),
        ("tens", lambda m, s: m + math.log10(s), "natural logarithm"),
        ("twos", lambda m, s: m + math.log2(s), "natural logarithm"),
        ("median", lambda m, s: 1 / (1 + math.exp(-m) / s), "median of the training times"),
        ("off", lambda m, s: 1.1 * m + math.log(s), "should be"),
    ],
    "9.4": [
        ("raw", _loss(prepare=lambda z, m, s: z), "not normalised"),
        ("way back", _loss(prepare=lambda z, m, s: z * s + m), "way back"),
        ("no mean", _loss(prepare=lambda z, m, s: z / s), "mean of the channels"),
        ("no deviation", _loss(prepare=lambda z, m, s: z - m), "deviation of the channels"),
        ("no weight", _loss(weigh=lambda e, t: e), "is missing"),
        ("no square", _loss(weigh=lambda e, t: e / t.clamp(min=0.05)), "has a square"),
        ("multiplies", _loss(weigh=lambda e, t: e * t.clamp(min=0.05) ** 2), "you multiply"),
        ("unbounded", _loss(weigh=lambda e, t: e / t**2), "not bounded"),
        ("noise", _loss(target="noise"), "not the noise"),
        ("velocity", _loss(target="u"), "not the velocity"),
        ("exchanged", _loss(mix=lambda z, n, a: a * z + (1 - a) * n), "are exchanged"),
        ("roots", _loss(mix=lambda z, n, a: (1 - a).sqrt() * z + a.sqrt() * n), "no roots"),
        ("sum", _loss(total="sum"), "not the sum"),
        ("sum of clips", _loss(over="sum"), "over the clips, not the sum"),
        ("one weight", _loss(early=True), "its own weight"),
        ("columns", _loss(axes=0), "four more axes"),
        ("float", _loss_as_float, "no tensor"),
        ("detached", lambda *case: _loss()(*case).detach(), "no tensor"),
        ("in place", _loss_in_place, "changed z"),
        ("deaf", lambda predict, z, mean, std, noise, t: z.mean(), "never asked"),
    ],
    "9.5": [
        ("no mask", _shown(mask="none"), "mask is missing"),
        ("wide mask", _shown(mask="all"), "one channel"),
        ("added", _shown_added, "side by side"),
        ("one more", _shown(known=lambda f, c: f <= c), "too many"),
        ("one fewer", _shown(known=lambda f, c: f + 1 < c), "too few"),
        ("reversed", _shown(known=lambda f, c: f >= c), "wrong way round"),
        ("not cut", _shown(cut=False), "behind the count"),
        ("noisy", _shown(source="noisy"), "are noisy"),
        ("order", _shown(order=(1, 0, 2)), "the order is"),
        ("mask first", _shown(order=(2, 0, 1)), "the order is"),
        ("first for all", _shown(counts=lambda c: c[:1].expand(len(c))), "first one for all"),
        ("largest for all", _shown(counts=lambda c: c.max().expand(len(c))), "largest for all"),
        ("transposed", _shown_transposed, "transposed"),
        ("in place", _shown_in_place, "changed what"),
    ],
    "9.6": [
        ("variance", _euler("variance"), "is the variance"),
        ("not centred", _euler("centred"), "not x:"),
        ("whole mean", _euler("whole"), "not x - mean"),
        ("after", _euler("after"), "START of a step"),
        ("std", _euler("power"), "std squared"),
        ("roots", _euler("roots"), "not the roots"),
        ("blind", _euler("blind"), "looks at x"),
        ("start", _euler("start"), "Noise has the mean 0"),
        ("turned", _euler("turned"), "wrong way"),
        ("fresh", _euler("fresh"), "no noise"),
        ("one number", lambda mean, std, times: mean, "two numbers"),
        ("data", lambda mean, std, times: (mean, std), "should be"),
    ],
}  # fmt: skip
