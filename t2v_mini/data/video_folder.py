"""Folders of real videos as clips of one size: any format, size and rate; what cannot be read is reported."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from t2v_mini.data.video_files import READABLE, frames_uint8, from_uint8, read_video, timed_frames

CAPTIONS = "captions.jsonl"
PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class FolderClip:
    """A clip of bytes, the caption of its video, and where it is from: the file, and the second it begins."""

    video: UInt8[Tensor, "3 F H W"]
    caption: str
    path: Path
    second: float


@dataclass
class VideoFolder:
    """Clips of `frames` frames of `height` by `width`, one after the other, of every video in a folder.

    With a file `captions.jsonl` the videos are those of its lines, such as
    `{"file": "cat.mp4", "caption": "a cat jumps"}`; without one they are all in the folder, by name, with
    empty captions. Of the frames every `stride`-th is taken, or with `fps` the one that is shown at each
    time that is due, whatever the video's own rate. Frames are scaled, with antialiasing, until they
    cover the size, and cut in the middle. What is left at the end of a video is too short for a clip.

    Going through the folder never fails for the sake of one file: `skipped` then says for each that could
    not be read, wholly or from some clip on, why. Raises `ValueError` for a folder that does not exist.
    """

    folder: Path
    frames: int
    height: int
    width: int
    stride: int = 1
    fps: float | None = None
    skipped: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)
        if not self.folder.is_dir():
            raise ValueError(f"folder must be a folder of videos, got {self.folder}")
        for name in ("frames", "height", "width", "stride"):
            if type(value := getattr(self, name)) is not int or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise ValueError(f"fps must be a positive number or None, got {self.fps!r}")
        if self.fps is not None and self.stride != 1:
            raise ValueError(f"stride must be 1 where fps is given, got {self.stride}")

    def __iter__(self) -> Iterator[FolderClip]:
        self.skipped.clear()
        for path, caption in self._videos():
            made = 0
            try:
                for video, second in self._clips(path):
                    made += 1
                    yield FolderClip(video, caption, path, second)
            except ValueError as error:
                self.skipped[path.name] = f"after {made} clips: {error}" if made else str(error)
                continue
            if not made:
                self.skipped[path.name] = f"it is shorter than a clip of {self.frames} frames"

    def _videos(self) -> list[tuple[Path, str]]:
        """Each video and its caption; lines that say no such thing are skipped."""
        listing = self.folder / CAPTIONS
        if not listing.is_file():
            paths = sorted(p for p in self.folder.iterdir() if p.suffix.lower() in READABLE)
            return [(path, "") for path in paths]
        videos = []
        for number, line in enumerate(listing.read_bytes().splitlines(), 1):
            if not line.strip():
                continue
            try:
                said = json.loads(line)
                name, caption = said["file"], said["caption"]
                path = self.folder / name
                if not isinstance(caption, str) or not path.resolve().is_relative_to(self.folder.resolve()):
                    raise TypeError
            except (ValueError, KeyError, TypeError):
                self.skipped[f"{CAPTIONS}, line {number}"] = (
                    'it must be like {"file": "cat.mp4", "caption": "a cat jumps"}, with a file in the folder'
                )
                continue
            videos.append((path, caption))
        return videos

    def _clips(self, path: Path) -> Iterator[tuple[Tensor, float]]:
        """Full clips of a video, and the second at which each begins."""
        kept: list[Tensor] = []
        for frame, second in self._due(path):
            if not kept:
                begins = second
            kept.append(cover(frame, self.height, self.width))
            if len(kept) == self.frames:
                yield torch.stack(kept, dim=1), begins
                kept.clear()

    def _due(self, path: Path) -> Iterator[tuple[np.ndarray, float]]:
        """The frames that are taken, with the times for which they are."""
        if self.fps is None:
            for number, (frame, second) in enumerate(timed_frames(path)):
                if number % self.stride == 0:
                    yield frame, second
            return
        shown, taken, second = None, 0, 0.0
        for frame, second in timed_frames(path):
            # Half a millisecond: times of containers are rounded.
            while shown is not None and taken / self.fps < second - 5e-4:
                yield shown, taken / self.fps
                taken += 1
            shown = frame
        # How long the last frame stays is not told.
        if taken / self.fps < second + 5e-4:
            yield shown, taken / self.fps


def beginning(path: str | Path, frames: int, height: int, width: int) -> Float[Tensor, "3 K H W"]:
    """The first frames of a video, or a picture as one frame, in [-1, 1], made to fit as `cover` does.

    Raises `ValueError` for a file that is missing, damaged or of another kind, and for fewer frames.
    """
    path = Path(path)
    if type(frames) is not int or frames < 1:
        raise ValueError(f"frames must be a positive integer, got {frames!r}")
    if path.suffix.lower() in PICTURES and path.is_file():
        shown = [_picture(path)]
    elif path.suffix.lower() in (*PICTURES, *READABLE):
        shown = frames_uint8(read_video(path, max_frames=frames).video)
    else:
        raise ValueError(f"path must end in one of {', '.join((*PICTURES, *READABLE))}, got {path}")
    if len(shown) < frames:
        raise ValueError(f"path must hold {frames} frames, got {len(shown)} in {path}")
    return from_uint8(torch.stack([cover(frame, height, width) for frame in shown], dim=1))


def _picture(path: Path) -> np.ndarray:
    """A picture, turned as it is meant to be seen; what is transparent becomes black, as in `read_video`."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=["PNG", "JPEG"]) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGBA")
        black = Image.new("RGBA", upright.size, (0, 0, 0, 255))
        return np.array(Image.alpha_composite(black, upright).convert("RGB"))
    except Exception as error:  # decoders fail in many ways on damaged bytes; all mean the same to a reader
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error


def cover(frame: UInt8[np.ndarray, "h w 3"], height: int, width: int) -> UInt8[Tensor, "3 H W"]:
    """A frame, scaled with antialiasing until it covers the size, and cut in the middle."""
    picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float()
    ratio = max(height / picture.shape[2], width / picture.shape[3])
    size = [max(want, round(ratio * n)) for want, n in zip((height, width), picture.shape[2:], strict=True)]
    picture = F.interpolate(picture, size, mode="bilinear", antialias=True)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return picture[:, top : top + height, left : left + width].round().clamp(0, 255).to(torch.uint8)
