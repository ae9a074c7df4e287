"""Train, measure and ship a generator's weights: `python -m experiments.train_mini`.

`--config latent` trains one on the latents of the shipped codec, which are made first.
It starts from scratch, or with `--start` from the denoiser of other weights, which is how a trained model
is given another text encoder. A run that was stopped goes on where it was when started again.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from tqdm import tqdm

from experiments.cards import accuracy_table, layout_rows, measured, origin, origin_rows
from experiments.results_file import conditions, known_results, publish
from experiments.starts import start_from
from t2v_mini.configs import Config, get_config
from t2v_mini.pipeline import TextToVideo, Watcher, evaluate
from t2v_mini.training.checkpoint import read_record
from t2v_mini.training.latents import trainer_for
from t2v_mini.training.shipped import weights_path
from t2v_mini.training.trainer import Trainer

GUIDANCES = (1.0, 1.5, 2.0, 3.0)
TUNING_CLIPS, CARD_CLIPS, CHECK_CLIPS = 128, 1024, 256


@dataclass
class Arguments:
    """Train or go on, then evaluate and write the shipped weights."""

    folder: Path = Path("runs")
    """Where the training state is kept."""
    config: str = "mini"
    """Name of the configuration."""
    steps: int = 0
    """Training steps; 0 for the configuration's."""
    batch: int = 0
    """Clips a step; 0 for the configuration's."""
    levels: tuple[int, ...] = ()
    """Levels of the training clips, in turns, such as 2 3 2 3 1; empty for the configuration's turns."""
    time_mean: float | None = None
    """Mean of the logit of the training times; none for the configuration's. Higher looks at more noise."""
    time_std: float | None = None
    """Deviation of the same; none for the configuration's. Wider looks more at both ends."""
    start: str = ""
    """Weights to take the denoiser from, by name or path; empty to start from scratch."""
    watch_every: int = 200
    """Steps between two looks at caption accuracy during training; 0 for none."""
    measure: bool = False
    """Train nothing: measure the shipped weights again, with their codec as it is now."""
    device: str = "cpu"
    """Where to train: cpu, cuda, ..."""


def prepared(arguments: Arguments) -> Trainer:
    """The run that the arguments ask for, where it was left or at its start."""
    config = get_config(arguments.config)
    asked = {
        "steps": arguments.steps or None,
        "batch": arguments.batch or None,
        "levels": arguments.levels or None,
        "kinds": () if arguments.levels else None,
        "time_mean": arguments.time_mean,
        "time_std": arguments.time_std,
    }
    changes = {name: value for name, value in asked.items() if value is not None}
    config = replace(config, train=replace(config.train, **changes))
    if arguments.start:
        trainer = start_from(arguments.start, config, arguments.folder, arguments.device)
    else:
        trainer = trainer_for(config, arguments.folder, arguments.device)
    if trainer.checkpoint.exists():
        trainer.resume()
        print(f"resumed at step {trainer.step}")
    return trainer


def choose_guidance(pipeline: TextToVideo) -> tuple[float, list[dict]]:
    """The most accurate guidance among those that keep the spread at 0.7, on seen combinations."""
    sweep = [
        evaluate(pipeline, "seen", TUNING_CLIPS, guidance=scale)
        for scale in tqdm(GUIDANCES, desc="guidance", unit="scale")
    ]
    allowed = [row for row in sweep if row["spread"] >= 0.7] or sweep[:1]
    return max(allowed, key=lambda row: row["caption_accuracy"])["guidance"], sweep


def earlier(result: str, start: str) -> dict:
    """Under "before", the results of the run that made the weights with the hash `start`, if any."""
    before = known_results(result) if start else {}
    return {"before": before} if before.get("weights") == start else {}


def ship(trainer: Trainer, start: str = "") -> Path:
    """Measure the averaged weights as they are shipped, and write them with their card."""
    config, losses = trainer.config, trainer.losses
    pipeline = TextToVideo.from_trainer(trainer)
    if start:
        pipeline.record["start"] = origin(read_record(weights_path(start)))
    smooth = [sum(losses[i : i + 50]) / len(losses[i : i + 50]) for i in range(0, len(losses), 50)]
    results = {"seconds": trainer.seconds, "curve": trainer.curve, "loss_per_50_steps": smooth}
    return measure(pipeline, results | earlier(f"train_{config.name}", config.train.start))


def measure(pipeline: TextToVideo, results: dict) -> Path:
    """Measure a pipeline, and write its weights, its card and the results, of which some are known."""
    guidance, sweep = choose_guidance(pipeline)
    config = replace(pipeline.config, sample=replace(pipeline.config.sample, guidance=guidance))
    pipeline.config = config
    evaluation = {
        split: evaluate(pipeline, split, CARD_CLIPS) for split in tqdm(("seen", "unseen"), desc="card")
    }
    evaluation["check"] = evaluate(pipeline, "unseen", CHECK_CLIPS)
    lower = range(1, config.data.level)
    if lower:
        evaluation["levels"] = [evaluate(pipeline, "unseen", CARD_CLIPS, level=level) for level in lower]
    # Weights that are only measured again keep the conditions of their training.
    pipeline.record = {"conditions": conditions()} | pipeline.record | {"evaluation": evaluation}
    results |= {"config": config.to_dict(), "guidance_sweep": sweep, "evaluation": evaluation}
    return publish(config.name, pipeline.save, lambda digest: card(config, pipeline.record, digest), results)


def card(config: Config, record: dict, digest: str) -> str:
    """The model card, from what was measured."""
    record = {**record, "config": config.to_dict()}
    rows = measured(record["evaluation"])
    unseen = record["evaluation"]["unseen"]
    sampler, kinds = unseen.get("sampler", "euler"), list(unseen["facts"])
    lines = [
        f"# {config.name}",
        "",
        "Text to video on Moving Shapes.",
        "",
        "| | |",
        "| --- | --- |",
        *origin_rows(record, digest),
        f"| sampling | {config.sample.steps} steps of {sampler}, guidance {config.sample.guidance} |",
        "",
        *accuracy_table(record["evaluation"]),
        "",
        "| facts | " + " | ".join(kinds) + " |",
        "| --- |" + " --- |" * len(kinds),
    ]
    for name, row in rows.items():
        values = (f"{row['facts'][kind]:.1%}" if kind in row["facts"] else "none" for kind in kinds)
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    lines += layout_rows(rows)
    return "\n".join(lines) + "\n"


def main(arguments: Arguments) -> None:
    """Train to the end, then measure and ship; or measure what is shipped."""
    if arguments.measure:
        pipeline = TextToVideo.from_pretrained(arguments.config, arguments.device)
        known = known_results(f"train_{arguments.config}")
        print(f"written to {measure(pipeline, {'seconds': pipeline.record['seconds']} | known)}")
        return
    trainer, watcher = prepared(arguments), Watcher()
    trainer.train(observe_every=arguments.watch_every, observe=watcher)
    print(f"written to {ship(trainer, arguments.start)}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
