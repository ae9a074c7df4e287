"""The experiment on latents and pixels at equal time, in miniature."""

import pytest

from experiments import ten_minutes
from experiments.ten_minutes import Arguments, configuration, main, on_latents, on_pixels
from t2v_mini.configs import CODEC

SMALL = Arguments(codec_steps=2, cached=6, steps=2, pixel_steps=2, width=32, looks=1, out="")


@pytest.fixture(autouse=True)
def few_clips(monkeypatch):
    monkeypatch.setattr(ten_minutes, "STATISTICS_CLIPS", 4)
    monkeypatch.setattr(ten_minutes, "CARD_CLIPS", 4)
    monkeypatch.setattr(ten_minutes, "WATCH_CLIPS", 4)


def test_arms_differ_in_their_space_alone():
    latents, pixels = configuration(SMALL, 5, "codec"), configuration(SMALL, 5)
    assert latents.train == pixels.train and latents.data == pixels.data
    differ = {
        key for key, value in latents.to_dict()["model"].items() if value != pixels.to_dict()["model"][key]
    }
    assert "patch" in differ <= {"channels", "patch"} and latents.model.channels == CODEC.model.latent


@pytest.mark.slow
def test_the_time_of_latents_counts_from_nothing():
    row = on_latents(SMALL)
    before = row["codec"]["seconds"] + row["seconds of the latents"]
    assert row["minutes"] == pytest.approx((before + row["seconds of the generator"]) / 60)
    assert all(point["minutes"] > before / 60 > 0 for point in row["curve"])
    assert row["codec"]["clips"] == row["evaluation"]["clips"] == 4
    assert row["config"]["codec"] == "quick" and row["cached"] == 6
    plain = on_pixels(SMALL)
    assert plain["minutes"] == pytest.approx(plain["seconds of the generator"] / 60)
    assert row.keys() - plain.keys() == {"codec", "seconds of the latents", "cached"}


def test_results_are_written_for_the_arms_that_were_asked_for(monkeypatch):
    row = {"minutes": 1.0, "evaluation": {"caption_accuracy": 0.5, "clips": 4, "facts": {}}}
    monkeypatch.setattr(ten_minutes, "on_pixels", lambda arguments: row)
    written = {}
    monkeypatch.setattr(ten_minutes, "write_results", lambda name, values: written.update({name: values}))
    main(Arguments(arms=("pixels",), out="demo"))
    assert written == {"demo": {"arms": {"pixels": row}}}
    main(Arguments(arms=("pixels",), out=""))
    assert list(written) == ["demo"]
