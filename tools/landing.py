"""Generate the clips of the landing page with the shipped weights: `python -m tools.landing [--readme]`.

Every clip is the first of its seed. The pages include what is written here; with --readme the clip
on top of README.md is made again, too.
"""

import argparse
import re
import sys
from html import escape
from pathlib import Path

from PIL import Image

from t2v_mini.data.video_files import frames_uint8, write_video
from t2v_mini.files import atomic_path
from t2v_mini.pipeline import PRETRAINED, TextToVideo, shipped_weights
from t2v_mini.training.checkpoint import read_record
from t2v_mini.world import Verdict, is_held_out, judge, parse
from tools.project import ROOT

GENERATED = ROOT / "book" / "_generated"
CLIPS = ROOT / "book" / "_assets" / "clips"
# Six combinations of colour, shape and motion from training, and six that training never showed.
PROMPTS = (
    "a small red circle moves left",
    "a large blue square grows",
    "a large cyan triangle grows",
    "a large yellow triangle moves up",
    "a small yellow square moves right",
    "a small green circle bounces",
    "a large pink circle bounces",
    "a large white square stays still",
    "a small white triangle shrinks",
    "a small pink triangle moves right",
    "a large orange triangle moves down",
    "a small cyan square moves down",
)
README_BLOCK = re.compile(r"(<!-- clip:begin -->\n).*?(<!-- clip:end -->)", re.DOTALL)


def gallery(verdicts: list[Verdict]) -> str:
    """The page's grid: clip, prompt, whether its combination was in training, and each fact."""
    figures = []
    for number, verdict in enumerate(verdicts):
        held = "never seen in training" if is_held_out(parse(verdict.caption)) else "seen in training"
        facts = "".join(
            f'<li class="t2v-{"yes" if fact.holds else "no"}">{"✓" if fact.holds else "✗"} '
            f"{fact.kind}: {escape(fact.claimed)}{'' if fact.holds else f', seen: {escape(fact.seen)}'}</li>"
            for fact in verdict.facts
        )
        alt = escape(f"generated clip: {verdict.caption}")
        figures.append(
            f'<figure><img class="t2v-moving" src="../_static/clips/{number:02}.webp" alt="{alt}">'
            f'<img class="t2v-still" src="../_static/clips/{number:02}.png" alt="first frame of the {alt}">'
            f"<figcaption><b>{escape(verdict.caption)}</b> ({held})<ul>{facts}</ul></figcaption></figure>"
        )
    right = sum(verdict.correct for verdict in verdicts)
    return (
        f'<div class="t2v-gallery">{"".join(figures)}</div>\n\n'
        f"{right} of these {len(verdicts)} clips are right in every fact. "
        "They were made on the machine that built this page; each is the first of its seed.\n"
    )


def accuracy(record: dict) -> str:
    """The figures of the model card, as a table."""
    lines = [
        "| combinations | caption accuracy | 95 % interval | ceiling | clips |",
        "| --- | --- | --- | --- | --- |",
    ]
    for split in ("seen", "unseen"):
        row = record["evaluation"][split]
        low, high = row["interval"]
        lines.append(
            f"| {split} | {row['caption_accuracy']:.1%} | {low:.1%} to {high:.1%} | {row['ceiling']:.1%} "
            f"| {row['clips']} |"
        )
    return "\n".join(lines) + "\n"


def provenance() -> str:
    """Every shipped weight with what made it."""
    lines = [
        "| weights | content hash | steps | minutes of training | device | commit |",
        "| " + "--- | " * 6,
    ]
    for name in shipped_weights():
        record = read_record(PRETRAINED / f"{name}.safetensors")
        conditions = record["conditions"]
        lines.append(
            f"| {name} | `{record['hash'][:16]}` | {record['step']} | {record['seconds'] / 60:.0f} "
            f"| {conditions['device']}, {conditions['threads']} threads "
            f"| `{(conditions['commit'] or 'none')[:12]}` |"
        )
    return "\n".join(lines) + "\n"


def readme_block(verdict: Verdict, path: str) -> str:
    """The clip on top of the README, with its prompt and verdict."""
    return (
        f"![A clip that the shipped weights made]({path})\n\n"
        f'"{verdict.caption}", made by the shipped weights: the first prompt of the landing page '
        f"that is right in every fact.\n\n```text\n{verdict}\n```\n"
    )


def write(path: Path, text: str) -> None:
    """Write a text file, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def main() -> int:
    """Generate, judge and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.landing", description=__doc__.splitlines()[0])
    parser.add_argument("--readme", action="store_true", help="also make README.md's clip again")
    arguments = parser.parse_args()
    pipeline = TextToVideo.from_pretrained("mini")
    video = pipeline(list(PROMPTS), seed=0)
    verdicts = judge(video, list(PROMPTS))
    CLIPS.mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(video):
        write_video(CLIPS / f"{number:02}.webp", clip)
        first = frames_uint8(clip)[0]
        with atomic_path(CLIPS / f"{number:02}.png") as temporary:
            Image.fromarray(first).resize((192, 192), Image.Resampling.NEAREST).save(temporary)
    write(GENERATED / "gallery.md", gallery(verdicts))
    write(GENERATED / "accuracy.md", accuracy(pipeline.record))
    write(GENERATED / "provenance.md", provenance())
    if arguments.readme:
        chosen = next((i for i, verdict in enumerate(verdicts) if verdict.correct), 0)
        write_video(ROOT / "book" / "_assets" / "readme_clip.gif", video[chosen])
        text = (ROOT / "README.md").read_text()
        block = readme_block(verdicts[chosen], "book/_assets/readme_clip.gif")
        write(ROOT / "README.md", README_BLOCK.sub(lambda match: match[1] + block + match[2], text))
    print(f"{sum(v.correct for v in verdicts)} of {len(verdicts)} landing clips are right in every fact")
    return 0


if __name__ == "__main__":
    sys.exit(main())
