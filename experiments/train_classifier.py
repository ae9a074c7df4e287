"""Train, measure and ship the classifier of motions and events: `python -m experiments.train_classifier`.

A run that was stopped goes on where it was when started again.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from tqdm import tqdm

from experiments.cards import origin_rows
from experiments.results_file import conditions, publish
from t2v_mini.configs import CLASSIFIER
from t2v_mini.models.generator import parameter_count
from t2v_mini.training.classifier import (
    ClassifierTrainer,
    classifier_accuracy,
    classifier_of,
    save_classifier,
)

CARD_CLIPS, WATCH_CLIPS = 1024, 256


@dataclass
class Arguments:
    """Train from scratch or go on, then measure and write the shipped classifier."""

    folder: Path = Path("runs")
    """Where the training state is kept."""
    steps: int = CLASSIFIER.train.steps
    """Training steps."""
    watch_every: int = 500
    """Steps between two looks at unseen clips during training; 0 for none."""


class Watcher:
    """Looks at unseen clips of each level during training and adds a point to the run's curve."""

    def __call__(self, trainer: ClassifierTrainer) -> str:
        model = classifier_of(trainer.config, trainer.ema.state)
        found = {
            str(data.level): classifier_accuracy(model, data, WATCH_CLIPS)["all labels"]
            for data in trainer.config.data
        }
        trainer.curve.append({"step": trainer.step, "minutes": trainer.seconds / 60, "all labels": found})
        return ", ".join(f"level {level} {share:.0%}" for level, share in found.items())


def share(value: float | None) -> str:
    """A share for a table, or "none" where there was no clip to count."""
    return "none" if value is None else f"{value:.1%}"


def card(record: dict, digest: str) -> str:
    """The model card, from what was measured."""
    found = record["evaluation"]
    levels = [f"level {row['level']}" for row in found["levels"]]
    lines = [
        f"# {record['config']['name']}",
        "",
        "Which motions and events a clip of Moving Shapes shows, for each a yes or no: a residual network "
        f"of convolutions in space and time, {found['parameters']:,} parameters. It knows this world alone.",
        "",
        "| | |",
        "| --- | --- |",
        *origin_rows(record, digest),
        "",
        "| unseen combinations | " + " | ".join(levels) + " |",
        "| --- |" + " --- |" * len(levels),
        "| all labels right | " + " | ".join(share(row["all labels"]) for row in found["levels"]) + " |",
        "| clips | " + " | ".join(str(row["clips"]) for row in found["levels"]) + " |",
        "",
        "| label: found where it holds / where it does not | " + " | ".join(levels) + " |",
        "| --- |" + " --- |" * len(levels),
    ]
    for label in found["levels"][0]["labels"]:
        cells = (
            f"{share(there)} / {share(absent)}"
            for there, absent in (row["labels"][label] for row in found["levels"])
        )
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: Arguments) -> None:
    """Train to the end, then measure and ship."""
    config = replace(CLASSIFIER, train=replace(CLASSIFIER.train, steps=arguments.steps))
    trainer, watcher = ClassifierTrainer(config, arguments.folder), Watcher()
    if trainer.checkpoint.exists():
        trainer.resume()
    trainer.train(observe_every=arguments.watch_every, observe=watcher)
    model = classifier_of(config, trainer.ema.state)
    found = {
        "levels": [classifier_accuracy(model, data, CARD_CLIPS) for data in tqdm(config.data, desc="card")],
        "parameters": parameter_count(trainer.model),
    }
    record = trainer.record() | {"evaluation": found, "conditions": conditions()}
    results = {"config": config.to_dict(), "seconds": trainer.seconds, "curve": trainer.curve}
    path = publish(
        config.name,
        lambda path: save_classifier(model, path, record),
        lambda digest: card(record, digest),
        results | found,
    )
    tqdm.write(f"written to {path}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
