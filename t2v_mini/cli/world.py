"""Commands about the world: draw a caption, judge a clip."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

CLIP_SUFFIXES = (".gif", ".mp4", ".webp")


@dataclass
class World:
    """Draw what a caption says."""

    caption: Positional[str]
    """One caption, e.g. "a red circle moves left above a blue square"."""
    out: Path
    """File to write (.gif, .mp4 or .webp)."""
    frames: int = 16
    """Number of frames."""
    size: int = 32
    """Height and width in pixels; small clips are enlarged in the file."""
    seed: int = 0
    """Seed of what the caption leaves open."""

    def run(self) -> None:
        from t2v_mini.world import parse, render, scene_for

        check_target(self.out)
        scene = scene_for(parse(self.caption), self.seed)
        from t2v_mini.data.video_files import write_video

        write_video(self.out, render([scene], self.frames, self.size, self.size)[0])
        print(f"written to {self.out}")


@dataclass
class Judge:
    """Judge a GIF or MP4 against a caption, fact by fact; exit code 1 when a fact does not hold."""

    clip: Positional[Path]
    """The clip to read."""
    caption: Positional[str]
    """What it should show."""
    json: bool = False
    """Print one JSON object instead of text."""

    def run(self) -> None:
        from t2v_mini.data.video_files import read_video
        from t2v_mini.world import judge, parse

        if Path(self.caption).suffix.lower() in CLIP_SUFFIXES:
            raise ValueError(f"caption must say what the clip shows, got the file name {self.caption!r}")
        parse(self.caption)  # a bad caption is told before a file is read
        (verdict,) = judge(read_video(self.clip).video[None], [self.caption])
        print(json.dumps(verdict_record(verdict)) if self.json else verdict)
        if not verdict.correct:
            raise SystemExit(1)


def verdict_record(verdict) -> dict:
    """A verdict as JSON has it."""
    facts = [
        {"kind": f.kind, "about": f.about, "claimed": f.claimed, "seen": f.seen, "holds": f.holds}
        for f in verdict.facts
    ]
    return {"caption": verdict.caption, "correct": verdict.correct, "facts": facts}


def check_target(path: Path) -> None:
    """Refuse a file that cannot be written before any work is done."""
    if path.suffix.lower() not in CLIP_SUFFIXES:
        raise ValueError(f"out must end in one of {', '.join(CLIP_SUFFIXES)}, got {path}")
    if not path.parent.exists():
        raise ValueError(f"out must be in a folder that exists, but there is no folder {path.parent}")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK) or path.is_dir():
        raise ValueError(f"out must be a file in a folder that can be written to, got {path}")
