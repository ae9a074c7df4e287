"""What each way of telling a denoiser its text is worth: `python -m experiments.conditioning`.

Two objects, 16 frames. Every arm is the same denoiser, on the same clips, for the same number of steps; what
differs is the text that it gets. Each arm is measured with and without guidance, on unseen combinations. A
run that was stopped goes on where it was.

A patch covers 4 frames, twice as many as in the shipped model: as many tokens a clip as there.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from tqdm import tqdm

from experiments.results_file import conditions, write_results
from experiments.train_clip import swapped
from t2v_mini.configs import Config, DataConfig, get_config
from t2v_mini.data.moving_shapes import evaluation_set
from t2v_mini.metrics.alignment import preferred
from t2v_mini.models.generator import parameter_count
from t2v_mini.notebook import RESULTS, load_result
from t2v_mini.pipeline import BATCH, TextToVideo, evaluate
from t2v_mini.training.trainer import Trainer
from t2v_mini.world import caption, compare, read_facts

RESULT = "conditioning"
ARMS: dict[str, dict[str, dict]] = {
    "bag of words": {"model": {"text": "bag", "words": False}},
    "CLIP's vector": {"model": {"words": False}, "train": {"text_weights": "clip"}},
    "CLIP's vector and words": {"train": {"text_weights": "clip"}},
    "vector and words, trained along": {},
}


@dataclass
class Arguments:
    """Train every arm, or go on, then measure it."""

    steps: int = 3000
    """Training steps of each run."""
    clips: int = 256
    """Clips on which an arm is measured, at each guidance."""
    arms: tuple[str, ...] = tuple(ARMS)
    """The arms to train and measure; results of the others stay."""
    guidances: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Scales of guidance; 1 is none."""
    folder: Path = Path("runs/conditioning")
    """Where the training states are kept."""


def arm_config(name: str, steps: int) -> Config:
    """The configuration of an arm."""
    base, changes = get_config("mini"), ARMS[name]
    return replace(
        base,
        name=name.replace(" ", "-").replace(",", "").replace("'", ""),
        model=replace(base.model, patch=(4, 8, 8), **changes.get("model", {})),
        data=DataConfig(level=2, frames=16),
        train=replace(base.train, steps=steps, **changes.get("train", {})),
    )


def binding(pipeline: TextToVideo, clips: int, guidance: float) -> float:
    """Of clips and their captions, the share that fits better than with the two objects' colours swapped.

    Fit is the number of facts that hold; equal numbers count as half.
    """
    claims = [scene.facts for scene in evaluation_set(pipeline.config.data, "unseen", clips)]
    held = []
    for start in range(0, clips, BATCH):
        part = claims[start : start + BATCH]
        video = pipeline([caption(claim) for claim in part], guidance=guidance, seed=start)
        for claim, seen in zip(part, read_facts(video), strict=True):
            held.append([sum(fact.holds for fact in compare(c, seen)) for c in (claim, swapped(claim))])
    return preferred(*torch.tensor(held, dtype=torch.float32).unbind(1))


def train_arm(name: str, arguments: Arguments) -> Trainer:
    """The arm's run, at its end."""
    trainer = Trainer(arm_config(name, arguments.steps), arguments.folder)
    if trainer.checkpoint.exists():
        trainer.resume()
    tqdm.write(f"{name}: from step {trainer.step}")
    trainer.train(save_every=200)
    return trainer


def main(arguments: Arguments) -> None:
    """Run the arms; the results so far are written after each."""
    unknown = set(arguments.arms) - set(ARMS)
    if unknown:
        got = ", ".join(map(repr, unknown))
        raise ValueError(f"arms must be among those known ({'; '.join(ARMS)}), got {got}")
    settings = {"steps": arguments.steps, "clips": arguments.clips}
    known = load_result(RESULT) if (RESULTS / f"{RESULT}.json").exists() else {}
    rows = {row["arm"]: row for row in known.get("rows", []) if known["settings"] == settings}
    for name in arguments.arms:
        trainer = train_arm(name, arguments)
        pipeline = TextToVideo.from_trainer(trainer)
        evaluations = []
        for guidance in tqdm(arguments.guidances, desc=name, unit="scale"):
            found = evaluate(pipeline, "unseen", arguments.clips, guidance=guidance)
            evaluations.append(found | {"binding": binding(pipeline, arguments.clips, guidance)})
        rows[name] = {
            "arm": name,
            "changes": ARMS[name],
            "trained_parameters": parameter_count(trainer.model),
            "batch": trainer.config.train.batch,
            "seconds": trainer.seconds,
            "evaluations": evaluations,
            "conditions": conditions(),
        }
        write_results(RESULT, {"settings": settings, "rows": [rows[arm] for arm in ARMS if arm in rows]})


if __name__ == "__main__":
    main(tyro.cli(Arguments))
