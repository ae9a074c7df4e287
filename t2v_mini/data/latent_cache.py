"""Latents of clips on disk: written once, a block at a time, and read through a memory map."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from t2v_mini.files import atomic_path, sha256_of

BLOCK = 256  # clips that are written, and lost at most when the writing is stopped

# Latents of the clips from ... to below ..., and for each clip the captions that it may be shown with.
MakeBlock = Callable[[int, int], tuple[Float[Tensor, "K Z G I J"], list[list[str]]]]


class LatentCache:
    """A finished cache: latents in half precision, and captions.

    Raises `ValueError` for a folder without one, for one that was not written to its end, and for one
    whose content does not fit its hash.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        state = _state(self.folder)
        if state is None:
            raise ValueError(f"folder must hold latents, but there is no state.json in {folder}")
        if state["done"] != state["count"]:
            raise ValueError(
                f"folder must hold finished latents, got {state['done']} of {state['count']} in {folder}: "
                f"call write_latents again to go on"
            )
        if _digest(self.folder) != state["sha256"]:
            raise ValueError(
                f"folder must hold undamaged latents, but those of {folder} do not fit their hash"
            )
        self.fingerprint: dict = state["fingerprint"]
        self.latents = np.load(_latents(self.folder), mmap_mode="r")
        self.captions: list[list[str]] = [
            json.loads(line) for line in _captions(self.folder).read_text().splitlines()
        ]

    def __len__(self) -> int:
        return len(self.captions)

    def batch(
        self, index: Int[Tensor, "B"], rng: torch.Generator
    ) -> tuple[Float[Tensor, "B Z G I J"], list[str]]:
        """The latents with these numbers, and for each one of its captions, drawn at random."""
        rows = index.tolist()
        z = torch.from_numpy(self.latents[rows].astype(np.float32))
        draws = torch.rand(len(rows), generator=rng).tolist()
        return z, [
            self.captions[row][int(draw * len(self.captions[row]))]
            for row, draw in zip(rows, draws, strict=True)
        ]


def write_latents(
    folder: str | Path,
    count: int,
    make: MakeBlock,
    fingerprint: dict,
    block: int = BLOCK,
    progress: bool = True,
) -> LatentCache:
    """Write the latents of `count` clips, or go on where it was stopped; returns the finished cache.

    `fingerprint` says what they are made of, such as the codec's hash, the clips and their seed. A folder
    with latents of something else is left alone, with a `ValueError`. So are latents that are not finite
    in half precision.
    """
    if type(count) is not int or count < 1:
        raise ValueError(f"count must be a positive integer, got {count!r}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fingerprint = json.loads(json.dumps(fingerprint))  # as it will be read back
    state = _state(folder) or {"fingerprint": fingerprint, "count": count, "done": 0, "captions_bytes": 0}
    if (state["fingerprint"], state["count"]) != (fingerprint, count):
        raise ValueError(
            f"folder must be empty or hold the same latents, but {folder} has {state['count']} of "
            f"{state['fingerprint']}, not {count} of {fingerprint}"
        )
    with tqdm(total=count, initial=state["done"], unit="clip", desc="latents", disable=not progress) as bar:
        while state["done"] < count:
            stop = min(state["done"] + block, count)
            z, captions = make(state["done"], stop)
            _write_block(folder, state, z, captions, stop)
            bar.update(len(captions))
    return LatentCache(folder)


def _write_block(folder: Path, state: dict, z: Tensor, captions: list[list[str]], stop: int) -> None:
    """Write a block, and only then the state that counts it."""
    start = state["done"]
    if not len(z) == len(captions) == stop - start or not all(captions):
        raise ValueError(
            f"make must return {stop - start} latents with one caption or more each, "
            f"got {len(z)} latents and {len(captions)} lists of captions"
        )
    half = z.detach().cpu().half().numpy()
    if not np.isfinite(half).all():
        raise ValueError(f"make must return latents that half precision can hold, got {z.abs().max():.3g}")
    path, shape = _latents(folder), (state["count"], *half.shape[1:])
    mode = "r+" if start else "w+"
    stored = np.lib.format.open_memmap(path, mode, dtype=np.float16, shape=None if start else shape)
    stored[start:stop] = half
    stored.flush()
    with _captions(folder).open("ab" if start else "wb") as file:
        file.truncate(state["captions_bytes"])  # what a stopped run wrote and did not count
        file.seek(0, os.SEEK_END)
        file.write("".join(json.dumps(lines) + "\n" for lines in captions).encode())
        file.flush()
        os.fsync(file.fileno())
        state["captions_bytes"] = file.tell()
    state["done"] = stop
    if stop == state["count"]:
        state["sha256"] = _digest(folder)
    with atomic_path(folder / "state.json") as temporary:
        temporary.write_text(json.dumps(state, indent=1))


def _latents(folder: Path) -> Path:
    return folder / "latents.npy"


def _captions(folder: Path) -> Path:
    return folder / "captions.jsonl"


def _state(folder: Path) -> dict | None:
    path = folder / "state.json"
    return json.loads(path.read_text()) if path.exists() else None


def _digest(folder: Path) -> str:
    """SHA-256 over both files."""
    digest = hashlib.sha256()
    for path in (_latents(folder), _captions(folder)):
        digest.update(bytes.fromhex(sha256_of(path)))
    return digest.hexdigest()
