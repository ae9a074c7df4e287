"""Clips on a page: looping players and contact sheets.

Clips become lossless WebP pictures inside the page: no script and no network is needed, and the
browser enlarges the pixels. Readers who ask for less motion, and paper, get the first frame.
"""

import base64
from collections.abc import Sequence
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from t2v_mini.data.checks import check_video
from t2v_mini.data.video_encoders import encode_webp
from t2v_mini.data.video_files import frames_uint8
from t2v_mini.viz.style import INK, new_figure

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

    from t2v_mini.world.verdict import Verdict

SHEET_INCHES, PER_LINE = 7.2, 8
CLIP_BYTES, SMALL_CLIP = 13_000, 16 * 32 * 32  # bytes of a player's clip of so many pixels; more for larger

PLAYER_CSS = """
.t2v-player{display:grid;gap:14px;justify-content:start;margin:.8em 0;
  grid-template-columns:repeat(auto-fill,minmax(192px,1fr));max-width:calc(var(--t2v-columns)*240px)}
.t2v-player figure{margin:0;min-width:192px;max-width:320px}
.t2v-player img{display:block;width:100%;min-width:192px;height:auto;margin:0;border-radius:3px;
  image-rendering:pixelated}
.t2v-player figcaption{font-size:.88em;line-height:1.35;margin-top:.4em;text-align:left}
.t2v-player ul{list-style:none;margin:.25em 0 0;padding:0}
.t2v-player details{margin-top:.25em}.t2v-player summary{cursor:pointer}
.t2v-player li{margin:0;padding-left:1.3em;text-indent:-1.3em}
.t2v-player .t2v-yes b{color:#28735a}.t2v-player .t2v-no b{color:#ca1e0b}
.t2v-player .t2v-no{font-weight:600}
:is([data-theme=dark],[data-jp-theme-light=false]) .t2v-player .t2v-yes b{color:#5fc3a3}
:is([data-theme=dark],[data-jp-theme-light=false]) .t2v-player .t2v-no b{color:#ff8a7a}
@media print,(prefers-reduced-motion:reduce){.t2v-player .t2v-moving{display:none!important}
  .t2v-player .t2v-still{display:block!important}}
"""


def check_clips(videos: Tensor, **lists: Sequence | None) -> None:
    """Raise `ValueError` unless videos are (B, C, F, H, W), with one entry a clip in each list."""
    if not isinstance(videos, Tensor) or videos.ndim != 5 or 0 in videos.shape:
        got = tuple(videos.shape) if isinstance(videos, Tensor) else type(videos).__name__
        raise ValueError(f"videos must have the shape (B, C, F, H, W) with at least one clip, got {got}")
    check_video("videos", videos)
    for name, entries in lists.items():
        if isinstance(entries, str) or (entries is not None and len(entries) != len(videos)):
            raise ValueError(f"{name} must hold {len(videos)} entries, one a clip, got {entries!r:.80}")


def player(
    videos: Float[Tensor, "B C F H W"],
    captions: Sequence[str] | None = None,
    verdicts: Sequence["Verdict"] | None = None,
    columns: int = 4,
    fps: int | float = 8,
) -> "HTML":
    """Show looping clips side by side, each with its caption and the verdict on its facts.

    A verdict is one line that opens to all facts; those that fail stand below the caption as well.
    At most `columns` stand in a row, fewer where the page is narrow. Clips are exact; one that is
    too noisy for a small page is shown with fewer shades of each colour. Raises `ValueError` for
    videos of another shape or range, and for lists of another length.
    """
    from IPython.display import HTML

    check_clips(videos, captions=captions, verdicts=verdicts)
    if not 0.1 <= fps <= 100:
        raise ValueError(f"fps must lie between 0.1 and 100 frames per second, got {fps}")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    figures = [
        _figure(video, captions[i] if captions else None, verdicts[i] if verdicts else None, i, fps)
        for i, video in enumerate(videos)
    ]
    return HTML(
        f"<style>{PLAYER_CSS}</style>"
        f'<div class="t2v-player" style="--t2v-columns:{min(columns, len(videos))}">{"".join(figures)}</div>'
    )


def _figure(video: Tensor, caption: str | None, verdict: "Verdict | None", number: int, fps: float) -> str:
    frames = frames_uint8(video)
    alt = f"{len(frames)} frames" + (f": {caption}" if caption else f", clip {number}")
    # The still picture hides itself even where a viewer strips the style sheet.
    film, still = _small(frames, fps)
    pictures = _picture(film, "t2v-moving", alt, "") + _picture(
        still, "t2v-still", f"First of {alt}", ' style="display:none"'
    )
    text = f"<div>{escape(caption)}</div>" if caption else ""
    if verdict is not None:
        text += _verdict(verdict)
    return f"<figure>{pictures}{f'<figcaption>{text}</figcaption>' if text else ''}</figure>"


def _small(frames: np.ndarray, fps: float) -> tuple[bytes, bytes]:
    """The clip and its first frame as WebP: exact, or with fewer shades where noise would fill the page."""
    # A noisy clip in lossy WebP costs as much and blurs the colours of neighbouring pixels.
    for bits in (8, 6, 5, 4, 3, 2):
        step = 255 / (2**bits - 1)
        rounded = np.round(np.round(frames / step) * step).astype(np.uint8)
        film, still = encode_webp(rounded, fps), encode_webp(rounded[:1], fps)
        if len(film) + len(still) <= CLIP_BYTES * max(1.0, frames[..., 0].size / SMALL_CLIP):
            break
    return film, still


def _picture(data: bytes, kind: str, alt: str, style: str) -> str:
    source = "data:image/webp;base64," + base64.b64encode(data).decode()
    return f'<img class="{kind}"{style} src="{source}" alt="{escape(alt)}">'


def _verdict(verdict: "Verdict") -> str:
    """The facts that fail, then a line with the count, which opens to all facts."""
    total, failing = len(verdict.facts), [fact for fact in verdict.facts if not fact.holds]
    count = f"{total - len(failing)} of {total} facts hold"
    if not failing:
        count = _mark(True) + (f" all {total} facts hold" if total > 1 else " its one fact holds")
    shown = f"<ul>{''.join(map(_fact, failing))}</ul>" if failing else ""
    everything = "".join(map(_fact, verdict.facts))
    kind = "" if failing else ' class="t2v-yes"'
    return f"{shown}<details><summary{kind}>{count}</summary><ul>{everything}</ul></details>"


def _mark(holds: bool) -> str:
    mark, said = ("✓", "holds") if holds else ("✗", "fails")
    return f'<b role="img" aria-label="{said}">{mark}</b>'


def _fact(fact: Any) -> str:
    first, _, second = fact.about.partition(", ")
    claim = f"{first} {fact.kind}: {fact.claimed}"
    if fact.kind == "relation":
        claim = f"{first} {fact.claimed} {second}"
    text = claim.strip() + ("" if fact.holds else f", seen: {fact.seen}")
    kind = "t2v-yes" if fact.holds else "t2v-no"
    return f'<li class="{kind}">{_mark(fact.holds)} {escape(text)}</li>'


def contact_sheet(
    videos: Float[Tensor, "B C F H W"], captions: Sequence[str] | None = None, every: int = 1
) -> "Figure":
    """Draw each clip as a row of frames from left to right, every `every`-th of them.

    Each frame has its number on top, each row its caption. More than eight frames go on in a second
    line, since a phone could not show them in one. Raises `ValueError` for videos of another shape
    or range, captions of another number, and `every` below 1.
    """
    check_clips(videos, captions=captions)
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    numbers = list(range(0, videos.shape[2], every))
    lines = [numbers[i : i + PER_LINE] for i in range(0, len(numbers), PER_LINE)]
    across = max(4, len(lines[0]))
    side = SHEET_INCHES / across
    # All lengths in inches, from the top down.
    number_room, line_room, gap, after = 0.2, 0.2, 0.035, 0.12
    tall = (side - gap) * videos.shape[3] / videos.shape[4]
    texts = [fill(text, 80) for text in captions] if captions else [""] * len(videos)
    rooms = [line_room * (text.count("\n") + 1) + 0.05 if text else 0.0 for text in texts]
    total = sum(rooms) + len(videos) * (len(lines) * (tall + number_room) + after) - after
    figure = new_figure(SHEET_INCHES, total, dpi=110, layout="none")
    y = total
    for video, text, room in zip(videos, texts, rooms, strict=True):
        frames = frames_uint8(video)
        figure.text(0.0, y / total, text, va="top", fontsize=11, color=INK, parse_math=False)
        y -= room
        for line in lines:
            y -= number_room + tall
            for column, number in enumerate(line):
                box = (column * side / SHEET_INCHES, y / total, (side - gap) / SHEET_INCHES, tall / total)
                axes = figure.add_axes(box)
                axes.imshow(frames[number], interpolation="nearest", aspect="auto")
                axes.set_axis_off()
                axes.set_title(str(number), fontsize=10, color=INK, pad=2, loc="left", fontweight="normal")
        y -= after
    return figure
