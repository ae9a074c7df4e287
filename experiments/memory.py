"""Does a generator of latents hand back training clips? `python -m experiments.memory`.

For each made clip the nearest training latent is looked for. Two controls say what a distance means: training
clips that went through decoder and encoder once more, as a memory would give them back, and new clips of the
world, which nobody can have copied. The training latents are those of the run's folder; where they are
missing they are made again.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from experiments.results_file import write_results
from t2v_mini.data.latent_cache import LatentCache
from t2v_mini.data.moving_shapes import evaluation_set
from t2v_mini.pipeline import BATCH, TextToVideo
from t2v_mini.training.latents import latents_for
from t2v_mini.world import caption, render

BLOCK = 8192  # training latents that are compared at once
CLOSEST = 4  # pairs that are named, so that they can be looked at


@dataclass
class Arguments:
    """Measure shipped weights."""

    weights: str = "latent"
    """Shipped weights by name, or a .safetensors file."""
    folder: Path = Path("runs")
    """Where the run's latents are kept."""
    clips: int = 256
    """Clips a level and group."""
    out: str = "memory"
    """Name of the results."""


def nearest(z: Float[Tensor, "N Z G I J"], stock: np.ndarray) -> tuple[Tensor, Tensor]:
    """The distance to the nearest latent of the stock, and its number."""
    flat = z.flatten(1)
    least, place = torch.full((len(z),), float("inf")), torch.zeros(len(z), dtype=torch.long)
    for start in range(0, len(stock), BLOCK):
        block = torch.from_numpy(stock[start : start + BLOCK].astype(np.float32)).flatten(1)
        # By differences: sums of squares would lose distances near 0, which are what this is about.
        mode = "donot_use_mm_for_euclid_dist"
        distance, found = torch.cdist(flat, block, compute_mode=mode).min(dim=1)
        closer = distance < least
        least = torch.where(closer, distance, least)
        place = torch.where(closer, found + start, place)
    return least, place


@torch.no_grad()
def latents_of(pipeline: TextToVideo, clips: Tensor) -> Tensor:
    """Normalised latents of clips in [-1, 1]."""
    return torch.cat([pipeline.to_made(part) for part in clips.split(BATCH)])


@torch.no_grad()
def level_row(pipeline: TextToVideo, cache: LatentCache, level: int, clips: int) -> dict:
    """Distances of made clips, of new ones and of copies, of one level."""
    turns = pipeline.config.training_data
    data = replace(pipeline.config.data, level=level)
    numbers = [n for n in range(len(cache)) if turns[n % len(turns)].level == level]
    scenes = evaluation_set(data, "seen", clips)
    prompts = [caption(scene.facts) for scene in scenes]
    made = pipeline(prompts)
    stock = cache.latents[numbers]
    kept = torch.from_numpy(stock[:clips].astype(np.float32))
    copies = torch.cat([pipeline.to_video(part) for part in kept.split(BATCH)])
    groups = {
        "made": made,
        "new clips of the world": render(scenes, data.frames, data.height, data.width),
        "copies of training clips": copies,
    }
    found = {name: nearest(latents_of(pipeline, part), stock) for name, part in groups.items()}
    distance, place = found["made"]
    return {
        "level": level,
        "clips": clips,
        "training clips": len(stock),
        "groups": {
            name: {
                "median": values.median().item(),
                "least": values.min().item(),
                "distances": [round(value, 3) for value in values.tolist()],
            }
            for name, (values, _) in found.items()
        },
        "copies that find their own": (found["copies of training clips"][1] == torch.arange(len(kept)))
        .float()
        .mean()
        .item(),
        "closest": [
            {"seed": i, "prompt": prompts[i], "training clip": numbers[place[i].item()],
             "distance": distance[i].item()}
            for i in distance.argsort()[:CLOSEST].tolist()
        ],
    }  # fmt: skip


def main(arguments: Arguments) -> None:
    """Measure all levels, and write the results."""
    pipeline = TextToVideo.from_pretrained(arguments.weights)
    config = pipeline.config
    if not config.codec:
        raise ValueError(f"weights must make latents, but {arguments.weights!r} make pixels")
    cache = latents_for(config, arguments.folder, pipeline.codec)
    levels = sorted({data.level for data in config.training_data})
    rows = [level_row(pipeline, cache, level, arguments.clips) for level in tqdm(levels, desc="levels")]
    for row in rows:
        groups = ", ".join(
            f"{name} {group['median']:.1f} (least {group['least']:.1f})"
            for name, group in row["groups"].items()
        )
        tqdm.write(f"level {row['level']}: nearest of {row['training clips']} training clips: {groups}")
    write_results(arguments.out, {"weights": pipeline.record.get("hash", ""), "levels": rows})


if __name__ == "__main__":
    main(tyro.cli(Arguments))
