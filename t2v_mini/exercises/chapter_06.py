"""Checks of chapter 6: convolution in space and time."""

from functools import partial

import torch
import torch.nn.functional as F

from t2v_mini.exercises.answers import close, diagnose, number_of, tensor_of
from t2v_mini.exercises.mechanism import Wrong, exercise

_close = partial(close, tolerance=1e-6)


def _made(n: int, kernel: int, stride: int, before: int, after: int) -> int:
    return (n + before + after - kernel) // stride + 1


@exercise(
    id="6.1",
    title="How many come out",
    difficulty=1,
    minutes=5,
    hint="The kernel's first element can stand at the places 0, s, 2s, ... of the padded axis, as long as "
    "its last element is still inside. What is the largest place? How many multiples of s are not beyond it?",
)
def check_size(size) -> None:
    cases = (
        (9, 3, 1, 1, 1), (8, 3, 1, 2, 0), (17, 3, 2, 2, 0), (16, 3, 2, 1, 1), (16, 3, 2, 0, 1),
        (5, 5, 1, 0, 0), (1, 3, 2, 2, 0), (12, 1, 4, 0, 0), (10, 4, 3, 0, 0), (9, 5, 2, 4, 0),
        (11, 3, 3, 1, 1),
    )  # fmt: skip
    raw = [size(*case) for case in cases]
    found = [number_of(f"size{case}", value) for case, value in zip(cases, raw, strict=True)]
    right = [_made(*case) for case in cases]
    if found == right:
        if any(isinstance(value, float) for value in raw):
            raise Wrong("the numbers are right, but a size must be an integer. Use // and not /.")
        return

    def each(rule):
        return [rule(n + before + after, *case) for case in cases for n, _, _, before, after in [case]]

    # A fault must explain all answers: some cases agree with several.
    diagnose(
        found,
        (
            ([value - 1 for value in right], "all are one too small: the place 0 counts as well."),
            (each(lambda room, n, k, s, b, a: (n - k) // s + 1), "the padding is left out."),
            (each(lambda room, n, k, s, b, a: room - k + 1), "the stride is left out."),
            (each(lambda room, n, k, s, b, a: (n + 2 * b - k) // s + 1),
             "you take the same padding at both ends. They may differ."),
            (each(lambda room, n, k, s, b, a: (n + 2 * a - k) // s + 1),
             "you take the same padding at both ends. They may differ."),
            (each(lambda room, n, k, s, b, a: (room - k + 1) // s),
             "add the 1 after the division, not before."),
            (each(lambda room, n, k, s, b, a: (room - k) / s + 1),
             "some sizes are not an integer: round the quotient down."),
            (each(lambda room, n, k, s, b, a: -(-(room - k) // s) + 1),
             "at some sizes the kernel hangs over the end. Round down, not up."),
            (each(lambda room, n, k, s, b, a: room // s), "the kernel is left out: it must fit as a whole."),
            (each(lambda room, n, k, s, b, a: -(-n // s)),
             "this holds for a padding of kernel - 1 in all. Here the padding may be anything."),
        ),
        lambda a, b: max(abs(x - y) for x, y in zip(a, b, strict=True)) < 1e-9,
    )  # fmt: skip
    for case, value, due in zip(cases, found, right, strict=True):
        if value != due:
            raise Wrong(f"size{case} should be {due}, yours is {value:g}.")


@exercise(
    id="6.2",
    title="The ends of a clip",
    difficulty=1,
    minutes=10,
    hint="x[:, :, :1] is the first frame, and torch.cat([...], dim=2) puts frames in line. How many frames "
    "before the clip does output 0 see, and how many behind the clip does the last output see?",
)
def check_pad(pad_in_time) -> None:
    rng = torch.Generator().manual_seed(0)
    for frames, kernel, causal in (
        (4, 3, False),
        (4, 3, True),
        (5, 5, False),
        (1, 5, True),
        (3, 1, True),
        (6, 7, True),
    ):
        x = torch.randn(2, 3, frames, 2, 3, generator=rng, dtype=torch.float64)
        given = x.clone()
        name = f"pad_in_time of {frames} frames with kernel={kernel}, causal={causal}"
        ends = (kernel - 1, 0) if causal else (kernel // 2, kernel // 2)

        def padded(before, after, mode, x=x):
            if mode == "zeros":
                return F.pad(x, (0, 0, 0, 0, before, after))
            return torch.cat([x[:, :, :1]] * before + [x] + [x[:, :, -1:]] * after, dim=2)

        found = pad_in_time(given, kernel, causal)
        if isinstance(found, torch.Tensor) and found.ndim == 5 and found.shape[:2] == x.shape[:2]:
            due = frames + sum(ends)
            if found.shape[2] != due:
                if found.shape[2] == frames + kernel:
                    raise Wrong(f"{name} adds {kernel} frames. A kernel of {kernel} needs one fewer.")
                raise Wrong(f"{name} must give {due} frames, yours gives {found.shape[2]}.")
            if found.shape[3:] != x.shape[3:]:
                raise Wrong(f"{name} must leave rows and columns as they are: pad in time alone.")
        found = tensor_of(name, found, (2, 3, frames + sum(ends), 2, 3))
        if not torch.equal(given, x):
            raise Wrong("you changed x itself. Make a new tensor.")
        if _close(found, padded(*ends, "edge")):
            continue
        if _close(found, padded(*ends, "zeros")):
            raise Wrong(f"{name}: you add zeros. Repeat the frame at the end of the clip.")
        if _close(found, padded(*ends[::-1], "edge")):
            raise Wrong(f"{name}: the frames are added behind the clip. Then an output sees later frames.")
        if _close(found, padded(kernel // 2, kernel // 2, "edge")):
            raise Wrong(
                f"{name}: half of the frames stand behind the clip. A causal one has all of them before."
            )
        if _close(found, padded(kernel - 1, 0, "edge")):
            raise Wrong(f"{name}: all frames stand before the clip, which is for a causal one only.")
        if frames > max(ends) and _close(found, F.pad(x, (0, 0, 0, 0, *ends), mode="reflect")):
            raise Wrong(f"{name}: you mirror the clip at its ends. Repeat its first and its last frame.")
        around = x[:, :, torch.arange(-ends[0], frames + ends[1]).remainder(frames)]
        if _close(found, around):
            raise Wrong(f"{name}: what stands before the clip comes from its end, as if it went round.")
        raise Wrong(
            f"{name} must hold the clip, with copies of its first frame before it and of its last behind."
        )


def _field(layers) -> int:
    seen, step = 1, 1
    for kernel, stride in layers:
        seen, step = seen + (kernel - 1) * step, step * stride
    return seen


@exercise(
    id="6.3",
    title="How far one number sees",
    difficulty=2,
    minutes=10,
    hint="Walk from the input on. Two neighbours of the input of layer i stand as many frames apart as the "
    "product of all strides before it. Layer i sees k - 1 such steps more than the layers before.",
)
def check_field(field) -> None:
    stacks = (
        [(3, 1)], [(3, 1), (3, 1)], [(3, 2), (3, 1)], [(3, 1), (3, 2), (3, 1), (3, 2), (3, 1)],
        [(1, 2), (5, 1)], [(3, 2), (3, 2), (3, 2)], [(5, 1), (1, 1), (3, 4), (3, 1)], [],
    )  # fmt: skip
    found = [number_of(f"field({layers})", field(list(layers))) for layers in stacks]
    right = [_field(layers) for layers in stacks]
    if found == right:
        return

    def steps(layers, own=False):
        """The product of the strides before each layer, or up to it."""
        products = [1]
        for _, stride in layers:
            products.append(products[-1] * stride)
        return products[1:] if own else products[:-1]

    def each(rule):
        return [1 + sum(rule(*part) for part in zip(layers, steps(layers), strict=True)) for layers in stacks]

    def from_the_input(layers):
        seen = 1
        for kernel, stride in layers:
            seen = (seen - 1) * stride + kernel
        return seen

    own = [
        1 + sum((k - 1) * p for (k, _), p in zip(layers, steps(layers, own=True), strict=True))
        for layers in stacks
    ]
    single = [
        1 + sum((k - 1) * s for (k, _), s in zip(layers, [1, *(s for _, s in layers)], strict=False))
        for layers in stacks
    ]
    diagnose(
        found,
        (
            ([value - 1 for value in right],
             "you count the steps. One more place is seen than there are steps."),
            (each(lambda layer, step: layer[0] - 1),
             "strides are left out. After a stride of 2, a step is worth two frames."),
            (own, "a layer's own stride widens the steps of the layers AFTER it, not its own."),
            ([from_the_input(layers) for layers in stacks],
             "you walk from the input with the rule for walking from the output."),
            (each(lambda layer, step: layer[0] * step), "a kernel of k sees k - 1 steps more, not k."),
            (single, "you take the stride of one layer before. All strides before it multiply."),
        ),
        lambda a, b: a == b,
    )  # fmt: skip
    for layers, value, due in zip(stacks, found, right, strict=True):
        if value != due:
            raise Wrong(f"field({layers}) should be {due}, yours is {value:g}.")


@exercise(
    id="6.4",
    title="Depth to time",
    difficulty=2,
    minutes=10,
    hint="Split axis 1 in two, (2, C), bring the axis of 2 directly behind the axis of frames, and merge "
    "these two. view or reshape alone cannot exchange axes.",
)
def check_depth_to_time(depth_to_time) -> None:
    rng = torch.Generator().manual_seed(0)
    for channels, frames in ((3, 4), (2, 2), (1, 5), (2, 1)):
        h = torch.randn(2, 2 * channels, frames, 2, 3, generator=rng, dtype=torch.float64)
        pair = h.unflatten(1, (2, channels))  # B 2 C F H W
        whole = pair.permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
        for causal in (False, True):
            name = f"depth_to_time of {2 * channels} channels, {frames} frames, causal={causal}"
            right = whole[:, :, 1:] if causal else whole
            given = h.clone()
            found = depth_to_time(given, causal)
            if isinstance(found, torch.Tensor) and found.ndim == 5 and found.shape[1] == 2 * channels:
                raise Wrong(f"{name}: the result must have half the channels, {channels}.")
            if (
                isinstance(found, torch.Tensor)
                and found.ndim == 5
                and causal
                and found.shape[2] == 2 * frames
            ):
                raise Wrong(f"{name}: 1 + n frames become 1 + 2n. The first of the two first frames must go.")
            found = tensor_of(name, found, tuple(right.shape))
            if not torch.equal(given, h):
                raise Wrong("you changed h itself. Make a new tensor.")
            if _close(found, right):
                continue

            def cut(x, causal=causal):
                return x[:, :, 1:] if causal else x

            swapped = pair.flip(1).permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
            near = h.unflatten(1, (channels, 2)).permute(0, 1, 3, 2, 4, 5).flatten(2, 3)
            if causal and _close(found, whole[:, :, :-1]):
                raise Wrong(f"{name}: you drop the last frame. The first frame is the one that stays single.")
            if causal and _close(found, torch.cat([whole[:, :, :1], whole[:, :, 2:]], dim=2)):
                raise Wrong(
                    f"{name}: of the two first frames the second stays, so that the rest keeps its rhythm."
                )
            diagnose(
                found,
                (
                    (cut(pair.permute(0, 2, 1, 3, 4, 5).flatten(2, 3)),
                     f"{name}: all first halves come before all second halves. They must alternate."),
                    (cut(near), f"{name}: you take neighbouring channels as a pair. The first C channels "
                     "make the even frames, the last C the odd ones."),
                    (cut(swapped), f"{name}: the two frames of each pair are exchanged."),
                    (cut(h.reshape(2, channels, 2 * frames, 2, 3)),
                     f"{name}: reshape keeps the order of the numbers. It cannot bring two channels into "
                     "line in time."),
                ),
                _close,
            )  # fmt: skip
            raise Wrong(f"{name} must hold h[:, c, f] at frame 2f and h[:, C + c, f] at frame 2f + 1.")


@exercise(
    id="6.5",
    title="Chunk by chunk, with a stride",
    difficulty=3,
    minutes=25,
    hint="Keep the frames that a later output will still need. If the frames at hand give m outputs, the "
    "next output starts at frame m * stride: everything from there on must be kept, nothing before it.",
)
def check_chunked(step) -> None:
    rng = torch.Generator().manual_seed(0)
    for kernel, stride, chunks in (
        (3, 1, [7]),
        (3, 1, [1, 1, 3, 2]),
        (5, 1, [2, 1, 1, 4]),
        (3, 2, [1, 2, 2, 4]),
        (3, 2, [3, 2, 3, 3]),
        (5, 3, [1, 3, 4, 5]),
    ):
        frames = sum(chunks)
        weight = torch.randn(4, 3, kernel, 1, 1, generator=rng, dtype=torch.float64)
        clips = torch.randn(2, 1, 3, frames, 2, 2, generator=rng, dtype=torch.float64)

        def whole(clip, weight=weight, kernel=kernel, stride=stride):
            padded = torch.cat([clip[:, :, :1]] * (kernel - 1) + [clip], dim=2)
            return F.conv3d(padded, weight, stride=(stride, 1, 1))

        name = f"kernel {kernel}, stride {stride}, chunks of {', '.join(map(str, chunks))} frames"
        outs, memories = [[], []], [None, None]
        start = 0
        for number, size in enumerate(chunks):
            # Two clips take turns: a memory kept anywhere but in what is handed over mixes them.
            for clip in (0, 1):
                part = clips[clip][:, :, start : start + size]
                try:
                    answer = step(part.clone(), weight, stride, memories[clip])
                except RuntimeError as error:
                    if "Kernel size can't be greater" not in str(error):
                        raise
                    raise Wrong(
                        f"{name}: chunk {number} has too few frames for the kernel. Either the first frame "
                        "is not repeated, or the memory lost frames that are still needed."
                    ) from None
                if not isinstance(answer, (tuple, list)) or len(answer) != 2:
                    raise Wrong(f"step must return a pair (out, memory), got {type(answer).__name__}.")
                out, memories[clip] = answer
                if not isinstance(out, torch.Tensor) or out.ndim != 5:
                    raise Wrong(f"out must be a tensor (B, O, F, H, W), got {type(out).__name__}.")
                outs[clip].append(out.double())
            start += size
        for clip in (0, 1):
            made, right = torch.cat(outs[clip], dim=2), whole(clips[clip])
            if _close(made, right):
                continue
            alone = torch.cat([whole(part) for part in clips[clip].split(chunks, dim=2)], dim=2)
            if len(chunks) > 1 and _close(made, alone):
                raise Wrong(
                    f"{name}: each chunk begins anew with copies of its own first frame. The memory is never "
                    "used."
                )
            zeros = F.pad(clips[clip], (0, 0, 0, 0, kernel - 1, 0))
            if _close(made, F.conv3d(zeros, weight, stride=(stride, 1, 1))):
                raise Wrong(f"{name}: zeros stand before the clip. Repeat its first frame.")
            if made.shape != right.shape:
                raise Wrong(
                    f"{name}: {made.shape[2]} frames come out in all, {right.shape[2]} are due. Which frame "
                    "does the next output start at? Keep everything from there on, and nothing before."
                )
            first = outs[clip][0]
            if not _close(first, right[:, :, : first.shape[2]]):
                raise Wrong(
                    f"{name}: already the first chunk is wrong. There, kernel - 1 copies stand before it."
                )
            if stride > 1:
                raise Wrong(
                    f"{name}: the number of frames is right, the frames are not. With a stride the next "
                    "output need not start kernel - 1 frames before the new chunk."
                )
            raise Wrong(f"{name}: a chunk after the first is not what the whole clip gives.")
