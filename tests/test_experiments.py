"""What the experiments count: their arms, and the measures that only they use."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from experiments.conditioning import ARMS, Arguments, arm_config, binding, main
from experiments.train_clip import swapped
from t2v_mini.configs import Config, DataConfig, get_config
from t2v_mini.data.moving_shapes import evaluation_set
from t2v_mini.models.generator import Generator
from t2v_mini.training.shipped import load_clip
from t2v_mini.training.trainer import take_text
from t2v_mini.world import caption, render, sample_scenes

DATA = DataConfig(level=2, frames=16)
SCENES = evaluation_set(DATA, "unseen", 70)
CONFIGS = {name: arm_config(name, 2000) for name in ARMS}


def test_arms_have_names_of_their_own_that_any_file_system_takes():
    names = [config.name for config in CONFIGS.values()]
    # Some file systems do not tell capitals from small letters.
    assert len({name.lower() for name in names}) == len(ARMS) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", name) for name in names)


def test_arms_differ_in_their_text_alone():
    told = {name: (c.model.text, c.model.words, c.train.text_weights) for name, c in CONFIGS.items()}
    assert told == {
        "bag of words": ("bag", False, ""),
        "CLIP's vector": ("transformer", False, "clip"),
        "CLIP's vector and words": ("transformer", True, "clip"),
        "vector and words, trained along": ("transformer", True, ""),
    }
    base = get_config("mini")
    for config in CONFIGS.values():
        assert config.data == DATA and config.train.steps == 2000
        alike = replace(config.model, text=base.model.text, words=base.model.words, patch=base.model.patch)
        assert alike == base.model and config.model.patch == (4, 8, 8)
        assert replace(config.train, steps=base.train.steps, text_weights="") == base.train
        assert Config.from_dict(config.to_dict()) == config


def test_arms_with_a_frozen_text_fit_the_shipped_clip():
    encoder, frozen = load_clip("clip"), 0
    for config in CONFIGS.values():
        if not config.train.text_weights:
            continue
        model = Generator(config.model)
        take_text(model, encoder)
        assert not any(p.requires_grad for p in model.text.parameters())
        assert any(p.requires_grad for p in model.denoiser.parameters())
        frozen += 1
    assert frozen == 2


@pytest.mark.parametrize("level", [2, 3])
def test_swapping_exchanges_two_colours_and_nothing_else(level):
    for scene in sample_scenes(level, 40):
        if len(scene.facts.objects) < 2:
            continue
        facts, found = scene.facts, swapped(scene.facts)
        colors, exchanged = ([thing.color for thing in said.objects] for said in (facts, found))
        assert exchanged == [colors[1], colors[0], *colors[2:]] and colors[0] != colors[1]
        back = [replace(thing, color=color) for thing, color in zip(found.objects, colors, strict=True)]
        assert replace(found, objects=tuple(back)) == facts and swapped(found) == facts
        assert caption(found) != caption(facts)


def exchanged(scene):
    """The same scene, painted with the colours of its two things exchanged."""
    first, second = scene.things
    things = (replace(first, color=second.color), replace(second, color=first.color))
    return replace(scene, things=things)


def pipeline(draw):
    """Stands in for a trained one: of each evaluation scene, the clip that `draw` makes of it."""

    def call(texts, guidance, seed):
        assert guidance == 2.0
        part = SCENES[seed : seed + len(texts)]
        assert texts == [caption(scene.facts) for scene in part]
        return draw(part)

    call.config = SimpleNamespace(data=DATA)
    return call


def test_binding_of_clips_whose_answer_is_known():
    right = binding(pipeline(lambda part: render(part, 16)), 16, 2.0)
    wrong = binding(pipeline(lambda part: render([exchanged(scene) for scene in part], 16)), 16, 2.0)
    assert right >= 0.99 and wrong <= 0.01


def test_binding_of_empty_clips_is_a_half():
    """They fit both captions equally badly; there are more of them than are generated at once."""
    sizes = []

    def empty(part):
        sizes.append(len(part))
        return torch.full((len(part), 3, 16, 32, 32), -0.8)

    assert binding(pipeline(empty), len(SCENES), 2.0) == 0.5
    assert sizes == [64, 6]


def test_unknown_arms_are_refused():
    with pytest.raises(ValueError, match="arms must be among those known .bag of words; .*, got 'a poem'"):
        main(Arguments(arms=("a poem",)))
