"""Chapter 8: the solutions as they stand in the notebook, other right answers, and wrong ones."""

import torch
import torch.nn.functional as F

SOLUTIONS = {
    "8.1": """
def kl(mean_q, logvar_q, mean_p, logvar_p):
    distance = (mean_q - mean_p).square() + logvar_q.exp()
    each = logvar_p - logvar_q + distance / logvar_p.exp() - 1
    return each.flatten(1).sum(1) / 2
""",
    "8.2": """
def latent_size(frames, height, width, ratio, scale, causal):
    first = 1 if causal else 0
    return (
        first + -(-(frames - first) // ratio),
        -(-height // scale),
        -(-width // scale),
    )
""",
    "8.3": """
def channel_statistics(batches):
    count, total, squares = 0, 0.0, 0.0
    for z in batches:
        z = z.double()
        count += z[:, 0].numel()
        total = total + z.sum((0, 2, 3, 4))
        squares = squares + z.square().sum((0, 2, 3, 4))
    mean = total / count
    return mean, (squares / count - mean.square()).clamp_min(0).sqrt()
""",
    "8.4": """
def finite(z, levels):
    half = (levels - 1) / 2
    bounded = half * torch.tanh(z)
    rounded = bounded + (bounded.round() - bounded).detach()
    return rounded / half
""",
    "8.5": """
def in_tiles(network, x, tile, around):
    n, parts = x.shape[-1], []
    for start in range(0, n, tile):
        stop = min(start + tile, n)
        low, high = max(0, start - around), min(n, stop + around)
        made = network(x[..., low:high])
        parts.append(made[..., start - low : stop - low])
    return torch.cat(parts, dim=-1)
""",
    "8.6": """
def errors(variances, allowed):
    by_sample = variances.clamp(max=allowed)
    heard = variances > allowed
    by_mode = torch.where(heard, allowed**2 / variances, variances)
    return by_sample, by_mode
""",
}


def _kl(scale=0.5, minus=1.0, swap=False, log=1.0, divide=True, gap=True, variance=True, how="sum"):
    """The divergence of two Gaussians, with a fault."""

    def kl(mean_q, logvar_q, mean_p, logvar_p):
        if swap:
            mean_q, logvar_q, mean_p, logvar_p = mean_p, logvar_p, mean_q, logvar_q
        if not variance:
            logvar_q, logvar_p = 2 * logvar_q, 2 * logvar_p
        top = logvar_q.exp() + (mean_q - mean_p).square() * gap
        ratio = top / logvar_p.exp() if divide else top
        each = scale * (log * (logvar_p - logvar_q) + ratio - minus)
        if how == "each":
            return each
        if how == "batch":
            return each.sum()
        return each.flatten(1).mean(1) if how == "mean" else each.flatten(1).sum(1)

    return kl


def _to_prior(mean_q, logvar_q, mean_p, logvar_p):
    return (mean_q.square() + logvar_q.exp() - 1 - logvar_q).flatten(1).sum(1) / 2


def _torch_kl(mean_q, logvar_q, mean_p, logvar_p):
    normal = torch.distributions.Normal
    q, p = normal(mean_q, (logvar_q / 2).exp()), normal(mean_p, (logvar_p / 2).exp())
    return torch.distributions.kl_divergence(q, p).sum((1, 2, 3, 4))


def _up(a, b):
    return -(-a // b)


def _size(time="up", space="up", first="causal", legal=False, back=True, extra=0):
    """The size of a latent, with a fault."""

    def latent_size(frames, height, width, ratio, scale, causal):
        kept = {"causal": int(causal), "always": 1, "never": 0, "exchanged": int(not causal)}[first]
        away = kept if back else 0
        rest = _up(frames - away, ratio) if time == "up" else (frames - away) // ratio
        sides = [_up(n, scale) if space == "up" else n // scale for n in (height, width)]
        if legal:
            return kept + rest * ratio, *(side * scale for side in sides)
        return kept + rest + extra, *(side + extra for side in sides)

    return latent_size


def _float_size(frames, height, width, ratio, scale, causal):
    first = int(causal)
    return first + (frames - first) / ratio, height / scale, width / scale


def _one_number(frames, height, width, ratio, scale, causal):
    G, I, J = _size()(frames, height, width, ratio, scale, causal)  # noqa: E741
    return G * I * J


def _by_math(frames, height, width, ratio, scale, causal):
    import math

    first = int(causal)
    return [first + math.ceil((frames - first) / ratio), math.ceil(height / scale), math.ceil(width / scale)]


AXES = (0, 2, 3, 4)


def _all_at_once(batches):
    every = torch.cat([z.double().transpose(0, 1).flatten(1) for z in batches], dim=1)
    return every.mean(1), every.std(1)


def _welford(batches):
    """Chan's way: counts, means and squares about the mean are joined."""
    count, mean, squares = 0, 0.0, 0.0
    for z in batches:
        flat = z.double().transpose(0, 1).flatten(1)
        n, own = flat.shape[1], flat.mean(1)
        gap, joined = own - mean, count + n
        squares = squares + (flat - own[:, None]).square().sum(1) + gap**2 * count * n / joined
        mean, count = mean + gap * n / joined, joined
    return mean, (squares / (count - 1)).sqrt()


def _sums(dtype=torch.float64, root=True, centre=True, divide=True):
    """One pass with sums, with a fault."""

    def channel_statistics(batches):
        count, total, squares = 0, 0.0, 0.0
        for z in batches:
            z = z.to(dtype)
            count += z[:, 0].numel()
            total = total + z.sum(AXES)
            squares = squares + z.square().sum(AXES)
        mean = total / count
        variance = squares / count - (mean.square() if centre else 0)
        return (mean if divide else total), (variance.sqrt() if root else variance)

    return channel_statistics


def _mean_of(part):
    """Statistics of each batch, then their mean."""

    def channel_statistics(batches):
        found = [(z.double().mean(AXES), z.double().std(AXES), z[:, 0].numel()) for z in batches]
        means, stds = (torch.stack([row[i] for row in found]) for i in (0, 1))
        counts = torch.tensor([row[2] for row in found], dtype=torch.float64)[:, None]
        share = counts / counts.sum()
        if part == "both":
            return means.mean(0), stds.mean(0)
        mean = (means * share).sum(0)
        return mean, (stds * share).sum(0) if part == "deviations" else (stds**2 * share).sum(0).sqrt()

    return channel_statistics


def _one_for_all(batches):
    every = torch.cat([z.double().flatten() for z in batches])
    return every.mean(), every.std()


def _last_only(batches):
    batches = list(batches)
    mean, _ = _all_at_once(batches)
    return mean, batches[-1].double().std(AXES)


def _finite(bound=torch.tanh, half=None, how="round", through="rounding", divide=True):
    """Finite scalar quantisation, with a fault."""

    def finite(z, levels):
        h = (levels - 1) / 2 if half is None else half(levels)
        bounded = h * bound(z)
        made = getattr(bounded, how)() if how else bounded
        made = made / h if divide else made
        smooth = bounded / h if divide else bounded
        if through == "rounding":
            return smooth + (made - smooth).detach()
        if through == "all":
            return z + (made - z).detach()
        if through == "detached":
            return made.detach()
        if through == "too large":
            return bounded + (made - bounded).detach()
        return made

    return finite


def _no_bound(z, levels):
    half = (levels - 1) / 2
    return z + (z.round() / half - z).detach()


def _spoilt(z, levels):
    out = _finite()(z, levels)
    z.data.zero_()
    return out


def _straight_with_no_grad(z, levels):
    half = (levels - 1) / 2
    bounded = half * torch.tanh(z)
    with torch.no_grad():
        step = bounded.round() - bounded
    return (bounded + step) / half


def _tiles(front=1, back=1, less=0, cut=True, whole=False, zeros=False, shift=0):
    """The result in tiles, with a fault; `front` and `back` say whether there is a margin."""

    def in_tiles(network, x, tile, around):
        n, parts = x.shape[-1], []
        if whole:
            return network(x)
        if zeros:
            wide = F.pad(x, (around, around))
            for start in range(0, n, tile):
                made = network(wide[..., start : min(start + tile, n) + 2 * around])
                parts.append(made[..., around : made.shape[-1] - around])
            return torch.cat(parts, dim=-1)
        for start in range(0, n, tile):
            stop = min(start + tile, n)
            low = max(0, start - front * max(around - less, 0))
            high = min(n, stop + back * max(around - less, 0))
            made = network(x[..., low:high])
            parts.append(made[..., start - low + shift : stop - low + shift] if cut else made)
        return torch.cat(parts, dim=-1)

    return in_tiles


def _whole_then_cut(network, x, tile, around):
    return torch.cat([network(x)[..., i : i + tile] for i in range(0, x.shape[-1], tile)], dim=-1)


def _drops_the_rest(network, x, tile, around):
    n = x.shape[-1] // tile * tile
    return _tiles()(network, x[..., :n], tile, around)


def _same_cut(network, x, tile, around):
    """Cuts `around` places off in front, also where there was no margin."""
    n, parts = x.shape[-1], []
    for start in range(0, n, tile):
        stop = min(start + tile, n)
        made = network(x[..., max(0, start - around) : min(n, stop + around)])
        first = min(around, made.shape[-1] - (stop - start))
        parts.append(made[..., first : first + stop - start])
    return torch.cat(parts, dim=-1)


def _a_place_at_a_time(network, x, tile, around):
    n, parts = x.shape[-1], []
    for place in range(n):
        low = max(0, place - around)
        parts.append(network(x[..., low : min(n, place + around + 1)])[..., place - low])
    return torch.stack(parts, dim=-1)


def _errors(sample, mode):
    def errors(variances, allowed):
        heard = variances > allowed
        return sample(variances, allowed, heard), mode(variances, allowed, heard)

    return errors


def _by_sample(v, a, heard):
    return torch.minimum(v, torch.full_like(v, a))


def _by_mode(v, a, heard):
    return torch.where(heard, a**2 / v, v)


def _noise(v, a, heard):
    return torch.where(heard, (v - a) * a / v, v)


def _by_the_letter(variances, allowed):
    by_sample, by_mode = [], []
    for value in variances.tolist():
        w = max(value - allowed, 0.0) ** 0.5
        v = w / value
        sigma2 = allowed / value if value > allowed else 1.0
        by_mode.append((1 - w * v) ** 2 * value)
        by_sample.append(by_mode[-1] + w**2 * sigma2)
    return torch.tensor(by_sample, dtype=torch.float64), torch.tensor(by_mode, dtype=torch.float64)


RIGHT = {
    "8.1": [("torch.distributions", _torch_kl), ("in parts", _kl())],
    "8.2": [("math.ceil, a list", _by_math), ("in parts", _size())],
    "8.3": [("all at once", _all_at_once), ("joined", _welford), ("sums", _sums())],
    "8.4": [("no_grad", _straight_with_no_grad), ("in parts", _finite())],
    "8.5": [("a place at a time", _a_place_at_a_time), ("in parts", _tiles())],
    "8.6": [("by the letter", _by_the_letter), ("minimum", _errors(_by_sample, _by_mode))],
}

WRONG = {
    "8.1": [
        ("no half", _kl(scale=1.0), "factor of 1/2"),
        ("no -1", _kl(minus=0.0), "-1 is missing"),
        ("sign", _kl(scale=-0.5), "wrong sign"),
        ("exchanged", _kl(swap=True), "exchanged"),
        ("a mean", _kl(how="mean"), "not a mean"),
        ("of the batch", _kl(how="batch"), "for the whole batch"),
        ("each number", _kl(how="each"), "sum over all axes but the first"),
        ("deviation", _kl(variance=False), "take it as a deviation"),
        ("not divided", _kl(divide=False), "divided by the variance of p"),
        ("no logarithm", _kl(log=0.0), "logarithm of the ratio"),
        ("logarithm turned", _kl(log=-1.0), "logarithm has the wrong sign"),
        ("no means", _kl(gap=False), "apart is left out"),
        ("to the prior", _to_prior, "from N.0, 1."),
        ("double", lambda *parts: 3 * _to_prior(*parts), "is not the divergence"),
    ],
    "8.2": [
        ("all down", _size(time="down", space="down"), "you round down"),
        ("frames down", _size(time="down"), "frames are rounded down"),
        ("space down", _size(space="down"), "rows and columns are rounded down"),
        ("never apart", _size(first="never"), "first frame apart"),
        ("always apart", _size(first="always"), "Only a causal codec"),
        ("counts twice", _size(back=False), "counts twice"),
        ("exchanged", _size(first="exchanged"), "are exchanged"),
        ("legal size", _size(legal=True), "legal size"),
        ("one more", _size(time="down", space="down", extra=1), "even where the size divides"),
        ("float", _float_size, "must hold integers"),
        ("one number", _one_number, "three numbers"),
        ("two more", _size(extra=2), "should be"),
    ],
    "8.3": [
        ("mean of means", _mean_of("both"), "weight of a large one"),
        ("mean of deviations", _mean_of("deviations"), "batches' deviations leaves out"),
        ("mean of variances", _mean_of("variances"), "batches' variances leaves out"),
        ("variance", _sums(root=False), "take its root"),
        ("not centred", _sums(centre=False), "take the square of the mean away"),
        ("a sum", _sums(divide=False), "is a sum"),
        ("float32", _sums(dtype=torch.float32), "float64"),
        ("one for all", _one_for_all, "yours is one for all"),
        ("last batch", _last_only, "only the last batch"),
        ("only the mean", lambda batches: _all_at_once(batches)[0], "must return mean and deviation"),
        ("exchanged", lambda batches: _all_at_once(batches)[::-1], "is not that of all numbers"),
    ],
    "8.4": [
        ("not rounded", _finite(how=None), "not rounded"),
        ("not divided", _finite(divide=False), "divide by half at the end"),
        ("no bound", _no_bound, "not bounded"),
        ("clamp", _finite(bound=lambda z: z.clamp(-1, 1)), "not by a clamp"),
        ("down", _finite(how="floor"), "round down"),
        ("towards 0", _finite(how="trunc"), "towards 0"),
        ("levels", _finite(half=lambda levels: levels), "in place of half"),
        ("levels - 1", _finite(half=lambda levels: levels - 1), "in place of half"),
        ("no half", _finite(half=lambda levels: 1), "multiply by half"),
        ("no gradient", _finite(through="detached"), "no gradient comes back"),
        ("gradient 0", _finite(through=""), "the gradient is 0"),
        ("past tanh", _finite(through="all"), "as if there were no tanh"),
        ("too large", _finite(through="too large"), "times too large"),
        ("in place", _spoilt, "changed z"),
        ("sigmoid", _finite(bound=torch.sigmoid), "must be the multiples"),
    ],
    "8.5": [
        ("no margins", _tiles(front=0, back=0), "no margins"),
        ("front only", _tiles(back=0), "none behind"),
        ("back only", _tiles(front=0), "none before"),
        ("narrow", _tiles(less=1), "too narrow"),
        ("margins kept", _tiles(cut=False), "Cut the margins off"),
        ("zeros", _tiles(zeros=True), "add zeros"),
        ("whole", _tiles(whole=True), "at once"),
        ("whole, then cut", _whole_then_cut, "at once"),
        ("rest dropped", _drops_the_rest, "must have the shape"),
        ("same cut", _same_cut, "not those of the whole"),
        ("nothing made", lambda network, x, tile, around: x, "not those of the whole"),
    ],
    "8.6": [
        ("exchanged", _errors(_by_mode, _by_sample), "are exchanged"),
        ("allowed everywhere", _errors(lambda v, a, h: torch.full_like(v, a), _by_mode), "no more error"),
        ("silent are free", _errors(lambda v, a, h: torch.where(h, a, 0.0).double(), _by_mode), "is lost"),
        ("heard are free", _errors(lambda v, a, h: torch.where(h, 0.0, v), _by_mode), "not none"),
        ("larger", _errors(lambda v, a, h: v.clamp(min=a), _by_mode), "not the larger"),
        ("mode twice", _errors(_by_mode, _by_mode), "this is the error of the mode"),
        ("posterior", _errors(lambda v, a, h: torch.where(h, a / v, v), _by_mode), "variance of the latent"),
        ("noise alone", _errors(_noise, _by_mode), "noise alone"),
        ("sample twice", _errors(_by_sample, _by_sample), "this is the error of a sample"),
        ("mode is exact", _errors(_by_sample, lambda v, a, h: torch.where(h, 0.0, v)), "pulled towards"),
        ("all heard", _errors(_by_sample, lambda v, a, h: a**2 / v), "not heard loses all"),
        ("share", _errors(_by_sample, lambda v, a, h: torch.where(h, a / v, v)), "that is missing is"),
        ("share squared", _errors(_by_sample, lambda v, a, h: torch.where(h, (a / v) ** 2, v)), "and not 1"),
        ("noise", _errors(_by_sample, _noise), "noise adds"),
        ("kept", _errors(_by_sample, lambda v, a, h: torch.where(h, v - a, v)), "that is decoded"),
        ("one tensor", lambda v, a: _by_sample(v, a, v > a), "two tensors"),
        ("half", _errors(lambda v, a, h: _by_sample(v, a, h) / 2, _by_mode), "is off by"),
    ],
}  # fmt: skip
