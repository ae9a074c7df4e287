"""What matters in the training recipe: arms of equal length, several seeds: `python -m experiments.recipe`.

Each arm changes one thing. All are judged by one number that favours none of them: the squared error in the
clean clip, on new clips, averaged over noise levels.
"""

from dataclasses import dataclass, replace

import torch
import tyro
from tqdm import tqdm

from experiments.results_file import write_results
from t2v_mini.configs import Config, get_config
from t2v_mini.data.moving_shapes import training_batch
from t2v_mini.data.video_files import from_uint8
from t2v_mini.pipeline import TextToVideo
from t2v_mini.training.trainer import Trainer

LEVELS = (0.3, 0.5, 0.7, 0.9)
ARMS: dict[str, dict] = {
    "the recipe": {},
    "AdamW for all weights": {"matrix_learning_rate": 0.0},
    "the network predicts the velocity": {"prediction": "velocity"},
    "times centred on 0.5": {"time_mean": 0.0},
}


@dataclass
class Arguments:
    """Train every arm with every seed, and measure it."""

    steps: int = 200
    """Training steps of each run."""
    batch: int = 32
    """Clips a step."""
    width: int = 128
    """Width of the denoiser."""
    seeds: int = 2
    """Runs of each arm."""
    clips: int = 128
    """New clips on which a run is measured."""


def arm_config(changes: dict, seed: int, arguments: Arguments) -> Config:
    """The small configuration of one run."""
    base = get_config("mini")
    train = replace(
        base.train,
        steps=arguments.steps,
        batch=arguments.batch,
        ema=0.99,
        compile=False,
        text_weights="",
        seed=seed,
        **changes,
    )
    return replace(base, name="recipe", model=replace(base.model, width=arguments.width), train=train)


class Measure:
    """Squared error in the clean clip at each noise level, on clips that no run trains on."""

    def __init__(self, config: Config, clips: int) -> None:
        # The runs draw from seeds 0, 1, ...: seed 99 is new.
        self.batch = training_batch(config.data, step=0, size=clips, seed=99)
        self.x0 = from_uint8(self.batch.video)
        self.noise = torch.randn(self.x0.shape, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def __call__(self, pipeline: TextToVideo) -> list[float]:
        model, process = pipeline.model, pipeline.process
        text, found = model.encode(self.batch.captions), []
        for level in LEVELS:
            t = torch.full((len(self.x0),), level)
            xt = process.corrupt(self.x0, self.noise, t)
            guess = process.to_x0(model(xt, t, text), xt, t)
            found.append((guess - self.x0).square().mean().item())
        return found


def main(arguments: Arguments) -> None:
    """Run all arms and write the table."""
    rows = []
    with tqdm(total=len(ARMS) * arguments.seeds, unit="run") as bar:
        for name, changes in ARMS.items():
            errors, seconds = [], []
            for seed in range(arguments.seeds):
                trainer = Trainer(arm_config(changes, seed, arguments))
                trainer.train(progress=False)
                found = Measure(trainer.config, arguments.clips)(TextToVideo.from_trainer(trainer))
                errors.append(sum(found) / len(found))
                seconds.append(trainer.seconds)
                bar.update()
            rows.append({"arm": name, "changes": changes, "errors": errors, "seconds": seconds})
    write_results("recipe", {"settings": vars(arguments), "levels": LEVELS, "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Arguments))
