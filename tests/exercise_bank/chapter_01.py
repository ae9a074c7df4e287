"""Chapter 1: the solutions as they stand in the notebook, other right answers, and wrong ones."""

import math

import torch

SOLUTIONS = {
    "1.1": """
def to_tensor(stored):
    return stored.permute(3, 0, 1, 2).float() / 127.5 - 1
""",
    "1.2": """
def diamond(x, y, r, size=32):
    centres = torch.arange(size) + 0.5
    dx, dy = (centres - x).abs()[None, :], (centres - y).abs()[:, None]
    return ((r - dx - dy) / 2**0.5 + 0.5).clamp(0, 1)
""",
    "1.3": """
def direction(masks):
    frames, height, width = masks.shape
    weight = masks.sum((1, 2))
    x = (masks.sum(1) * torch.arange(width)).sum(1) / weight
    y = (masks.sum(2) * torch.arange(height)).sum(1) / weight
    dx, dy = (x[-1] - x[0]).item(), (y[-1] - y[0]).item()
    if (dx**2 + dy**2) ** 0.5 < 1.5:
        return "still"
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "up" if dy < 0 else "down"
""",
    "1.4": """
def interval(k, n, z=1.96):
    share = k / n
    centre = share + z**2 / (2 * n)
    half = z * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
""",
    "1.5": """
def holds(claimed, seen):
    from itertools import permutations

    if len(claimed) != len(seen):
        return False
    return any(
        all(one.get(key) == value for want, one in zip(claimed, order) for key, value in want.items())
        for order in permutations(seen)
    )
""",
}


def _diamond(scale=2**0.5, soft=0.5, half=0.5, swap=False):
    def diamond(x, y, r, size=32):
        centres = torch.arange(size) + half
        x, y = (y, x) if swap else (x, y)
        distance = r - (centres - x).abs()[None, :] - (centres - y).abs()[:, None]
        return (distance / scale + soft).clamp(0, 1)

    return diamond


def _rotated_square(x, y, r, size=32):
    centres = torch.arange(size) + 0.5
    dx, dy = (centres - x)[None, :], (centres - y)[:, None]
    u, v = (r - (dx + dy).abs()) / 2**0.5, (r - (dx - dy).abs()) / 2**0.5
    return (u + 0.5).clamp(0, 1) * (v + 0.5).clamp(0, 1)


def _supersampled(x, y, r, size=32, factor=16):
    centres = (torch.arange(size * factor) + 0.5) / factor
    inside = (centres - x).abs()[None, :] + (centres - y).abs()[:, None] <= r
    return inside.float().view(size, factor, size, factor).mean((1, 3))


def _disc(x, y, r, size=32):
    centres = torch.arange(size) + 0.5
    far = ((centres - x)[None, :] ** 2 + (centres - y)[:, None] ** 2).sqrt()
    return (r * (2 / math.pi) ** 0.5 - far + 0.5).clamp(0, 1)


def _centres(masks, weight):
    x = (masks.sum(1) * torch.arange(masks.shape[2])).sum(1) / weight
    y = (masks.sum(2) * torch.arange(masks.shape[1])).sum(1) / weight
    return x, y


def _brightest(masks):
    place = masks.flatten(1).argmax(1)
    return place % masks.shape[2], place // masks.shape[2]


def _box(masks, least=0.0):
    def middle(profile):
        found = [torch.nonzero(row > least).flatten() for row in profile]
        return torch.stack([(i.min() + i.max()) / 2 for i in found])

    return middle(masks.amax(1)), middle(masks.amax(2))


CENTRES = {
    "each frame": lambda masks: _centres(masks, masks.sum((1, 2))),
    "first frame": lambda masks: _centres(masks, masks[0].sum()),
    "no division": lambda masks: _centres(masks, 1.0),
    "argmax": _brightest,
    "box": _box,
    "half": lambda masks: _centres((masks > 0.5).float(), (masks > 0.5).sum((1, 2))),
}


def _direction(threshold=1.5, centres="each frame", axes="both", flip="", swap=False):
    """An answer that measures and decides in the way that the arguments say."""

    def direction(masks):
        x, y = CENTRES[centres](masks)
        dx, dy = (x[-1] - x[0]).item(), (y[-1] - y[0]).item()
        if swap:
            dx, dy = dy, dx
        if max(abs(dx), abs(dy)) < threshold:
            return "still"
        first = {
            "both": abs(dx) > abs(dy),
            "only x": True,
            "only y": False,
            "x first": abs(dx) >= threshold,
            "y first": abs(dy) < threshold,
        }
        if first[axes]:
            return "left" if (dx < 0) != ("x" in flip) else "right"
        return "up" if (dy < 0) != ("y" in flip) else "down"

    return direction


def _by_path(masks):
    x, y = CENTRES["each frame"](masks)
    if (x.diff().abs().sum() + y.diff().abs().sum()) < 1.5:
        return "still"
    return _direction(threshold=0.0)(masks)


def _naive_interval(k, n, z=1.96):
    half = z * (k / n * (1 - k / n) / n) ** 0.5
    return k / n - half, k / n + half


def _wilson(k, n, z=1.96, swap=False):
    share, scale = k / n, 1 + z**2 / n
    half = z * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    ends = (share + z**2 / (2 * n) - half) / scale, (share + z**2 / (2 * n) + half) / scale
    return ends[::-1] if swap else ends


def _by_grid(k, n, z=1.96, steps=1_000_000, dtype=torch.float64):
    p = torch.linspace(0, 1, steps + 1, dtype=dtype)
    allowed = p[(k / n - p).abs() <= z * (p * (1 - p) / n).sqrt()]
    return allowed.min().item(), allowed.max().item()


def _each_somewhere(claimed, seen):
    return len(claimed) == len(seen) and _no_count(claimed, seen)


def _bag(claimed, seen):
    values = [v for s in seen for v in s.values()]
    return len(claimed) == len(seen) and all(v in values for c in claimed for v in c.values())


def _in_order(claimed, seen):
    return len(claimed) == len(seen) and all(map(_fits, claimed, seen))


def _fits(claim, one):
    return all(one.get(key) == value for key, value in claim.items())


def _specific(claim, seen):
    return -len(claim)


def _candidates(claim, seen):
    return sum(_fits(claim, one) for one in seen)


def _greedy(order=None, last=False):
    """Take the first fit for each claim, or the last, in the given order of the claims."""

    def holds(claimed, seen):
        left = list(seen)
        for claim in sorted(claimed, key=lambda claim: order(claim, seen)) if order else claimed:
            fits = [i for i, one in enumerate(left) if _fits(claim, one)]
            if not fits:
                return False
            left.pop(fits[-1 if last else 0])
        return not left

    return holds


def _backtrack(claimed, seen):
    if len(claimed) != len(seen):
        return False
    if not claimed:
        return True
    others = [seen[:i] + seen[i + 1 :] for i, one in enumerate(seen) if _fits(claimed[0], one)]
    return any(_backtrack(claimed[1:], rest) for rest in others)


def _only(*keys):
    """A right matching that looks at these attributes alone."""

    def holds(claimed, seen):
        known = [{key: claim[key] for key in keys if key in claim} for claim in claimed]
        return _backtrack(known, seen)

    return holds


def _no_count(claimed, seen):
    return all(any(_fits(claim, one) for one in seen) for claim in claimed)


RIGHT = {
    "1.1": [
        ("over 255", lambda s: s.float().permute(3, 0, 1, 2) / 255 * 2 - 1),
        ("made contiguous", lambda s: ((s.to(torch.float32) - 127.5) / 127.5).movedim(-1, 0).contiguous()),
    ],
    "1.2": [
        ("rotated square", _rotated_square),
        ("16 times finer", _supersampled),
        ("4 times finer", lambda x, y, r, size=32: _supersampled(x, y, r, size, factor=4)),
        ("double", lambda x, y, r, size=32: _rotated_square(x, y, r, size).double()),
    ],
    "1.3": [
        ("larger of both", _direction()),
        ("pixels above a half", _direction(centres="half")),
    ],
    "1.4": [
        ("grid", _by_grid),
        ("coarse numbers", lambda k, n, z=1.96: _by_grid(k, n, z, dtype=torch.float32)),
        ("rounded to 6", lambda k, n, z=1.96: [round(end, 6) for end in _wilson(k, n, z)]),
    ],
    "1.5": [("backtracking", _backtrack)],
}

WRONG = {
    "1.1": [
        ("double", lambda s: s.permute(3, 0, 1, 2).double() / 127.5 - 1, "expected float32, got float64"),
        ("half", lambda s: s.permute(3, 0, 1, 2).half() / 127.5 - 1, "expected float32, got float16"),
        ("half on the way", lambda s: (s.permute(3, 0, 1, 2).half() / 127.5 - 1).float(), "too coarse"),
        ("wraps round", lambda s: (s.permute(3, 0, 1, 2) - 128) / 127.5, "wrap round"),
        ("upside down", lambda s: 1 - s.permute(3, 0, 1, 2).float() / 127.5, "signs"),
        ("reshape", lambda s: s.reshape(3, *s.shape[:3]).float() / 127.5 - 1, "reshape, not permute"),
        ("range 0 to 1", lambda s: s.permute(3, 0, 1, 2).float() / 255, "-1 and 255 must become 1"),
        ("frames first", lambda s: s.permute(0, 3, 1, 2).float() / 127.5 - 1, r"\(3, 2, 4, 5\), got"),
        ("numpy", lambda s: s.permute(3, 0, 1, 2).numpy() / 127.5 - 1, "must return a tensor"),
        ("rows and columns", lambda s: s.permute(3, 0, 2, 1).float() / 127.5 - 1, r"got \(3, 2, 5, 4\)"),
        ("still integers", lambda s: s.permute(3, 0, 1, 2), "expected float32, got uint8"),
    ],
    "1.2": [
        ("no root", _diamond(scale=1.0), "too sharp: .* 1.4 for"),
        ("times root", _diamond(scale=0.5**0.5), "too sharp: .* 2.0 for .* wrong side"),
        ("divided by two", _diamond(scale=2.0), "too soft: .* 0.7 for"),
        ("numpy", lambda *a: _diamond()(*a).numpy(), "got a numpy array"),
        ("a number", lambda *a: 3, "got an int"),
        ("a disc", _disc, "not a diamond"),
        ("half twice the width", lambda x, y, r, size=32: _diamond()(x, y, r / 2, size), r"2 r\^2"),
        ("ignores r", lambda x, y, r, size=32: _diamond()(x, y, 6.5, size), r"174.1, yours is 84.\d\.$"),
        ("hard edges", lambda x, y, r, size=32: (_diamond()(x, y, r, size) > 0.5).float(), "hard"),
        ("corners of pixels", _diamond(half=0.0), "centres lie at half integers"),
        ("x and y swapped", _diamond(swap=True), "Did you swap x and y"),
        ("no half pixel", _diamond(soft=0.0), "did you add half a pixel"),
        ("no root, no half pixel", _diamond(scale=1.0, soft=0.0), "did you add half a pixel"),
        ("a whole pixel", _diamond(soft=1.0), "did you add too much"),
        ("all ones", lambda x, y, r, size=32: torch.ones(size, size), r"y = 12.00\.$"),
        ("not clamped", lambda x, y, r, size=32: torch.ones(size, size) * 2, "clamp"),
    ],
    "1.3": [
        ("up and down flipped", _direction(flip="y"), "rows count downwards"),
        ("left and right flipped", _direction(flip="x"), "last frame minus"),
        ("never still", _direction(threshold=0.0), "less than 1.5"),
        ("threshold 1", _direction(threshold=1.0), "less than 1.5"),
        ("threshold 2", _direction(threshold=2.0), "read as still"),
        ("threshold 4", _direction(threshold=4.0), "read as still"),
        ("threshold 8", _direction(threshold=8.0), "read as still"),
        ("x only", _direction(axes="only x"), "only at x"),
        ("y only", _direction(axes="only y"), "only at y"),
        ("x before y", _direction(axes="x first"), "2 pixels right and 14 down .* read as right"),
        ("y before x", _direction(axes="y first"), "12 pixels left .* read as up"),
        ("axes swapped", _direction(swap=True), "swap rows and columns"),
        ("argmax", _direction(centres="argmax"), "grows"),
        ("no division", _direction(100.0, "no division"), "grows"),
        ("first frame's sum", _direction(centres="first frame"), "grows"),
        ("box", _direction(centres="box"), "noise"),
        ("length of the path", _by_path, "first and the last"),
        ("a number", lambda masks: 1, "must return one of"),
        ("a list", lambda masks: ["left"], "must return one of"),
    ],
    "1.4": [
        ("naive", _naive_interval, "naive"),
        ("ends swapped", lambda k, n, z=1.96: _wilson(k, n, z, swap=True), "low end comes first"),
        ("one sigma", lambda k, n, z=1.96: _wilson(k, n, z=1.0), "does not satisfy"),
        ("half only", lambda k, n, z=1.96: _wilson(k, n, z)[0], "two numbers"),
        ("z ignored", lambda k, n, z=1.96: _wilson(k, n), "does not change with z"),
        ("z not taken", lambda k, n: _wilson(k, n), "third argument"),
        ("one root twice", lambda k, n, z=1.96: (_wilson(k, n, z)[1],) * 2, "two different"),
        ("coarse grid", lambda k, n, z=1.96: _by_grid(k, n, z, steps=1000), "to 6 decimal places"),
        ("percent", lambda k, n, z=1.96: [100 * end for end in _wilson(k, n, z)], "between 0 and 1"),
    ],
    "1.5": [
        ("bag of words", _bag, "blue circle and a red square"),
        ("in order", _in_order, "order does not matter"),
        ("each somewhere", _each_somewhere, "one-to-one"),
        ("greedy", _greedy(), "first match"),
        ("greedy, last match", _greedy(last=True), "first match"),
        ("greedy, most specific first", _greedy(_specific), "sorting the claims"),
        ("greedy, fewest candidates first", _greedy(_candidates), "sorting the claims"),
        ("colour and shape alone", _only("color", "shape"), "differ in size"),
        ("no motion", _only("color", "shape", "size"), "differ in motion"),
        ("no count", _no_count, "object too many"),
    ],
}
