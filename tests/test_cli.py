"""The command line: exit codes, one line for bad input, nothing half-written."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

import t2v_mini
from t2v_mini.cli import main
from t2v_mini.configs import (
    CONFIGS,
    ClassifierConfig,
    Config,
    DataConfig,
    TrainConfig,
    VideoClassifierConfig,
)
from t2v_mini.data.latent_cache import LatentCache
from t2v_mini.data.video_files import frames_uint8, read_video, write_video
from t2v_mini.data.video_folder import beginning
from t2v_mini.models.classifier import MotionClassifier
from t2v_mini.models.generator import Generator
from t2v_mini.pipeline import TextToVideo, evaluate
from t2v_mini.training import shipped
from t2v_mini.training.checkpoint import read_record, save_checkpoint
from t2v_mini.training.classifier import save_classifier
from t2v_mini.training.shipped import shipped_weights
from t2v_mini.training.trainer import Trainer
from t2v_mini.training.video_vae import latents_hash, load_codec, save_codec
from t2v_mini.world import CaptionError, parse, render, sample_scenes, scene_for
from tests.tiny_codec import TINY_CODEC, tiny_codec
from tests.tiny_generator import TINY_GENERATOR

TINY = Config(
    "tiny",
    model=TINY_GENERATOR,
    data=DataConfig(),
)


@pytest.fixture
def weights(tmp_path):
    """Untrained weights in a file: every road but the quality."""
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(
        path, Generator(TINY.model).state_dict(), {"config": TINY.to_dict(), "step": 0, "seconds": 0.0}
    )
    return path


def run(capsys, *arguments):
    """Exit code, stdout, stderr."""
    try:
        main([str(a) for a in arguments])
        code = 0
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def test_generate(capsys, tmp_path, weights):
    out = tmp_path / "clip.gif"
    arguments = ("a red circle moves left", "--weights", weights, "--steps", 2, "--out", out)
    code, text, _ = run(capsys, "generate", *arguments)
    assert code == 0 and out.is_file() and "a red circle moves left" in text and "color" in text
    code, text, _ = run(capsys, "generate", *arguments, "--json")
    (clip,) = json.loads(text)["clips"]
    assert clip["caption"] == "a red circle moves left" and clip["out"] == str(out)
    assert {f["kind"] for f in clip["facts"]} == {"objects", "color", "shape", "motion"}


def test_generate_several(capsys, tmp_path, weights):
    prompts = ("a red circle moves left", "a blue square grows")
    code, _, _ = run(
        capsys, "generate", *prompts, "--weights", weights, "--steps", 1, "--out", tmp_path / "c.mp4"
    )
    assert code == 0 and {p.name for p in tmp_path.glob("*.mp4")} == {"c-1.mp4", "c-2.mp4"}


def test_generate_goes_on_from_a_picture_and_from_a_video(capsys, tmp_path):
    model = replace(TINY.model, given=True)
    path = tmp_path / "given.safetensors"
    TextToVideo(Generator(model), replace(TINY, model=model)).save(path)
    scene = render(sample_scenes(1, 1, seed=0), TINY.data.frames, TINY.data.height, TINY.data.width)[0]
    write_video(tmp_path / "clip.webp", scene, enlarge_to=64)
    picture, out = tmp_path / "picture.png", tmp_path / "out.webp"
    Image.fromarray(frames_uint8(scene)[0]).resize((96, 64)).save(picture)
    arguments = ("generate", "a red circle", "a blue square", "--weights", path, "--steps", 1, "--out", out)
    for given, frames in ((tmp_path / "clip.webp", 3), (picture, 1)):
        code, _, err = run(capsys, *arguments, "--given", given, "--frames", frames)
        assert code == 0, err
        first = beginning(given, frames, TINY.data.height, TINY.data.width)
        for number in (1, 2):
            made = read_video(tmp_path / f"out-{number}.webp").video
            scale = made.shape[-1] // TINY.data.width
            torch.testing.assert_close(made[:, :frames, ::scale, ::scale], first, atol=0.01, rtol=0)
    for wrong, message in (
        (("--given", picture, "--frames", 2), "path must hold 2 frames, got 1"),
        (("--given", picture, "--frames", 0), "frames must be from 1 to 7, got 0"),
        (("--frames", 3), "frames must be 1 where no picture or video is given, got 3"),
        (("--given", tmp_path / "none.mp4"), "there is none at"),
        (("--given", path), "path must end in one of"),
    ):
        code, _, err = run(capsys, *arguments, *wrong)
        assert code == 2 and message in err, err
    picture.write_bytes(picture.read_bytes()[:60])
    code, _, err = run(capsys, *arguments, "--given", picture)
    assert code == 2 and "cannot be read as a picture" in err


def test_a_negative_prompt_reaches_the_guidance(capsys, tmp_path):
    torch.manual_seed(0)
    model, path = Generator(TINY.model), tmp_path / "drawn.safetensors"
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # as they start, text makes no difference
    TextToVideo(model, TINY).save(path)
    arguments = ("generate", "a red circle", "--weights", path, "--steps", 2, "--guidance", 3)
    made = []
    for negative in ((), ("--negative", "a blue square")):
        out = tmp_path / f"{len(made)}.webp"
        code, _, err = run(capsys, *arguments, "--out", out, *negative)
        assert code == 0, err
        made.append(read_video(out).video)
    assert not torch.equal(*made)
    code, _, err = run(capsys, *arguments, "--negative", "a red dog")
    assert code == 2 and "dog" in err


def test_seed_and_batch_do_not_mix(weights):
    pipeline = TextToVideo.from_pretrained(weights)
    both = pipeline(["a red circle", "a blue square"], steps=2, seed=5)
    assert torch.equal(both, pipeline(["a red circle", "a blue square"], steps=2, seed=5))
    assert torch.allclose(both[1:], pipeline("a blue square", steps=2, seed=6), atol=1e-5)
    assert not torch.allclose(both[1:], pipeline("a blue square", steps=2, seed=7), atol=1e-3)


def test_evaluate(capsys, weights):
    code, text, _ = run(
        capsys,
        "evaluate",
        "--weights",
        weights,
        "--clips",
        6,
        "--steps",
        1,
        "--split",
        "seen",
        "--level",
        1,
        "--json",
    )
    result = json.loads(text)
    assert code == 0 and result["clips"] == 6 and result["ceiling"] == 1 and result["split"] == "seen"
    assert {"caption_accuracy", "interval", "facts", "spread"} <= set(result)
    code, text, _ = run(capsys, "evaluate", "--weights", weights, "--clips", 2, "--steps", 1)
    assert code == 0 and "caption accuracy" in text
    with pytest.raises(ValueError, match="clips must be a positive integer, got 0"):
        evaluate(TextToVideo.from_pretrained(weights), "seen", 0)


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".webp"])
def test_world_and_judge(capsys, tmp_path, suffix):
    text, path = (
        "a large red circle moves left above a small blue square that grows",
        tmp_path / f"clip{suffix}",
    )
    assert run(capsys, "world", text, "--out", path)[0] == 0
    code, out, _ = run(capsys, "judge", path, text)
    assert code == 0 and out.startswith("correct")
    code, out, _ = run(capsys, "judge", path, text.replace("left", "right"), "--json")
    assert code == 1 and not json.loads(out)["correct"]


def test_train_and_resume_end_in_weights_that_generate(capsys, tmp_path, monkeypatch):
    config = replace(TINY, train=TrainConfig(steps=4, batch=4, warmup=1, bf16=False, compile=False))
    monkeypatch.setitem(CONFIGS, "tiny", config)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    arguments = ("train", "--config", "tiny", "--watch-every", 0)
    assert run(capsys, *arguments, "--folder", whole)[0] == 0
    Trainer(config, stopped).train(stop_at=2, progress=False)
    code, _, err = run(capsys, *arguments, "--folder", stopped)
    assert code == 2 and "--resume goes on with it" in err
    code, _, err = run(capsys, *arguments, "--folder", stopped, "--resume", "--steps", 9)
    assert code == 2 and "steps must be 4, as this run was started with, got 9" in err
    code, text, _ = run(capsys, *arguments, "--folder", stopped, "--resume")
    assert code == 0 and "resumed at step 2 of 4" in text
    records = [read_record(folder / "tiny.safetensors") for folder in (whole, stopped)]
    assert records[0]["step"] == 4 and records[0]["hash"] == records[1]["hash"]
    code, text, _ = run(capsys, "generate", "a red circle", "--weights", whole / "tiny.safetensors")
    assert code == 0 and "a red circle" in text


def test_a_configuration_with_a_codec_trains_on_latents(capsys, tmp_path, monkeypatch):
    config = CONFIGS["latent"]
    small = replace(config.model, width=32, depth=1, heads=2, stem_width=32, text_width=32, text_depth=1)
    train = replace(config.train, steps=2, batch=3, warmup=1, latents=10, bf16=False, compile=False)
    monkeypatch.setitem(CONFIGS, "tiny", replace(config, name="tiny", model=small, train=train))
    code, _, err = run(capsys, "train", "--config", "tiny", "--watch-every", 0, "--folder", tmp_path)
    assert code == 0, err
    assert len(LatentCache(tmp_path / "latents")) == 10
    weights, clip = tmp_path / "tiny.safetensors", tmp_path / "a.gif"
    assert read_record(weights)["codec"] == latents_hash(load_codec("codec")[0])
    code, _, err = run(capsys, "generate", "a red circle", "--weights", weights, "--steps", 2, "--out", clip)
    assert code == 0 and clip.exists(), err


def test_resume_takes_the_length_of_the_stopped_run(capsys, tmp_path, monkeypatch):
    config = replace(TINY, train=TrainConfig(steps=50, batch=4, warmup=1, bf16=False, compile=False))
    monkeypatch.setitem(CONFIGS, "tiny", config)
    Trainer(replace(config, train=replace(config.train, steps=3)), tmp_path).train(stop_at=2, progress=False)
    arguments = ("train", "--config", "tiny", "--watch-every", 0, "--folder", tmp_path, "--resume")
    assert run(capsys, *arguments)[0] == 0
    assert read_record(tmp_path / "tiny.safetensors")["step"] == 3


def test_interrupted_training_says_what_is_saved(capsys, tmp_path, monkeypatch):
    config = replace(TINY, train=TrainConfig(steps=4, batch=4, warmup=1, bf16=False, compile=False))
    monkeypatch.setitem(CONFIGS, "tiny", config)
    step = Trainer.train_step

    def interrupted(trainer, batch):
        if trainer.step == 3:
            raise KeyboardInterrupt
        return step(trainer, batch)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    arguments = ("train", "--config", "tiny", "--watch-every", 0, "--folder", tmp_path, "--save-every", 2)
    code, _, err = run(capsys, *arguments)
    assert code == 130 and "stopped at step 3, saved up to step 2; --resume goes on" in err


def test_info(capsys):
    code, text, _ = run(capsys, "info", "--json")
    found = json.loads(text)
    assert code == 0 and found["configs"]["mini"]["canvas"] == "8x32x32"
    assert sorted(found["weights"]) == shipped_weights()
    assert sorted(found["encoders"]) == shipped_weights("clip") != []
    assert sorted(found["codecs"]) == shipped_weights("codec") != []
    assert sorted(found["classifiers"]) == shipped_weights("classifier")
    code, text, _ = run(capsys, "info")
    assert code == 0
    assert all(f"{name}: step " in text for name in ("mini", "clip", "codec"))


def test_info_tells_of_classifiers_and_of_codecs_of_films(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "PRETRAINED", tmp_path)
    config = VideoClassifierConfig("seer", model=ClassifierConfig(widths=(8, 8)))
    record = {"config": config.to_dict(), "step": 7, "evaluation": {"levels": [{"all labels": 0.25}]}}
    save_classifier(MotionClassifier(config.model), tmp_path / "seer.safetensors", record)
    exact = {"codec, latent exact": {"PSNR": 30.25}}
    record = {
        "config": TINY_CODEC.to_dict(),
        "step": 9,
        "evaluation": {"compression": 48.0, "films": {"a film": {"codecs": exact}}},
    }
    save_codec(tiny_codec(), tmp_path / "film.safetensors", record)
    code, text, err = run(capsys, "info")
    assert code == 0, err
    assert "classifier seer: step 7, all labels right by level 25.0%" in text
    assert "film: step 9, 48 numbers to one, 30.2 dB by film" in text
    code, text, _ = run(capsys, "info", "--json")
    found = json.loads(text)
    assert list(found["classifiers"]) == ["seer"] and list(found["codecs"]) == ["film"]


BAD = [
    (("world", "a purpel circle", "--out", "x.gif"), "purpel"),
    (("world", "", "--out", "x.gif"), "empty"),
    (("world", "a red blue circle", "--out", "x.gif"), "red"),
    (("world", "a " * 200 + "circle", "--out", "x.gif"), "words"),
    (("world", "a red circle", "--out", "x.txt"), "out must end in one of"),
    (("world", "a red circle", "--out", "nowhere/x.gif"), "there is no folder nowhere"),
    (("world", "a red circle", "--out", "x.gif", "--frames", "3"), "frames must be an integer of at least 8"),
    (("world", "a red circle", "--out", "x.gif", "--seed", "-1"), "seed"),
    (("judge", "missing.gif", "a red circle"), "missing.gif"),
    (("judge", "broken.gif", "a red circle"), "broken.gif"),
    (("judge", "broken.gif", "a blorange circle"), "blorange"),
    (("generate", "a red circle", "--weights", "missing"), "weights must be"),
    (("generate", "a red circle", "--weights", "broken.safetensors"), "broken.safetensors"),
    (("generate", "--weights", "tiny.safetensors"), "prompts must hold at least one prompt"),
    (("generate", "a red circle turns blue", "--weights", "tiny.safetensors"), "level 3"),
    (("generate", "a red circle", "--weights", "tiny.safetensors", "--steps", "0"), "steps must be"),
    (("generate", "a red circle", "--weights", "tiny.safetensors", "--guidance", "-1"), "guidance must be"),
    (("generate", "a red circle", "--weights", "tiny.safetensors", "--seed", "-3"), "seed must be"),
    (
        ("generate", "a red circle", "--weights", "tiny.safetensors", "--out", "gone/x.gif"),
        "there is no folder gone",
    ),
    (("evaluate", "--weights", "tiny.safetensors", "--level", "3"), "level must be from 1 to 1"),
    (("evaluate", "--weights", "tiny.safetensors", "--clips", "0"), "clips must be"),
    (("train", "--config", "nope"), "config must be one of mini"),
    (("train", "--resume", "--folder", "runs"), "folder must hold a run of 'mini' to resume, got runs"),
    (("judge", "a red circle", "broken.gif"), "caption must say what the clip shows, got the file name"),
    (("train", "--steps", "0"), "steps must be a positive integer, got 0"),
    (("train", "--save-every", "0"), "save_every must be a positive integer, got 0"),
    (("train", "--watch-every", "-1"), "watch_every must be an integer >= 0, got -1"),
    (("train", "--device", "banana"), "device must be one that PyTorch finds here, got 'banana'"),
    (("train", "--folder", "broken.gif"), "folder must be a folder that can be written to"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, weights, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.gif").write_bytes(b"GIF89a and then nothing of use")
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 40)
    before = sorted(p.name for p in tmp_path.iterdir())
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == "", (code, out, err)
    assert err.startswith("t2v-mini: ") and err.count("\n") == 1 and message in err, err
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_weights_that_do_not_fit(tmp_path):
    path = tmp_path / "odd.safetensors"
    save_checkpoint(path, {"w": torch.zeros(1)}, {"config": TINY.to_dict(), "step": 0, "seconds": 0.0})
    with pytest.raises(ValueError, match="weights must fit their configuration"):
        TextToVideo.from_pretrained(path)


def test_prompt_errors_name_the_prompt(weights):
    pipeline = TextToVideo.from_pretrained(weights)
    with pytest.raises(CaptionError, match="level 2"):
        pipeline("a red circle moves left slowly")
    with pytest.raises(ValueError, match="prompts must hold at least one prompt"):
        pipeline([])


def test_callback_sees_every_step(weights):
    seen = []
    TextToVideo.from_pretrained(weights)(
        "a circle", steps=3, callback=lambda i, x, x0: seen.append((i, x0.shape))
    )
    assert [i for i, _ in seen] == [0, 1, 2] and seen[0][1] == (1, 3, 8, 32, 32)


def test_world_clip_equals_the_renderer(capsys, tmp_path):
    from t2v_mini.data.video_files import read_video

    path = tmp_path / "clip.gif"
    run(capsys, "world", "a red circle moves left", "--out", path, "--size", 192)
    expected = render([scene_for(parse("a red circle moves left"), 0)], 16, 192, 192)[0]
    assert (read_video(path).video - expected).abs().max() < 0.02


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"t2v-mini {t2v_mini.__version__}\n"


def test_help_of_generate_names_every_word_of_its_level(capsys):
    from t2v_mini.world.palette import COLOR_NAMES
    from t2v_mini.world.vocabulary import AXIS_DIRECTIONS, SHAPES, SIZES

    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    shown = capsys.readouterr().out
    for word in (*COLOR_NAMES, *SHAPES, *SIZES, *AXIS_DIRECTIONS, "still", "grows", "shrinks", "bounces"):
        assert word in shown
