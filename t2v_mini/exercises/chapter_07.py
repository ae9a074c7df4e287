"""Checks of chapter 7: convolution taken apart into space and time."""

from functools import partial

import torch

from t2v_mini.exercises import factors  # noqa: F401  (registers 7.4 to 7.6)
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
