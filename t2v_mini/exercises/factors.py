"""Checks of chapter 7 about kernels as matrices, gates and scales; `chapter_07` imports them."""

from functools import partial

import torch
import torch.nn.functional as F

from t2v_mini.exercises.answers import close, diagnose, number_of, tensor_of
from t2v_mini.exercises.mechanism import Wrong, exercise

_close = partial(close, tolerance=1e-6)


@exercise(
    id="7.4",
    title="The nearest pair",
    difficulty=3,
    minutes=20,
    hint="Bring the axes into the order (O, kF, C, kH, kW), make a matrix of O kF rows, and take "
    "torch.linalg.svd with full_matrices=False. Keep the first `middle` columns of U and rows of V. Where do "
    "the singular values go?",
)
def check_split(split) -> None:
    rng = torch.Generator().manual_seed(0)
    for o, C, kernel, middle in (
        (6, 4, (3, 3, 3), 5),
        (3, 3, (3, 3, 3), 1),
        (4, 2, (5, 1, 3), 3),
        (4, 6, (3, 3, 5), 12),
    ):
        weight = torch.randn(o, C, *kernel, generator=rng, dtype=torch.float64)
        f, h, w = kernel
        name = f"split of {tuple(weight.shape)} with middle={middle}"
        given = weight.clone()
        answer = split(given, middle)
        if not isinstance(answer, (tuple, list)) or len(answer) != 2:
            raise Wrong(f"{name} must return a pair (space, along), got {type(answer).__name__}.")
        shapes = (middle, C, h, w), (o, middle, f)
        if [tuple(getattr(part, "shape", ())) for part in answer] == [shapes[1], shapes[0]]:
            raise Wrong(f"{name}: space comes first, and then along.")
        if tuple(getattr(answer[1], "shape", ())) == (o, f, middle) and f != middle:
            raise Wrong(f"{name}: along must be {shapes[1]}: the middle channels stand before the frames.")
        space = tensor_of(f"space in {name}", answer[0], shapes[0])
        along = tensor_of(f"along in {name}", answer[1], shapes[1])
        if not torch.equal(given, weight):
            raise Wrong("you changed weight itself. Make new tensors.")
        made = torch.einsum("oma,mcpq->ocapq", along, space)
        matrix = weight.transpose(1, 2).reshape(o * f, -1)
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        least = values[middle:].square().sum()
        error = (made - weight).square().sum()
        if abs(error - least) < 1e-8 * weight.square().sum():
            continue

        def built(scale, keep, left=left, right=right, o=o, f=f, C=C, h=h, w=w):
            product = (left[:, keep] * scale[keep]) @ right[keep]
            return product.reshape(o, f, C, h, w).transpose(1, 2)

        first, last = slice(0, middle), slice(len(values) - middle, len(values))
        diagnose(
            made,
            (
                (built(torch.ones_like(values), first), f"{name}: the singular values are left out."),
                (
                    built(values**2, first),
                    f"{name}: the singular values are in both parts. Their product must be s.",
                ),
                (
                    built(values.sqrt(), first),
                    f"{name}: only the root of each singular value is used, in one part.",
                ),
                (built(values, last), f"{name}: you keep the smallest singular values. Keep the largest."),
            ),
            _close,
        )
        if middle > 1 and _close(made, built(values, slice(0, middle - 1))):
            raise Wrong(f"{name}: one middle channel is not used.")
        raise Wrong(
            f"{name}: your pair misses the kernel by {error:.3f} in squares, {least:.3f} is possible. "
            "Rows of the matrix must be (o, a), its columns (c, p, q): transpose before you reshape."
        )


@exercise(
    id="7.5",
    title="A gate for each frame",
    difficulty=2,
    minutes=10,
    hint="x.mean((3, 4)) has the shape (B, C, F). F.linear wants the channels last. How do the factors "
    "(B, F, C) get the axes that they need to multiply x?",
)
def check_gate(gate) -> None:
    rng = torch.Generator().manual_seed(0)
    for C, small, frames in ((8, 2, 5), (4, 4, 4), (6, 3, 1)):
        x = torch.randn(2, C, frames, 3, 4, generator=rng, dtype=torch.float64) + 0.5
        w1, b1, w2, b2 = (
            torch.randn(shape, generator=rng, dtype=torch.float64)
            for shape in ((small, C), (small,), (C, small), (C,))
        )
        name = f"gate of a clip with {C} channels and {frames} frames"

        def factors(mean, act=F.silu, last=torch.sigmoid, w1=w1, b1=b1, w2=w2, b2=b2):
            """From (..., C)."""
            return last(F.linear(act(F.linear(mean, w1, b1)), w2, b2))

        def scaled(factor, x=x):  # B F C
            return x * factor.transpose(1, 2)[..., None, None]

        mean = x.mean((3, 4)).transpose(1, 2)
        given = x.clone()
        found = gate(given, w1, b1, w2, b2)
        if isinstance(found, torch.Tensor) and found.ndim in (2, 3):
            raise Wrong(f"{name}: you return the factors. Multiply the clip by them.")
        found = tensor_of(name, found, tuple(x.shape))
        if not torch.equal(given, x):
            raise Wrong("you changed x itself. Make a new tensor.")
        right = scaled(2 * factors(mean))
        if _close(found, right):
            continue
        clip = x.mean((2, 3, 4))[:, None].expand(-1, frames, -1)
        before = torch.stack([mean[:, : i + 1].mean(1) for i in range(frames)], 1)
        batch = mean.mean(0, keepdim=True).expand(2, -1, -1)
        diagnose(
            found,
            (
                (scaled(factors(mean)), f"{name}: the factor 2 is missing. A new gate would halve x."),
                (scaled(2 * factors(clip)), f"{name}: you take one mean for the whole clip. A frame then "
                 "knows of all others."),
                (scaled(factors(clip)), f"{name}: you take one mean for the whole clip. A frame then knows "
                 "of all others."),
                (scaled(2 * factors(before)), f"{name}: you take a mean of the frames so far. It is causal, "
                 "but a frame must not know of another one."),
                (scaled(2 * factors(batch)), f"{name}: you take a mean over the clips of the batch."),
                (scaled(2 * factors(mean, F.relu)), f"{name}: the first layer is followed by ReLU. SiLU is "
                 "asked for."),
                (scaled(2 * factors(mean, lambda z: z)), f"{name}: the nonlinearity between the two layers "
                 "is missing."),
                (scaled(2 * factors(mean, last=lambda z: z)), f"{name}: the sigmoid is missing."),
                (scaled(2 * factors(mean, b1=None)), f"{name}: the first bias is left out."),
                (scaled(2 * factors(mean, b2=None)), f"{name}: the second bias is left out."),
                (scaled(2 * factors(x.sum((3, 4)).transpose(1, 2))), f"{name}: you squeeze by a sum. Take "
                 "the mean."),
                (scaled(2 * factors(x.amax((3, 4)).transpose(1, 2))), f"{name}: you squeeze by a maximum. "
                 "Take the mean."),
                (right + x, f"{name}: you add x. The gate itself has no residual."),
                (scaled(1 + factors(mean)), f"{name}: 1 + sigmoid lies between 1 and 2. 2 times sigmoid is "
                 "asked for."),
            ),
            _close,
        )  # fmt: skip
        raise Wrong(
            f"{name}: the clip must be x times 2 sigmoid(w2 silu(w1 mean + b1) + b2), frame by frame."
        )


@exercise(
    id="7.6",
    title="How small a scale",
    difficulty=1,
    minutes=10,
    hint="The variance at the end is 1 + depth * scale**2 * spread. The deviation is its root, and shall be "
    "`growth`. Solve for the scale.",
)
def check_scale(largest_scale) -> None:
    cases = ((12, 1.0, 1.1), (100, 0.25, 1.5), (1, 2.0, 3.0), (48, 0.5, 1.01))
    found = [number_of(f"largest_scale{case}", largest_scale(*case)) for case in cases]

    def each(rule):
        return [rule(*case) for case in cases]

    right = each(lambda depth, spread, growth: ((growth**2 - 1) / (depth * spread)) ** 0.5)

    def agree(a, b) -> bool:
        return max(abs(x / y - 1) for x, y in zip(a, b, strict=True)) < 1e-6

    if agree(found, right):
        return
    diagnose(
        found,
        (
            ([value**2 for value in right], "this is the square of the scale: take the root."),
            (each(lambda L, v, g: ((g - 1) / (L * v)) ** 0.5),
             "growth is that of the deviation. The variance grows by its square."),
            (each(lambda L, v, g: (g - 1) / (L * v)), "deviations do not add up, variances do."),
            (each(lambda L, v, g: (g - 1) / (L * v**0.5)), "deviations do not add up, variances do."),
            (each(lambda L, v, g: (g**2 / (L * v)) ** 0.5), "the variance at the start, 1, is forgotten."),
            (each(lambda L, v, g: ((g**2 - 1) / v) ** 0.5), "the depth is left out: each block adds."),
            (each(lambda L, v, g: ((g**2 - 1) / L) ** 0.5), "the variance that a block makes is left out."),
            (each(lambda L, v, g: (g**2 - 1) ** 0.5 / (L * v)), "take the root of the whole quotient."),
            (each(lambda L, v, g: ((g**2 - 1) / (L * v**2)) ** 0.5),
             "spread is a variance already: do not square it."),
            (each(lambda L, v, g: ((g ** (2 / L) - 1) / v) ** 0.5),
             "you let each block multiply the variance. A norm stands in front, so each adds the same."),
        ),
        agree,
    )  # fmt: skip
    for case, value, due in zip(cases, found, right, strict=True):
        if abs(value / due - 1) >= 1e-6:
            raise Wrong(f"largest_scale{case} should be {due:.4f}, yours is {value:.4f}.")
