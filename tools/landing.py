"""Generate what the landing page shows: `python -m tools.landing [--readme]`.

The clips come from the shipped weights, each the first of its seed; the state of the chapters comes
from the notebooks that exist. The pages include what is written here; with --readme the clip on top
of README.md is made again, too.
"""

import argparse
import hashlib
import re
import sys
from itertools import count
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from experiments.cards import accuracy_table
from t2v_mini import viz
from t2v_mini.data.video_files import frames_uint8, write_video
from t2v_mini.pipeline import TextToVideo
from t2v_mini.training.shipped import PRETRAINED
from t2v_mini.world import Verdict, is_held_out, judge, parse
from tools.project import ROOT, write_text

GENERATED = ROOT / "book" / "_generated"
README_CLIP = "book/_assets/readme_clip.gif"
WEIGHTS = "latent"
# Four prompts of each level; of these, two ask for combinations that training shows, and two for such that
# it never shows.
PROMPTS = (
    "a large blue square grows",
    "a small green circle bounces",
    "a small red circle moves left",
    "a small white triangle shrinks",
    "a large orange square moves left slowly above a small blue circle that stays still",
    "a small white circle that shrinks is to the left of a large blue square that grows",
    "a small yellow square moves right slowly below a large cyan triangle that bounces",
    "a large pink triangle moves down slowly in front of a large green circle that moves down slowly",
    "a large green circle bounces and turns red",
    "a large yellow square moves up and right quickly and turns back",
    "a small orange circle bounces, and a small blue square stays still above a large green triangle that "
    "stays still",
    "a small blue square moves right quickly and passes behind a large orange circle that stays still",
)
README_BLOCK = re.compile(r"(<!-- clip:begin -->\n).*?(<!-- clip:end -->)", re.DOTALL)

# The plan of the book. A chapter is finished when its notebook is there.
PARTS = {
    "I Foundations": ("Videos and captions", "Diffusion", "Attention in space and time"),
    "II Text": ("Text and video in one space", "Text conditioning"),
    "III Convolution": ("Convolution in space and time", "Separable convolution"),
    "IV Architectures": ("The video VAE", "Latent diffusion", "Hierarchical diffusion"),
    "V Training": ("Progressive training", "Losses"),
    "VI Deployment": ("Fast sampling", "Quantization and export", "Scaling up"),
    "VII Evaluation": ("Metrics", "Capstone"),
}
CHAPTERS = sum(map(len, PARTS.values()))


def finished(folder: Path = ROOT / "notebooks") -> dict[int, str]:
    """Number and file name of each chapter whose notebook is there."""
    return {int(path.name[:2]): path.name for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}


def status(done: dict[int, str]) -> str:
    """Which chapters are finished, in a sentence."""
    if len(done) == CHAPTERS:
        return f"All {CHAPTERS} chapters are finished.\n"
    *most, last = sorted(done)
    many = f"Chapters {', '.join(map(str, most))} and {last} are" if most else f"Chapter {last} is"
    return f"**{many} finished; the others are being written.** [The map](#the-map) shows them all.\n"


def book_map(done: dict[int, str]) -> str:
    """All chapters by part; the finished ones are links."""
    lines = [
        f"{CHAPTERS} chapters in {len(PARTS)} parts. A chapter with a link is finished; "
        "the others are the plan.",
        "",
        "| part | chapters |",
        "| --- | --- |",
    ]
    numbers = count(1)
    for part, titles in PARTS.items():
        entries = []
        for title, number in zip(titles, numbers, strict=False):
            name = done.get(number)
            entries.append(f"{number} [{title}](../notebooks/{name})" if name else f"{number} {title}")
        lines.append(f"| **{part}** | {' · '.join(entries)} |")
    return "\n".join(lines) + "\n"


def unseen(prompt: str) -> bool:
    """Whether training never shows the prompt's combination of colour, shape and motion."""
    return is_held_out(parse(prompt))


def gallery(video: Float[Tensor, "B 3 F H W"], verdicts: list[Verdict]) -> str:
    """The page's grid: clip, prompt, whether its combination was in training, and each fact."""
    labels = [f"{v.caption} ({'unseen' if unseen(v.caption) else 'seen'})" for v in verdicts]
    right, new = sum(v.correct for v in verdicts), [v for v in verdicts if unseen(v.caption)]
    return (
        f'```{{raw}} html\n<div class="t2v-gallery">{viz.player(video, labels, verdicts).data}</div>\n```\n\n'
        f"**{right} of these {len(verdicts)} clips are right in every fact**, and "
        f"{sum(v.correct for v in new)} of the {len(new)} whose combination of colour, shape and motion "
        "training never showed (*unseen*).\n"
    )


def accuracy(record: dict) -> str:
    """The figures of the model card, as a table, and what the intervals say."""
    return "\n".join([*accuracy_table(record["evaluation"]), "", comparison(record["evaluation"])]) + "\n"


def comparison(evaluation: dict) -> str:
    """Whether the clips show a difference between seen and unseen combinations."""
    seen, new = evaluation["seen"], evaluation["unseen"]
    if max(seen["interval"][0], new["interval"][0]) <= min(seen["interval"][1], new["interval"][1]):
        return (
            f"The two intervals overlap: {seen['clips']} clips of seen and {new['clips']} of unseen "
            "combinations do not show a difference between the two."
        )
    better = "seen" if seen["caption_accuracy"] > new["caption_accuracy"] else "unseen"
    return f"The two intervals do not overlap: the weights do better on {better} combinations."


def weights_table() -> str:
    """The cards of all shipped weights, one after the other; hashes are cut, so that they fit a phone."""
    cards = []
    for path in sorted(PRETRAINED.glob("*.md")):
        text = re.sub(r"`([0-9a-f]{32})[0-9a-f]{32}`", r"`\1`", path.read_text(encoding="utf-8"))
        cards.append("##" + text)  # its title becomes one of the third level
    return "\n".join(cards)


def clips_table(video: Float[Tensor, "B 3 F H W"], verdicts: list[Verdict]) -> str:
    """Each clip of the landing page with its seed and the hash of its pixels."""
    lines = ["| seed | prompt | combination | every fact right | SHA-256 of the pixels |", "| --- " * 5 + "|"]
    for seed, (clip, verdict) in enumerate(zip(video, verdicts, strict=True)):
        digest = hashlib.sha256(frames_uint8(clip).tobytes()).hexdigest()
        lines.append(
            f"| {seed} | {verdict.caption} | {'unseen' if unseen(verdict.caption) else 'seen'} "
            f"| {'yes' if verdict.correct else 'no'} | `{digest[:16]}` |"
        )
    return "\n".join(lines) + "\n"


def readme_block(verdict: Verdict) -> str:
    """The clip on top of the README, with its prompt and verdict."""
    return (
        f"![A clip that the shipped weights made: {verdict.caption}]({README_CLIP})\n\n"
        f'"{verdict.caption}", made by the shipped weights `{WEIGHTS}`: the last prompt of the '
        f"landing page that is right in every fact.\n\n```text\n{verdict}\n```\n"
    )


def update_readme(video: Float[Tensor, "B 3 F H W"], verdicts: list[Verdict]) -> None:
    """Put the last clip that is right into README.md; raises `ValueError` when there is none."""
    right = [i for i, verdict in enumerate(verdicts) if verdict.correct]
    if not right:
        raise ValueError("no clip of the landing page is right in every fact, so README.md keeps its own")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    chosen = right[-1]
    block = readme_block(verdicts[chosen])
    text, places = README_BLOCK.subn(lambda match: match[1] + block + match[2], text)
    if places != 1:
        raise ValueError(f"README.md must hold one block from clip:begin to clip:end, got {places}")
    write_video(ROOT / README_CLIP, video[chosen])
    write_text(ROOT / "README.md", text)


def main() -> int:
    """Generate, judge and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.landing", description=__doc__.splitlines()[0])
    parser.add_argument("--readme", action="store_true", help="also make README.md's clip again")
    arguments = parser.parse_args()
    pipeline = TextToVideo.from_pretrained(WEIGHTS)
    video = pipeline(list(PROMPTS), seed=0)
    verdicts = judge(video, list(PROMPTS))
    write_text(GENERATED / "gallery.md", gallery(video, verdicts))
    write_text(GENERATED / "status.md", status(finished()))
    write_text(GENERATED / "map.md", book_map(finished()))
    write_text(GENERATED / "accuracy.md", accuracy(pipeline.record))
    write_text(GENERATED / "weights.md", weights_table())
    write_text(GENERATED / "clips.md", clips_table(video, verdicts))
    if arguments.readme:
        update_readme(video, verdicts)
    print(f"{sum(v.correct for v in verdicts)} of {len(verdicts)} landing clips are right in every fact")
    return 0


if __name__ == "__main__":
    sys.exit(main())
