"""Convolution in space and time: plain or causal, whole or in chunks, dense, separable or depthwise."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from t2v_mini.layers.conditioning import enlarge

Triple = tuple[int, int, int]  # frames, rows, columns
# What each layer keeps of a clip's past while the clip comes in chunks.
Memory = dict[nn.Module, Tensor]


def triple(name: str, value: int | Triple) -> Triple:
    """The three numbers for frames, rows and columns; one number stands for all. `ValueError` below 1."""
    numbers = (value,) * 3 if isinstance(value, int) else tuple(value)
    if len(numbers) != 3 or any(type(n) is not int or n < 1 for n in numbers):
        raise ValueError(
            f"{name} must be a positive integer, or one each for frames, rows, columns, got {value!r}"
        )
    return numbers


class SpaceTimeConv(nn.Module):
    """Convolution of clips that keeps their size, or divides it by the stride, rounded up.

    Beyond the edges of a frame there are zeros. Beyond the ends of a clip its first and last frames
    are repeated: zeros would make a dent there in a clip that does not change. With `causal` no frame
    looks at a later one, as in MAGVIT-2 (Yu et al. 2024), and the first frame stands for all before
    it. A clip may then come in chunks: see `forward`.

    Raises `ValueError` for a kernel of even size, and for a number of channels below 1.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: int | Triple = 3,
        stride: int | Triple = 1,
        causal: bool = False,
        groups: int = 1,
    ) -> None:
        super().__init__()
        for name, number in (("channels", channels), ("out_channels", out_channels)):
            if number < 1:  # PyTorch would build the layer and only warn
                raise ValueError(f"{name} must be 1 or more, got {number}")
        self.kernel, self.stride, self.causal = triple("kernel", kernel), triple("stride", stride), causal
        if not all(size % 2 for size in self.kernel):
            raise ValueError(f"kernel must be odd along each axis, got {self.kernel}")
        padding = (0, self.kernel[1] // 2, self.kernel[2] // 2)
        self.conv = nn.Conv3d(channels, out_channels, self.kernel, self.stride, padding, groups=groups)

    def forward(
        self, x: Float[Tensor, "B C F H W"], memory: Memory | None = None
    ) -> Float[Tensor, "B O G I J"]:
        """Convolve a clip, or its next chunk if a `memory` is given: a dictionary, empty at the start.

        The chunks' results, one after the other, are the result of the whole clip. Raises `ValueError`
        for a clip that is not (B, C, F, H, W) with the layer's channels, for a memory without
        `causal` or with a kernel shorter than the stride along time, and for a chunk too short to give
        a frame.
        """
        if x.ndim != 5 or x.shape[1] != self.conv.in_channels or x.shape[2] == 0:
            raise ValueError(
                f"x must be (B, {self.conv.in_channels}, F, H, W) with a frame or more, got {tuple(x.shape)}"
            )
        if memory is not None and not self.causal:
            raise ValueError("memory must be None where the convolution is not causal")
        size, step = self.kernel[0], self.stride[0]
        if memory is not None and size < step:  # frames of the next chunk would have to be skipped
            raise ValueError(
                "memory must be None where the kernel is shorter than the stride along time, "
                f"got a kernel of {size} and a stride of {step}"
            )
        if size == step == 1:
            return self._convolve(x)  # each frame by itself: nothing to repeat or to remember
        if memory is not None and self in memory:
            x = torch.cat([memory[self], x], dim=2)
        else:
            before = size - 1 if self.causal else size // 2
            after = 0 if self.causal else size // 2
            x = torch.cat([x[:, :, :1]] * before + [x] + [x[:, :, -1:]] * after, dim=2)
        if memory is not None:
            if x.shape[2] < size:
                raise ValueError(
                    f"x must hold more frames in a chunk: {x.shape[2]} of the {size} needed are known"
                )
            made = (x.shape[2] - size) // step + 1
            # A copy: a view would keep the whole chunk alive.
            memory[self] = x[:, :, made * step :].clone()
        return self._convolve(x)

    def _convolve(self, x: Float[Tensor, "B C F H W"]) -> Float[Tensor, "B O G I J"]:
        conv = self.conv
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if not plain or len(x) > 1 or not torch.backends.mkldnn.is_available():
            return conv(x)
        # For one small clip PyTorch picks a kernel that takes four times as long as oneDNN's.
        given = conv.padding, conv.stride, conv.dilation, conv.groups
        return torch.mkldnn_convolution(x, conv.weight, conv.bias, *given)


class FrameNorm(nn.Module):
    """Group norm of each frame by itself (Wu & He 2018): what a frame becomes depends on no other."""

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, x: Float[Tensor, "B C F H W"]) -> Float[Tensor, "B C F H W"]:
        frames = self.norm(rearrange(x, "b c f h w -> (b f) c h w"))
        return rearrange(frames, "(b f) c h w -> b c f h w", b=len(x))


class PixelNorm(nn.Module):
    """RMS norm over the channels of each pixel of each frame (Zhang & Sennrich 2019), with a learned scale.

    Nothing depends on what is far away, so a clip may be cut into tiles and chunks and gives the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Float[Tensor, "B C F H W"]) -> Float[Tensor, "B C F H W"]:
        size = x.square().mean(1, keepdim=True).add(1e-6).rsqrt()
        return x * size * self.weight[:, None, None, None]


NORMS = {"group": lambda channels: nn.GroupNorm(8, channels), "frame": FrameNorm, "pixel": PixelNorm}


def norm_of(name: str, channels: int, causal: bool = False) -> nn.Module:
    """The norm of that name: of a whole clip ("group"), of each frame, or of each pixel.

    Raises `ValueError` for another name, and for "group" in a causal network: it sees later frames.
    """
    if name not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {name!r}")
    if causal and name == "group":
        raise ValueError("norm must be 'frame' or 'pixel' in a causal network: 'group' sees later frames")
    return NORMS[name](channels)


class Conv3DBlock(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm x))))): the residual block of video codecs and U-Nets.

    Norms never mix the clips of a batch, as batch norm would. The last convolution starts at zero, so
    that the block starts as the identity (or as its 1 x 1 x 1 shortcut where the channels change).
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: int | Triple = 3,
        causal: bool = False,
        norm: str = "frame",
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = (norm_of(norm, n, causal) for n in (channels, out_channels))
        self.conv1 = SpaceTimeConv(channels, out_channels, kernel, causal=causal)
        self.conv2 = SpaceTimeConv(out_channels, out_channels, kernel, causal=causal)
        nn.init.zeros_(self.conv2.conv.weight)
        nn.init.zeros_(self.conv2.conv.bias)
        self.skip = nn.Conv3d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(
        self, x: Float[Tensor, "B C F H W"], memory: Memory | None = None
    ) -> Float[Tensor, "B O F H W"]:
        h = self.conv1(F.silu(self.norm1(x)), memory)
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)), memory)


class SeparableSpatioTemporalConv(nn.Module):
    """(2+1)D: a convolution within frames, a nonlinearity, a convolution along time at every pixel.

    R(2+1)D (Tran et al. 2018). `middle` channels lie between the two, by default as many as come out;
    the paper takes more, so that the weights are as many as those of one dense kernel.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: int = 3,
        middle: int | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        middle = middle or out_channels
        self.space = SpaceTimeConv(channels, middle, (1, kernel, kernel))
        self.norm = FrameNorm(middle)
        self.time = SpaceTimeConv(middle, out_channels, (kernel, 1, 1), causal=causal)

    def forward(
        self, x: Float[Tensor, "B C F H W"], memory: Memory | None = None
    ) -> Float[Tensor, "B O F H W"]:
        return self.time(F.silu(self.norm(self.space(x))), memory)


class FrameGate(nn.Module):
    """Squeeze and excitation (Hu et al. 2018) of each frame: its mean decides a factor for each channel.

    The factors are twice a sigmoid, so that zeros in the last layer, its start, mean a factor of 1.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)
        nn.init.zeros_(self.excite.weight)
        nn.init.zeros_(self.excite.bias)

    def forward(self, x: Float[Tensor, "B C F H W"]) -> Float[Tensor, "B C F H W"]:
        mean = rearrange(x.mean((3, 4)), "b c f -> b f c")
        factor = 2 * torch.sigmoid(self.excite(F.silu(self.squeeze(mean))))
        return x * rearrange(factor, "b f c -> b c f 1 1")


class EfficientVideoBlock(nn.Module):
    """x + scale * f(norm x), f a depthwise (2+1)D convolution, a gate, and two 1 x 1 x 1 layers.

    ConvNeXt's block (Liu et al. 2022) for clips. `scale` starts small, one number a channel, so that
    a deep stack neither grows nor drifts at the start.
    """

    def __init__(
        self, channels: int, kernel: int = 3, expansion: int = 4, causal: bool = False, norm: str = "frame"
    ) -> None:
        super().__init__()
        self.norm = norm_of(norm, channels, causal)
        self.space = SpaceTimeConv(channels, channels, (1, kernel, kernel), groups=channels)
        self.time = SpaceTimeConv(channels, channels, (kernel, 1, 1), causal=causal, groups=channels)
        self.widen = nn.Conv3d(channels, expansion * channels, 1)
        self.gate = FrameGate(channels)
        self.narrow = nn.Conv3d(expansion * channels, channels, 1)
        self.scale = nn.Parameter(torch.full((channels, 1, 1, 1), 0.1))

    def forward(
        self, x: Float[Tensor, "B C F H W"], memory: Memory | None = None
    ) -> Float[Tensor, "B C F H W"]:
        h = self.gate(self.time(self.space(self.norm(x)), memory))
        return x + self.scale * self.narrow(F.gelu(self.widen(h), approximate="tanh"))


class SpatioTemporalUpsample(nn.Module):
    """Twice the rows and columns, and with `time` twice the frames: enlarge, then convolve.

    In space each pixel becomes a block of 2 x 2 before the convolution. In time the convolution makes
    two frames of channels for each frame, which are laid one after the other (depth to time, as
    Shi et al. 2016 did in space): a linear interpolation would leave two ghosts of what moves. With `causal`
    the first frame stays one, so 1 + n frames become 1 + 2 n.
    """

    def __init__(self, channels: int, out_channels: int, time: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.twice, self.causal = time, causal
        self.conv = SpaceTimeConv(channels, out_channels * (1 + time), 3, causal=causal)

    def forward(
        self, x: Float[Tensor, "B C F H W"], memory: Memory | None = None
    ) -> Float[Tensor, "B O G I J"]:
        first = memory is None or self.conv not in memory
        h = self.conv(enlarge(x), memory)
        if not self.twice:
            return h
        h = rearrange(h, "b (two c) f h w -> b c (f two) h w", two=2)
        return h[:, :, 1:] if self.causal and first else h
