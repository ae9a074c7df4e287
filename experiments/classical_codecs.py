"""JPEG, frame by frame, and H.264 at the bits per pixel of something else."""

import io
import re
from collections.abc import Callable

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

# x264 tells its version and its options in text, as a unit of type 6, which no picture needs.
TEXT = re.compile(rb"\x00\x00\x00?\x01\x06.*?(?=\x00\x00\x00?\x01)", re.DOTALL)
Coded = tuple[np.ndarray, float]  # the frames that come back, and bits per pixel


def jpeg(frames: UInt8[np.ndarray, "F H W 3"], quality: int) -> Coded:
    """Each frame as a JPEG file of its own, with a quality from 1 to 95."""
    found, size = [], 0
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=quality, optimize=True)
        size += file.tell()
        found.append(np.asarray(Image.open(file)))
    return np.stack(found), _rate(size, frames)


def h264(frames: UInt8[np.ndarray, "F H W 3"], crf: int) -> Coded:
    """x264 with a constant rate factor from 0 (lossless) to 51; the packets count, and not the container."""
    file, size = io.BytesIO(), 0
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = {"crf": str(crf), "preset": "slow"}
        pictures = [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in frames]
        for packet in (p for picture in (*pictures, None) for p in stream.encode(picture)):
            size += len(TEXT.sub(b"", bytes(packet)))
            container.mux(packet)
    file.seek(0)
    with av.open(file) as container:
        found = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    return found, _rate(size, frames)


def _rate(size: int, frames: np.ndarray) -> float:
    return 8 * size / (frames.size // 3)


def at_rate(
    coder: Callable[[np.ndarray, int], Coded], settings: range, frames: np.ndarray, bits: float
) -> dict:
    """What comes back at the best setting whose bits per pixel are not above `bits`, with its `rate`.

    `settings` go from the worst picture to the best. Where the worst needs more bits, it is taken.
    """
    low, high = 0, len(settings)  # the first is taken, whatever it needs; the last is too much
    best = coder(frames, settings[0])
    while high - low > 1:
        middle = (low + high) // 2
        found = coder(frames, settings[middle])
        if found[1] <= bits:
            low, best = middle, found
        else:
            high = middle
    return {"frames": best[0], "rate": best[1], "setting": settings[low]}


CODERS = {"JPEG": (jpeg, range(1, 96)), "H.264": (h264, range(51, -1, -1))}
