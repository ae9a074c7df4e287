"""Video files: what is written comes back, and a damaged file is an error that says so."""

import inspect
import struct
import tempfile
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from t2v_mini.data import video_files
from t2v_mini.data.video_files import enlarge, from_uint8, read_video, to_uint8, write_video
from t2v_mini.files import atomic_path
from t2v_mini.world import render, sample_scenes

SUFFIXES = (".gif", ".webp", ".mp4")


def clips(level: int = 1, count: int = 4, frames: int = 16) -> torch.Tensor:
    return render(sample_scenes(level, count), frames, 32, 32)


def rounded(video: torch.Tensor) -> torch.Tensor:
    """What is left of a clip when it goes through bytes."""
    return from_uint8(to_uint8(video))


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two clips in [-1, 1]."""
    return float(-10 * torch.log10(((a - b) / 2).pow(2).mean()))


def test_all_bytes_survive_the_conversion():
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_uint8(from_uint8(every)), every)
    assert from_uint8(every).aminmax() == (-1.0, 1.0)


def test_values_a_little_beyond_the_range_are_clipped():
    assert to_uint8(torch.tensor([-1.4, -1.0, 0.0, 1.0, 1.4])).tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(bad: float, tmp_path: Path):
    video = clips(count=1)[0]
    video[0, 3, 5, 5] = bad
    with pytest.raises(ValueError, match="video must be finite"):
        to_uint8(video)
    with pytest.raises(ValueError, match="video must be finite"):
        write_video(tmp_path / "clip.gif", video)
    assert list(tmp_path.iterdir()) == []


def test_the_wrong_type_is_refused_with_its_name():
    # Without the tests' own shape checks, as a reader meets it.
    with pytest.raises(ValueError, match="video must be a float tensor, got torch.uint8"):
        inspect.unwrap(to_uint8)(torch.zeros(3, 2, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="uint8 tensor .* got torch.float32"):
        inspect.unwrap(from_uint8)(torch.zeros(3, 2, 8, 8))
    with pytest.raises(ValueError, match=r"shape \(C, F, H, W\) .* got \(2, 3, 4, 8, 8\)"):
        inspect.unwrap(video_files.frames_uint8)(torch.zeros(2, 3, 4, 8, 8))


def test_enlarging_repeats_pixels_by_a_whole_factor():
    video = clips(count=1)[0]
    large = enlarge(video)
    assert large.shape == (3, 16, 192, 192)
    assert torch.equal(large[..., ::6, ::6], video) and torch.equal(large[..., 5::6, 3::6], video)
    assert enlarge(video, 193).shape[-1] == 224  # a whole factor, never less than asked
    assert torch.equal(enlarge(video, 20), video)
    with pytest.raises(ValueError, match="at_least must be a positive number of pixels, got 0"):
        enlarge(video, 0)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("enlarge_to", [None, 96])
def test_gif_and_webp_of_few_colours_are_exact(suffix: str, enlarge_to: int | None, tmp_path: Path):
    for clip in clips(count=6):
        assert len(torch.unique(to_uint8(clip).flatten(1), dim=1).T) <= 256
        write_video(tmp_path / f"clip{suffix}", clip, enlarge_to=enlarge_to)
        back = read_video(tmp_path / f"clip{suffix}")
        expected = clip if enlarge_to is None else enlarge(clip, enlarge_to)
        assert torch.equal(back.video, rounded(expected))
        assert back.fps == pytest.approx(8, rel=1e-3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_clip_that_stands_still_keeps_every_frame(suffix: str, tmp_path: Path):
    clip = clips(count=1)[0, :, :1].expand(-1, 16, -1, -1)
    write_video(tmp_path / f"clip{suffix}", clip)
    assert read_video(tmp_path / f"clip{suffix}").video.shape == (3, 16, 192, 192)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_frame_odd_sides_and_one_channel(suffix: str, tmp_path: Path):
    clip = torch.linspace(-1, 1, 35).reshape(1, 1, 5, 7)
    write_video(tmp_path / f"clip{suffix}", clip, enlarge_to=None)
    video = read_video(tmp_path / f"clip{suffix}").video
    even = (6, 8) if suffix == ".mp4" else (5, 7)
    assert video.shape == (3, 1, *even)
    assert psnr(video[:, :, :5, :7], clip.expand(3, -1, -1, -1)) > 30


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_the_file_loops_forever(suffix: str, tmp_path: Path):
    write_video(tmp_path / f"clip{suffix}", clips(count=1)[0])
    with Image.open(tmp_path / f"clip{suffix}") as image:
        assert image.info["loop"] == 0


def test_webp_is_exact_beyond_256_colours(tmp_path: Path):
    noise = torch.rand(3, 6, 20, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    write_video(tmp_path / "clip.webp", noise, enlarge_to=None)
    assert torch.equal(read_video(tmp_path / "clip.webp").video, rounded(noise))


def test_gif_of_many_colours_takes_the_nearest_of_256_without_flicker(tmp_path: Path):
    ramp = torch.linspace(-1, 1, 48)
    ground = torch.stack(
        [ramp[None].expand(48, -1), ramp[:, None].expand(-1, 48), -ramp[None].expand(48, -1)]
    )
    write_video(tmp_path / "clip.gif", ground[:, None].expand(-1, 5, -1, -1), enlarge_to=None)
    video = read_video(tmp_path / "clip.gif").video
    assert psnr(video[:, 0], ground) > 30
    assert all(torch.equal(video[:, 0], video[:, i]) for i in range(5))


def test_mp4_is_close_and_carries_its_colours(tmp_path: Path):
    for clip in clips(count=6):
        write_video(tmp_path / "clip.mp4", clip)
        back = read_video(tmp_path / "clip.mp4")
        assert back.fps == 8 and back.video.shape == (3, 16, 192, 192)
        assert psnr(back.video, enlarge(clip)) > 42
        # A wrong matrix or range shifts whole areas and leaves the noise level alone.
        assert (back.video - enlarge(clip)).mean((1, 2, 3)).abs().max() < 0.015
    with av.open(str(tmp_path / "clip.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 1, 1)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("fps", [1, 7.5, 24])
def test_the_rate_comes_back(suffix: str, fps: float, tmp_path: Path):
    clip = clips(count=1, frames=24)[0]
    write_video(tmp_path / f"clip{suffix}", clip, fps=fps, enlarge_to=None)
    back = read_video(tmp_path / f"clip{suffix}")
    assert back.video.shape[1] == 24
    assert back.fps == pytest.approx(fps, rel=0.01)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_max_frames_takes_the_first(suffix: str, tmp_path: Path):
    write_video(tmp_path / f"clip{suffix}", clips(count=1)[0])
    whole = read_video(tmp_path / f"clip{suffix}").video
    part = read_video(tmp_path / f"clip{suffix}", max_frames=5).video
    assert torch.equal(part, whole[:, :5])


def test_frames_that_stay_longer_are_repeated_and_transparency_is_black(tmp_path: Path):
    pictures = [Image.new("RGBA", (16, 16), (v, 0, 0, 255)) for v in (50, 100, 150)]
    pictures[2].putpixel((0, 0), (255, 255, 255, 0))
    pictures[0].save(
        tmp_path / "clip.webp",
        save_all=True,
        append_images=pictures[1:],
        duration=[100, 300, 100],
        lossless=True,
    )
    back = read_video(tmp_path / "clip.webp")
    red = to_uint8(back.video)[0, :, 8, 8].tolist()
    assert red == [50, 100, 100, 100, 150] and back.fps == 10
    assert to_uint8(back.video)[:, 4, 0, 0].tolist() == [0, 0, 0]


def test_other_containers_are_read(tmp_path: Path):
    for suffix, codec in ((".avi", "mpeg4"), (".mkv", "mpeg4"), (".mov", "mpeg4")):
        with av.open(str(tmp_path / f"clip{suffix}"), "w") as container:
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for value in (40, 120, 200):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), value, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        back = read_video(tmp_path / f"clip{suffix}")
        assert back.fps == 10
        assert to_uint8(back.video)[0, :, 16, 16].float().tolist() == pytest.approx([40, 120, 200], abs=6)


def test_what_cannot_be_read_is_named(tmp_path: Path):
    (tmp_path / "empty.gif").touch()
    (tmp_path / "words.mp4").write_text("no video at all")
    (tmp_path / "clip.txt").write_text("no video at all")
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    (tmp_path / "picture.png").rename(tmp_path / "picture.webp")
    (tmp_path / "folder.gif").mkdir()
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    for name, message in {
        "missing.gif": "there is none at",
        "folder.gif": "got the folder",
        "clip.txt": r"path must end in one of \.gif, \.webp, \.avi",
        "empty.gif": "the file is empty",
        "words.mp4": "truncated or no mp4 file",
        "picture.webp": "truncated or no webp file|damaged or something else",
        "sound.mp4": "no video stream",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_video(tmp_path / name)
    with pytest.raises(ValueError, match="max_frames must be a positive integer or None, got 0"):
        read_video(tmp_path / "clip.gif", max_frames=0)


def test_a_clip_larger_than_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(video_files, "MAX_PIXELS", 16 * 32 * 32 - 1)
    for suffix in SUFFIXES:
        write_video(tmp_path / f"clip{suffix}", clips(count=1)[0], enlarge_to=None)
        with pytest.raises(ValueError, match="16 frames of 32 x 32 are more .* give max_frames"):
            read_video(tmp_path / f"clip{suffix}")
        assert read_video(tmp_path / f"clip{suffix}", max_frames=15).video.shape[1] == 15


def test_an_animation_with_a_huge_canvas_is_refused(tmp_path: Path):
    write_video(tmp_path / "clip.gif", clips(count=1)[0], enlarge_to=None)
    data = bytearray((tmp_path / "clip.gif").read_bytes())
    data[6:10] = struct.pack("<HH", 12_000, 11_000)
    (tmp_path / "clip.gif").write_bytes(data)
    with pytest.raises(ValueError, match="1 frames of 11000 x 12000 are more"):
        read_video(tmp_path / "clip.gif")


def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path):
    clip = clips(count=1)[0]
    (tmp_path / "folder.gif").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())
    for name, arguments, message in [
        ("clip.png", {}, r"path must end in one of \.gif, \.mp4, \.webp"),
        ("clip.gif", {"fps": 0}, "fps must lie between 0.1 and 100"),
        ("clip.gif", {"fps": float("nan")}, "fps must lie between 0.1 and 100"),
        ("clip.gif", {"enlarge_to": 0}, "at_least must be a positive number"),
        ("clip.gif", {"enlarge_to": 70_000}, "below 16,384 pixels a side"),
        ("nowhere/clip.gif", {}, "folder that can be written to"),
        ("file/clip.gif", {}, "folder that can be written to"),
        ("folder.gif", {}, "file that can be written"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_video(tmp_path / name, clip, **arguments)
    for shape in ((2, 4, 8, 8), (3, 0, 8, 8)):
        with pytest.raises(ValueError, match=r"shape \(C, F, H, W\) with C = 3 or 1"):
            write_video(tmp_path / "clip.gif", torch.zeros(shape))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failing_encoder_leaves_the_old_file(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / f"clip{suffix}"
    write_video(path, clips(count=1)[0])
    old = path.read_bytes()

    def fail(*_arguments, **_options):
        raise RuntimeError("disk on fire")

    for module, name in ((Image, "fromarray"), (av.VideoFrame, "from_ndarray")):
        monkeypatch.setattr(module, name, fail)
    with pytest.raises(RuntimeError, match="disk on fire"):
        write_video(path, clips(count=2)[1])
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def test_an_atomic_write_is_whole_or_absent(tmp_path: Path):
    target = tmp_path / "note.txt"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".txt"
        temporary.write_text("first")
        assert not target.exists()
    assert target.read_text() == "first"
    with pytest.raises(KeyError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert target.read_text() == "first" and list(tmp_path.iterdir()) == [target]


FIRST = {}


def valid_bytes(suffix: str) -> bytes:
    """One small valid file of each kind, made once."""
    if suffix not in FIRST:
        with tempfile.TemporaryDirectory() as folder:
            write_video(Path(folder) / f"clip{suffix}", clips(count=1, frames=8)[0], enlarge_to=None)
            FIRST[suffix] = (Path(folder) / f"clip{suffix}").read_bytes()
    return FIRST[suffix]


def is_clip_or_error(data: bytes, suffix: str) -> bool:
    """Read damaged bytes: a sound clip (True) or `ValueError` (False); all else fails the test."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{suffix}"
        path.write_bytes(data)
        try:
            clip = read_video(path)
        except ValueError as error:
            assert "cannot be read" in str(error)
            return False
        assert clip.video.shape[0] == 3 and clip.video.dtype == torch.float32
        assert clip.video.abs().max() <= 1 and 0 < clip.fps < float("inf")
        return True


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_truncated_file_is_an_error(suffix: str):
    data = valid_bytes(suffix)
    assert is_clip_or_error(data, suffix)
    cuts = sorted({0, 1, len(data) - 1, *np.linspace(2, len(data) - 2, 60).astype(int).tolist()})
    assert all(a < b for a, b in pairwise(cuts))
    assert [cut for cut in cuts if is_clip_or_error(data[:cut], suffix)] == []


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(data=st.data())
def test_flipped_bytes_give_a_clip_or_an_error(suffix: str, data: st.DataObject):
    damaged = bytearray(valid_bytes(suffix))
    spots = st.tuples(st.integers(0, len(damaged) - 1), st.integers(1, 255))
    for place, mask in data.draw(st.lists(spots, min_size=1, max_size=8)):
        damaged[place] ^= mask
    is_clip_or_error(bytes(damaged), suffix)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".avi", ".mkv"])
@given(noise=st.binary(max_size=300), keep=st.integers(0, 64))
def test_random_bytes_give_a_clip_or_an_error(suffix: str, noise: bytes, keep: int):
    head = valid_bytes(suffix)[:keep] if suffix in SUFFIXES else b""
    is_clip_or_error(head + noise, suffix)
