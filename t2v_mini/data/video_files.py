"""Clips as files: GIF and WebP through Pillow, MP4 and its relatives through PyAV.

In memory a clip is float in [-1, 1]; a file holds bytes in [0, 255]. The conversion happens here alone.
"""

import io
import struct
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from t2v_mini.data.checks import check_video, kind
from t2v_mini.data.video_encoders import encode_gif, encode_mp4, encode_webp
from t2v_mini.files import atomic_path

WRITABLE = (".gif", ".mp4", ".webp")
# Naming the container keeps a playlist with a video's name from opening other files.
CONTAINERS = {".avi": "avi", ".m4v": "mp4", ".mkv": "matroska", ".mov": "mov", ".mp4": "mp4"}
CONTAINERS[".webm"] = "matroska"
READABLE = (".gif", ".webp", *CONTAINERS)
MAX_PIXELS = 100_000_000  # frames x height x width of a clip in memory: 1.2 GB as float32
Decoded = tuple[np.ndarray, float]  # frames (F, H, W, 3) of bytes, frames per second


@dataclass(frozen=True)
class VideoClip:
    """A clip in [-1, 1] and its frames per second."""

    video: Float[Tensor, "3 F H W"]
    fps: float


def to_uint8(video: Float[Tensor, "..."]) -> UInt8[Tensor, "..."]:
    """From float in [-1, 1] to bytes in [0, 255]; values a little beyond the range are clipped.

    Raises `ValueError` for NaN, infinity, values beyond 1.5, and anything that is not a float tensor.
    """
    check_video("video", video)
    return ((video.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def from_uint8(video: UInt8[Tensor, "..."]) -> Float[Tensor, "..."]:
    """From bytes in [0, 255] to float32 in [-1, 1]. Raises `ValueError` for any other type."""
    if not isinstance(video, Tensor) or video.dtype != torch.uint8:
        raise ValueError(f"video must be a uint8 tensor in [0, 255], got {kind(video)}")
    return video.float() / 127.5 - 1


def enlargement(height: int, width: int, at_least: int) -> int:
    """The smallest whole factor that brings the shorter side to `at_least` pixels."""
    if not isinstance(at_least, int) or at_least < 1:
        raise ValueError(f"at_least must be a positive number of pixels, got {at_least!r}")
    return max(1, -(-at_least // min(height, width)))


def enlarge(video: Float[Tensor, "... H W"], at_least: int = 192) -> Float[Tensor, "... h w"]:
    """Repeat pixels by a whole factor until the shorter side has `at_least` of them."""
    factor = enlargement(*video.shape[-2:], at_least)
    return video.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def write_video(
    path: str | Path,
    video: Float[Tensor, "C F H W"],
    fps: float | int = 8,
    enlarge_to: int | None = 192,
) -> None:
    """Write a clip in [-1, 1] with one or three channels as .gif, .webp or .mp4; it loops forever.

    `enlarge_to` repeats pixels until the shorter side has that many; None leaves the size. WebP is
    exact. GIF is exact up to 256 colours, beyond that it takes the nearest of 256. MP4 is H.264 and
    close; an odd side grows by one repeated pixel. The file appears whole or not at all.
    Raises `ValueError` for a clip, rate, suffix or place that will not do.
    """
    path = Path(path)
    encode = {".gif": encode_gif, ".webp": encode_webp, ".mp4": encode_mp4}.get(path.suffix.lower())
    if encode is None:
        raise ValueError(f"path must end in one of {', '.join(WRITABLE)}, got {path}")
    frames = frames_uint8(video)
    factor = 1 if enlarge_to is None else enlargement(*frames.shape[1:3], enlarge_to)
    if max(frames.shape[1:3]) * factor > 16_383:
        raise ValueError(f"video must stay below 16,384 pixels a side, got {frames.shape[1:3]} x {factor}")
    if not isinstance(fps, float | int) or not 0.1 <= fps <= 100:
        raise ValueError(f"fps must lie between 0.1 and 100 frames a second, got {fps!r}")
    with atomic_path(path) as temporary:
        temporary.write_bytes(encode(frames, fps, factor))


def frames_uint8(video: Float[Tensor, "C F H W"]) -> np.ndarray:
    """A clip in [-1, 1] as an array (F, H, W, 3) of bytes. Raises `ValueError` for other shapes."""
    shape = tuple(getattr(video, "shape", ()))
    if len(shape) != 4 or shape[0] not in (1, 3) or 0 in shape:
        raise ValueError(f"video must have the shape (C, F, H, W) with C = 3 or 1, got {shape}")
    return to_uint8(video).expand(3, -1, -1, -1).permute(1, 2, 3, 0).cpu().contiguous().numpy()


def read_video(path: str | Path, max_frames: int | None = None) -> VideoClip:
    """Read a GIF, WebP, MP4, MOV, AVI, MKV or WebM; `max_frames` stops after the first of them.

    Frames of a GIF or WebP that stay longer than others are repeated, so that time runs evenly;
    what is transparent becomes black. Raises `ValueError` for a file that is missing, empty,
    truncated, damaged, not a video of its suffix, or larger than memory allows.
    """
    if max_frames is not None and (not isinstance(max_frames, int) or max_frames < 1):
        raise ValueError(f"max_frames must be a positive integer or None, got {max_frames!r}")
    with _opened(Path(path)) as (file, suffix):
        decode = _decode_video if suffix in CONTAINERS else _decode_animation
        frames, fps = decode(file, suffix, max_frames)
    return VideoClip(from_uint8(torch.from_numpy(frames).permute(3, 0, 1, 2).contiguous()), fps)


def timed_frames(path: str | Path) -> Iterator[tuple[UInt8[np.ndarray, "H W 3"], float]]:
    """The frames of a video one by one, each with the second from which on it is shown.

    A container is never in memory as a whole, so it may be of any length. Raises `ValueError` as
    `read_video` does, for damage when it is reached.
    """
    with _opened(Path(path)) as (file, suffix):
        if suffix in CONTAINERS:
            yield from _stream_video(file, suffix)
        else:
            frames, fps = _decode_animation(file, suffix, None)
            for number, frame in enumerate(frames):
                yield frame, number / fps


@contextmanager
def _opened(path: Path) -> Iterator[tuple[io.BufferedReader, str]]:
    """The file and its suffix; whatever goes wrong with them becomes a `ValueError` that names the file."""
    suffix = path.suffix.lower()
    if path.is_dir():
        raise ValueError(f"path must be a video file, got the folder {path}")
    if not path.is_file():
        raise ValueError(f"path must be a video file, but there is none at {path}")
    if suffix not in READABLE:
        raise ValueError(f"path must end in one of {', '.join(READABLE)}, got {path}")
    try:
        with path.open("rb") as file:
            _check_whole(file, suffix)
            yield file, suffix
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    except Exception as error:  # decoders fail in many ways on damaged bytes; all mean the same to a reader
        raise ValueError(
            f"{path} cannot be read as {suffix[1:]}, it is damaged or something else: {error}"
        ) from error


def _check_whole(file: io.BufferedReader, suffix: str) -> None:
    """Refuse an empty file and one that ends before its own table of contents says."""
    length = file.seek(0, io.SEEK_END)
    if length == 0:
        raise ValueError("the file is empty")
    file.seek(0)
    if suffix == ".gif":
        file.seek(max(0, length - 1024))
        whole = file.read().rstrip(b"\0\r\n").endswith(b";")
    elif suffix in (".webp", ".avi"):
        head = file.read(8)
        whole = len(head) == 8 and 8 + struct.unpack("<I", head[4:])[0] <= length
    else:
        whole = suffix not in (".mp4", ".m4v", ".mov") or _boxes_end(file, length) == length
    file.seek(0)
    if not whole:
        raise ValueError(f"it is truncated or no {suffix[1:]} file")


def _boxes_end(file: io.BufferedReader, length: int) -> int:
    """Where the last top-level box of an MP4 file says that it ends."""
    place = 0
    while place + 8 <= length:
        file.seek(place)
        size = struct.unpack(">I", file.read(8)[:4])[0]
        if size == 1:
            size = int.from_bytes(file.read(8), "big")
        if 0 < size < 8:
            return -1
        place = place + size if size else length  # 0: the box lasts to the end of the file
    return place


def _collect(frames: Iterable[tuple[np.ndarray, int]], max_frames: int | None) -> np.ndarray:
    """Stack frames, each with its number of repeats, up to a count and never beyond memory."""
    kept: list[np.ndarray] = []
    for frame, repeats in frames:
        kept += [frame] * (repeats if max_frames is None else min(repeats, max_frames - len(kept)))
        _check_size(len(kept), *frame.shape[:2])
        if frame.shape != kept[0].shape:
            raise ValueError(f"its frames differ in size: {kept[0].shape[:2]} and {frame.shape[:2]}")
        if len(kept) == max_frames:
            break
    if not kept:
        raise ValueError("it holds no frames")
    return np.stack(kept)


def _check_size(frames: int, height: int, width: int) -> None:
    if frames * height * width > MAX_PIXELS:
        raise ValueError(
            f"{frames} frames of {height} x {width} are more than {MAX_PIXELS:,} pixels; give max_frames"
        )


def _decode_animation(file: io.BufferedReader, suffix: str, max_frames: int | None) -> Decoded:
    from PIL import Image, ImageSequence

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # _check_size is stricter
        with Image.open(file, formats=[suffix[1:].upper()]) as image:
            _check_size(1, image.height, image.width)
            pauses, pictures = [], []
            for number, frame in enumerate(ImageSequence.Iterator(image)):
                if number == max_frames:
                    break
                _check_size(number + 1, image.height, image.width)
                # The canvas is black: the picture counts as far as it is opaque.
                picture = frame.convert("RGBA")
                canvas = Image.new("RGBA", picture.size, (0, 0, 0, 255))
                pictures.append(np.array(Image.alpha_composite(canvas, picture).convert("RGB")))
                pause = frame.info.get("duration", 0)
                pauses.append(pause if pause > 10 else 100)  # browsers, too, slow these down
    shortest = min(pauses, default=100)
    repeats = [round(pause / shortest) for pause in pauses]
    frames = _collect(zip(pictures, repeats, strict=True), max_frames)
    return frames, 1000 * sum(repeats) / sum(pauses)


@contextmanager
def _container(file: io.BufferedReader, suffix: str):
    """An opened container, its video stream and the stream's frames per second."""
    import av

    with av.open(file, format=CONTAINERS[suffix]) as container:
        if not container.streams.video:
            raise ValueError("it has no video stream")
        stream = container.streams.video[0]
        _check_size(1, stream.codec_context.height, stream.codec_context.width)
        yield container, stream, float(stream.average_rate or stream.guessed_rate or 25)


def _decode_video(file: io.BufferedReader, suffix: str, max_frames: int | None) -> Decoded:
    with _container(file, suffix) as (container, stream, rate):
        return _collect(((_pixels(frame), 1) for frame in container.decode(stream)), max_frames), rate


def _stream_video(file: io.BufferedReader, suffix: str) -> Iterator[tuple[np.ndarray, float]]:
    with _container(file, suffix) as (container, stream, rate):
        first, number = None, -1
        for number, frame in enumerate(container.decode(stream)):
            # Not every container tells times, and the first need not be 0.
            first = frame.time if first is None else first
            yield _pixels(frame), number / rate if frame.time is None else frame.time - first
        if number < 0:
            raise ValueError("it holds no frames")


def _pixels(frame) -> np.ndarray:
    if frame.is_corrupt:
        raise ValueError("a frame is damaged")
    return frame.to_ndarray(format="rgb24")
