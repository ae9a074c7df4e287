"""Which layouts are rare in training, and which fail? `python -m experiments.layouts --weights A B`.

For each layout, by number of objects and by relation: its share of the training clips, and the accuracy of
whole captions that ask for it, for one or several weights, all sampled as the last of them are.
"""

from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import tyro
from tqdm import tqdm

from experiments.results_file import write_results
from t2v_mini.configs import Config, SampleConfig
from t2v_mini.data.moving_shapes import training_scenes
from t2v_mini.metrics.caption_accuracy import layouts_of
from t2v_mini.pipeline import TextToVideo, evaluate


@dataclass
class Arguments:
    """Measure weights, one after the other."""

    weights: tuple[str, ...] = ("latent",)
    """Shipped weights by name, or .safetensors files."""
    clips: int = 512
    """Clips of unseen combinations for each level."""
    drawn: int = 2000
    """Training scenes that are counted."""
    out: str = "layouts"
    """Name of the results; empty for none."""


def training_shares(config: Config, drawn: int) -> dict[str, float]:
    """The share of each layout among the training clips of a configuration, of its levels in turns."""
    turns, found = config.training_data, Counter()
    for turn, data in enumerate(turns):
        numbers = range(turn, drawn, len(turns))
        for scene in training_scenes(data, numbers, config.train.seed):
            found.update(layouts_of(scene.facts))
    return {layout: found[layout] / drawn for layout in sorted(found)}


def row_of(name: str, arguments: Arguments, sampling: SampleConfig) -> dict:
    """What is known of weights: their training's shares, and each level's accuracy by layout."""
    pipeline = TextToVideo.from_pretrained(name)
    pipeline.config = replace(pipeline.config, sample=sampling)
    levels = [
        evaluate(pipeline, "unseen", arguments.clips, level=level)
        for level in range(1, pipeline.config.data.level + 1)
    ]
    return {
        "name": Path(name).stem,
        "weights": pipeline.record["hash"],
        "training": training_shares(pipeline.config, arguments.drawn),
        "levels": levels,
    }


def main(arguments: Arguments) -> None:
    """Measure all weights, and write the results."""
    sampling = TextToVideo.from_pretrained(arguments.weights[-1]).config.sample
    rows = [row_of(name, arguments, sampling) for name in tqdm(arguments.weights, desc="weights")]
    for row in rows:
        for level in row["levels"]:
            for layout, found in level["layouts"].items():
                tqdm.write(
                    f"{row['name']}, level {level['level']}, {layout}: {found['caption_accuracy']:.1%} of "
                    f"{found['clips']} clips, {row['training'].get(layout, 0):.1%} of the training clips"
                )
    if arguments.out:
        write_results(arguments.out, {"rows": rows, "sampling": asdict(sampling)})


if __name__ == "__main__":
    main(tyro.cli(Arguments))
