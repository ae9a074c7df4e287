"""Draw scenes as video tensors.

A shape's coverage of a pixel is its signed distance to the pixel's centre, cut to one pixel's
width: the edges are antialiased, and positions between pixels show.
"""

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from t2v_mini.world.palette import BACKGROUND, COLOR_NAMES, COLORS
from t2v_mini.world.scene import MIN_FRAMES, MIN_SIDE, Scene, color_track, follow, frame_times, presence
from t2v_mini.world.vocabulary import SHAPES

_SLOPE = 2 / 5**0.5  # cosine of the angle between a triangle's side and the vertical
_CHUNK_PIXELS = 1 << 19  # pixels drawn at once: keeps the working set in the processor's cache


def palette_tensor(device: torch.device | None = None) -> Float[Tensor, "9 3"]:
    """The eight colours, then the background, in [-1, 1]."""
    rows = [COLORS[name] for name in COLOR_NAMES] + [BACKGROUND]
    return torch.tensor(rows, dtype=torch.float32, device=device) / 127.5 - 1


def coverage(
    shape: str,
    x: Float[Tensor, "*n"],
    y: Float[Tensor, "*n"],
    r: Float[Tensor, "*n"],
    height: int,
    width: int,
) -> Float[Tensor, "*n H W"]:
    """Share of each pixel that a shape covers, in [0, 1]; x, y and r in pixels.

    A circle has radius r, a square side 2r, a triangle base and height 2r with its apex on top;
    (x, y) is the centre of the box around it. Pixel (i, j) has its centre at (j + 0.5, i + 0.5).
    """
    columns = torch.arange(width, device=x.device, dtype=x.dtype) + 0.5
    rows = torch.arange(height, device=x.device, dtype=x.dtype) + 0.5
    dx = (columns - x[..., None])[..., None, :]  # *n 1 W
    dy = (rows - y[..., None])[..., :, None]  # *n H 1
    r = r[..., None, None]
    if shape == "circle":
        return (dx.square() + dy.square()).sqrt_().neg_().add_(r + 0.5).clamp_(0, 1)
    if shape == "square":
        return (r - dx.abs() + 0.5).clamp_(0, 1) * (r - dy.abs() + 0.5).clamp_(0, 1)
    if shape == "triangle":
        # Inside, |dx| <= (dy + r) / 2 on the sides and dy <= r at the bottom.
        sides = ((dy + r) * (_SLOPE / 2) + 0.5) - dx.abs() * _SLOPE
        return sides.clamp_(0, 1).mul_((r - dy + 0.5).clamp_(0, 1))
    raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")


def check_canvas(frames: int, height: int, width: int) -> None:
    """Raise `ValueError` for a canvas below 8 x 16 x 16 (frames x height x width)."""
    for name, value, least in (
        ("frames", frames, MIN_FRAMES),
        ("height", height, MIN_SIDE),
        ("width", width, MIN_SIDE),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


def render(
    scenes: list[Scene],
    frames: int = 16,
    height: int = 32,
    width: int = 32,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Shaped[Tensor, "B 3 F H W"]:
    """Draw scenes: float32 in [-1, 1], or uint8 in [0, 255].

    Raises `ValueError` for an empty list, a canvas below 8 x 16 x 16, another dtype, or a scene
    that was drawn for a canvas of another aspect ratio.
    """
    check_canvas(frames, height, width)
    if not scenes:
        raise ValueError("scenes must hold at least one scene, got an empty list")
    if dtype not in (torch.float32, torch.uint8):
        raise ValueError(f"dtype must be torch.float32 or torch.uint8, got {dtype}")
    side = min(height, width)
    for scene in scenes:
        asked = (height / side, width / side)
        if max(abs(a - b) for a, b in zip(scene.canvas, asked, strict=True)) > 1e-3:
            raise ValueError(
                f"height, width must fit the scene's canvas {scene.canvas}, got {height}, {width}"
            )
    out = torch.empty(len(scenes), 3, frames, height, width, dtype=dtype, device=device)
    step = max(1, _CHUNK_PIXELS // (frames * height * width))
    for start in range(0, len(scenes), step):
        chunk = _draw(*_layers(scenes[start : start + step], frames, side), frames, height, width, device)
        if dtype == torch.uint8:
            chunk = chunk.add_(1).mul_(127.5).round_()
        out[start : start + step] = chunk
    return out


def _layers(
    scenes: list[Scene], frames: int, side: int
) -> tuple[Float[np.ndarray, "L B 3 F"], Int[np.ndarray, "L B F"], Int[np.ndarray, "L B"]]:
    """Places in pixels, colour indices (-1: absent) and shape indices (-1: none), far layers first."""
    times = frame_times(frames)
    depth = max(len(scene.things) for scene in scenes)
    places = np.zeros((depth, len(scenes), 3, frames), dtype=np.float32)
    colors = np.full((depth, len(scenes), frames), -1)
    shapes = np.full((depth, len(scenes)), -1)
    for b, scene in enumerate(scenes):
        for layer, thing in enumerate(sorted(scene.things, key=lambda thing: -thing.depth)):
            places[layer, b] = follow(thing, times)
            shapes[layer, b] = SHAPES.index(thing.shape)
            colors[layer, b] = np.where(presence(thing, times), color_track(thing, times), -1)
    return places * side, colors, shapes


def _draw(places, colors, shapes, frames, height, width, device) -> Float[Tensor, "B 3 F H W"]:
    palette = palette_tensor(device)
    count = places.shape[1]
    video = palette[-1].view(1, 3, 1, 1, 1).repeat(count, 1, frames, height, width)
    places, colors = torch.as_tensor(places, device=device), torch.as_tensor(colors, device=device)
    for layer in range(len(places)):
        for index, shape in enumerate(SHAPES):
            members = np.nonzero(shapes[layer] == index)[0]
            if len(members) == 0:
                continue
            members = torch.as_tensor(members, device=device)
            x, y, r = places[layer, members].unbind(1)  # each M F
            color = colors[layer, members]
            alpha = coverage(shape, x, y, r, height, width).mul_((color >= 0)[..., None, None])
            paint = palette[color].permute(0, 2, 1)[..., None, None]  # M 3 F 1 1
            if len(members) == count:
                video.lerp_(paint, alpha[:, None])
            else:
                video[members] = torch.lerp(video[members], paint, alpha[:, None])
    return video
