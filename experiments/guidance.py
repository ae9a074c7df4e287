"""What guidance buys and what it costs, on shipped weights: `python -m experiments.guidance`.

The same captions and the same noise at each scale, guided plainly, with a rescale, and on an interval of
times only.
"""

from dataclasses import dataclass

import torch
import tyro
from tqdm import tqdm

from experiments.results_file import write_results
from t2v_mini.data.moving_shapes import evaluation_set
from t2v_mini.metrics.caption_accuracy import caption_accuracy
from t2v_mini.metrics.diversity import spread_ratio
from t2v_mini.pipeline import BATCH, TextToVideo
from t2v_mini.world import caption, judge_claims, render

WAYS: dict[str, dict] = {
    "plain": {},
    "rescale 0.7": {"rescale": 0.7},
    "interval 0.3 to 0.9": {"interval": (0.3, 0.9)},
}
OUTSIDE = 1.02  # the world's numbers end at 1; a prediction beyond this is out of range


@dataclass
class Arguments:
    """Measure guidance on shipped weights."""

    weights: str = "mini"
    """Name or file of the weights."""
    clips: int = 256
    """Clips at each scale, of unseen combinations."""
    scales: tuple[float, ...] = (1.0, 1.5, 2.0, 4.0, 8.0)
    """Scales of guidance; 1 is none."""


def measure(pipeline: TextToVideo, clips: int, **guiding) -> dict:
    """Accuracy, variety and range of the clips that one way to guide makes.

    `outside` is the share of numbers of the last prediction beyond the range of clips, before it is clipped.
    """
    data, last, made, outside = pipeline.config.data, [], [], 0.0
    scenes = evaluation_set(data, "unseen", clips)
    claims = [scene.facts for scene in scenes]
    texts = [caption(claim) for claim in claims]

    def keep(step: int, x: torch.Tensor, x0: torch.Tensor) -> None:
        last[:] = [x0]

    for start in range(0, clips, BATCH):
        part = texts[start : start + BATCH]
        made.append(pipeline(part, seed=start, callback=keep, **guiding).cpu())
        outside += (last[0].abs() > OUTSIDE).float().mean().item() * len(part) / clips
    video = torch.cat(made)
    accuracy = caption_accuracy(judge_claims(video, claims, texts), claims)
    world = render(scenes, data.frames, data.height, data.width)
    return {
        "caption_accuracy": accuracy.caption_accuracy,
        "interval": list(accuracy.interval),
        "spread": spread_ratio(video, world, claims),
        "outside": outside,
    }


def main(arguments: Arguments) -> None:
    """Measure each way at each scale; without guidance all ways are one."""
    pipeline = TextToVideo.from_pretrained(arguments.weights)
    rows, unguided = [], None
    runs = [(way, scale) for way in WAYS for scale in arguments.scales]
    for way, scale in tqdm(runs, unit="run"):
        if scale == 1.0 and unguided is not None:
            found = unguided
        else:
            found = measure(pipeline, arguments.clips, guidance=scale, **WAYS[way])
        unguided = found if scale == 1.0 else unguided
        rows.append({"way": way, "guidance": scale} | found)
    settings = {"weights": pipeline.record["hash"], "clips": arguments.clips, "outside": OUTSIDE}
    write_results("guidance", {"settings": settings, "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Arguments))
