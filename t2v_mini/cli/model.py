"""Commands about the model: generate, evaluate, train."""

import json
import math
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from t2v_mini.cli.world import check_target, verdict_record

if TYPE_CHECKING:
    from torch import Tensor

    from t2v_mini.configs import Config, DataConfig


@dataclass
class Generate:
    """Make a clip from each prompt, and judge it."""

    prompts: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="PROMPT ...")]
    """What the clips shall show, e.g. "a small red circle moves left". An object is a small or large circle,
    square or triangle in red, green, blue, yellow, cyan, pink, orange or white, that moves left, right, up or
    down, stays still, grows, shrinks or bounces. The weights "mini" know one object, "latent" up to three,
    relations and events, e.g. "a large green circle bounces and turns red"."""
    out: Path | None = None
    """File to write (.gif, .mp4 or .webp); several prompts give NAME-1, NAME-2, ..."""
    weights: str = "latent"
    """Shipped weights by name, or a .safetensors file."""
    steps: int | None = None
    """Sampling steps; the weights' own number by default."""
    guidance: float | None = None
    """Classifier-free guidance scale; 1 is none."""
    seed: int = 0
    """Seed of the first clip; the next ones count on."""
    sampler: str | None = None
    """Sampler of the weights' process, such as euler or stochastic; the weights' own by default."""
    negative: str = ""
    """A prompt that guidance leads away from."""
    given: Path | None = None
    """A picture or a video whose first frames are the clips' own, for weights that can go on from frames."""
    frames: int = 1
    """How many frames of the video are given."""
    json: bool = False
    """Print one JSON object instead of text."""

    def run(self) -> None:
        from t2v_mini.data.video_files import write_video
        from t2v_mini.pipeline import TextToVideo
        from t2v_mini.world import judge, parse

        if not self.prompts:
            raise ValueError("prompts must hold at least one prompt, got none")
        paths = self._paths()
        for prompt in (*self.prompts, *filter(None, [self.negative])):
            parse(prompt)  # a bad prompt is told before the weights are read
        pipeline = TextToVideo.from_pretrained(self.weights)
        video = pipeline(
            list(self.prompts),
            steps=self.steps,
            guidance=self.guidance,
            seed=self.seed,
            sampler=self.sampler,
            negative=self.negative,
            given=self._given(pipeline.config.data),
        )
        verdicts = judge(video, list(self.prompts))
        for path, clip in zip(paths, video, strict=False):
            write_video(path, clip)
        rows = [
            {**verdict_record(verdict), "seed": self.seed + i, "out": str(paths[i]) if paths else None}
            for i, verdict in enumerate(verdicts)
        ]
        if self.json:
            print(json.dumps({"weights": self.weights, "clips": rows}))
            return
        for row, verdict in zip(rows, verdicts, strict=True):
            print(verdict)
            print(f"  written to {row['out']}" if row["out"] else "  not written; --out clip.gif keeps it")

    def _given(self, data: "DataConfig") -> "Tensor | None":
        from t2v_mini.data.video_folder import beginning

        if self.given is None:
            if self.frames != 1:
                raise ValueError(f"frames must be 1 where no picture or video is given, got {self.frames}")
            return None
        if not 0 < self.frames < data.frames:
            raise ValueError(f"frames must be from 1 to {data.frames - 1}, got {self.frames}")
        first = beginning(self.given, self.frames, data.height, data.width)
        return first.expand(len(self.prompts), *first.shape)

    def _paths(self) -> list[Path]:
        if self.out is None:
            return []
        check_target(self.out)
        if len(self.prompts) == 1:
            return [self.out]
        return [self.out.with_stem(f"{self.out.stem}-{i + 1}") for i in range(len(self.prompts))]


@dataclass
class Evaluate:
    """Measure caption accuracy by the frozen protocol."""

    weights: str = "latent"
    """Shipped weights by name, or a .safetensors file."""
    level: int | None = None
    """Level of the captions; the weights' own by default."""
    split: Literal["seen", "unseen", "all"] = "unseen"
    """Combinations that were, or were not, in training."""
    clips: int = 256
    """Number of clips: the seeds 0 ... N - 1."""
    steps: int | None = None
    """Sampling steps; the weights' own number by default."""
    guidance: float | None = None
    """Classifier-free guidance scale; 1 is none."""
    sampler: str | None = None
    """Sampler of the weights' process; the weights' own by default."""
    json: bool = False
    """Print one JSON object instead of text."""

    def run(self) -> None:
        from tqdm import tqdm

        from t2v_mini.pipeline import TextToVideo, evaluate

        pipeline = TextToVideo.from_pretrained(self.weights)
        trained = pipeline.config.data.level
        if self.level is not None and not 1 <= self.level <= trained:
            raise ValueError(
                f"level must be from 1 to {trained}, the level of the weights {self.weights!r}, "
                f"got {self.level}"
            )
        with tqdm(total=self.clips, unit="clip", disable=None) as bar:
            result = evaluate(
                pipeline,
                self.split,
                self.clips,
                self.steps,
                self.guidance,
                lambda done: bar.update(done - bar.n),
                level=self.level,
                sampler=self.sampler,
            )
        if self.json:
            # JSON has no NaN: few clips may have no spread to speak of.
            clean = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in result.items()}
            print(json.dumps(clean, allow_nan=False))
            return
        low, high = result["interval"]
        spread = "not measurable" if math.isnan(result["spread"]) else f"{result['spread']:.2f}"
        print(
            f"caption accuracy {result['caption_accuracy']:.1%} (95% interval {low:.1%} to {high:.1%}), "
            f"ceiling {result['ceiling']:.1%}, spread {spread}, "
            f"{result['clips']} clips, level {result['level']}, {result['split']} combinations"
        )
        for kind, share in result["facts"].items():
            print(f"  {kind:10} {share:.1%}")


@dataclass
class Train:
    """Train a configuration from scratch, or go on with a run that was stopped."""

    config: str = "mini"
    """Name of the configuration; `t2v-mini info` lists them."""
    folder: Path = Path("runs")
    """Where the training state and, at the end, the weights are written."""
    resume: bool = False
    """Go on from the last checkpoint in the folder, with its number of steps."""
    steps: int | None = None
    """Length of a new run in steps; the configuration's own by default."""
    save_every: int = 200
    """Steps between two checkpoints."""
    watch_every: int = 200
    """Steps between two looks at caption accuracy; 0 for none."""
    device: str = "cpu"
    """Where to train: cpu, cuda, ..."""

    def run(self) -> None:
        import torch

        from t2v_mini.configs import get_config
        from t2v_mini.pipeline import TextToVideo, Watcher
        from t2v_mini.training.checkpoint import read_record, training_state
        from t2v_mini.training.latents import trainer_for

        config = get_config(self.config)
        for name in ("steps", "save_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value}")
        if self.watch_every < 0:
            raise ValueError(f"watch_every must be an integer >= 0, got {self.watch_every}")
        if self.steps is not None:
            config = replace(config, train=replace(config.train, steps=self.steps))
        if self.folder.exists() and not (self.folder.is_dir() and os.access(self.folder, os.W_OK)):
            raise ValueError(f"folder must be a folder that can be written to, got {self.folder}")
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).split(":")[0]
            raise ValueError(
                f"device must be one that PyTorch finds here, got {self.device!r}: {reason}"
            ) from error
        if self.resume:
            config = self._resumed(config)
        elif (path := training_state(self.folder, config.name)).exists():
            raise ValueError(
                f"folder must hold no run of {config.name!r} yet, but {path} exists; --resume goes on with it"
            )
        try:
            trainer = trainer_for(config, self.folder, self.device)
        except KeyboardInterrupt:
            print("\nt2v-mini: stopped before the training; the same command goes on", file=sys.stderr)
            raise SystemExit(130) from None
        if self.resume:
            trainer.resume()
            print(f"resumed at step {trainer.step} of {config.train.steps}")
        try:
            trainer.train(self.save_every, self.watch_every, Watcher())
        except KeyboardInterrupt:
            saved = read_record(trainer.checkpoint)["step"] if trainer.checkpoint.exists() else None
            kept = "nothing is saved yet" if saved is None else f"saved up to step {saved}; --resume goes on"
            print(f"\nt2v-mini: stopped at step {trainer.step}, {kept}", file=sys.stderr)
            raise SystemExit(130) from None
        path = self.folder / f"{config.name}.safetensors"
        digest = TextToVideo.from_trainer(trainer).save(path)
        print(f"written to {path}, hash {digest[:16]}")

    def _resumed(self, config: "Config") -> "Config":
        """The configuration with the number of steps that the stopped run was started with."""
        from t2v_mini.training.checkpoint import read_record, training_state

        path = training_state(self.folder, config.name)
        if not path.is_file():
            raise ValueError(f"folder must hold a run of {config.name!r} to resume, got {self.folder}")
        steps = read_record(path)["config"]["train"]["steps"]
        if self.steps not in (None, steps):
            raise ValueError(f"steps must be {steps}, as this run was started with, got {self.steps}")
        return replace(config, train=replace(config.train, steps=steps))
