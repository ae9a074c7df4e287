"""Train, measure and ship the small CLIP for clips: `python -m experiments.train_clip`.

A run that was stopped goes on where it was when started again.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from tqdm import tqdm

from experiments.cards import origin_rows, recall_table
from experiments.results_file import conditions, publish
from t2v_mini.configs import CLIP
from t2v_mini.data.counterfactual import REVERSED
from t2v_mini.metrics.alignment import preferred, recall_at
from t2v_mini.models.text_video import TextVideoEncoder
from t2v_mini.training.shipped import clip_of, save_clip
from t2v_mini.training.trainer import ContrastiveTrainer
from t2v_mini.world import caption, render, sample_scene
from t2v_mini.world.vocabulary import Facts


@dataclass
class Arguments:
    """Train from scratch or go on, then measure and write the shipped weights."""

    folder: Path = Path("runs")
    """Where the training state is kept."""
    steps: int = CLIP.train.steps
    """Training steps."""
    watch_every: int = 200
    """Steps between two looks at retrieval during training; 0 for none."""


def distinct_scenes(level: int, count: int, first: int = 0) -> list:
    """Scenes of unseen combinations whose full captions all differ, from the first seeds that give them."""
    scenes, said, seed = [], set(), first
    while len(scenes) < count:
        scene = sample_scene(level, seed, split="unseen")
        seed += 1
        text = caption(scene.facts)
        if text not in said:
            said.add(text)
            scenes.append(scene)
    return scenes


def scenes_by_caption(draws: int) -> list[list]:
    """All unseen level-1 captions, each with as many scenes as there are draws: one list a draw."""
    found: dict[str, list] = {}
    seed = 0
    while len(found) < 64 or min(map(len, found.values())) < draws:
        scene = sample_scene(1, seed, split="unseen")
        found.setdefault(caption(scene.facts), []).append(scene)
        seed += 1
    return [[scenes[k] for scenes in found.values()] for k in range(draws)]


@torch.no_grad()
def similarities(encoder: TextVideoEncoder, scenes: list, frames: int) -> torch.Tensor:
    """All clips against all of their captions."""
    rows = []
    captions = [caption(scene.facts) for scene in scenes]
    for start in range(0, len(scenes), 64):
        rows.append(encoder.similarity(render(scenes[start : start + 64], frames), captions))
    return torch.cat(rows)


def retrieval(encoder: TextVideoEncoder, draws: int = 8) -> dict:
    """Recall at 1 on unseen combinations, mean over draws: 64 captions at level 1, 256 at level 2."""
    groups = {1: (scenes_by_caption(draws), 8), 2: ([distinct_scenes(2, 256)], 16)}
    found = {}
    for level, (sets, frames) in groups.items():
        both = torch.tensor([recall_at(similarities(encoder, scenes, frames)) for scenes in sets])
        found[f"level {level}"] = {
            "text to video": both[:, 0].mean().item(),
            "video to text": both[:, 1].mean().item(),
            "captions": len(sets[0]),
            "draws": len(sets),
        }
    return found


@torch.no_grad()
def order_probe(encoder: TextVideoEncoder, clips: int = 512) -> dict:
    """Forward or reversed: which of two clips fits the caption better; with and without the head in time."""
    scenes, seed = [], 0
    while len(scenes) < clips:
        scene = sample_scene(1, seed, split="unseen")
        seed += 1
        if scene.facts.objects[0].motion in REVERSED:
            scenes.append(scene)
    texts = [caption(scene.facts) for scene in scenes]
    video = render(scenes, 8)
    head, found = encoder.head, {}
    for name, used in (("with the head", head), ("mean of frames", None)):
        encoder.head = used
        scores = []
        for clip in (video, video.flip(2)):
            parts = zip(clip.split(64), range(0, clips, 64), strict=True)
            scores.append(torch.cat([encoder.similarity(c, texts[s : s + 64]).diagonal() for c, s in parts]))
        found[name] = preferred(*scores)
    encoder.head = head
    return found | {"clips": clips}


@torch.no_grad()
def binding_probe(encoder: TextVideoEncoder, clips: int = 512) -> dict:
    """Level 2, colours swapped between the objects: which of two captions fits the clip better."""
    scenes = [sample_scene(2, seed, split="unseen") for seed in range(clips)]
    right, wrong = [], []
    for start in range(0, clips, 64):
        part = scenes[start : start + 64]
        video = render(part, 16)
        for kept, texts in (
            (right, [caption(s.facts) for s in part]),
            (wrong, [caption(swapped(s.facts)) for s in part]),
        ):
            kept.append(encoder.similarity(video, texts).diagonal())
    return {"ranked right": preferred(torch.cat(right), torch.cat(wrong)), "clips": clips}


def swapped(facts: Facts) -> Facts:
    """The same facts with the colours of the first two objects exchanged."""
    first, second, *rest = facts.objects
    exchanged = (replace(first, color=second.color), replace(second, color=first.color))
    return replace(facts, objects=(*exchanged, *rest))


class Watcher:
    """Looks at retrieval during training and adds a point to the run's curve."""

    def __call__(self, trainer: ContrastiveTrainer) -> str:
        found = retrieval(clip_of(trainer.config, trainer.ema.state), draws=1)
        trainer.curve.append({"step": trainer.step, "minutes": trainer.seconds / 60} | found)
        return ", ".join(f"{name} {row['video to text']:.0%}" for name, row in found.items())


def measure(encoder: TextVideoEncoder) -> dict:
    """Everything that the card says."""
    return {
        "retrieval": retrieval(encoder),
        "order": order_probe(encoder),
        "binding": binding_probe(encoder),
    }


def main(arguments: Arguments) -> None:
    """Train to the end, then measure and ship."""
    config = replace(CLIP, train=replace(CLIP.train, steps=arguments.steps))
    trainer, watcher = ContrastiveTrainer(config, arguments.folder), Watcher()
    if trainer.checkpoint.exists():
        trainer.resume()
    trainer.train(observe_every=arguments.watch_every, observe=watcher)
    encoder = clip_of(trainer.config, trainer.ema.state)
    found = measure(encoder)
    record = trainer.record() | {"evaluation": found, "conditions": conditions()}
    results = {"config": config.to_dict(), "seconds": trainer.seconds, "curve": trainer.curve}
    path = publish(
        config.name,
        lambda path: save_clip(encoder, path, record),
        lambda digest: card(record, digest),
        results | found,
    )
    tqdm.write(f"written to {path}")


def card(record: dict, digest: str) -> str:
    """The model card, from what was measured."""
    found = record["evaluation"]
    lines = [
        f"# {record['config']['name']}",
        "",
        "Text and video in one space: an open_clip model with small towers, a Transformer along time, "
        "and one token a word.",
        "",
        "| | |",
        "| --- | --- |",
        *origin_rows(record, digest),
        "",
        *recall_table(found["retrieval"]),
        "",
        "| probe, unseen combinations | share right | clips |",
        "| --- | --- | --- |",
        f"| forward or reversed | {found['order']['with the head']:.1%} | {found['order']['clips']} |",
        f"| the same, from the mean of frames | {found['order']['mean of frames']:.1%} "
        f"| {found['order']['clips']} |",
        f"| colours swapped between two objects | {found['binding']['ranked right']:.1%} "
        f"| {found['binding']['clips']} |",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(tyro.cli(Arguments))
