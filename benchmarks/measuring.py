"""Fair timing of several pieces of work in one run."""

import json
import statistics
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from experiments.results_file import write_json


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


def handed_over(result: dict, out: Path | None, as_json: bool) -> bool:
    """Write a result to the file `out`, if any, and print it `as_json` if asked; whether it was printed."""
    if out is not None:
        write_json(out, result)
    if as_json:
        print(json.dumps(result))
    return as_json


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all tensors that live at once while it is active; `peak` is the most there were.

    What a kernel holds inside itself, and tensors that were there before, do not count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        # A view or an in-place result shares the storage of an argument.
        old = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage(), old)
        return out

    def _count(self, storage: torch.UntypedStorage, old: set[int]) -> None:
        key = storage._cdata
        if key in old or key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
