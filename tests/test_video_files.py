"""Clips in files: what is written is read back, and a damaged file is refused with its path."""

import os
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from t2v_mini.data import video_files
from t2v_mini.data.video_files import enlarge, frames_of, read_video, to_float, to_uint8, write_video
from t2v_mini.world import render, sample_scenes

EXACT = (".gif", ".webp")
ALL = (".gif", ".webp", ".mp4")
MP4_PSNR = 38  # decibels, at the default size


@cache
def world_clips() -> torch.Tensor:
    return render(sample_scenes(1, 4, seed=0))


def clip_of_kind(kind: str) -> torch.Tensor:
    clip = world_clips()[0]
    order = {"moves": range(16), "still": [0] * 16, "pauses": [0, 0, 1, 1, 1, 1, 5, 5], "one": [0]}[kind]
    return clip[:, list(order)]


def as_stored(clip: torch.Tensor) -> torch.Tensor:
    return to_float(to_uint8(enlarge(clip)))


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return (-10 * torch.log10((a - b).square().mean() / 4)).item()


def test_bytes_survive_the_way_through_floats():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(every)), every)
    assert to_float(every).min() == -1 and to_float(every).max() == 1


def test_a_slight_overshoot_is_cut_and_a_gross_one_refused():
    assert to_uint8(torch.tensor([-1.4, 1.4])).tolist() == [0, 255]
    with pytest.raises(ValueError, match=r"lie in \[-1, 1\], got values from 0 to 255"):
        to_uint8(torch.tensor([0.0, 255.0]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="must be finite"):
        to_uint8(torch.tensor([0.0, value]))


def test_enlarging_repeats_pixels_a_whole_number_of_times():
    small = torch.arange(2 * 3 * 5.0).view(2, 3, 5)
    large = enlarge(small, at_least=10)
    assert large.shape == (2, 12, 20)
    assert torch.equal(large[:, ::4, ::4], small) and torch.equal(large[:, 3::4, 3::4], small)
    assert torch.equal(enlarge(small, at_least=1), small)
    with pytest.raises(ValueError, match="at_least"):
        enlarge(small, at_least=0)


@pytest.mark.parametrize("kind", ["moves", "still", "pauses", "one"])
@pytest.mark.parametrize("suffix", EXACT)
def test_gif_and_webp_give_back_every_frame_exactly(tmp_path, suffix, kind):
    clip = clip_of_kind(kind)
    write_video(tmp_path / f"clip{suffix}", clip)
    back = read_video(tmp_path / f"clip{suffix}")
    assert torch.equal(back.video, as_stored(clip))
    if clip.shape[1] > 1 or suffix == ".webp":
        assert back.fps == pytest.approx(8)


@pytest.mark.parametrize("kind", ["moves", "still", "pauses", "one"])
def test_mp4_gives_back_every_frame_closely(tmp_path, kind):
    clip = clip_of_kind(kind)
    write_video(tmp_path / "clip.mp4", clip)
    back = read_video(tmp_path / "clip.mp4")
    assert back.video.shape == as_stored(clip).shape
    assert back.fps == pytest.approx(8)
    assert psnr(back.video, as_stored(clip)) > MP4_PSNR


def test_mp4_is_h264_in_a_pixel_format_that_browsers_play(tmp_path):
    write_video(tmp_path / "clip.mp4", clip_of_kind("moves"))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")


def test_mp4_pads_odd_sizes_by_one_pixel(tmp_path):
    clip = clip_of_kind("moves")[:, :, :19, :17]
    write_video(tmp_path / "clip.mp4", clip, at_least=1)
    assert read_video(tmp_path / "clip.mp4").video.shape == (3, 16, 20, 18)


@pytest.mark.parametrize(("suffix", "fps"), [(".gif", 12), (".gif", 7.5), (".webp", 23.976), (".mp4", 29.97)])
def test_the_pace_is_kept(tmp_path, suffix, fps):
    write_video(tmp_path / f"clip{suffix}", clip_of_kind("moves"), fps=fps, at_least=16)
    assert read_video(tmp_path / f"clip{suffix}").fps == pytest.approx(fps, rel=0.01)


def test_a_gif_of_many_colours_takes_near_ones(tmp_path):
    ramp = torch.linspace(-1, 1, 64)
    clip = torch.stack(
        [ramp.view(1, 64, 1).expand(4, 64, 64), ramp.expand(4, 64, 64), torch.zeros(4, 64, 64)]
    )
    write_video(tmp_path / "clip.gif", clip, at_least=1)
    assert psnr(read_video(tmp_path / "clip.gif").video, clip) > 25
    write_video(tmp_path / "clip.webp", clip, at_least=1)
    assert torch.equal(read_video(tmp_path / "clip.webp").video, to_float(to_uint8(clip)))


def test_a_grey_clip_is_written_as_colour(tmp_path):
    grey = world_clips()[0][:1]
    write_video(tmp_path / "clip.webp", grey, at_least=1)
    assert torch.equal(
        read_video(tmp_path / "clip.webp").video, to_float(to_uint8(grey)).expand(3, -1, -1, -1)
    )


def test_a_gif_that_merges_equal_frames_is_spread_out_again(tmp_path):
    frames = [Image.fromarray(frame) for frame in frames_of(clip_of_kind("pauses"))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100, loop=0)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 3, "frames that last 200, 400 and 200 ms; else this test shows nothing"
    back = read_video(tmp_path / "a.gif")
    frames = back.video.unbind(1)
    assert [torch.equal(a, b) for a, b in pairwise(frames)] == [False, True, False]
    assert back.fps == pytest.approx(5)


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".mov"])
def test_other_films_are_read(tmp_path, suffix):
    frames = frames_of(enlarge(clip_of_kind("moves"), 64))
    with av.open(str(tmp_path / f"a{suffix}"), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    back = read_video(tmp_path / f"a{suffix}")
    assert back.video.shape == (3, 16, 64, 64) and back.fps == pytest.approx(10)


def bad_files(folder):
    (folder / "empty.gif").touch()
    (folder / "folder.mp4").mkdir()
    (folder / "text.mp4").write_text("not a video, but a line of text " * 40)
    (folder / "text.webp").write_text("not a video, but a line of text " * 40)
    (folder / "a.txt").write_text("text")
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 4096), dtype=np.float32), format="fltp", layout="mono"
        )
        silence.sample_rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.mp4", "no such file"),
        ("empty.gif", "is empty"),
        ("folder.mp4", "folder"),
        ("text.mp4", "Invalid data"),
        ("text.webp", "cannot identify"),
        ("a.txt", "must end in"),
        ("sound.mp4", "no video stream"),
    ],
)
def test_what_cannot_be_read_is_refused_with_path_and_reason(tmp_path, name, reason):
    bad_files(tmp_path)
    with pytest.raises(ValueError, match=reason) as caught:
        read_video(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_file_cut_short_is_refused(tmp_path, suffix, share):
    path = tmp_path / f"clip{suffix}"
    write_video(path, clip_of_kind("moves"))
    data = path.read_bytes()
    cut = data[: int(len(data) * share)].rstrip(b";")
    path.write_bytes(cut)
    with pytest.raises(ValueError, match="clip"):
        read_video(path)


@cache
def whole_file(suffix: str, folder: str) -> bytes:
    path = os.path.join(folder, f"whole{suffix}")
    write_video(path, clip_of_kind("moves")[:, :6], at_least=32)
    with open(path, "rb") as file:
        return file.read()


def reads_or_refuses(path) -> None:
    try:
        clip = read_video(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert clip.video.ndim == 4 and clip.video.shape[0] == 3 and 0 not in clip.video.shape
        assert clip.video.abs().max() <= 1 and clip.fps > 0


@pytest.mark.parametrize("suffix", ALL)
@settings(max_examples=40)
@given(data=st.data())
def test_any_damage_gives_a_clip_or_a_value_error(tmp_path_factory, suffix, data):
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(whole_file(suffix, str(folder)))
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content
    path = folder / f"damaged{suffix}"
    path.write_bytes(content)
    reads_or_refuses(path)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4", ".mkv", ".avi"])
@settings(max_examples=25)
@given(content=st.binary(min_size=1, max_size=300))
def test_random_bytes_give_a_clip_or_a_value_error(tmp_path_factory, suffix, content):
    start = {".gif": b"GIF89a", ".webp": b"RIFF\x20\0\0\0WEBPVP8X", ".mp4": b"\0\0\0\x20ftypisom"}.get(
        suffix, b""
    )
    path = tmp_path_factory.getbasetemp() / f"random{suffix}"
    path.write_bytes(start + content)
    reads_or_refuses(path)


@pytest.mark.parametrize("suffix", EXACT)
def test_a_file_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch, suffix):
    write_video(tmp_path / f"clip{suffix}", clip_of_kind("moves"), at_least=32)
    monkeypatch.setattr(video_files, "MAX_PIXELS", 32 * 32 * 10)
    with pytest.raises(ValueError, match="16 frames of 32 x 32 are more than"):
        read_video(tmp_path / f"clip{suffix}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda clip: clip[:2], "1 or 3 channels"),
        (lambda clip: clip[:, :0], "at least one frame"),
        (lambda clip: clip[:, :, :0], "pixel"),
        (lambda clip: clip * 100, "lie in"),
        (lambda clip: clip * float("nan"), "finite"),
    ],
)
@pytest.mark.parametrize("suffix", ALL)
def test_a_bad_clip_is_refused_and_leaves_nothing(tmp_path, suffix, change, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / f"clip{suffix}", change(world_clips()[0]))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(3, 1, 4, 4, dtype=torch.uint8), "float tensor"),
        (torch.zeros(3, 4, 4), r"shape \(C, F, H, W\)"),
        (torch.zeros(1, 3, 1, 4, 4), r"shape \(C, F, H, W\)"),
    ],
)
def test_what_is_not_a_clip_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        frames_of(bad)


@pytest.mark.parametrize(
    ("name", "fps", "message"),
    [
        ("a.avi", 8, "must end in .gif, .webp, .mp4"),
        ("a", 8, "must end in"),
        ("a.mp4", 0, "fps"),
        ("a.webp", float("nan"), "fps"),
        ("a.gif", 60, "0.1 and 50"),
        ("nowhere/a.gif", 8, "nowhere"),
    ],
)
def test_a_bad_place_or_pace_is_refused(tmp_path, name, fps, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / name, world_clips()[0], fps=fps)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", ALL)
def test_a_write_stopped_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"clip{suffix}"
    write_video(path, clip_of_kind("one"), at_least=32)
    before = path.read_bytes()
    if suffix == ".mp4":
        plain, made = av.VideoFrame.from_ndarray, []

        class Interrupted:
            @staticmethod
            def from_ndarray(*args, **kwargs):
                made.append(1)
                if len(made) == 3:
                    raise KeyboardInterrupt
                return plain(*args, **kwargs)

        monkeypatch.setattr(av, "VideoFrame", Interrupted)
    else:

        def half_written(self, data):
            with self.open("wb") as file:
                file.write(data[: len(data) // 2])
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "write_bytes", half_written)
    with pytest.raises(KeyboardInterrupt):
        write_video(path, clip_of_kind("moves"), at_least=32)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]
