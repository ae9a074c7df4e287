"""Chapter 6: the solutions as they stand in the notebook, other right answers, and wrong ones."""

import torch
import torch.nn.functional as F
from einops import rearrange

SOLUTIONS = {
    "6.1": """
def size(n, kernel, stride, before, after):
    return (n + before + after - kernel) // stride + 1
""",
    "6.2": """
def pad_in_time(x, kernel, causal):
    before = kernel - 1 if causal else kernel // 2
    after = kernel - 1 - before
    first, last = x[:, :, :1], x[:, :, -1:]
    return torch.cat([first] * before + [x] + [last] * after, dim=2)
""",
    "6.3": """
def field(layers):
    seen, step = 1, 1
    for kernel, stride in layers:
        seen += (kernel - 1) * step
        step *= stride
    return seen
""",
    "6.4": """
def depth_to_time(h, causal):
    B, C, F, H, W = h.shape
    pairs = h.view(B, 2, C // 2, F, H, W).permute(0, 2, 3, 1, 4, 5)
    x = pairs.reshape(B, C // 2, 2 * F, H, W)
    return x[:, :, 1:] if causal else x
""",
    "6.5": """
def step(x, weight, stride, memory):
    kernel = weight.shape[2]
    if memory is None:
        memory = x[:, :, :1].expand(-1, -1, kernel - 1, -1, -1)
    x = torch.cat([memory, x], dim=2)
    made = (x.shape[2] - kernel) // stride + 1
    out = F.conv3d(x, weight, stride=(stride, 1, 1))
    return out, x[:, :, made * stride :]
""",
}


def _size(shift=0, padding="both", strided=True, up=False, early=False, divide=False, whole=True):
    """The number of places of a kernel, with a fault."""

    def size(n, kernel, stride, before, after):
        ends = {"both": before + after, "none": 0, "first": 2 * before, "last": 2 * after}[padding]
        room = n + ends - (kernel if whole else 0)
        s = stride if strided else 1
        if early:
            return (room + 1) // s
        if divide:
            return room / s + 1
        return (-(-room // s) if up else room // s) + (1 if whole else 0) + shift

    return size


def _count_places(n, kernel, stride, before, after):
    return len(range(0, n + before + after - kernel + 1, stride))


def _pad(ends=None, mode="edge", space=False):
    """Frames added at the ends of a clip, with a fault; `ends(kernel, causal)` says how many."""

    def pad_in_time(x, kernel, causal):
        right = (kernel - 1, 0) if causal else (kernel // 2, kernel // 2)
        before, after = ends(kernel, causal) if ends else right
        if mode == "zeros":
            return F.pad(x, (0, 0, 0, 0, before, after))
        if mode == "reflect":
            places = torch.arange(-before, x.shape[2] + after).abs()
            last = x.shape[2] - 1
            return x[:, :, (last - (last - places).abs()).clamp(min=0)]
        if mode == "around":
            return x[:, :, torch.arange(-before, x.shape[2] + after).remainder(x.shape[2])]
        sides = kernel // 2 if space else 0
        return F.pad(x, (sides, sides, sides, sides, before, after), mode="replicate")

    return pad_in_time


def _pad_in_place(x, kernel, causal):
    out = _pad()(x, kernel, causal)
    x.zero_()
    return out


def _field(extra=1, own=False, strides=True, whole=False, last=False):
    def field(layers):
        seen, step, before = extra, 1, 1
        for kernel, stride in layers:
            if own:
                step *= stride
            wide = before if last else step
            seen += (kernel - (0 if whole else 1)) * (wide if strides else 1)
            if not own:
                step *= stride
            before = stride
        return seen

    return field


def _walk_back(layers):
    """The right walk, from the output to the input."""
    seen = 1
    for kernel, stride in reversed(layers):
        seen = (seen - 1) * stride + kernel
    return seen


def _walk_back_from_the_wrong_end(layers):
    seen = 1
    for kernel, stride in layers:
        seen = (seen - 1) * stride + kernel
    return seen


def _by_gradient(layers):
    """From the first to the last frame with a gradient."""
    n = 400
    x = torch.zeros(1, 1, n, requires_grad=True)
    y = x
    for kernel, stride in layers:
        y = F.conv1d(y, torch.ones(1, 1, kernel), stride=stride)
    y[..., 0].sum().backward()
    seen = x.grad[0, 0].nonzero().flatten()
    return int(seen[-1] - seen[0]) + 1


def _depth(pattern, drop="first"):
    def depth_to_time(h, causal):
        x = rearrange(h, pattern, two=2)
        if not causal or drop is None:
            return x
        if drop == "last":
            return x[:, :, :-1]
        if drop == "second":
            return torch.cat([x[:, :, :1], x[:, :, 2:]], dim=2)
        return x[:, :, 1:]

    return depth_to_time


def _exchanged(h, causal):
    return _depth("b (two c) f h w -> b c (f two) h w")(h.roll(h.shape[1] // 2, 1), causal)


def _reshaped(h, causal):
    B, C, frames, H, W = h.shape
    x = h.reshape(B, C // 2, 2 * frames, H, W)
    return x[:, :, 1:] if causal else x


def _repeated(h, causal):
    x = h.repeat_interleave(2, dim=2)
    return x[:, :, 1:] if causal else x


def _half_repeated(h, causal):
    return _repeated(h[:, : h.shape[1] // 2], causal)


def _stacked(h, causal):
    x = torch.stack(h.chunk(2, dim=1), dim=3).flatten(2, 3)
    return x[:, :, 1:] if causal else x


def _spoilt(h, causal):
    out = _stacked(h, causal).clone()
    h.zero_()
    return out


def _step(first="edge", keep="due", pair=True):
    """A chunk of a causal convolution, with a fault in its start or its memory."""

    def step(x, weight, stride, memory):
        kernel = weight.shape[2]
        if memory is None:
            copies = x[:, :, :1] if first == "edge" else torch.zeros_like(x[:, :, :1])
            copies = copies.repeat(1, 1, kernel - 1, 1, 1)
            memory = copies[:, :, :0] if first == "none" else copies
        x = torch.cat([memory, x], dim=2)
        made = (x.shape[2] - kernel) // stride + 1
        out = F.conv3d(x, weight, stride=(stride, 1, 1))
        kept = {
            "due": x[:, :, made * stride :],
            "tail": x[:, :, x.shape[2] - kernel + 1 :],
            "kernel": x[:, :, -kernel:],
            "all": x,
            "nothing": None,
        }[keep]
        return (out, kept) if pair else out

    return step


_kept = {}


def _global_step(x, weight, stride, memory):
    kernel = weight.shape[2]
    if memory is None:
        _kept.clear()
        _kept["x"] = x[:, :, :1].repeat(1, 1, kernel - 1, 1, 1)
    x = torch.cat([_kept["x"], x], dim=2)
    made = (x.shape[2] - kernel) // stride + 1
    _kept["x"] = x[:, :, made * stride :]
    return F.conv3d(x, weight, stride=(stride, 1, 1)), "kept elsewhere"


def _whole_history(x, weight, stride, memory):
    """Right, and wasteful: keeps the whole clip, computes all of it again, gives what is new."""
    seen, given = memory or (x[:, :, :0], 0)
    seen = torch.cat([seen, x], dim=2)
    padded = torch.cat([seen[:, :, :1]] * (weight.shape[2] - 1) + [seen], dim=2)
    out = F.conv3d(padded, weight, stride=(stride, 1, 1))
    return out[:, :, given:], (seen, out.shape[2])


RIGHT = {
    "6.1": [("count places", _count_places)],
    "6.2": [("F.pad", _pad())],
    "6.3": [("from the output", _walk_back), ("by gradient", _by_gradient)],
    "6.4": [("rearrange", _depth("b (two c) f h w -> b c (f two) h w")), ("stack", _stacked)],
    "6.5": [("whole history", _whole_history)],
}

WRONG = {
    "6.1": [
        ("no 1", _size(shift=-1), "place 0 counts"),
        ("no padding", _size(padding="none"), "padding is left out"),
        ("no stride", _size(strided=False), "stride is left out"),
        ("twice before", _size(padding="first"), "same padding at both ends"),
        ("twice after", _size(padding="last"), "same padding at both ends"),
        ("rounded up", _size(up=True), "Round down"),
        ("1 too early", _size(early=True), "after the division"),
        ("float", _size(divide=True), "must be an integer|not an integer"),
        ("no kernel", _size(whole=False), "kernel is left out"),
        ("text", lambda *case: "9", "must be a number"),
        ("rounded", lambda n, kernel, stride, before, after: -(-n // stride), "kernel - 1 in all"),
        ("two more", _size(shift=2), "should be"),
    ],
    "6.2": [
        ("zeros", _pad(mode="zeros"), "you add zeros"),
        ("behind", _pad(lambda k, causal: (0, k - 1) if causal else (k // 2, k // 2)), "behind the clip"),
        ("always half", _pad(lambda k, causal: (k // 2, k // 2)), "all of them before"),
        ("always causal", _pad(lambda k, causal: (k - 1, 0)), "for a causal one only"),
        ("one too many", _pad(lambda k, causal: (k, 0) if causal else (k // 2, k - k // 2)), "one fewer"),
        ("nothing", lambda x, kernel, causal: x.clone(), "must give 6 frames"),
        ("mirror", _pad(mode="reflect"), "you mirror"),
        ("around", _pad(mode="around"), "went round"),
        ("in space too", _pad(space=True), "pad in time alone"),
        ("in place", _pad_in_place, "changed x"),
    ],
    "6.3": [
        ("steps", _field(extra=0), "count the steps"),
        ("no strides", _field(strides=False), "strides are left out"),
        ("own stride", _field(own=True), "layers AFTER it"),
        ("whole kernel", _field(whole=True), "k - 1 steps more"),
        ("one stride", _field(last=True), "All strides before it multiply"),
        ("wrong end", _walk_back_from_the_wrong_end, "walking from the output"),
        ("a list", lambda layers: [_walk_back(layers)], "must be a number"),
        ("double", lambda layers: 2 * _walk_back(layers), "should be"),
    ],
    "6.4": [
        ("in line", _depth("b (two c) f h w -> b c (two f) h w"), "must alternate"),
        ("neighbours", _depth("b (c two) f h w -> b c (f two) h w"), "neighbouring channels"),
        ("exchanged", _exchanged, "are exchanged"),
        ("reshape", _reshaped, "keeps the order"),
        ("all frames", _depth("b (two c) f h w -> b c (f two) h w", None), "must go"),
        ("drops the last", _depth("b (two c) f h w -> b c (f two) h w", "last"), "drop the last"),
        ("drops the second", _depth("b (two c) f h w -> b c (f two) h w", "second"), "keeps its rhythm"),
        ("all channels", _repeated, "half the channels"),
        ("repeated", _half_repeated, "must hold h"),
        ("in place", _spoilt, "changed h"),
    ],
    "6.5": [
        ("no memory", _step(keep="nothing"), "begins anew"),
        ("zeros", _step(first="zeros"), "zeros stand before"),
        ("always k - 1", _step(keep="tail"), "next output|come out in all"),
        ("a frame too many", _step(keep="kernel"), "come out in all"),
        ("keeps all", _step(keep="all"), "come out in all"),
        ("no copies", _step(first="none"), "too few frames|come out in all"),
        ("global", _global_step, "is not what the whole clip gives|come out in all|first chunk is wrong"),
        ("no pair", _step(pair=False), "return a pair"),
    ],
}  # fmt: skip
