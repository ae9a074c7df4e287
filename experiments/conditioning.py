"""What each way of telling a denoiser its text is worth: `python -m experiments.conditioning`.

Clips of 16 frames, made as latents of the shipped codec. Every arm is the same denoiser, from scratch, on
the same clips and noise, for the same number of steps; what differs is the text that it gets. Each arm is
measured with and without guidance, on unseen combinations of two objects. A run that was stopped goes on
where it was.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from torch import Tensor
from tqdm import tqdm

from experiments.results_file import conditions, known_results, write_results
from experiments.train_clip import swapped
from t2v_mini.configs import CODEC, Config, DataConfig, ModelConfig, get_config
from t2v_mini.metrics.caption_accuracy import bootstrap_interval
from t2v_mini.models.generator import parameter_count
from t2v_mini.pipeline import BATCH, TextToVideo, evaluate
from t2v_mini.reconstruction import evaluate_codec
from t2v_mini.training.latents import trainer_for
from t2v_mini.training.trainer import Trainer
from t2v_mini.training.video_vae import load_codec
from t2v_mini.world import Facts, caption, compare, read_facts

RESULT = "conditioning"
ARMS: dict[str, dict[str, dict]] = {
    "bag of words": {"model": {"text": "bag", "words": False}, "train": {"text_weights": ""}},
    "CLIP's vector": {"model": {"words": False}},
    "CLIP's vector and words": {},
    "vector and words, trained along": {"train": {"text_weights": ""}},
}

DATA = DataConfig(level=2, frames=16)
# One object in every third clip: what a word means can be learned where there is nothing to mix up.
LEVELS = (2, 2, 1)


@dataclass
class Arguments:
    """Train every arm, or go on, then measure it."""

    steps: int = 6000
    """Training steps of each run."""
    latents: int = 48_000
    """Training clips whose latents are kept on disk, for all arms."""
    clips: int = 256
    """Clips on which an arm is measured, at each guidance."""
    arms: tuple[str, ...] = tuple(ARMS)
    """The arms to train and measure; results of the others stay."""
    guidances: tuple[float, ...] = (1.0, 3.0)
    """Scales of guidance; 1 is none."""
    folder: Path = Path("runs/conditioning")
    """Where the training states are kept."""


def arm_config(name: str, arguments: Arguments) -> Config:
    """The configuration of an arm."""
    base, changes = get_config("latent"), ARMS[name]
    heard = {"text_weights": "clip"} | changes.get("train", {})
    shared = {
        "steps": arguments.steps,
        "latents": arguments.latents,
        "levels": LEVELS,
        "kinds": (),
        "give_frames": 0.0,
    }
    return replace(
        base,
        name=name.replace(" ", "-").replace(",", "").replace("'", ""),
        # The text encoder of `clip` has the usual depth.
        model=replace(base.model, given=False, text_depth=ModelConfig.text_depth, **changes.get("model", {})),
        data=DATA,
        train=replace(base.train, **shared, **heard),
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
    """The arm's run, at its end; all arms find the latents that the first one made."""
    trainer = trainer_for(arm_config(name, arguments), arguments.folder)
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
    codec, record = load_codec(CODEC.name)
    settings = {
        "steps": arguments.steps,
        "clips": arguments.clips,
        "latents": arguments.latents,
        "codec": record["hash"],
    }
    known = known_results(RESULT)
    rows = {row["arm"]: row for row in known.get("rows", []) if known["settings"] == settings}
    through = evaluate_codec(codec, DATA, arguments.clips)
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
        write_results(
            RESULT,
            {"settings": settings, "codec": through, "rows": [rows[arm] for arm in ARMS if arm in rows]},
        )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
