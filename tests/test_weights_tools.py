"""What is done with shipped weights: they are measured again, checked against their cards, and shown."""

from dataclasses import replace

import pytest
import torch

from experiments import results_file, train_codec, train_mini
from t2v_mini.configs import (
    ClassifierConfig,
    Config,
    DataConfig,
    SampleConfig,
    VideoClassifierConfig,
)
from t2v_mini.models.classifier import MotionClassifier
from t2v_mini.models.generator import Generator
from t2v_mini.pipeline import TextToVideo
from t2v_mini.training import shipped
from t2v_mini.training.checkpoint import read_record
from t2v_mini.training.classifier import classifier_accuracy, save_classifier
from t2v_mini.training.video_vae import save_codec
from tests.tiny_codec import TINY_CODEC, tiny_codec
from tests.tiny_generator import TINY_GENERATOR
from tools import check_weights, landing

WHERE = {"device": "an old one", "threads": 1, "torch": "1", "python": "3", "commit": "abc", "date": "2020"}
DATA = DataConfig(frames=8, height=16, width=16)
TINY = Config(
    "tiny",
    TINY_GENERATOR,
    DATA,
    sample=SampleConfig(steps=1),
)


def test_weights_that_are_measured_again_keep_the_conditions_of_their_training(monkeypatch, tmp_path):
    for name, value in {"TUNING_CLIPS": 2, "CARD_CLIPS": 3, "CHECK_CLIPS": 2}.items():
        monkeypatch.setattr(train_mini, name, value)
    monkeypatch.setattr(results_file, "PRETRAINED", tmp_path)
    written = {}
    monkeypatch.setattr(results_file, "write_results", lambda name, values: written.update({name: values}))
    torch.manual_seed(0)
    record = {"step": 5, "seconds": 60.0, "conditions": WHERE, "evaluation": {"unseen": "old"}}
    train_mini.measure(TextToVideo(Generator(TINY.model), TINY, record), {"curve": [1]})
    found = read_record(tmp_path / "tiny.safetensors")
    assert found["conditions"] == WHERE and found["evaluation"]["unseen"]["clips"] == 3
    assert found["evaluation"]["unseen"]["sampler"] == "euler"
    text = (tmp_path / "tiny.md").read_text()
    assert "| device | an old one, 1 thread |" in text and "| sampling | 1 steps of euler," in text
    assert written["train_tiny"]["curve"] == [1] and written["train_tiny"]["weights"] == found["hash"]


def test_a_codec_that_is_measured_again_keeps_its_weights(monkeypatch, tmp_path):
    config = replace(TINY_CODEC, data=(DATA,))
    for module in (results_file, shipped):
        monkeypatch.setattr(module, "PRETRAINED", tmp_path)
    monkeypatch.setattr(train_codec, "CARD_CLIPS", 3)
    known = {"curve": [1], "seconds": 60.0}
    monkeypatch.setattr(train_codec, "load_result", lambda name: known)
    written = {}
    monkeypatch.setattr(results_file, "write_results", lambda name, values: written.update({name: values}))
    record = {
        "config": replace(config, name="codec").to_dict(),
        "step": 5,
        "seconds": 60.0,
        "conditions": WHERE,
    }
    digest = save_codec(tiny_codec(), tmp_path / "codec.safetensors", record)
    train_codec.main(train_codec.Arguments(measure=True))
    found = read_record(tmp_path / "codec.safetensors")
    assert found["hash"] == digest and found["conditions"] == WHERE
    (row,) = written["train_codec"]["levels"]
    assert row["clips"] == 3 and set(row["failed"]) <= {0, 1, 2} and written["train_codec"]["curve"] == [1]
    assert f"| content hash | `{digest}` |" in (tmp_path / "codec.md").read_text()


@pytest.mark.parametrize(("promised", "failed"), [(0.0, 0), (1.1, 1)])
def test_a_classifier_is_held_to_its_card(monkeypatch, tmp_path, capsys, promised, failed):
    monkeypatch.setattr(shipped, "PRETRAINED", tmp_path)
    config = VideoClassifierConfig("seer", model=ClassifierConfig(widths=(8, 8)), data=(DATA,))
    model = MotionClassifier(config.model)
    card = classifier_accuracy(model, DATA, 4) | {"all labels": promised}
    record = {"config": config.to_dict(), "step": 1, "evaluation": {"levels": [card]}}
    save_classifier(model, tmp_path / "seer.safetensors", record)
    assert check_weights.check_classifier("seer") == failed
    assert ("FAILED" in capsys.readouterr().out) == bool(failed)


@pytest.mark.parametrize(("promised", "failed"), [(0.0, 0), (90.0, 1)])
def test_a_codec_of_real_video_is_held_to_its_card(monkeypatch, tmp_path, promised, failed):
    monkeypatch.setattr(shipped, "PRETRAINED", tmp_path)
    film = torch.randint(0, 256, (2, 3, 9, 16, 16), dtype=torch.uint8).numpy()
    monkeypatch.setattr(check_weights, "clips_of", lambda file: film)
    rows = {"codec, latent exact": {"PSNR": promised}}
    record = {
        "config": TINY_CODEC.to_dict(),
        "evaluation": {"films": {"bikes": {"clips": 2, "codecs": rows}}},
    }
    save_codec(tiny_codec(), tmp_path / "film.safetensors", record)
    assert check_weights.check_codec("film") == failed


def test_without_a_network_a_film_is_not_checked_but_in_ci_it_must_be(monkeypatch, tmp_path, capsys):
    def nothing(file):
        raise ConnectionError("no index")

    monkeypatch.setattr(shipped, "PRETRAINED", tmp_path)
    monkeypatch.setattr(check_weights, "clips_of", nothing)
    rows = {"codec, latent exact": {"PSNR": 1.0}}
    record = {
        "config": TINY_CODEC.to_dict(),
        "evaluation": {"films": {"bikes": {"clips": 2, "codecs": rows}}},
    }
    save_codec(tiny_codec(), tmp_path / "film.safetensors", record)
    for value, failed in (("", 0), ("true", 1)):
        monkeypatch.setenv("CI", value)
        assert check_weights.check_codec("film") == failed
        assert "film: NOT CHECKED: no index" in capsys.readouterr().out


def test_the_provenance_page_shows_every_card_with_hashes_that_fit_a_phone(monkeypatch, tmp_path):
    monkeypatch.setattr(landing, "PRETRAINED", tmp_path)
    for name in ("b", "a"):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\n| content hash | `{'0123456789abcdef' * 4}` |\n")
    text = landing.weights_table()
    assert [line for line in text.splitlines() if line.startswith("#")] == ["### a", "### b"]
    assert text.count("| `0123456789abcdef0123456789abcdef` |") == 2
