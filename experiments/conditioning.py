"""What each way of telling a denoiser its text is worth: `python -m experiments.conditioning`.

Two objects, 16 frames. Every arm is the same denoiser, on the same clips, for the same number of steps; what
differs is the text that it gets. The denoiser starts from the weights "mini", which know one object and 8
frames, without what reads their text: that starts anew in every arm. Each arm is measured with and without
guidance, on unseen combinations. A run that was stopped goes on where it was.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from torch import Tensor
from tqdm import tqdm

from experiments.results_file import conditions, write_results
from experiments.starts import start_from
from experiments.train_clip import swapped
from t2v_mini.configs import Config, DataConfig, get_config
from t2v_mini.metrics.caption_accuracy import bootstrap_interval
from t2v_mini.models.generator import parameter_count
from t2v_mini.notebook import RESULTS, load_result
from t2v_mini.pipeline import BATCH, TextToVideo, evaluate
from t2v_mini.training.checkpoint import read_record
from t2v_mini.training.shipped import weights_path
from t2v_mini.training.trainer import Trainer
from t2v_mini.world import Facts, caption, compare, read_facts

RESULT = "conditioning"
ARMS: dict[str, dict[str, dict]] = {
    "bag of words": {"model": {"text": "bag", "words": False}, "train": {"text_weights": ""}},
    "CLIP's vector": {"model": {"words": False}},
    "CLIP's vector and words": {},
    "vector and words, trained along": {"train": {"text_weights": ""}},
}

# Half the shipped model's: clips are twice as long, so a step sees as many tokens as there.
BATCH_OF_ARMS = 32


@dataclass
class Arguments:
    """Train every arm, or go on, then measure it."""

    steps: int = 1000
    """Training steps of each run."""
    start: str = "mini"
    """Weights that every arm starts from, by name or path."""
    clips: int = 256
    """Clips on which an arm is measured, at each guidance."""
    arms: tuple[str, ...] = tuple(ARMS)
    """The arms to train and measure; results of the others stay."""
    guidances: tuple[float, ...] = (1.0, 3.0)
    """Scales of guidance; 1 is none."""
    folder: Path = Path("runs/conditioning")
    """Where the training states are kept."""


def arm_config(name: str, steps: int) -> Config:
    """The configuration of an arm."""
    base, changes = get_config("mini"), ARMS[name]
    return replace(
        base,
        name=name.replace(" ", "-").replace(",", "").replace("'", ""),
        model=replace(base.model, **changes.get("model", {})),
        data=DataConfig(level=2, frames=16),
        train=replace(base.train, steps=steps, batch=BATCH_OF_ARMS, **changes.get("train", {})),
    )


class Binding:
    """How often a clip fits its caption better than the twin, which has the two objects' colours swapped.

    Each caption and its twin are asked for, from the same noise. What cannot tell the two apart makes one
    clip of both, and is at a half whatever it prefers. Fit is the number of facts that hold; equal
    numbers count as half.
    """

    def __init__(self) -> None:
        self.claims: list[Facts] = []
        self.found: list[float] = []

    def __call__(self, claims: list[Facts], video: Tensor) -> None:
        """Take in the clips that were made of some claims."""
        self.claims += claims
        for claim, seen in zip(claims, read_facts(video), strict=True):
            own, other = (sum(fact.holds for fact in compare(c, seen)) for c in (claim, swapped(claim)))
            self.found.append((own > other) + (own == other) / 2)

    def ask_twins(self, pipeline: TextToVideo, guidance: float) -> None:
        """Have the twins of all claims made, from the noise that `evaluate` gave the claims."""
        twins = [swapped(claim) for claim in self.claims]
        for start in range(0, len(twins), BATCH):
            part = twins[start : start + BATCH]
            self(part, pipeline([caption(claim) for claim in part], guidance=guidance, seed=start))

    def summary(self) -> dict:
        """The share, and its 95 % interval over captions, each with its twin."""
        groups = [min(pair) for pair in ((caption(c), caption(swapped(c))) for c in self.claims)]
        interval = bootstrap_interval(self.found, groups)
        return {"binding": sum(self.found) / len(self.found), "binding_interval": list(interval)}


def train_arm(name: str, arguments: Arguments) -> Trainer:
    """The arm's run, at its end."""
    config = arm_config(name, arguments.steps)
    trainer, _ = start_from(arguments.start, config, arguments.folder, keep_reading=False)
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
    start = read_record(weights_path(arguments.start))["hash"]
    settings = {"steps": arguments.steps, "clips": arguments.clips, "start": start}
    known = load_result(RESULT) if (RESULTS / f"{RESULT}.json").exists() else {}
    rows = {row["arm"]: row for row in known.get("rows", []) if known["settings"] == settings}
    for name in arguments.arms:
        trainer = train_arm(name, arguments)
        pipeline = TextToVideo.from_trainer(trainer)
        evaluations = []
        for guidance in tqdm(arguments.guidances, desc=name, unit="scale"):
            binding = Binding()
            found = evaluate(pipeline, "unseen", arguments.clips, guidance=guidance, look=binding)
            binding.ask_twins(pipeline, guidance)
            evaluations.append(found | binding.summary())
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
