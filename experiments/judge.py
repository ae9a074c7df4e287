"""Calibrate the judge: `python -m experiments.judge`.

For every level and canvas: the accuracy of every kind of fact and of whole captions on rendered
clips, with nothing rejected. Then, on the base canvases, on shuffled captions (beside the truth
that the scenes' geometry gives), under noise and blur, and after GIF and MP4 files.
"""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor
from tqdm import tqdm

from experiments.results_file import write_results
from t2v_mini.data.video_files import read_video, write_video
from t2v_mini.metrics.caption_accuracy import wilson_interval
from t2v_mini.world import Facts, compare, read_facts, render, sample_scene, scene_facts

CHUNK = 100
BASE = {1: (8, 32, 32), 2: (16, 32, 32), 3: (16, 32, 32)}
# The configurations' other canvases, and how many clips are worth their size.
LADDER = {
    (16, 32, 32): 0.1,
    (16, 64, 64): 0.1,
    (32, 128, 128): 0.01,
    (64, 256, 256): 0.0016,
    (8, 16, 16): 0.1,
}


def _noise(deviation: float) -> Callable[[Tensor], Tensor]:
    def add(video: Tensor) -> Tensor:
        rng = torch.Generator().manual_seed(0)
        return (video + deviation * torch.randn(video.shape, generator=rng)).clamp(-1, 1)

    return add


def _blur(sigma: float) -> Callable[[Tensor], Tensor]:
    def apply(video: Tensor) -> Tensor:
        reach = int(3 * sigma + 0.5)
        ticks = torch.arange(-reach, reach + 1, dtype=torch.float32)
        kernel = torch.exp(-(ticks**2) / (2 * sigma**2))
        kernel /= kernel.sum()
        flat = F.pad(video.flatten(0, 2)[:, None], (reach, reach, reach, reach), mode="replicate")
        flat = F.conv2d(F.conv2d(flat, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
        return flat.view_as(video)

    return apply


def _file(suffix: str, enlarge_to: int | None) -> Callable[[Tensor], Tensor]:
    def through(video: Tensor) -> Tensor:
        with tempfile.TemporaryDirectory() as folder:
            path, clips = Path(folder) / f"clip{suffix}", []
            for clip in video:
                write_video(path, clip, enlarge_to=enlarge_to)
                clips.append(read_video(path).video)
        return torch.stack(clips)

    return through


CONDITIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "noise 0.05": _noise(0.05),
    "noise 0.1": _noise(0.1),
    "noise 0.2": _noise(0.2),
    "noise 0.4": _noise(0.4),
    "blur 0.5 px": _blur(0.5),
    "blur 1 px": _blur(1.0),
    "blur 2 px": _blur(2.0),
    "GIF": _file(".gif", 192),
    "MP4": _file(".mp4", 192),
    "MP4 at native size": _file(".mp4", None),
}


@dataclass(frozen=True)
class Job:
    """A chunk of clips of one level and canvas under one condition."""

    level: int
    canvas: tuple[int, int, int]
    condition: str
    first: int
    count: int


def run(job: Job) -> dict:
    """Judge a chunk: counts of facts by kind, of whole captions, and every failure."""
    torch.set_num_threads(1)
    scenes = [sample_scene(job.level, seed) for seed in range(job.first, job.first + job.count)]
    claims = [scene.facts for scene in scenes]
    held: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    truth: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    right, failures = 0, []
    small = max(1, CHUNK * 16 * 32 * 32 // (job.canvas[0] * job.canvas[1] * job.canvas[2]))
    found: list[Facts] = []
    for start in range(0, job.count, small):
        video = render(scenes[start : start + small], *job.canvas)
        if job.condition in CONDITIONS:
            video = CONDITIONS[job.condition](video)
        found += read_facts(video)
    if job.condition == "shuffled captions":
        claims = claims[1:] + claims[:1]
    for i, (claim, seen) in enumerate(zip(claims, found, strict=True)):
        facts = compare(claim, seen)
        right += all(fact.holds for fact in facts)
        for fact in facts:
            held[fact.kind][0] += fact.holds
            held[fact.kind][1] += 1
            if not fact.holds and job.condition == "rendered":
                failures.append([job.first + i, fact.kind, fact.claimed, fact.seen])
        if job.condition == "shuffled captions":
            exact = compare(claim, scene_facts(scenes[i]))
            for fact in exact:
                truth[fact.kind][0] += fact.holds
                truth[fact.kind][1] += 1
    return {"job": job, "held": dict(held), "truth": dict(truth), "right": right, "failures": failures}


@dataclass
class Arguments:
    """Calibrate the judge."""

    clips: int = 20000
    """Rendered clips for each level on its base canvas."""
    conditioned: int = 1000
    """Clips for each level and condition."""
    workers: int = 2
    """Processes."""


def jobs(arguments: Arguments) -> list[Job]:
    """All chunks, base canvases first."""
    plan = [(level, BASE[level], "rendered", arguments.clips) for level in BASE]
    plan += [
        (level, canvas, "rendered", max(16, int(arguments.clips * share)))
        for canvas, share in LADDER.items()
        for level in BASE
        if canvas != BASE[level]
    ]
    conditions = ["shuffled captions", *CONDITIONS]
    plan += [(level, BASE[level], name, arguments.conditioned) for name in conditions for level in BASE]
    return [
        Job(level, canvas, condition, first, min(CHUNK, count - first))
        for level, canvas, condition, count in plan
        for first in range(0, count, CHUNK)
    ]


def summarise(results: list[dict]) -> list[dict]:
    """One row a level, canvas and condition."""
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for result in results:
        job = result["job"]
        groups[job.level, job.canvas, job.condition].append(result)
    rows = []
    for (level, canvas, condition), parts in groups.items():
        clips = sum(part["job"].count for part in parts)
        right = sum(part["right"] for part in parts)
        row = {
            "level": level,
            "canvas": "x".join(map(str, canvas)),
            "condition": condition,
            "clips": clips,
            "captions": right / clips,
            "interval": list(wilson_interval(right, clips)),
            "facts": _shares(parts, "held"),
            "failures": [failure for part in parts for failure in part["failures"]],
        }
        row["all facts"] = row["facts"].pop("all")
        if condition == "shuffled captions":
            row["truth"] = _shares(parts, "truth")
        rows.append(row)
    return rows


def _shares(parts: list[dict], key: str) -> dict[str, float]:
    good, total = Counter(), Counter()
    for part in parts:
        for kind, (held, count) in part[key].items():
            for name in (kind, "all"):
                good[name] += held
                total[name] += count
    return {kind: good[kind] / total[kind] for kind in total}


def main(arguments: Arguments) -> None:
    """Run all jobs and write t2v_mini/results/judge.json."""
    todo = jobs(arguments)
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        clips = sum(job.count for job in todo)
        results = []
        with tqdm(total=clips, unit="clip", mininterval=5) as bar:
            for result in pool.map(run, todo):
                results.append(result)
                bar.update(result["job"].count)
    rows = summarise(results)
    path = write_results("judge", {"rows": rows})
    for row in rows:
        print(f"level {row['level']} {row['canvas']:9} {row['condition']:18} captions {row['captions']:.4%}")
    print(f"written to {path}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
