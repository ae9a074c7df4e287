"""Chapter 7: the solutions as they stand in the notebook, other right answers, and wrong ones."""

import torch
import torch.nn.functional as F
from torch import nn

SOLUTIONS = {
    "7.1": """
def weights(C, out, kernel, middle):
    frames, rows, columns = kernel
    dense = frames * rows * columns * C * out
    pair = rows * columns * C * middle + frames * middle * out
    depthwise = frames * rows * columns * C + C * out
    return dense, pair, depthwise
""",
    "7.2": """
def middle(C, out, kernel):
    frames, rows, columns = kernel
    dense = frames * rows * columns * C * out
    return dense // (rows * columns * C + frames * out)
""",
    "7.3": """
def merge(space, along):
    return torch.einsum("oma,mcpq->ocapq", along, space)
""",
    "7.4": """
def split(weight, middle):
    out, C, frames, rows, columns = weight.shape
    matrix = weight.permute(0, 2, 1, 3, 4).reshape(out * frames, -1)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    along = (left * values)[:, :middle].reshape(out, frames, middle)
    space = right[:middle].reshape(middle, C, rows, columns)
    return space, along.permute(0, 2, 1)
""",
    "7.5": """
def gate(x, w1, b1, w2, b2):
    mean = x.mean((3, 4)).transpose(1, 2)  # B F C
    small = F.silu(F.linear(mean, w1, b1))
    factor = 2 * torch.sigmoid(F.linear(small, w2, b2))
    return x * factor.transpose(1, 2)[..., None, None]
""",
    "7.6": """
def largest_scale(depth, spread, growth):
    return ((growth**2 - 1) / (depth * spread)) ** 0.5
""",
}


def _weights(dense=None, pair=None, thin=None, times=1, biases=False):
    """The three counts, with another rule for one of them."""

    def weights(C, o, kernel, middle):
        f, h, w = kernel
        case = C, o, f, h, w, middle
        found = [
            dense(*case) if dense else f * h * w * C * o,
            pair(*case) if pair else h * w * C * middle + f * middle * o,
            thin(*case) if thin else f * h * w * C + C * o,
        ]
        if biases:
            found = [n + extra for n, extra in zip(found, (o, middle + o, C + o), strict=True)]
        return tuple(times * n for n in found)

    return weights


def _by_modules(C, o, kernel, middle):
    """Counted by PyTorch."""
    f, h, w = kernel

    def count(*layers):
        return sum(layer.weight.numel() for layer in layers)

    return [
        count(nn.Conv3d(C, o, kernel, bias=False)),
        count(nn.Conv3d(C, middle, (1, h, w)), nn.Conv3d(middle, o, (f, 1, 1))),
        count(nn.Conv3d(C, C, kernel, groups=C), nn.Conv3d(C, o, 1)),
    ]


def _middle(rule, up=False, divide=False):
    """Weights of a dense kernel over what `rule` says that a middle channel costs."""

    def middle(C, o, kernel):
        f, h, w = kernel
        dense, each = f * h * w * C * o, rule(C, o, f, h, w)
        return dense / each if divide else -(-dense // each) if up else dense // each

    return middle


def _cost(C, o, f, h, w):
    return h * w * C + f * o


def _search(C, o, kernel):
    f, h, w = kernel
    M = 1
    while (M + 1) * (h * w * C + f * o) <= f * h * w * C * o:
        M += 1
    return M


def _merge(space, along):
    return torch.einsum("oma,mcpq->ocapq", along, space)


def _by_matrices(space, along):
    (o, M, f), (_, C, h, w) = along.shape, space.shape
    matrix = along.permute(0, 2, 1).reshape(o * f, M) @ space.reshape(M, -1)
    return matrix.reshape(o, f, C, h, w).permute(0, 2, 1, 3, 4)


def _in_a_row(space, along):
    """What the pair makes of impulses."""
    C, h, w = space.shape[1:]
    f = along.shape[2]
    impulse = torch.zeros(C, C, 2 * f - 1, 2 * h - 1, 2 * w - 1, dtype=space.dtype)
    for c in range(C):
        impulse[c, c, f - 1, h - 1, w - 1] = 1
    y = F.conv3d(F.conv3d(impulse, space[:, :, None]), along[..., None, None])
    return y.flip(2, 3, 4).transpose(0, 1)


def _merge_in_place(space, along):
    out = _merge(space, along)
    space.zero_()
    return out


def _split(
    scale_space=0.0, scale_along=1.0, keep=slice(None), axes=(0, 2, 1, 3, 4), fewer=0, swap=False, late=False
):
    """A pair from singular values raised to these powers, of a matrix made with these axes."""

    def split(weight, middle):
        o, C, f, h, w = weight.shape
        matrix = weight.permute(axes).reshape(o * f, -1) if axes else weight.reshape(o * f, -1)
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        part = slice(len(values) - middle, None) if keep == "last" else slice(0, middle)
        if fewer:
            values = values.clone()
            values[middle - fewer :] = 0
        along = (left * values**scale_along)[:, part].reshape(o, f, middle)
        space = (right * values[:, None] ** scale_space)[part].reshape(middle, C, h, w)
        along = along if late else along.permute(0, 2, 1)
        return (along, space) if swap else (space, along)

    return split


def _split_by_eigen(weight, middle):
    """Another right way: eigenvectors of the matrix times its transpose."""
    o, C, f, h, w = weight.shape
    matrix = weight.transpose(1, 2).reshape(o * f, -1)
    _, vectors = torch.linalg.eigh(matrix @ matrix.T)
    basis = vectors.flip(1)[:, :middle]
    return (basis.T @ matrix).reshape(middle, C, h, w), basis.reshape(o, f, middle).transpose(1, 2)


def _gate(mean=None, act=F.silu, last=None, first_bias=True, second_bias=True, only=False, add=False):
    """The gate, with another mean (B, F, C) or another function in it."""

    def gate(x, w1, b1, w2, b2):
        m = mean(x) if mean else x.mean((3, 4)).transpose(1, 2)
        small = act(F.linear(m, w1, b1 if first_bias else None))
        logits = F.linear(small, w2, b2 if second_bias else None)
        factor = (last or (lambda z: 2 * torch.sigmoid(z)))(logits)
        if only:
            return factor
        return x * factor.transpose(1, 2)[..., None, None] + (x if add else 0)

    return gate


def _of_clip(x):
    return x.mean((2, 3, 4))[:, None].expand(-1, x.shape[2], -1)


def _so_far(x):
    mean = x.mean((3, 4)).transpose(1, 2)
    return mean.cumsum(1) / torch.arange(1, x.shape[2] + 1)[:, None]


def _of_batch(x):
    return x.mean((0, 3, 4)).T[None].expand(len(x), -1, -1)


def _frame_by_frame(x, w1, b1, w2, b2):
    out = []
    for frame in x.unbind(2):
        g = 1 + torch.tanh((F.silu(frame.mean((2, 3)) @ w1.T + b1) @ w2.T + b2) / 2)
        out.append(frame * g[..., None, None])
    return torch.stack(out, dim=2)


def _gate_in_place(x, w1, b1, w2, b2):
    x *= 2
    return x


def _bisect(depth, spread, growth):
    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if 1 + depth * middle**2 * spread > growth**2 else (middle, high)
    return low


RIGHT = {
    "7.1": [("modules", _by_modules)],
    "7.2": [("search", _search)],
    "7.3": [("matrices", _by_matrices), ("impulses", _in_a_row)],
    "7.4": [
        ("roots in both", _split(0.5, 0.5)),
        ("in space", _split(1.0, 0.0)),
        ("eigenvectors", _split_by_eigen),
    ],
    "7.5": [("frame by frame", _frame_by_frame)],
    "7.6": [("bisection", _bisect)],
}

WRONG = {
    "7.1": [
        ("biases", _weights(biases=True), "you count biases"),
        ("FLOPs", _weights(times=2), "twice the weights"),
        ("sizes added", _weights(dense=lambda C, o, f, h, w, M: (f + h + w) * C * o), "kernel multiply"),
        ("no O", _weights(dense=lambda C, o, f, h, w, M: f * h * w * C), "the factor O is missing"),
        ("no middle", _weights(pair=lambda C, o, f, h, w, M: (h * w + f) * C * o), "are middle, not C or O"),
        ("O for middle", _weights(pair=lambda C, o, f, h, w, M: h * w * C * o + f * o * o), "take O of them"),
        ("time first", _weights(pair=lambda C, o, f, h, w, M: f * C * M + h * w * M * o), "space comes"),
        ("no time", _weights(pair=lambda C, o, f, h, w, M: h * w * C * M), "along time is left out"),
        ("no pointwise", _weights(thin=lambda C, o, f, h, w, M: f * h * w * C), "pointwise layer is"),
        ("one kernel", _weights(thin=lambda C, o, f, h, w, M: f * h * w + C * o), "factor C is missing"),
        ("taken apart", _weights(thin=lambda C, o, f, h, w, M: (f + h * w) * C + C * o), "of full size"),
        ("one number", lambda C, o, kernel, middle: C * o, "must return three numbers"),
    ],
    "7.2": [
        ("up", _middle(_cost, up=True), "rounded up"),
        ("no rounding", _middle(_cost, divide=True), "round down"),
        ("exchanged", _middle(lambda C, o, f, h, w: h * w * o + f * C), "exchanged"),
        ("C alone", _middle(lambda C, o, f, h, w: (h * w + f) * C), "O weights for each middle channel"),
        ("space alone", _middle(lambda C, o, f, h, w: h * w * C), "along time has weights as well"),
        ("equal", lambda C, o, kernel: C * 27 // 12, "should be"),
        ("rank", lambda C, o, kernel: min(o * kernel[0], C * kernel[1] * kernel[2]), "largest useful rank"),
        ("float", lambda C, o, kernel: float(_middle(_cost)(C, o, kernel)), "must be an integer"),
    ],
    "7.3": [
        ("in place", _merge_in_place, "changed an argument"),
        ("frames first", lambda s, a: _merge(s, a).transpose(1, 2), "must stand before"),
        ("turned round", lambda s, a: _merge(s, a).flip(2), "opposite order"),
        ("rows turned", lambda s, a: _merge(s, a).flip(3, 4), "rows and"),
        ("mean", lambda s, a: _merge(s, a) / len(s), "take a mean"),
        ("sums first", lambda s, a: a.sum(1)[:, None, :, None, None] * s.sum(0)[None, :, None], "Multiply"),
        ("first channel", lambda s, a: a[:, :1, :, None, None] * s[None, 0, :, None], "only the first"),
        ("no merge", lambda s, a: s, "must have the shape"),
        ("double", lambda s, a: 2 * _merge(s, a), "two in a row give"),
    ],
    "7.4": [
        ("no values", _split(0.0, 0.0), "left out"),
        ("values twice", _split(1.0, 1.0), "in both parts"),
        ("one root", _split(0.0, 0.5), "only the root"),
        ("smallest", _split(keep="last"), "keep the smallest"),
        ("reshape", _split(axes=None), "transpose before you reshape"),
        ("one fewer", _split(fewer=1), "one middle channel is not used|transpose"),
        ("exchanged", _split(swap=True), "space comes first"),
        ("no permute", _split(late=True), "stand before the frames"),
        ("no pair", lambda weight, middle: weight, "must return a pair"),
    ],
    "7.5": [
        ("no 2", _gate(last=torch.sigmoid), "factor 2 is missing"),
        ("clip", _gate(_of_clip), "one mean for the whole clip"),
        ("so far", _gate(_so_far), "frames so far"),
        ("batch", _gate(_of_batch), "clips of the batch"),
        ("ReLU", _gate(act=F.relu), "followed by ReLU"),
        ("linear", _gate(act=lambda z: z), "nonlinearity between"),
        ("no sigmoid", _gate(last=lambda z: 2 * z), "sigmoid is missing"),
        ("sum", _gate(lambda x: x.sum((3, 4)).transpose(1, 2)), "by a sum"),
        ("maximum", _gate(lambda x: x.amax((3, 4)).transpose(1, 2)), "by a maximum"),
        ("residual", _gate(add=True), "has no residual"),
        ("no bias", _gate(second_bias=False), "second bias"),
        ("factors", _gate(only=True), "return the factors"),
        ("in place", _gate_in_place, "changed x"),
    ],
    "7.6": [
        ("square", lambda L, v, g: (g**2 - 1) / (L * v), "square of the scale"),
        ("variance", lambda L, v, g: ((g - 1) / (L * v)) ** 0.5, "grows by its square"),
        ("deviations", lambda L, v, g: (g - 1) / (L * v**0.5), "deviations do not add up"),
        ("no start", lambda L, v, g: g / (L * v) ** 0.5, "variance at the start"),
        ("no depth", lambda L, v, g: ((g**2 - 1) / v) ** 0.5, "depth is left out"),
        ("no spread", lambda L, v, g: ((g**2 - 1) / L) ** 0.5, "a block makes is left out"),
        ("root above", lambda L, v, g: (g**2 - 1) ** 0.5 / (L * v), "whole quotient"),
        ("factors", lambda L, v, g: ((g ** (2 / L) - 1) / v) ** 0.5, "block multiply|depth"),
        ("double", lambda L, v, g: 2 * ((g**2 - 1) / (L * v)) ** 0.5, "should be"),
    ],
}  # fmt: skip
