"""Chapter 1: the solutions as they stand in the notebook, and wrong answers that people give."""

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
    if max(abs(dx), abs(dy)) < 2:
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


def _direction(flip=False, threshold=2.0, only_x=False, first_axis=False):
    def direction(masks):
        weight = masks.sum((1, 2))
        x = (masks.sum(1) * torch.arange(masks.shape[2])).sum(1) / weight
        y = (masks.sum(2) * torch.arange(masks.shape[1])).sum(1) / weight
        dx, dy = (x[-1] - x[0]).item(), (y[-1] - y[0]).item()
        if first_axis:
            dx, dy = dy, dx
        if max(abs(dx), abs(dy)) < threshold:
            return "still"
        if only_x or abs(dx) > abs(dy):
            return "left" if dx < 0 else "right"
        return ("down" if dy < 0 else "up") if flip else ("up" if dy < 0 else "down")

    return direction


def _naive_interval(k, n, z=1.96):
    half = z * (k / n * (1 - k / n) / n) ** 0.5
    return k / n - half, k / n + half


def _wilson(k, n, z=1.96, swap=False):
    share, scale = k / n, 1 + z**2 / n
    half = z * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    ends = (share + z**2 / (2 * n) - half) / scale, (share + z**2 / (2 * n) + half) / scale
    return ends[::-1] if swap else ends


def _each_somewhere(claimed, seen):
    return len(claimed) == len(seen) and all(
        any(all(s.get(k) == v for k, v in c.items()) for s in seen) for c in claimed
    )


def _bag(claimed, seen):
    values = [v for s in seen for v in s.values()]
    return len(claimed) == len(seen) and all(v in values for c in claimed for v in c.values())


def _in_order(claimed, seen):
    return len(claimed) == len(seen) and all(
        s.get(k) == v for c, s in zip(claimed, seen, strict=True) for k, v in c.items()
    )


def _greedy(claimed, seen):
    left = list(seen)
    for c in claimed:
        match = next((s for s in left if all(s.get(k) == v for k, v in c.items())), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def _no_count(claimed, seen):
    return all(any(all(s.get(k) == v for k, v in c.items()) for s in seen) for c in claimed)


WRONG = {
    "1.1": [
        ("reshape", lambda s: s.reshape(3, *s.shape[:3]).float() / 127.5 - 1, "reshape, not permute"),
        ("range 0 to 1", lambda s: s.permute(3, 0, 1, 2).float() / 255, "-1 and 255 must become 1"),
        ("frames first", lambda s: s.permute(0, 3, 1, 2).float() / 127.5 - 1, r"\(3, 2, 4, 5\), got"),
        ("numpy", lambda s: s.permute(3, 0, 1, 2).numpy() / 127.5 - 1, "must return a tensor"),
        (
            "height and width swapped",
            lambda s: s.permute(3, 0, 2, 1).float() / 127.5 - 1,
            "got \\(3, 2, 5, 4\\)",
        ),
        ("still integers", lambda s: s.permute(3, 0, 1, 2), "float tensor"),
    ],
    "1.2": [
        ("no root", _diamond(scale=1.0), "sqrt"),
        ("hard edges", lambda x, y, r, size=32: (_diamond()(x, y, r, size) > 0.5).float(), "hard"),
        ("corners of pixels", _diamond(half=0.0), "half integers"),
        ("x and y swapped", _diamond(swap=True), "columns are x"),
        ("no half pixel", _diamond(soft=0.0), "area"),
        ("not clamped", lambda x, y, r, size=32: torch.ones(size, size) * 2, "clamp"),
    ],
    "1.3": [
        ("up and down flipped", _direction(flip=True), "rows count downwards"),
        ("never still", _direction(threshold=0.0), "is still"),
        ("x only", _direction(only_x=True), "moves up was read"),
        ("axes swapped", _direction(first_axis=True), "moves left was read as up"),
        ("a number", lambda masks: 1, "must return one of"),
    ],
    "1.4": [
        ("naive", _naive_interval, "naive"),
        ("ends swapped", lambda k, n: _wilson(k, n, swap=True), "low end comes first"),
        ("one sigma", lambda k, n: _wilson(k, n, z=1.0), "does not satisfy"),
        ("half only", lambda k, n: _wilson(k, n)[0], "two numbers"),
    ],
    "1.5": [
        ("bag of words", _bag, "blue circle and a red square"),
        ("in order", _in_order, "order does not matter"),
        ("each somewhere", _each_somewhere, "one-to-one"),
        ("greedy", _greedy, "first match"),
        ("no count", _no_count, "object too many"),
    ],
}
