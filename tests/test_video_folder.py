"""Clips of real files: which frames they take, how these are scaled, and that damage is reported."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from t2v_mini.data.video_files import from_uint8, read_video, timed_frames, write_video
from t2v_mini.data.video_folder import VideoFolder, cover


def numbered(frames, height=32, width=48):
    """A clip whose frame n has the grey value 20 n."""
    grey = torch.arange(frames).mul(20).clamp(0, 255).to(torch.uint8)
    return from_uint8(grey.view(1, -1, 1, 1).expand(3, frames, height, width).contiguous())


def write(path, frames=12, fps=8, **size):
    write_video(path, numbered(frames, **size), fps, enlarge_to=None)
    return path


def numbers(clip):
    """Which of the numbered frames a clip shows."""
    return (clip.video.float().mean((0, 2, 3)) / 20).round().int().tolist()


def write_avi(path, frames=12, fps=8):
    import av

    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for n in range(frames):
            picture = np.full((32, 48, 3), min(20 * n, 255), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp", ".avi"])
def test_clips_follow_one_another_in_every_format(tmp_path, suffix):
    (write_avi if suffix == ".avi" else write)(tmp_path / f"a{suffix}")
    folder = VideoFolder(tmp_path, 5, 16, 16)
    clips = list(folder)
    assert [numbers(clip) for clip in clips] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert all(clip.video.dtype == torch.uint8 and clip.video.shape == (3, 5, 16, 16) for clip in clips)
    assert [clip.second for clip in clips] == pytest.approx([0, 5 / 8], abs=2e-3)
    assert not folder.skipped


def test_stride_takes_every_nth_frame(tmp_path):
    write(tmp_path / "a.mp4")
    assert [numbers(clip) for clip in VideoFolder(tmp_path, 2, 16, 16, stride=3)] == [[0, 3], [6, 9]]


@pytest.mark.parametrize(
    ("fps", "shown"), [(8, range(12)), (4, range(0, 12, 2)), (16, [n // 2 for n in range(23)])]
)
def test_a_rate_takes_the_frame_that_is_shown(tmp_path, fps, shown):
    for name in ("a.mp4", "b.gif"):
        write(tmp_path / name)
    found = {}
    for clip in VideoFolder(tmp_path, 1, 16, 16, fps=fps):
        found.setdefault(clip.path.name, []).extend(numbers(clip))
    # A GIF tells times in hundredths of a second, so that a frame may be early by one.
    assert found["a.mp4"] == list(shown)
    assert len(found["b.gif"]) == pytest.approx(len(shown), abs=1)


def test_frames_cover_the_size_and_are_cut_in_the_middle():
    frame = np.zeros((20, 60, 3), dtype=np.uint8)
    frame[:, 20:40] = 200
    made = cover(frame, 10, 10)
    assert made.shape == (3, 10, 10) and (made[..., 1:-1] == 200).all()
    whole = cover(frame, 10, 30)
    assert whole.float().mean() == pytest.approx(200 / 3, abs=1)
    for size in ((7, 31), (64, 5), (1, 1)):
        assert cover(frame, *size).shape == (3, *size)


def test_scaling_is_that_of_pillow():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    theirs = np.array(Image.fromarray(frame).resize((24, 16), Image.Resampling.BILINEAR))
    ours = cover(frame, 16, 24).permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    # Without antialiasing stripes of one pixel would come out as one of the two colours.
    stripes = np.tile(np.array([0, 255], dtype=np.uint8)[None, :, None], (64, 32, 3))
    assert (cover(stripes, 8, 8).float() - 127.5).abs().max() < 8


def test_streamed_frames_are_those_that_are_read_at_once(tmp_path):
    path = write(tmp_path / "a.mp4")
    frames = [frame for frame, _ in timed_frames(path)]
    whole = read_video(path)
    stacked = from_uint8(torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2).contiguous())
    assert torch.equal(stacked, whole.video)
    times = [second for _, second in timed_frames(path)]
    assert times == pytest.approx([n / 8 for n in range(12)], abs=1e-3)


def test_captions_name_the_videos(tmp_path):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write(tmp_path / name)
    lines = [
        {"file": "b.mp4", "caption": "grey becomes white"},
        {"file": "a.mp4", "caption": "again"},
        {"file": "gone.mp4", "caption": "not there"},
        {"file": "a.mp4"},
        {"file": "../a.mp4", "caption": "outside"},
        {"file": 3, "caption": "a number"},
        ["a.mp4", "a list"],
    ]
    text = "\n\n".join(json.dumps(line) for line in lines) + "\n{broken\n"
    (tmp_path / "captions.jsonl").write_bytes(text.encode() + b"\xff\xfe\n")
    folder = VideoFolder(tmp_path, 12, 16, 16)
    assert [(clip.path.name, clip.caption) for clip in folder] == [
        ("b.mp4", "grey becomes white"),
        ("a.mp4", "again"),
    ]
    wrong = [name for name in folder.skipped if name.startswith("captions.jsonl, line")]
    assert len(wrong) == 6 and "there is none" in folder.skipped["gone.mp4"]
    assert len(list(folder)) == 2 and len(folder.skipped) == 7  # told anew each time


def test_damaged_files_are_skipped_and_reported(tmp_path):
    good = write(tmp_path / "good.mp4").read_bytes()
    (tmp_path / "truncated.mp4").write_bytes(good[: len(good) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.gif").write_text("not a video")
    (tmp_path / "noise.avi").write_bytes(bytes(range(256)) * 20)
    write(tmp_path / "short.mp4", frames=3)
    (tmp_path / "notes.txt").write_text("no video, and not one by name")
    folder = VideoFolder(tmp_path, 12, 16, 16)
    assert [clip.path.name for clip in folder] == ["good.mp4"]
    assert set(folder.skipped) == {"truncated.mp4", "empty.mp4", "text.gif", "noise.avi", "short.mp4"}
    assert folder.skipped["short.mp4"] == "it is shorter than a clip of 12 frames"


def test_clips_before_the_damage_are_kept(tmp_path):
    path = write_avi(tmp_path / "a.avi", frames=60)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    path.write_bytes(data)
    folder = VideoFolder(tmp_path, 2, 16, 16)
    clips = list(folder)
    if folder.skipped:
        assert clips and folder.skipped["a.avi"].startswith(f"after {len(clips)} clips: ")
    else:  # the decoder repaired it
        assert len(clips) > 20


def test_going_through_may_stop_early(tmp_path):
    write(tmp_path / "a.mp4")
    clip = next(iter(VideoFolder(tmp_path, 2, 16, 16)))
    assert numbers(clip) == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 0}, "frames must be a positive integer, got 0"),
        ({"height": 2.0}, "height must be a positive integer, got 2.0"),
        ({"stride": True}, "stride must be a positive integer, got True"),
        ({"fps": 0}, "fps must be a positive number or None, got 0"),
        ({"fps": float("nan")}, "fps must be a positive number or None, got nan"),
        ({"fps": 8, "stride": 2}, "stride must be 1 where fps is given, got 2"),
        ({"folder": "nowhere"}, "folder must be a folder of videos, got nowhere"),
    ],
)
def test_bad_settings_are_refused(tmp_path, change, message):
    settings = {"folder": tmp_path, "frames": 4, "height": 16, "width": 16} | change
    with pytest.raises(ValueError, match=message):
        VideoFolder(**settings)
