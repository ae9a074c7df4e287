"""At which noise levels does a generator go wrong? `python -m experiments.noise_levels --weights latent`.

Two measurements for each level of the world. First, true clips with noise up to a time are finished by the
generator, and judged: where accuracy rises towards smaller times, the generator errs at the larger ones.
Second, the answer to pure noise: the best one is the mean of all clips with the caption, and what the
network's answer has in squared error beyond that mean's is its excess, which no sampler can repair.
"""

from dataclasses import dataclass, replace

import torch
import tyro
from tqdm import tqdm

from experiments.results_file import write_results
from t2v_mini.data.moving_shapes import evaluation_set
from t2v_mini.diffusion.flow import RectifiedFlow
from t2v_mini.diffusion.guidance import guided
from t2v_mini.diffusion.named import samplers_of
from t2v_mini.diffusion.samplers import shifted_times
from t2v_mini.metrics.caption_accuracy import caption_accuracy
from t2v_mini.pipeline import BATCH, TextToVideo
from t2v_mini.world import Verdict, caption, judge_claims, render, scene_for
from t2v_mini.world.scene import Scene

STARTS = (1.0, 0.97, 0.93, 0.85, 0.7, 0.5)


@dataclass
class Arguments:
    """Measure weights whose process is a flow."""

    weights: str = "latent"
    """Shipped weights by name, or a .safetensors file."""
    clips: int = 128
    """True clips a level that are finished."""
    captions: int = 24
    """Captions a level whose mean clip is taken."""
    repeats: int = 32
    """Clips of each of these captions."""
    out: str = "noise_levels"
    """Name of the results; empty for none."""


def of_truth(pipeline: TextToVideo, scenes: list[Scene]) -> torch.Tensor:
    """What the generator should have made of these scenes: clips, or their latents."""
    data = pipeline.config.data
    return pipeline.to_made(render(scenes, data.frames, data.height, data.width).to(pipeline.device))


@torch.no_grad()
def finished(
    pipeline: TextToVideo, x0: torch.Tensor, captions: list[str], start: float, seed: int = 0
) -> torch.Tensor:
    """Clips that the generator makes from true ones with noise up to a time, with its own sampling.

    `x0` are the true clips, or their latents.
    """
    settings = pipeline.config.sample
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed)).to(x0)
    text, null = pipeline.model.encode(captions), pipeline.model.encode([""] * len(captions))
    predict = guided(pipeline.model, text, null, settings.guidance)
    times = shifted_times(settings.steps, settings.shift, settings.last)
    # One of the times may be the start, but for its rounding.
    times = torch.cat([torch.tensor([start]), times[times < start - 1e-4]])
    noisy = pipeline.process.corrupt(x0, noise, torch.full((len(x0),), start, device=x0.device))
    run = samplers_of(pipeline.process)[pipeline.sampler]
    fresh = torch.Generator().manual_seed(2**31 + seed)
    return pipeline.to_video(run(pipeline.process, predict, noisy, times, generator=fresh))


@torch.no_grad()
def excess(pipeline: TextToVideo, scene: Scene, repeats: int, seed: int = 0) -> tuple[float, float]:
    """Variance of the clips of a caption, and the answer to pure noise beyond it, in squared error."""
    x0 = of_truth(pipeline, [scene_for(scene.facts, seed + k) for k in range(repeats)])
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed)).to(x0)
    text = pipeline.model.encode([caption(scene.facts)] * repeats)
    start = torch.ones(repeats, device=x0.device)
    answer = pipeline.process.to_x0(pipeline.model(noise, start, text), noise, start).mean(0)
    floor = x0.var(0, correction=1).mean().item()
    # The mean of a few clips misses the mean of all by their variance over their number.
    return floor, (answer - x0.mean(0)).square().mean().item() - floor / repeats


def level_row(pipeline: TextToVideo, level: int, arguments: Arguments) -> dict:
    """Both measurements at one level."""
    data = replace(pipeline.config.data, level=level)
    scenes = evaluation_set(data, "unseen", max(arguments.clips, arguments.captions))
    tried = scenes[: arguments.clips]
    claims = [scene.facts for scene in tried]
    captions = [caption(claim) for claim in claims]
    verdicts: dict[float, list[Verdict]] = {start: [] for start in STARTS}
    for first in range(0, len(tried), BATCH):
        part = slice(first, first + BATCH)
        x0 = of_truth(pipeline, tried[part])
        for start, judged in verdicts.items():
            video = finished(pipeline, x0, captions[part], start, seed=first).cpu()
            judged += judge_claims(video, claims[part], captions[part])
    starts = []
    for start, judged in verdicts.items():
        found = caption_accuracy(judged, claims)
        row = {"caption_accuracy": found.caption_accuracy, "interval": list(found.interval)}
        starts.append({"start": start, **row, "facts": found.facts})
    pairs = [excess(pipeline, scene, arguments.repeats) for scene in scenes[: arguments.captions]]
    floor, beyond = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    return {
        "level": level,
        "clips": len(tried),
        "starts": starts,
        "answer to noise": {"captions": len(pairs), "variance": floor, "excess": beyond},
    }


def main(arguments: Arguments) -> None:
    """Measure all levels that the weights know, and write the results."""
    pipeline = TextToVideo.from_pretrained(arguments.weights)
    if not isinstance(pipeline.process, RectifiedFlow):
        raise ValueError(f"weights must be those of a flow, got {pipeline.config.train.process!r}")
    levels = range(1, pipeline.config.data.level + 1)
    rows = [level_row(pipeline, level, arguments) for level in tqdm(levels, desc="levels", unit="level")]
    for row in rows:
        shares = ", ".join(f"{one['start']:g}: {one['caption_accuracy']:.1%}" for one in row["starts"])
        answer = row["answer to noise"]
        tqdm.write(
            f"level {row['level']}: from t = {shares}; pure noise: excess {answer['excess']:.3f} over a "
            f"variance of {answer['variance']:.3f}"
        )
    if arguments.out:
        write_results(arguments.out, {"weights": pipeline.record.get("hash", ""), "levels": rows})


if __name__ == "__main__":
    main(tyro.cli(Arguments))
