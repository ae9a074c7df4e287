"""A classifier of motions and events: its labels, what it may look at, and that it learns."""

import json
from dataclasses import replace

import pytest
import torch

from experiments.results_file import conditions
from experiments.train_classifier import card
from t2v_mini.configs import ClassifierConfig, DataConfig, TrainConfig, VideoClassifierConfig
from t2v_mini.data.moving_shapes import evaluation_set
from t2v_mini.models.classifier import LABELS, MotionClassifier, labels_of
from t2v_mini.training.classifier import (
    ClassifierTrainer,
    classifier_accuracy,
    classifier_of,
    load_classifier,
    save_classifier,
)
from t2v_mini.world import caption, parse, render
from t2v_mini.world.vocabulary import EVENTS

LEFT_RIGHT = VideoClassifierConfig(
    "tiny",
    model=ClassifierConfig(widths=(16, 32)),
    data=(DataConfig(level=1, frames=8, height=16, width=16),),
    train=TrainConfig(steps=300, batch=32, learning_rate=1e-2, warmup=10, bf16=False, compile=False),
)


def test_labels_are_what_the_caption_says():
    claims = [
        parse("a red circle moves left"),
        parse("a red circle moves left above a blue square that grows"),
    ]
    shown = [{label for label, on in zip(LABELS, row, strict=True) if on} for row in labels_of(claims)]
    assert shown == [{"left"}, {"left", "grows"}]


def test_labels_of_the_world_are_words_of_its_captions():
    # Motions and events are told in other words than their names; so the reading is compared.
    for scene in evaluation_set(DataConfig(level=3, frames=16), "unseen", 40):
        assert torch.equal(labels_of([scene.facts]), labels_of([parse(caption(scene.facts))]))


@pytest.mark.parametrize("block", ["dense", "efficient"])
def test_shapes_and_any_number_of_frames(block):
    model = MotionClassifier(ClassifierConfig(block=block)).eval()
    for frames in (1, 5, 16):
        x = torch.rand(2, 3, frames, 16, 24) * 2 - 1
        assert model(x).shape == (2, len(LABELS)) and model.features(x).shape == (2, 128)


@pytest.mark.wrong_shapes
@pytest.mark.parametrize("shape", [(2, 4, 8, 16, 16), (2, 3, 8, 12, 16), (2, 3, 8, 16, 20), (3, 8, 16, 16)])
def test_other_sizes_are_refused(shape):
    with pytest.raises(ValueError, match=r"x must be \(B, 3, F, H, W\) with multiples of 8"):
        MotionClassifier(ClassifierConfig())(torch.randn(shape))


def test_clips_of_a_batch_do_not_meet():
    torch.manual_seed(0)
    model, x = MotionClassifier(ClassifierConfig()), torch.rand(3, 3, 8, 16, 16) * 2 - 1
    alone = torch.cat([model(clip[None]) for clip in x])
    torch.testing.assert_close(model(x), alone, atol=1e-5, rtol=1e-5)


def test_it_learns_to_see_motion():
    trainer = ClassifierTrainer(LEFT_RIGHT)
    data = LEFT_RIGHT.data[0]
    before = classifier_accuracy(trainer.model, data, 96)
    trainer.train(progress=False)
    after = classifier_accuracy(trainer.model, data, 96)
    assert after["all labels"] > 0.6 > 0.1 > before["all labels"]
    # A clip played backwards goes the other way.
    scenes = [s for s in evaluation_set(data, "unseen", 96) if s.facts.objects[0].motion in ("left", "right")]
    video = render(scenes, 8, 16, 16)
    with torch.no_grad():
        names = [LABELS[k] for k in trainer.model(video.flip(2)).argmax(1)]
    other = {"left": "right", "right": "left"}
    hits = [name == other[s.facts.objects[0].motion] for name, s in zip(names, scenes, strict=True)]
    assert len(hits) > 10 and sum(hits) > 0.8 * len(hits)


def test_weights_survive_their_file(tmp_path):
    trainer = ClassifierTrainer(LEFT_RIGHT)
    trainer.train(stop_at=2, progress=False)
    model, path = classifier_of(LEFT_RIGHT, trainer.ema.state), tmp_path / "classifier.safetensors"
    digest = save_classifier(model, path, trainer.record())
    again, record = load_classifier(path)
    assert record["hash"] == digest and record["kind"] == "classifier" and record["step"] == 2
    assert not any(p.requires_grad for p in again.parameters())
    x = torch.rand(2, 3, 8, 16, 16) * 2 - 1
    assert torch.equal(again(x), model(x))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="path must hold a"):
        load_classifier(path)
    with pytest.raises(ValueError, match="weights must be a .safetensors file or one of those shipped"):
        load_classifier("mini")


def test_the_card_tells_what_is_found_and_what_was_not_there():
    found = classifier_accuracy(ClassifierTrainer(LEFT_RIGHT).model, LEFT_RIGHT.data[0], 64)
    record = {"config": LEFT_RIGHT.to_dict(), "step": 300, "seconds": 60.0, "conditions": conditions()}
    text = card(record | {"evaluation": {"levels": [found], "parameters": 1234}}, "abc")
    assert "1,234 parameters" in text and "| all labels right | " in text and "| clips | 64 |" in text
    assert f"| {EVENTS[0]} | none / " in text  # no event at level 1
    for label in LABELS:
        assert f"| {label} | " in text


def test_configurations_survive_json():
    again = VideoClassifierConfig.from_dict(json.loads(json.dumps(LEFT_RIGHT.to_dict())))
    assert again == LEFT_RIGHT
    with pytest.raises(ValueError, match="values must hold the fields of a configuration"):
        VideoClassifierConfig.from_dict(LEFT_RIGHT.to_dict() | {"model": {"colour": 1}})
    assert replace(again.model, block="efficient") != LEFT_RIGHT.model
