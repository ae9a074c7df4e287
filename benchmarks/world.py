"""Clips a second of the world's renderer, by level, and of its judge: `python -m benchmarks.world --json`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from benchmarks.measuring import handed_over
from experiments.results_file import conditions
from t2v_mini.world import LEVELS, judge_claims, render, sample_scenes


@dataclass
class Arguments:
    """Measure the world on this machine."""

    clips: int = 512
    """Clips a measurement."""
    repeats: int = 5
    """Measurements; the median is reported, beside the extremes."""
    json: bool = False
    """Print one JSON object instead of text."""
    out: Path | None = None
    """Also write the JSON object to this file."""


def rates(work: Callable[[], object], clips: int, repeats: int) -> dict:
    """Clips a second of `work`, which handles `clips` clips: median, least and most of some repeats."""
    work()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        found.append(clips / (time.perf_counter() - began))
    found.sort()
    return {"median": found[len(found) // 2], "least": found[0], "most": found[-1]}


def measure(arguments: Arguments) -> dict:
    """All rows: sampling, rendering and judging by level."""
    count = arguments.clips
    rows = []
    few = max(8, count // 8)
    for level in LEVELS:
        scenes = sample_scenes(level, count)
        claims = [scene.facts for scene in scenes]
        frames = 8 if level == 1 else 16
        video = render(scenes, frames, 32, 32)
        rows += [
            {"row": "sample", "level": level, "canvas": None}
            | rates(lambda level=level: sample_scenes(level, few), few, arguments.repeats),
            {"row": "render", "level": level, "canvas": "8x32x32"}
            | rates(lambda s=scenes: render(s, 8, 32, 32), count, arguments.repeats),
            {"row": "render uint8", "level": level, "canvas": "8x32x32"}
            | rates(lambda s=scenes: render(s, 8, 32, 32, torch.uint8), count, arguments.repeats),
            {"row": "judge", "level": level, "canvas": f"{frames}x32x32"}
            | rates(lambda v=video, c=claims: judge_claims(v[:few], c[:few]), few, arguments.repeats),
        ]
    return {"unit": "clips a second", "rows": rows, "conditions": conditions()}


def main(arguments: Arguments) -> None:
    """Print the rows."""
    result = measure(arguments)
    if handed_over(result, arguments.out, arguments.json):
        return
    for row in result["rows"]:
        print(
            f"level {row['level']}  {row['row']:14} {row['canvas'] or '':8} "
            f"{row['median']:8.0f} clips/s ({row['least']:.0f} to {row['most']:.0f})"
        )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
