"""Checks of chapter 1: videos and captions."""

import math

import torch

from t2v_mini.exercises.mechanism import Wrong, exercise
from t2v_mini.world.render import coverage


@exercise(
    id="1.1",
    title="From file to tensor",
    difficulty=1,
    minutes=5,
    hint="Move the axes with permute, then convert to float before you divide.",
)
def check_to_tensor(to_tensor) -> None:
    stored = torch.arange(2 * 4 * 5 * 3).remainder(256).to(torch.uint8).view(2, 4, 5, 3)
    stored[0, 0, 0], stored[1, 3, 4] = 0, 255
    before = stored.clone()
    found = to_tensor(stored)
    if not isinstance(found, torch.Tensor):
        raise Wrong(f"to_tensor must return a tensor, got {type(found).__name__}")
    if tuple(found.shape) != (3, 2, 4, 5):
        raise Wrong(
            f"a clip of shape (2, 4, 5, 3) must become (C, F, H, W) = (3, 2, 4, 5), got {tuple(found.shape)}"
        )
    if not found.dtype.is_floating_point:
        raise Wrong(f"the result must be a float tensor, got {found.dtype}")
    if not torch.equal(stored, before):
        raise Wrong("the stored clip was changed in place; work on a copy")
    low, high = found.min().item(), found.max().item()
    if abs(low + 1) > 1e-3 or abs(high - 1) > 1e-3:
        raise Wrong(
            f"0 must become -1 and 255 must become 1, but your values run from {low:.3g} to {high:.3g}"
        )
    truth = stored.permute(3, 0, 1, 2).double() / 127.5 - 1
    if not torch.allclose(found.double(), truth, atol=1e-5):
        raise Wrong(
            "shape and range are right, but the numbers stand in other places: did you reshape, not permute?"
        )


@exercise(
    id="1.2",
    title="A diamond",
    difficulty=2,
    minutes=10,
    hint="Inside, r - |dx| - |dy| grows by sqrt(2) for each pixel that you walk straight away from an edge.",
)
def check_diamond(diamond) -> None:
    size, x, y, r = 24, 11.8, 12.3, 6.5
    found = diamond(x, y, r, size)
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != (size, size):
        raise Wrong(
            f"diamond must return a tensor of shape ({size}, {size}), got {getattr(found, 'shape', found)}"
        )
    if found.min() < 0 or found.max() > 1:
        raise Wrong(f"coverage lies in [0, 1], got {found.min():.3g} to {found.max():.3g}: clamp it")
    column = (found.sum(0) * (torch.arange(size) + 0.5)).sum() / found.sum()
    row = (found.sum(1) * (torch.arange(size) + 0.5)).sum() / found.sum()
    if abs(column - x) > 0.25 or abs(row - y) > 0.25:
        raise Wrong(
            f"the centre should lie at x = {x}, y = {y}, yours is at x = {column:.2f}, y = {row:.2f}: "
            "pixel centres lie at half integers, columns are x"
        )
    partial = ((found > 0.02) & (found < 0.98)).float().mean().item()
    if partial < 0.01:
        raise Wrong("the edges are hard: no pixel is partly covered. Add half a pixel and clamp")
    area, exact = found.sum().item(), 2 * r**2
    if abs(area - exact) > 0.04 * exact:
        raise Wrong(f"the area should be 2 r^2 = {exact:.1f}, yours is {area:.1f}")
    centres = torch.arange(size) + 0.5
    truth = ((r - (centres - x).abs()[None] - (centres - y).abs()[:, None]) / math.sqrt(2) + 0.5).clamp(0, 1)
    if (found - truth).abs().max() > 0.02:
        raise Wrong(
            "the area is right, but the edge is too sharp or too soft: divide the distance by sqrt(2)"
        )


@exercise(
    id="1.3",
    title="Which way?",
    difficulty=2,
    minutes=10,
    hint="The centre of mass is the sum of coordinate times mask over the sum of the mask, frame by frame.",
)
def check_direction(direction) -> None:
    steps = torch.linspace(0, 8, 8)
    paths = {
        "left": (20 - steps, 16 + 0 * steps),
        "right": (10 + steps, 14 + 0 * steps),
        "up": (16 + 0 * steps, 20 - steps),
        "down": (16 + 0 * steps, 10 + steps),
        "still": (16 + 0.1 * steps, 16 + 0 * steps),
    }
    for name, (x, y) in paths.items():
        masks = coverage("triangle", x, y, torch.full((8,), 4.0), 32, 40)
        found = direction(masks)
        if found not in paths:
            raise Wrong(f"direction must return one of {', '.join(paths)}, got {found!r}")
        if found != name:
            advice = {"up": ": rows count downwards", "down": ": rows count downwards"}.get(name, "")
            raise Wrong(f"an object that moves {name} was read as {found}{advice}" if name != "still" else
                        f"an object that moves by 0.8 pixels is still, but was read as {found}")  # fmt: skip
    both = coverage("circle", 12 + steps, 20 - 0.4 * steps, torch.full((8,), 4.0), 32, 40)
    if direction(both) != "right":
        raise Wrong("8 pixels to the right and 3 up should be read as right: compare both distances")


@exercise(
    id="1.4",
    title="Wilson's interval",
    difficulty=2,
    minutes=15,
    hint="Square equation (wilson), sort by powers of p, and use the quadratic formula.",
)
def check_interval(interval) -> None:
    for k, n in ((8, 16), (3, 10), (480, 512)):
        found = interval(k, n)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise Wrong(f"interval must return two numbers (low, high), got {found!r}")
        low, high = map(float, found)
        if low > high:
            raise Wrong(f"the low end comes first, got ({low:.3f}, {high:.3f})")
        half = 1.96 * math.sqrt(k / n * (1 - k / n) / n)
        if abs(low - (k / n - half)) < 1e-6:
            raise Wrong(
                "this is the naive interval p +- z sqrt(p (1 - p) / n): p under the root is the true one"
            )
        for end in (low, high):
            if abs(abs(k / n - end) - 1.96 * math.sqrt(max(0.0, end * (1 - end)) / n)) > 1e-6:
                raise Wrong(
                    f"for {k} of {n} the end {end:.4f} does not satisfy equation (wilson) with z = 1.96"
                )
    low, high = interval(0, 16)
    if abs(low) > 1e-9 or abs(high - 1.96**2 / (16 + 1.96**2)) > 1e-9:
        raise Wrong(f"0 of 16 should give 0.000 to 0.194, got {low:.3f} to {high:.3f}")


@exercise(
    id="1.5",
    title="Binding",
    difficulty=3,
    minutes=15,
    hint="Try every order of the seen objects, and ask for one in which all claims hold.",
)
def check_holds(holds) -> None:
    red_circle, blue_square = {"color": "red", "shape": "circle"}, {"color": "blue", "shape": "square"}
    swapped = [{"color": "blue", "shape": "circle"}, {"color": "red", "shape": "square"}]
    cases = [
        ([red_circle], [red_circle], True, "an object satisfies its own description"),
        ([red_circle, blue_square], [blue_square, red_circle], True, "their order does not matter"),
        ([red_circle, blue_square], swapped, False, "these are a blue circle and a red square"),
        ([red_circle], [red_circle, blue_square], False, "an object too many must fail"),
        ([red_circle, blue_square], [red_circle], False, "an object too few must fail"),
        ([{"color": "red"}], [red_circle], True, "what is not claimed is not judged"),
        ([{"shape": "circle"}, {"shape": "circle"}], [red_circle, blue_square], False,
         "two claimed circles need two circles, one-to-one"),
        ([{"shape": "circle"}, red_circle], [red_circle, {"color": "pink", "shape": "circle"}], True,
         "the first match is not always the right one: try every order"),
    ]  # fmt: skip
    for claimed, seen, expected, why in cases:
        found = holds([dict(c) for c in claimed], [dict(s) for s in seen])
        if bool(found) != expected:
            raise Wrong(f"holds({claimed}, {seen}) should be {expected}: {why}")
