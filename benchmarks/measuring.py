"""Fair timing of several pieces of work in one run."""

import statistics
import time
from collections.abc import Callable

import torch


def interleaved(works: dict[str, Callable[[], object]], repeats: int, warm_up: int = 1) -> dict[str, dict]:
    """Seconds of each work, called in turn (A B C A B C ...), so that all of them share a slow moment.

    `seconds` is the median time by the wall clock, with the least and the most; `cpu_seconds` is the median
    time that this process spent on its cores, which another program on the same core does not lengthen.
    """
    for work in works.values():
        for _ in range(warm_up):
            work()
    walls: dict[str, list[float]] = {name: [] for name in works}
    cores: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            wall, core = time.perf_counter(), time.process_time()
            work()
            cores[name].append(time.process_time() - core)
            walls[name].append(time.perf_counter() - wall)
    return {
        name: {
            "seconds": statistics.median(walls[name]),
            "least": min(walls[name]),
            "most": max(walls[name]),
            "cpu_seconds": statistics.median(cores[name]),
        }
        for name in works
    }


def fair_clock() -> str:
    """The time that ratios are made of: on one thread, the one that a busy core does not lengthen."""
    return "cpu_seconds" if torch.get_num_threads() == 1 else "seconds"
