"""Checks of chapter 7: convolution taken apart into space and time."""

from functools import partial

import torch
import torch.nn.functional as F

from t2v_mini.exercises.answers import close, diagnose, number_of, tensor_of
from t2v_mini.exercises.mechanism import Wrong, exercise

_close = partial(close, tolerance=1e-6)
KINDS = ("dense", "(2+1)D", "depthwise")


def _equal(a, b) -> bool:
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) < 1e-9


@exercise(
    id="7.1",
    title="Three prices",
    difficulty=1,
    minutes=10,
    hint="A convolution without groups has one number for each input channel, each output channel and each "
    "place of its kernel. A depthwise one has a kernel for each channel. Which two convolutions make the "
    "pair, and which two the depthwise layer?",
)
def check_weights(weights) -> None:
    cases = ((3, 16, (3, 5, 7), 10), (8, 24, (1, 3, 3), 5), (12, 4, (5, 1, 3), 7), (64, 64, (3, 3, 3), 64))
    for C, o, kernel, middle in cases:
        name = f"weights({C}, {o}, {kernel}, {middle})"
        raw = weights(C, o, kernel, middle)
        if not isinstance(raw, (tuple, list)) or len(raw) != 3:
            raise Wrong(f"{name} must return three numbers, got {type(raw).__name__}.")
        found = [number_of(f"{kind} of {name}", value) for kind, value in zip(KINDS, raw, strict=True)]
        f, h, w = kernel
        dense, pair, depthwise = f * h * w * C * o, h * w * C * middle + f * middle * o, f * h * w * C + C * o
        if _equal(found, (dense, pair, depthwise)):
            continue
        if _equal(found, (dense + o, pair + middle + o, depthwise + C + o)):
            raise Wrong(f"{name}: you count biases. Leave them out.")
        if _equal(found, [2 * n for n in (dense, pair, depthwise)]):
            raise Wrong(f"{name}: this is twice the weights. Multiplications and sums are not asked for.")
        faults = (
            (
                (f + h + w) * C * o,
                "the sizes of a kernel multiply. A kernel of 3 by 3 by 3 has 27 places.",
            ),
            (f * h * w * C, "every output channel needs a kernel of its own: the factor O is missing."),
            (f * h * w * o, "every input channel has a part in each kernel: the factor C is missing."),
        )
        diagnose(found[0], ((n, f"dense of {name}: {text}") for n, text in faults), lambda a, b: a == b)
        if found[0] != dense:
            raise Wrong(f"dense of {name} should be {dense}, yours is {found[0]:g}.")
        faults = (
            ((h * w + f) * C * o, "the channels between the two parts are middle, not C or O."),
            (
                h * w * C * o + f * o * o,
                "the channels between the two parts are middle. You take O of them.",
            ),
            (h * w * C * middle + f * C * o, "the kernel along time gets middle channels, not C."),
            (h * w * C * middle + f * middle, "the kernel along time gives O channels: it is not depthwise."),
            (
                h * w * C * middle * f * middle * o,
                "the parts stand one after the other: add their weights, do not multiply.",
            ),
            (
                f * C * middle + h * w * middle * o,
                "space comes first, from C to middle, and then time, from middle to O.",
            ),
            (h * w * C * middle, "the kernel along time is left out."),
        )
        diagnose(found[1], ((n, f"(2+1)D of {name}: {text}") for n, text in faults), lambda a, b: a == b)
        if found[1] != pair:
            raise Wrong(f"(2+1)D of {name} should be {pair}, yours is {found[1]:g}.")
        faults = (
            (f * h * w * C, "the pointwise layer is left out."),
            (f * h * w + C * o, "each channel has a kernel of its own: the factor C is missing."),
            (f * h * w * C * C * o, "the two layers stand in a row: add their weights."),
            (f * h * w * o + C * o, "the depthwise kernel works on the C channels that come in."),
            ((h * w + f) * C + C * o, "a kernel of full size is asked for, not one taken apart."),
            (f * h * w * C + C * C, "the pointwise layer leads from C channels to O."),
        )
        diagnose(found[2], ((n, f"depthwise of {name}: {text}") for n, text in faults), lambda a, b: a == b)
        raise Wrong(f"depthwise of {name} should be {depthwise}, yours is {found[2]:g}.")


@exercise(
    id="7.2",
    title="As large as a dense layer",
    difficulty=1,
    minutes=5,
    hint="What does one middle channel cost, in both parts together? How often does that fit into the "
    "weights of the dense layer?",
)
def check_middle(middle) -> None:
    cases = (
        (64, 64, (3, 3, 3)),
        (3, 64, (3, 7, 7)),
        (16, 40, (5, 3, 3)),
        (24, 8, (3, 1, 5)),
        (7, 9, (3, 3, 3)),
    )
    raw = [middle(*case) for case in cases]
    found = [number_of(f"middle{case}", value) for case, value in zip(cases, raw, strict=True)]

    def each(rule):
        return [rule(C, o, *kernel) for C, o, kernel in cases]

    exact = each(lambda C, o, f, h, w: f * h * w * C * o / (h * w * C + f * o))
    right = [int(value) for value in exact]
    if found == right:
        if any(isinstance(value, float) for value in raw):
            raise Wrong("the numbers are right, but channels must be an integer. Use // and not /.")
        return
    diagnose(
        found,
        (
            (exact, "there are no parts of channels: round down."),
            ([-int(-value // 1) for value in exact], "rounded up, the pair has more weights than allowed."),
            ([round(value) for value in exact], "rounded up, the pair has more weights than allowed."),
            (
                each(lambda C, o, f, h, w: f * h * w * C * o // (h * w * o + f * C)),
                "C and O are exchanged: the kernel within frames gets C channels, the other gives O.",
            ),
            (
                each(lambda C, o, f, h, w: f * h * w * C * o // (f * C + h * w * o)),
                "C and O are exchanged: the kernel within frames gets C channels, the other gives O.",
            ),
            (
                each(lambda C, o, f, h, w: f * h * w * C * o // ((h * w + f) * C)),
                "the kernel along time has O weights for each middle channel and frame, not C.",
            ),
            (
                each(lambda C, o, f, h, w: f * h * w * C // (h * w + f)),
                "this holds only where C and O are equal.",
            ),
            (
                each(lambda C, o, f, h, w: f * h * w * C * o // (h * w * C)),
                "the kernel along time has weights as well.",
            ),
            (
                each(lambda C, o, f, h, w: f * h * w * C * o // (h * w * C * o + f * o)),
                "one middle channel costs one kernel within frames for each of the C inputs, not C times O.",
            ),
            (
                each(lambda C, o, f, h, w: min(o * f, C * h * w)),
                "this is the largest useful rank. What is asked for is a number of weights.",
            ),
        ),
        _equal,
    )
    for case, value, due in zip(cases, found, right, strict=True):
        if value != due:
            raise Wrong(f"middle{case} should be {due}, yours is {value:g}.")


def _pair_of(rng, o: int, M: int, C: int, kernel) -> tuple[torch.Tensor, torch.Tensor]:
    f, h, w = kernel
    space = torch.randn(M, C, h, w, generator=rng, dtype=torch.float64)
    return space, torch.randn(o, M, f, generator=rng, dtype=torch.float64)


@exercise(
    id="7.3",
    title="Two kernels into one",
    difficulty=2,
    minutes=10,
    hint='torch.einsum can do it in one line: "oma" for the one along time, "mcpq" for the other. Which '
    "letter is missing in the result?",
)
def check_merge(merge) -> None:
    rng = torch.Generator().manual_seed(0)
    for o, M, C, kernel in (
        (6, 2, 4, (3, 3, 5)),
        (4, 5, 4, (3, 3, 3)),
        (3, 3, 3, (3, 3, 3)),
        (2, 4, 3, (5, 1, 3)),
    ):
        space, along = _pair_of(rng, o, M, C, kernel)
        right = torch.einsum("oma,mcpq->ocapq", along, space)
        name = f"merge of {tuple(space.shape)} and {tuple(along.shape)}"
        given = space.clone(), along.clone()
        found = merge(*given)
        if (
            isinstance(found, torch.Tensor)
            and tuple(found.shape) == (o, kernel[0], C, *kernel[1:])
            and kernel[0] != C
        ):
            raise Wrong(f"{name}: the axis of channels must stand before that of frames: (O, C, kF, kH, kW).")
        found = tensor_of(name, found, tuple(right.shape))
        if not (torch.equal(given[0], space) and torch.equal(given[1], along)):
            raise Wrong("you changed an argument itself. Make new tensors.")
        if _close(found, right):
            continue
        faults = [
            (right.flip(2), "the frames stand in the opposite order. F.conv3d does not turn a kernel round."),
            (
                right.flip(3, 4),
                "rows and columns stand in the opposite order. F.conv3d does not turn a kernel round.",
            ),
            (right / M, "you take a mean over the middle channels. Their contributions add up."),
            (
                along.sum(1)[:, None, :, None, None] * space.sum(0)[None, :, None],
                "you sum over the middle channels in each part alone. Multiply first, then sum.",
            ),
            (
                torch.einsum("om,mcpq->ocpq", along.mean(2), space)[:, :, None].expand_as(right),
                "every frame got the same kernel. Each frame has its own column of `along`.",
            ),
            (
                along[:, :1, :, None, None] * space[None, 0, :, None],
                "only the first middle channel is used. Sum over all of them.",
            ),
        ]
        if o == M:
            faults.append(
                (
                    torch.einsum("moa,mcpq->ocapq", along, space),
                    "the axes of `along` are exchanged: it is (O, M, kF).",
                )
            )
        diagnose(found, ((fault, f"{name}: {text}") for fault, text in faults), _close)
        x = torch.randn(1, C, kernel[0], *kernel[1:], generator=rng, dtype=torch.float64)
        due, made = (x * right).sum((1, 2, 3, 4)), (x * found).sum((1, 2, 3, 4))
        raise Wrong(
            f"{name}: one layer with your kernel gives {made[0]:.3f}, the two in a row give {due[0]:.3f}."
        )


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
