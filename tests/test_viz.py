"""Players, sheets, charts and tables: what a reader and a screen reader find in them."""

import base64
import io
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache

import matplotlib
import pytest
import torch
from PIL import Image

from t2v_mini.data.video_files import frames_uint8
from t2v_mini.viz import bar_with_interval, contact_sheet, hex_color, player, table, use_style
from t2v_mini.viz.style import CYCLE
from t2v_mini.world import COLORS, caption, judge, render, sample_scenes, scene_facts

MAX_PLAYER_BYTES = 150_000
MIN_CONTRAST = 1.6  # of a wide line on white; below it yellow (1.3) and white (1.0) would vanish


@cache
def world() -> tuple[torch.Tensor, list[str]]:
    scenes = sample_scenes(1, 8, seed=0)
    return render(scenes), [caption(scene_facts(scene)) for scene in scenes]


def pictures(html: str, kind: str) -> list[Image.Image]:
    found = re.findall(rf'<img class="{kind}"[^>]*base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def luminance(name: str) -> float:
    linear = [
        (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in [v / 255 for v in COLORS[name]]
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_style_uses_colours_of_the_palette_that_show_on_white():
    with matplotlib.rc_context():
        use_style()
        cycle = [entry["color"] for entry in matplotlib.rcParams["axes.prop_cycle"]]
        assert matplotlib.rcParams["savefig.facecolor"] == "white"
    assert cycle == [hex_color(name) for name in CYCLE] and len(set(cycle)) == len(cycle)
    assert min(1.05 / (luminance(name) + 0.05) for name in CYCLE) > MIN_CONTRAST
    assert max(1.05 / (luminance(name) + 0.05) for name in set(COLORS) - set(CYCLE)) < MIN_CONTRAST
    with pytest.raises(ValueError, match="name must be one of red"):
        hex_color("mauve")


def test_a_player_holds_every_frame_and_a_still_one():
    videos, captions = world()
    html = player(videos, captions).data
    moving, still = pictures(html, "t2v-moving"), pictures(html, "t2v-still")
    assert len(moving) == len(still) == 8
    for video, film, first in zip(videos, moving, still, strict=True):
        frames = frames_uint8(video)
        assert film.n_frames == 16 and film.info["loop"] == 0
        for number in (0, 7, 15):
            film.seek(number)
            assert (
                torch.tensor(list(film.convert("RGB").tobytes())) == torch.tensor(frames[number]).flatten()
            ).all()
        assert first.convert("RGB").tobytes() == frames[0].tobytes()


def test_a_player_is_small_and_needs_no_network_and_no_script():
    videos, captions = world()
    html = player(videos, captions, judge(videos, captions)).data
    assert len(html) < MAX_PLAYER_BYTES
    assert "<script" not in html and "http" not in html and "url(" not in html


@pytest.mark.parametrize("noise", [0.02, 0.3, 2.0])
def test_a_player_of_noise_is_small_too_and_looks_like_the_clips(noise):
    videos = world()[0]
    noisy = videos + noise * torch.randn(videos.shape, generator=torch.Generator().manual_seed(0))
    noisy = noisy.clamp(-1, 1)
    html = player(noisy, world()[1], judge(videos, world()[1])).data
    assert len(html) < MAX_PLAYER_BYTES
    for video, film in zip(noisy, pictures(html, "t2v-moving"), strict=True):
        assert film.n_frames == 16
        film.seek(9)
        shown = torch.tensor(list(film.convert("RGB").tobytes())).float()
        # Two bits a colour leave at most half a step of 85; most clips keep more.
        assert (shown - torch.tensor(frames_uint8(video)[9]).flatten()).abs().max() <= 43


def test_a_player_stands_still_for_paper_and_for_those_who_ask():
    html = player(world()[0][:1]).data
    assert re.search(r"@media print,\s*\(prefers-reduced-motion:\s*reduce\)", html)
    assert "image-rendering:pixelated" in html and "min-width:192px" in html


def test_a_player_names_each_clip_for_a_screen_reader():
    videos, captions = world()
    html = player(videos[:2], captions[:2]).data
    assert f'alt="16 frames: {captions[0]}"' in html
    assert 'alt="16 frames, clip 1"' in player(videos[:2]).data
    assert html.count("<img") == html.count("alt=") == 4


def test_a_player_marks_each_fact():
    videos, captions = world()
    claims = [captions[0], captions[0]]
    verdicts = judge(videos[:2], claims)
    assert verdicts[0].correct and not verdicts[1].correct
    html = player(videos[:2], captions[:2], verdicts).data
    for verdict, figure in zip(verdicts, re.findall(r"<figure>.*?</figure>", html), strict=True):
        outside, folded = re.fullmatch(r"(.*)<details>(.*)</details>.*", figure).groups()
        summary, everything = re.fullmatch(r"<summary.*?>(.*)</summary>(.*)", folded).groups()
        failing = [fact for fact in verdict.facts if not fact.holds]
        held = len(verdict.facts) - len(failing)
        # Failures stand in the open, and again among all facts.
        assert outside.count("✗") == everything.count("✗") == len(failing) and "✓" not in outside
        assert all(f"seen: {fact.seen}" in outside for fact in failing)
        assert everything.count("✓") == held and everything.count("<li") == len(verdict.facts)
        if verdict.correct:
            assert summary == f'<b role="img" aria-label="holds">✓</b> all {held} facts hold'
        else:
            assert summary == f"{held} of {len(verdict.facts)} facts hold"


def test_a_verdict_on_one_fact_reads_well():
    (verdict,) = judge(world()[0][:1], world()[1][:1])
    alone = replace(verdict, facts=verdict.facts[:1])
    assert "</b> its one fact holds</summary>" in player(world()[0][:1], verdicts=[alone]).data


def test_captions_and_cells_are_escaped():
    sly = '<b onclick="x">&'
    html = player(world()[0][:1], [sly]).data
    assert "<b onclick" not in html and "&lt;b onclick=&quot;x&quot;&gt;&amp;" in html
    html = table([{sly: sly}], caption=sly).data
    assert "<b onclick" not in html


def test_a_clip_of_one_frame_can_be_shown():
    video = world()[0][:1, :, :1]
    assert pictures(player(video).data, "t2v-moving")[0].size == (32, 32)
    assert len(contact_sheet(video).axes) == 1


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda v: player(v[:0]), r"shape \(B, C, F, H, W\)"),
        (lambda v: player(v, ["one"]), "captions must hold 8 entries"),
        (lambda v: player(v, verdicts=[]), "verdicts must hold 8 entries"),
        (lambda v: player(v, columns=0), "columns must be at least 1"),
        (lambda v: player(v, fps=0), "fps must lie"),
        (lambda v: player(v * 100), r"lie in \[-1, 1\]"),
        (lambda v: player(v[:, :2]), "C = 3 or 1"),
        (lambda v: contact_sheet(v, every=0), "every must be at least 1"),
        (lambda v: contact_sheet(v, captions=["one"]), "captions must hold 8"),
        (lambda v: contact_sheet(v * float("nan")), "finite"),
    ],
)
def test_bad_clips_are_refused(use, message):
    with pytest.raises(ValueError, match=message):
        use(world()[0])


def test_a_sheet_shows_the_frames_it_names():
    videos, captions = world()
    figure = contact_sheet(videos[:2], captions[:2], every=3)
    numbers = [0, 3, 6, 9, 12, 15]
    assert [axes.get_title(loc="left") for axes in figure.axes] == [str(n) for n in numbers] * 2
    for place, axes in enumerate(figure.axes):
        shown = torch.tensor(axes.images[0].get_array())
        assert torch.equal(shown, torch.tensor(frames_uint8(videos[place // 6])[numbers[place % 6]]))
        assert axes.images[0].get_interpolation() == "nearest"
    lefts = [axes.get_position().x0 for axes in figure.axes[:6]]
    assert lefts == sorted(lefts) and len({axes.get_position().y0 for axes in figure.axes[:6]}) == 1
    assert [text.get_text() for text in figure.texts] == captions[:2]


@pytest.mark.parametrize("every", [1, 2, 16])
def test_frames_uint8_a_sheet_keep_their_shape_and_do_not_overlap(every):
    videos, captions = world()
    long = "a caption that goes on and on, so that it needs more than one line of the sheet to be read"
    figure = contact_sheet(videos[:2, :, :, :24], [long, captions[1]], every=every)
    boxes = [axes.get_window_extent() for axes in figure.axes]
    assert all(box.width / box.height == pytest.approx(32 / 24, rel=0.001) for box in boxes)
    figure.canvas.draw()
    boxes += [text.get_window_extent() for text in figure.texts]
    inside = figure.bbox
    for i, a in enumerate(boxes):
        assert a.x0 >= -1 and a.y0 >= -1 and a.x1 <= inside.x1 + 1 and a.y1 <= inside.y1 + 1
        for b in boxes[i + 1 :]:
            across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert across < 0.5 or down < 0.5


def test_a_bar_has_its_value_and_its_interval():
    figure = bar_with_interval(
        {"mini": (0.9, 0.8, 0.95), "chance": (0.01, 0, 0.02)}, "Accuracy", "share of clips"
    )
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.9, 0.01]
    segments = axes.collections[0].get_segments()
    assert [sorted(point[0] for point in s) for s in segments] == [
        pytest.approx([0.8, 0.95]),
        pytest.approx([0, 0.02]),
    ]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["mini", "chance"]
    assert axes.get_xlabel() == "share of clips" and axes.get_title(loc="left") == "Accuracy"
    assert [text.get_text() for text in axes.texts] == ["0.9", "0.01"]


def test_shares_are_written_as_percent():
    (axes,) = bar_with_interval({"mini": (0.954, 0.9, 1)}, "Accuracy", "share", form=".1%").figure.axes
    assert [text.get_text() for text in axes.texts] == ["95.4%"]
    assert axes.xaxis.get_major_formatter()(0.5) == "50%"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "at least one label"),
        ({"a": (0.5, 0.6, 0.7)}, r"values\['a'\] must be"),
        ({"a": (float("nan"), 0.0, 1.0)}, r"values\['a'\] must be"),
    ],
)
def test_bad_bars_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        bar_with_interval(values, "title", "label")


def test_a_table_has_heads_formats_and_numbers_to_the_right():
    rows = [{"model": "mini", "accuracy": 0.913, "n": 200}, {"model": "chance", "accuracy": 0.01, "n": 50}]
    html = table(rows, {"accuracy": ".1%", "n": lambda n: f"{n} clips"}, caption="Unseen").data
    assert html.count('scope="col"') == 3 and html.count('scope="row"') == 2
    assert '<td class="t2v-number">91.3%</td>' in html and "200 clips" in html
    assert "<caption>Unseen</caption>" in html and 'class="t2v-table" role="region" tabindex="0"' in html
    assert "overflow-x:auto" in html


@pytest.mark.parametrize(
    ("rows", "formats", "message"),
    [
        ([], {}, "at least one row"),
        ([{}], {}, "at least one row"),
        ([{"a": 1}, {"b": 1}], {}, "must all have the columns .* in row 1"),
        ([{"a": 1}], {"b": ".1f"}, "must name columns"),
        ([{"a": "text"}], {"a": ".1f"}, r"formats\['a'\] must fit"),
    ],
)
def test_bad_tables_are_refused(rows, formats, message):
    with pytest.raises(ValueError, match=message):
        table(rows, formats)


def test_importing_the_module_loads_neither_matplotlib_nor_pillow_nor_av():
    code = (
        "import sys, t2v_mini.viz; print(sorted({'matplotlib', 'PIL', 'av', 'IPython'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
