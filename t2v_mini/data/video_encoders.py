"""Frames (F, H, W, 3) of bytes as the bytes of a GIF, WebP or MP4 file.

Pillow stores a frame that equals the one before it as a longer pause, so a clip that stands still
would come back with a single frame. GIF and WebP are therefore put together here from frames that
Pillow has compressed: a clip of F frames is a file of F frames.
"""

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np

BT709, LIMITED_RANGE = 1, 1  # as the H.264 standard numbers them


def encode_webp(
    frames: np.ndarray, fps: float | int = 8, factor: int = 1, quality: int | None = None
) -> bytes:
    """Frames (F, H, W, 3) as a looping WebP: lossless, or lossy with a quality from 0 to 100."""
    from PIL import Image

    count, height, width = (frames.shape[0], *(side * factor for side in frames.shape[1:3]))
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    chunks = [_chunk(b"VP8X", b"\x02\0\0\0" + size), _chunk(b"ANIM", b"\0" * 6)]
    ends = np.round(np.arange(count + 1) * 1000 / fps).astype(int)
    # Offsets of a WebP frame are even. A lossy frame shows its block edges, so it is stored whole.
    boxes = _changes(frames, 2) if quality is None else [(0, 0, *frames.shape[1:3])] * count
    for frame, (top, left, bottom, right), pause in zip(frames, boxes, np.diff(ends), strict=True):
        part = frame[top:bottom, left:right].repeat(factor, 0).repeat(factor, 1)
        file = io.BytesIO()
        options = {"lossless": True} if quality is None else {"quality": quality}
        Image.fromarray(part).save(file, "WEBP", method=6, **options)
        head = (left * factor // 2, top * factor // 2, part.shape[1] - 1, part.shape[0] - 1, int(pause))
        packed = b"".join(struct.pack("<I", value)[:3] for value in head) + b"\x02"
        chunks.append(_chunk(b"ANMF", packed + file.getvalue()[12:]))
    return _chunk(b"RIFF", b"WEBP" + b"".join(chunks))


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _changes(frames: np.ndarray, grid: int = 1) -> Iterator[tuple[int, int, int, int]]:
    """For each frame the box (top, left, bottom, right) that differs from the frame before it."""
    yield 0, 0, *frames.shape[1:3]
    for before, frame in pairwise(frames):
        differs = before != frame if frame.ndim == 2 else (before != frame).any(-1)
        rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
        if rows.size == 0:
            yield 0, 0, 1, 1
        else:
            top, left = rows[0] // grid * grid, columns[0] // grid * grid
            yield int(top), int(left), int(rows[-1]) + 1, int(columns[-1]) + 1


def _indexed(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Palette (at most 256, 3) and indices (F, H, W): exact where 256 colours are enough."""
    from PIL import Image

    colors, indices = np.unique(frames.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colors) <= 256:
        return colors, indices.reshape(frames.shape[:3]).astype(np.uint8)
    # One palette for the whole clip, and no dithering: it would flicker from frame to frame.
    tall = Image.fromarray(frames.reshape(-1, frames.shape[2], 3))
    indexed = tall.quantize(256, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE)
    palette = np.array(indexed.getpalette(), dtype=np.uint8).reshape(-1, 3)
    return palette, np.array(indexed).reshape(frames.shape[:3])


def encode_gif(frames: np.ndarray, fps: float | int, factor: int) -> bytes:
    from PIL import Image

    palette, indices = _indexed(frames)
    height, width = (side * factor for side in frames.shape[1:3])
    table = palette.tobytes().ljust(768, b"\0")
    parts = [b"GIF89a", struct.pack("<HHBBB", width, height, 0xF7, 0, 0), table]
    parts.append(b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")  # loop forever
    # A GIF counts in hundredths of a second: pauses of 12 and 13 take turns where 12.5 is meant.
    ends = np.round(np.arange(len(frames) + 1) * 100 / fps).astype(int)
    for frame, box, pause in zip(indices, _changes(indices), np.diff(ends), strict=True):
        top, left, bottom, right = box
        part = frame[top:bottom, left:right].repeat(factor, 0).repeat(factor, 1)
        place = struct.pack("<HHHHB", left * factor, top * factor, part.shape[1], part.shape[0], 0)
        pixels = Image.fromarray(part).tobytes("gif", "L", 8, 0)
        parts += [
            b"!\xf9\x04",
            struct.pack("<BHBB", 4, int(pause), 0, 0),
            b",",
            place,
            b"\x08",
            pixels,
            b"\0",
        ]
    return b"".join([*parts, b";"])


def encode_mp4(frames: np.ndarray, fps: float | int, factor: int) -> bytes:
    import av

    large = frames.repeat(factor, 1).repeat(factor, 2)
    height, width = large.shape[1:3]
    large = np.pad(large, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width, stream.pix_fmt = *large.shape[1:3], "yuv420p"
        stream.options = {"crf": "12", "preset": "medium"}
        codec = stream.codec_context
        # Without these tags each player guesses its own colours.
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = LIMITED_RANGE
        for pixels in large:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=BT709)))
        container.mux(stream.encode())
    return file.getvalue()
