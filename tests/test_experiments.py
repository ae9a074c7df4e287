"""What the experiments count: their arms, and the measures that only they use."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from experiments import conditioning, train_mini
from experiments.cards import origin_rows
from experiments.conditioning import ARMS, LEVELS, Arguments, Binding, arm_config, main
from experiments.starts import start_from
from experiments.train_clip import swapped
from t2v_mini import pipeline as pipeline_module
from t2v_mini.configs import Config, DataConfig, SampleConfig, get_config
from t2v_mini.data.moving_shapes import evaluation_set
from t2v_mini.models.generator import Generator
from t2v_mini.pipeline import TextToVideo, evaluate
from t2v_mini.training.shipped import load_clip
from t2v_mini.training.trainer import take_text
from t2v_mini.training.video_vae import load_codec
from t2v_mini.world import caption, render, sample_scenes

DATA = DataConfig(level=2, frames=16)
SCENES = evaluation_set(DATA, "unseen", 10)
CONFIGS = {name: arm_config(name, Arguments(steps=2000)) for name in ARMS}


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
    base = get_config("latent")
    for config in CONFIGS.values():
        assert config.data == DATA and config.codec == "codec"
        assert {data.level for data in config.training_data} == set(LEVELS) == {1, 2}
        same = {"text": "transformer", "words": True, "given": True, "text_depth": base.model.text_depth}
        assert replace(config.model, **same) == base.model
        own = {"steps": 2000, "levels": LEVELS, "latents": 48_000, "give_frames": 0.0, "kinds": ()}
        assert config.train == replace(base.train, text_weights=config.train.text_weights, **own)
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


def test_a_run_starts_with_the_denoiser_of_the_weights(tmp_path):
    config = get_config("mini")
    config = replace(config, train=replace(config.train, compile=False))
    trainer = start_from("mini", config, tmp_path)
    pipeline = TextToVideo.from_pretrained("mini")
    shipped = pipeline.model
    assert trainer.config.train.start == pipeline.record["hash"]
    averaged = trainer.ema.state
    own = trainer.model.denoiser.state_dict()
    assert all(torch.equal(averaged[f"denoiser.{name}"], value) for name, value in own.items())
    x, t = torch.randn(2, 3, 8, 32, 32), torch.tensor([0.2, 0.9])
    text = shipped.encode(["a red circle moves left", ""])
    assert torch.equal(trainer.model.denoiser(x, t, text), shipped.denoiser(x, t, text))


def test_a_run_that_trains_its_text_starts_with_the_text_encoder_of_the_weights(tmp_path):
    config = get_config("mini")
    config = replace(config, train=replace(config.train, compile=False, text_weights=""))
    trainer, shipped = start_from("mini", config, tmp_path), TextToVideo.from_pretrained("mini").model
    found = trainer.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in shipped.state_dict().items())
    assert all(torch.equal(trainer.ema.state[name], value) for name, value in found.items())
    assert all(p.requires_grad for p in trainer.model.parameters())


@pytest.mark.parametrize("change", [{"width": 96}, {"depth": 3}])
def test_weights_of_another_denoiser_are_refused(change, tmp_path):
    config = get_config("mini")
    with pytest.raises(ValueError, match="weights must have the denoiser of 'mini', got mini: "):
        start_from("mini", replace(config, model=replace(config.model, **change)), tmp_path)


def exchanged(scene):
    """The same scene, painted with the colours of its two things exchanged."""
    first, second = scene.things
    things = (replace(first, color=second.color), replace(second, color=first.color))
    return replace(scene, things=things)


@pytest.fixture
def small_parts(monkeypatch):
    for module in (conditioning, pipeline_module):
        monkeypatch.setattr(module, "BATCH", 4)


def binding_of(draw):
    """The binding of the clips that `draw` makes of scenes or their twins, as the experiment measures it."""
    scenes = {caption(scene.facts): scene for scene in SCENES}
    twins = {caption(swapped(scene.facts)): exchanged(scene) for scene in SCENES}
    asked = []

    def pipeline(texts, guidance, seed, steps=None, sampler=None):
        assert guidance == 3.0
        asked.extend(zip(texts, range(seed, seed + len(texts)), strict=True))
        return draw([(twins | scenes)[text] for text in texts])

    pipeline.config, pipeline.sampler = SimpleNamespace(data=DATA, sample=SampleConfig()), "euler"
    binding = Binding()
    evaluate(pipeline, "unseen", len(SCENES), guidance=3.0, look=binding)
    binding.ask_twins(pipeline, 3.0)
    # More clips than are generated at once; a caption and its twin start from the same noise.
    first, second = asked[: len(SCENES)], asked[len(SCENES) :]
    assert len(first) == len(second) == len(SCENES) > conditioning.BATCH
    assert [seed for _, seed in first] == [seed for _, seed in second] == list(range(len(SCENES)))
    assert [text for text, _ in second] == [caption(swapped(scene.facts)) for scene in SCENES]
    found = binding.summary()
    low, high = found["binding_interval"]
    assert low <= found["binding"] <= high
    return found["binding"], high - low


def test_binding_of_clips_whose_answer_is_known(small_parts):
    right, _ = binding_of(lambda part: render(part, 16))
    wrong, _ = binding_of(lambda part: render([exchanged(scene) for scene in part], 16))
    assert right >= 0.99 and wrong <= 0.01


def test_what_cannot_tell_twins_apart_binds_half(small_parts):
    """Whatever it makes: the one of the twins that it likes better, or nothing that fits either."""
    favourites = {}

    def deaf(part):
        for scene in part:
            for twin in (scene, exchanged(scene)):
                favourites.setdefault(caption(twin.facts), scene)
        return render([favourites[caption(scene.facts)] for scene in part], 16)

    for draw in (deaf, lambda part: torch.full((len(part), 3, 16, 32, 32), -0.8)):
        share, width = binding_of(draw)
        assert share == 0.5 and width == 0


def test_arms_make_latents_of_the_shipped_codec():
    codec, _ = load_codec("codec")
    size = codec.latent_size(*codec.legal(DATA.frames, DATA.height, DATA.width))
    for config in CONFIGS.values():
        assert codec.config.latent == config.model.channels
        assert all(n % p == 0 for n, p in zip(size, config.model.patch, strict=True))


def test_unknown_arms_are_refused():
    with pytest.raises(ValueError, match="arms must be among those known .bag of words; .*, got 'a poem'"):
        main(Arguments(arms=("a poem",)))


def test_results_keep_those_of_the_run_before(monkeypatch, tmp_path):
    monkeypatch.setattr("experiments.results_file.RESULTS", tmp_path)
    known = {"weights": "abc", "curve": [1]}
    monkeypatch.setattr("experiments.results_file.load_result", lambda name: known)
    assert train_mini.earlier("train_mini", "abc") == {}  # no such file
    (tmp_path / "train_mini.json").touch()
    assert train_mini.earlier("train_mini", "abc") == {"before": known}
    assert train_mini.earlier("train_mini", "") == train_mini.earlier("train_mini", "abd") == {}


def test_a_card_tells_of_latents_and_lower_levels():
    record = TextToVideo.from_pretrained("mini").record
    row = record["evaluation"]["unseen"]
    lower = row | {"level": 1, "caption_accuracy": 0.123, "facts": {"objects": 0.456}}
    config = get_config("latent")
    record = record | {"evaluation": record["evaluation"] | {"levels": [lower]}, "codec": "0123456789abcdef"}
    lines = train_mini.card(config, record, "abc").splitlines()
    assert any(line.startswith("| unseen, level 1 | 12.3% |") for line in lines)
    assert "| unseen, level 1 | 45.6% | none | none | none | none |" in lines
    (data,) = (line for line in lines if line.startswith("| data |"))
    assert "level 1, 16 frames of 32 x 32; level 2, 16" in data and "level 3, 16" in data
    clips = f"{config.train.latents:,} clips"
    assert data.endswith(f"seen combinations, {clips}, as the latents `0123456789ab` of `codec` |")


def test_a_card_names_the_weights_that_a_run_started_from():
    record = TextToVideo.from_pretrained("mini").record
    before = {"hash": "0123456789abcdef", "step": 70, "batch": 8, "seconds": 120.0}
    last = before | {"step": 30, "start": before}
    plain, started = (origin_rows(record | {"start": start}, "abc") for start in (None, last))
    assert [row for row in started if row not in plain] == [
        f"| start | the weights `0123456789ab`: {steps} steps of 8 clips, 2 minutes |" for steps in (70, 30)
    ]


def test_levels_of_a_run_may_be_other_than_the_configurations(monkeypatch, tmp_path):
    asked = []

    def trainer_for(config, folder, device):
        asked.append(config)
        return SimpleNamespace(checkpoint=tmp_path / "none")

    monkeypatch.setattr(train_mini, "trainer_for", trainer_for)
    for levels in ((), (2, 3, 2, 3, 1)):
        train_mini.prepared(train_mini.Arguments(config="latent", levels=levels, steps=7))
    plain, chosen = asked
    assert plain.train.levels == get_config("latent").train.levels and plain.train.steps == 7
    assert [data.level for data in chosen.training_data] == [2, 3, 2, 3, 1]
