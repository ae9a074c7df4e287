"""Checks of chapter 1: videos and captions."""

import inspect
import math
from itertools import permutations

import numpy as np
import torch

from t2v_mini.exercises.mechanism import Wrong, exercise
from t2v_mini.world.render import coverage


def _a(value) -> str:
    """What kind of thing a value is, with its article."""
    name = "numpy array" if isinstance(value, np.ndarray) else type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


@exercise(
    id="1.1",
    title="From file to tensor",
    difficulty=1,
    minutes=5,
    hint="Move the axes with permute. Convert to float before any arithmetic: in uint8, 0 minus 128 "
    "is not -128 but wraps round to 128.",
)
def check_to_tensor(to_tensor) -> None:
    stored = torch.arange(2 * 4 * 5 * 3).remainder(256).to(torch.uint8).view(2, 4, 5, 3)
    stored[0, 0, 0], stored[1, 3, 4] = 0, 255
    before = stored.clone()
    found = to_tensor(stored)
    if not isinstance(found, torch.Tensor):
        raise Wrong(f"to_tensor must return a tensor, got {_a(found)}.")
    if found.dtype != torch.float32:
        raise Wrong(f"the dtype is wrong: expected float32, got {str(found.dtype).removeprefix('torch.')}.")
    if tuple(found.shape) != (3, 2, 4, 5):
        raise Wrong(
            f"a clip of shape (2, 4, 5, 3) must become (C, F, H, W) = (3, 2, 4, 5), got {tuple(found.shape)}."
        )
    if not torch.equal(stored, before):
        raise Wrong("you changed the stored clip itself. Work on a copy.")
    truth = stored.permute(3, 0, 1, 2).double() / 127.5 - 1
    if torch.allclose(found.double(), -truth, atol=1e-2):
        raise Wrong("all signs are wrong: 0 must become -1 and 255 must become 1.")
    low, high = found.min().item(), found.max().item()
    if not (abs(low + 1) < 1e-3 and abs(high - 1) < 1e-3):
        wrapped = found[0, 0, 0, 0] > found[0, 1, 3, 4]
        why = " Did your numbers wrap round? uint8 holds nothing below 0 or above 255." if wrapped else ""
        raise Wrong(
            f"0 must become -1 and 255 must become 1, but your values run from {low:.3g} to {high:.3g}.{why}"
        )
    worst = (found - truth).abs().max().item()
    if worst > 0.02:
        raise Wrong(
            "the shape and the range are right, but the numbers are in the wrong places: "
            "did you reshape, not permute?"
        )
    if worst > 1e-5:
        raise Wrong(f"your numbers are too coarse: they are off by up to {worst:.1g}. Compute in float32.")


# Centres and half-widths whose edges pass the pixels at evenly spread distances.
_PLACES = ((11.25, 12.875, 6.5), (12.75, 11.125, 9.33), (12.875, 11.25, 4.92))


def _check_coverage(found, x, y, r, size) -> None:
    """Type, range, centre, edges and area of a diamond's coverage."""
    if not isinstance(found, torch.Tensor):
        raise Wrong(f"diamond must return a tensor, got {_a(found)}.")
    if tuple(found.shape) != (size, size):
        raise Wrong(f"diamond must return a tensor of shape ({size}, {size}), got {tuple(found.shape)}.")
    found = found.detach().double()
    low, high = found.min().item(), found.max().item()
    if not (low >= 0 and high <= 1):
        raise Wrong(f"coverage lies between 0 and 1, got {low:.3g} to {high:.3g}: clamp it.")
    if high == 0:
        raise Wrong("your diamond is empty: all pixels are 0.")
    centres = torch.arange(size) + 0.5
    column = ((found.sum(0) * centres).sum() / found.sum()).item()
    row = ((found.sum(1) * centres).sum() / found.sum()).item()
    if max(abs(column - x), abs(row - y)) > 0.25:
        swapped = max(abs(column - y), abs(row - x)) < 0.1
        shifted = max(abs(abs(column - x) - 0.5), abs(abs(row - y) - 0.5)) < 0.1
        why = " Did you swap x and y? Columns are x." if swapped else ""
        why = " Pixel centres lie at half integers." if shifted else why
        raise Wrong(
            f"the centre should lie at x = {x}, y = {y}, but yours lies at x = {column:.2f}, "
            f"y = {row:.2f}.{why}"
        )
    if ((found > 0.02) & (found < 0.98)).double().mean() < 0.01:
        raise Wrong("the edges are hard: no pixel is partly covered. See what my_coverage does at an edge.")
    area, exact = found.sum().item(), 2 * r**2
    if abs(area - exact) > 0.04 * exact:
        border = (area - exact) / (4 * math.sqrt(2) * r)  # pixels along the whole of the edge
        why = ""
        if 0.2 < abs(border) < 0.75:
            why = " The edge lies too far " + ("in: did you add half a pixel?" if border < 0 else
                                               "out: did you add too much?")  # fmt: skip
        raise Wrong(f"the area should be 2 r^2 = {exact:.1f}, yours is {area:.1f}.{why}")


@exercise(
    id="1.2",
    title="A diamond",
    difficulty=2,
    minutes=10,
    hint="Take one step of one pixel at a right angle to an edge. The sum |dx| + |dy| grows by sqrt(2). "
    "By what must you divide the sum to count in pixels?",
)
def check_diamond(diamond) -> None:
    size = 24
    centres = torch.arange(size) + 0.5
    soft, expected = 0.0, 0.0
    for x, y, r in _PLACES:
        found = diamond(x, y, r, size)
        _check_coverage(found, x, y, r, size)
        found = found.detach().double()
        dx, dy = (centres - x).abs()[None], (centres - y).abs()[:, None]
        distance = ((r - dx - dy) / math.sqrt(2)).double()
        truth = (distance + 0.5).clamp(0, 1)
        # Corners are a matter of taste: there, two fair ways to draw differ by up to 0.3.
        if (found - truth).abs().max() > 0.4:
            i, j = divmod(int((found - truth).abs().argmax()), size)
            raise Wrong(
                f"the centre and the area are right, but this is not a diamond: in row {i}, column {j} the "
                f"coverage should be about {truth[i, j]:.1f}, yours is {found[i, j]:.1f}."
            )
        edge = (distance.abs() < 1.5) & (torch.minimum(dx, dy) >= 1.5)
        soft += (found * (1 - found))[edge].sum().item()
        expected += (truth * (1 - truth))[edge].sum().item()
    steepness = expected / max(soft, 1e-9)
    if not 0.85 < steepness < 1.18:
        fault = "sharp" if steepness > 1 else "soft"
        # Dividing by the factor is right; multiplying by it makes the edge twice as steep.
        why = " Is the factor on the wrong side?" if 1.7 < steepness < 2.3 else ""
        raise Wrong(
            f"the area is right, but the edge is too {fault}: your distance grows by about {steepness:.1f} "
            f"for each pixel at a right angle to the edge. It should grow by 1.{why}"
        )


def _moving(x, y, r=4.0, shape="circle") -> torch.Tensor:
    """Masks of 8 frames; x, y and r go evenly from their first to their second value."""
    x, y, r = (torch.linspace(*(v if isinstance(v, tuple) else (v, v)), 8) for v in (x, y, r))
    return coverage(shape, x, y, r, 32, 40)


def _check_straight(read) -> None:
    """Ten pixels along each axis, where a pattern of mistakes tells its cause."""
    found = {
        "left": read(_moving((24, 14), 16, shape="triangle")),
        "right": read(_moving((12, 22), 14, shape="triangle")),
        "up": read(_moving(16, (20, 10), shape="triangle")),
        "down": read(_moving(18, (9, 19), shape="triangle")),
    }
    wrong = [name for name in found if found[name] != name]
    if not wrong:
        return
    flat, steep = {found["left"], found["right"]}, {found["up"], found["down"]}
    why = ""
    if flat == {"up", "down"} and steep == {"left", "right"}:
        why = ". Did you swap rows and columns? Masks have the axes (F, H, W), and x counts columns"
    elif wrong == ["up", "down"] and steep != {"up", "down"}:
        why = ". Do you look only at x?"
    elif wrong == ["left", "right"] and flat != {"left", "right"}:
        why = ". Do you look only at y?"
    elif wrong == ["up", "down"]:
        why = ": rows count downwards"
    elif found[wrong[0]] != "still":
        why = ": the motion is the centre in the last frame minus the centre in the first"
    line = f"an object that moves 10 pixels {wrong[0]} was read as {found[wrong[0]]}{why}"
    raise Wrong(line if line.endswith("?") else line + ".")


@exercise(
    id="1.3",
    title="Which way?",
    difficulty=2,
    minutes=10,
    hint="In each frame, the centre of mass is a mean of coordinates that is weighted with the mask. "
    "Take one for the columns and one for the rows. Which of the two moved further, and by how much?",
)
def check_direction(direction) -> None:
    def read(masks: torch.Tensor) -> str:
        found = direction(masks)
        names = ("left", "right", "up", "down", "still")
        if not isinstance(found, str) or found not in names:
            raise Wrong(f"direction must return one of {', '.join(names)}, got {found!r}.")
        return found

    _check_straight(read)
    there, back = _moving((12, 20), 16)[::2], _moving((20, 12), 16)[::2]
    # Low noise everywhere: no pixel is 0, and the brightest one may be anywhere on the object.
    noise = 0.01 * torch.rand(8, 32, 40)
    less, more = "less than 1.5 pixels is still", "more than 1.5 pixels is not still"
    largest, grows = "compare both distances before you choose", "only its size changes, its centre stays"
    noisy = "there is a little noise in the mask, so weigh all its pixels"
    cases = [
        ("moves 2 pixels right and 14 down", _moving((16, 18), (8, 22)), "down", largest),
        ("moves 12 pixels left and 4 up", _moving((26, 14), (20, 16)), "left", largest),
        ("moves 0.8 pixels right", _moving((20, 20.8), 16), "still", less),
        ("grows in place", _moving(24, 18, (3, 7)), "still", grows),
        ("moves 3 pixels up", _moving(14, (20, 17)), "up", more),
        ("moves 5 pixels left", 0.99 * _moving((24, 19), 16) + noise, "left", noisy),
        ("stays", 0.99 * _moving(26, 14) + noise, "still", noisy),
        ("moves 1.7 pixels right", _moving((20, 21.7), 16), "right", more),
        ("moves 1.3 pixels down", _moving(20, (16, 17.3)), "still", less),
        ("moves 1.3 pixels left", _moving((20, 18.7), 16), "still", less),
        ("goes right and comes back", torch.cat([there, back]), "still",
         "only the first and the last frame count"),
    ]  # fmt: skip
    for what, masks, expected, why in cases:
        found = read(masks)
        if found != expected:
            raise Wrong(f"an object that {what} was read as {found}, not as {expected}: {why}.")


@exercise(
    id="1.4",
    title="Wilson's interval",
    difficulty=2,
    minutes=15,
    hint="Square both sides and sort by powers of p. That is a quadratic equation. What are its a, b and c?",
)
def check_interval(interval) -> None:
    signature = inspect.signature(interval)
    try:
        signature.bind(8, 16, 1.0)
    except TypeError:
        raise Wrong("interval must take z as its third argument: interval(k, n, z=1.96).") from None
    for k, n, *given in ((8, 16), (3, 10), (480, 512), (0, 16), (8, 16, 1.0), (3, 10, 2.5)):
        z = given[0] if given else 1.96
        found = interval(k, n, *given)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise Wrong(f"interval must return two numbers (low, high), got {found!r}.")
        low, high = map(float, found)
        if low > high:
            raise Wrong(f"the low end comes first, got ({low:.3f}, {high:.3f}).")
        share, middle = k / n, k + z**2 / 2
        naive = z * math.sqrt(share * (1 - share) / n)
        if k > 0 and abs(low - (share - naive)) < 1e-6:
            raise Wrong(
                "this is the naive interval. You put the observed share under the root. "
                "The p under the root is the true one."
            )
        if low < -1e-5 or high > 1 + 1e-5:
            raise Wrong(f"a share lies between 0 and 1, but you return ({low:.3f}, {high:.3f}).")
        if given and (low, high) == tuple(map(float, interval(k, n))):
            raise Wrong(f"your interval does not change with z: it is the same for z = {z:g} and z = 1.96.")
        if low == high:
            raise Wrong("your two ends are equal. A quadratic equation has two different roots.")
        half = z * math.sqrt(k * (n - k) / n + z**2 / 4)
        for name, end, sign in (("low", low, -1), ("high", high, 1)):
            # A little more than half a unit of the sixth digit, so that a search in steps of 1e-6 passes.
            if not abs(end - (middle + sign * half) / (n + z**2)) < 1.5e-6:
                raise Wrong(
                    f"for {k} of {n} and z = {z:g}, your {name} end {end:.6f} does not satisfy the equation "
                    "of Wilson's interval. It must be right to 6 decimal places."
                )


@exercise(
    id="1.5",
    title="Binding",
    difficulty=3,
    minutes=15,
    hint="The first object that fits a claim may be the only one that fits a later claim. "
    "In how many ways can you pair three claims with three objects? Must all of them work, or one?",
)
def check_holds(holds) -> None:
    red_circle, blue_square = {"color": "red", "shape": "circle"}, {"color": "blue", "shape": "square"}
    pink_circle, red_square = {"color": "pink", "shape": "circle"}, {"color": "red", "shape": "square"}
    red, circle, square = {"color": "red"}, {"shape": "circle"}, {"shape": "square"}
    swapped = [{"color": "blue", "shape": "circle"}, red_square]
    small, large = red_circle | {"size": "small"}, red_circle | {"size": "large"}
    left, right = small | {"motion": "left"}, small | {"motion": "right"}
    search = "the first match is not always the right one"
    greedy = f"{search}, and sorting the claims does not mend this"
    cases = [
        ([red_circle], [red_circle], True, "an object satisfies its own description"),
        ([red_circle, blue_square], [blue_square, red_circle], True, "their order does not matter"),
        ([red_circle, blue_square], swapped, False, "these are a blue circle and a red square"),
        ([red_circle], [red_circle, blue_square], False, "one object too many must fail"),
        ([red_circle, blue_square], [red_circle], False, "one object too few must fail"),
        ([red], [red_circle], True, "what is not claimed is not judged"),
        ([small], [large], False, "they differ in size"),
        ([left], [right], False, "they differ in motion"),
        ([circle, circle], [red_circle, blue_square], False,
         "two claimed circles need two circles, one-to-one"),
        ([circle, red_circle], [red_circle, pink_circle], True, search),
        ([circle, red], [red_circle, pink_circle], True, greedy),
        ([red, red, square], [red_circle, red_square, blue_square], True, greedy),
    ]  # fmt: skip
    for listed, shown, expected, why in cases:
        # Neither list has an order that counts, so every order must give the same.
        for claimed in permutations(listed):
            for seen in permutations(shown):
                found = holds([dict(c) for c in claimed], [dict(s) for s in seen])
                if bool(found) != expected:
                    raise Wrong(f"holds({list(claimed)}, {list(seen)}) should be {expected}: {why}.")
