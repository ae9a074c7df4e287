"""What the codec of real video is measured by: classical codecs at equal rates, and bits of latents."""

import numpy as np
import pytest
import torch

from experiments import film
from experiments.classical_codecs import CODERS, at_rate
from experiments.film import HELD_OUT, crops
from experiments.train_film_codec import FILM, as_clip, averaged, card, compared, rounded
from t2v_mini.data.video_files import frames_uint8, from_uint8
from t2v_mini.losses.perceptual import LPIPS
from t2v_mini.losses.reconstruction import psnr
from t2v_mini.world import render, sample_scenes
from tests.tiny_codec import tiny_codec


def clip(frames=9, size=64):
    """A clip of the world, which moves as real ones do."""
    return render(sample_scenes(2, 1, seed=3), frames, size, size)


@pytest.mark.parametrize("name", CODERS)
def test_classical_codecs_keep_to_their_rate_and_use_it(name):
    coder, settings = CODERS[name]
    frames, found, kept_back = frames_uint8(clip()[0]), [], 0
    for bits in (0.25, 0.6, 1.5):
        one = at_rate(coder, settings, frames, bits)
        assert one["frames"].shape == frames.shape
        assert one["rate"] <= bits or one["setting"] == settings[0]
        found.append((one["rate"], psnr(as_clip(one["frames"]), clip()).item()))
        place = settings.index(one["setting"])
        if place + 1 < len(settings):  # the next better setting would need too much
            assert coder(frames, settings[place + 1])[1] > bits
            kept_back += 1
    assert kept_back >= 2
    assert sorted(found) == found and found[-1][1] > 25


def test_a_moving_picture_is_cheaper_than_its_frames():
    frames, bits = frames_uint8(clip(17)[0]), 0.2
    made = {name: at_rate(*CODERS[name], frames, bits)["frames"] for name in CODERS}
    error = {name: psnr(as_clip(found), clip(17)).item() for name, found in made.items()}
    assert error["H.264"] > error["JPEG"] + 3


def test_the_bits_of_a_latent_are_the_entropy_of_its_numbers():
    codec, x = tiny_codec(), clip()
    made, bits = rounded(codec, x)
    z = (codec.to_latent(x) * 4).round()
    due = 0.0
    for channel in z[0]:
        _, counts = np.unique(channel.numpy(), return_counts=True)
        share = counts / counts.sum()
        due += channel.numel() * -(share * np.log2(share)).sum()
    assert bits == pytest.approx(due / (9 * 64 * 64), rel=1e-9) and bits > 0
    assert torch.equal(made, codec.decode(codec.denormalize(z / 4)).clamp(-1, 1))


def test_the_comparison_and_its_card():
    torch.manual_seed(0)
    metric, codec = LPIPS().requires_grad_(False), tiny_codec()
    rows = [
        compared(codec, torch.from_numpy(frames_uint8(clip()[0])).permute(3, 0, 1, 2), metric)
        for _ in range(2)
    ]
    row = averaged(rows)
    assert row["H.264"]["PSNR"] == pytest.approx(rows[0]["H.264"]["PSNR"])
    assert row["codec, latent exact"]["bits per pixel"] is None
    record = {
        "config": FILM.to_dict(),
        "step": 2,
        "seconds": 60.0,
        "conditions": {"device": "d", "threads": 2, "torch": "2", "python": "3", "commit": None},
        "evaluation": {"compression": 48.0, "films": {"demo": {"clips": 2, "codecs": row}}},
    }
    text = card(record, "abc")
    assert "48 numbers of a clip become one" in text and "Blender Foundation, CC BY 3.0" in text
    for name in ("codec, latent rounded", "codec, latent exact", "JPEG", "H.264"):
        assert f"| {name} | " in text


def test_cuts_are_windows_of_training_clips_in_four_orientations(monkeypatch):
    monkeypatch.setattr(film, "HEIGHT", 6)
    monkeypatch.setattr(film, "WIDTH", 8)
    count = HELD_OUT.stop + 10
    shape = (count, 3, 2, 6, 8)
    whole = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    cuts = crops(whole, 8000, 4, torch.Generator().manual_seed(0))
    assert cuts.shape == (8000, 3, 2, 4, 4)
    size = whole[0].size
    assert {number // size for number in cuts[:, 0, 0, 0, 0].tolist()} == set(range(count)) - set(HELD_OUT)
    seen = set()
    for cut in cuts[:200]:
        backwards = bool(cut[0, 0, 0, 0] > cut[0, 1, 0, 0])
        mirrored = bool(cut[0, 0, 0, 0] > cut[0, 0, 0, 1])
        upright = cut.flip(1) if backwards else cut
        upright = upright.flip(3) if mirrored else upright
        number, place = divmod(upright[0, 0, 0, 0].item(), size)
        top, left = divmod(place, 8)
        assert np.array_equal(upright.numpy(), whole[number][:, :, top : top + 4, left : left + 4])
        seen.add((backwards, mirrored))
    assert len(seen) == 4
    again = crops(whole, 5, 4, torch.Generator().manual_seed(0))
    assert torch.equal(again, cuts[:5])


def test_means_are_taken_over_clips():
    rows = [{"a": {"x": 1.0, "y": None}}, {"a": {"x": 3.0, "y": None}}]
    assert averaged(rows) == {"a": {"x": 2.0, "y": None}}


def test_the_configuration_has_the_compression_that_the_field_uses():
    codec = tiny_codec(FILM)
    assert (codec.ratio, codec.scale) == (4, 8)
    x = from_uint8(torch.zeros(1, 3, 17, 144, 256, dtype=torch.uint8))
    assert codec.latent_size(*x.shape[2:]) == (5, 18, 32)
