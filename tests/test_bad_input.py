"""Generated bad input to codec, classifier, latents, generator: a clear error each, nothing written."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from t2v_mini.configs import (
    ClassifierConfig,
    CodecConfig,
    Config,
    DataConfig,
    ModelConfig,
    TrainConfig,
    VideoVAEConfig,
)
from t2v_mini.data.latent_cache import LatentCache, write_latents
from t2v_mini.data.video_files import write_video
from t2v_mini.data.video_folder import VideoFolder
from t2v_mini.models.classifier import MotionClassifier
from t2v_mini.models.generator import Generator
from t2v_mini.models.tiling import decode_tiled, encode_tiled
from t2v_mini.models.vae import VideoVAE
from t2v_mini.pipeline import TextToVideo
from t2v_mini.training.video_vae import load_codec, save_codec
from tests.tiny_codec import tiny_codec

pytestmark = pytest.mark.wrong_shapes
HUNDRED = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])

VAE = VideoVAEConfig("tiny", model=CodecConfig(latent=3, widths=(8, 8), depth=1))
MODEL = ModelConfig(
    channels=3, patch=(1, 1, 1), width=16, depth=1, heads=2, stem_width=16, text_width=16, given=True
)
CONFIG = Config("tiny", model=MODEL, data=DataConfig(frames=8, height=16, width=16), train=TrainConfig())
PROMPT = "a red circle moves left"


@pytest.fixture(scope="module")
def codec() -> VideoVAE:
    return tiny_codec(VAE)


@pytest.fixture(scope="module")
def pipeline(codec: VideoVAE) -> TextToVideo:
    return TextToVideo(Generator(MODEL), replace(CONFIG, codec="tiny"), codec=codec)


def spoiled(x: Tensor, draw: st.DrawFn) -> Tensor:
    """The tensor with one fault that makes it useless wherever a clip or a latent is asked for."""
    fault = draw(st.sampled_from(["dtype", "nan", "infinite", "channels", "axis", "flat", "empty"]))
    if fault == "dtype":
        return x.to(draw(st.sampled_from([torch.uint8, torch.int64, torch.bool, torch.int16])))
    if fault in ("nan", "infinite"):
        x = x.clone()
        place = draw(st.integers(0, x.numel() - 1))
        signs = [float("nan")] if fault == "nan" else [float("inf"), float("-inf")]
        x.view(-1)[place] = draw(st.sampled_from(signs))
        return x
    if fault == "channels":
        wrong = draw(st.sampled_from([n for n in range(1, 8) if n != x.shape[1]]))
        return x[:, :1].expand(-1, wrong, -1, -1, -1)
    if fault == "axis":
        return x[None]
    if fault == "flat":
        return x.select(draw(st.integers(0, 4)), 0)
    shape = list(x.shape)
    shape[draw(st.integers(0, 4))] = 0
    return x.new_zeros(shape)


@st.composite
def bad_clips(draw: st.DrawFn) -> Tensor:
    """Anything but a clip of legal size in [-1, 1] for `VAE`."""
    x = torch.linspace(-1, 1, 2 * 3 * 5 * 8 * 8).reshape(2, 3, 5, 8, 8)
    if draw(st.booleans()):
        return spoiled(x, draw)
    if draw(st.booleans()):
        return x * draw(st.floats(1.6, 1e30))  # such as bytes that were not scaled
    sizes = st.tuples(st.integers(1, 9), st.integers(1, 17), st.integers(1, 17))
    frames, height, width = draw(sizes.filter(lambda n: n[0] % 2 == 0 or n[1] % 4 or n[2] % 4))
    return torch.zeros(1, 3, frames, height, width)


def refused(call: Callable[[], object], *names: str) -> None:
    """Whether a call ends in a `ValueError` that names the argument, what was expected and what came."""
    with pytest.raises(ValueError) as raised:
        call()
    said = str(raised.value)
    assert said.startswith(names), said
    assert " must " in said and ("got" in said or "but" in said), said


@given(x=bad_clips())
@HUNDRED
def test_what_is_no_clip_cannot_be_encoded(codec: VideoVAE, x: Tensor):
    refused(lambda: codec.encode(x), "x ")
    refused(lambda: codec.encode(x, chunk=2), "x ")
    refused(lambda: encode_tiled(codec, x, 2), "x ")


@given(data=st.data())
@HUNDRED
def test_what_is_no_clip_is_not_padded_into_one(codec: VideoVAE, data: st.DataObject):
    x = spoiled(torch.zeros(2, 3, 4, 7, 9), data.draw)
    refused(lambda: codec.to_latent(x), "x ")
    refused(lambda: codec(x), "x ")


@given(data=st.data())
@HUNDRED
def test_what_is_no_latent_cannot_be_decoded(codec: VideoVAE, data: st.DataObject):
    z = spoiled(torch.linspace(-3, 3, 2 * 3 * 4 * 2 * 2).reshape(2, 3, 4, 2, 2), data.draw)
    refused(lambda: codec.decode(z), "z ")
    refused(lambda: decode_tiled(codec, z, 1), "z ")


@given(data=st.data())
@HUNDRED
def test_what_is_no_clip_is_not_classified(data: st.DataObject):
    classifier = MotionClassifier(ClassifierConfig(widths=(8, 8)))
    refused(lambda: classifier(spoiled(torch.zeros(2, 3, 4, 8, 8), data.draw)), "x ")


@given(data=st.data())
@HUNDRED
def test_a_generator_does_not_go_on_from_what_is_no_beginning(pipeline: TextToVideo, data: st.DataObject):
    given = spoiled(torch.zeros(2, 3, 3, 16, 16), data.draw)
    refused(lambda: pipeline([PROMPT, PROMPT], steps=1, given=given), "given ")


WORDS = st.sampled_from(
    ["a", "red", "cricle", "moves", "left", "purple", "", "7", "and", "🙂", "Small", "above"]
)
SETTINGS = {
    "prompts": st.lists(st.lists(WORDS, min_size=1, max_size=6).map(" ".join), max_size=2),
    "steps": st.sampled_from([0, -1, 1.5, "8"]),
    "guidance": st.sampled_from([-1.0, float("nan"), float("inf"), "3"]),
    "seed": st.sampled_from([-1, 0.5, "0", None]),
    "negative": st.sampled_from(["a purple cow", "left red", "circle a"]),
    "rescale": st.sampled_from([-0.1, 1.5, float("nan"), "1"]),
    "interval": st.sampled_from([(0.5, 0.2), (float("nan"), 1.0)]),
}


@given(data=st.data())
@HUNDRED
def test_settings_that_cannot_be_are_named(pipeline: TextToVideo, data: st.DataObject):
    name = data.draw(st.sampled_from(sorted(SETTINGS)))
    arguments = {"prompts": PROMPT, "steps": 1, "guidance": 2.0} | {name: data.draw(SETTINGS[name])}
    with pytest.raises(ValueError) as raised:
        pipeline(**arguments)
    if name not in ("prompts", "negative"):  # a caption's error points at the words
        refused(lambda: pipeline(**arguments), name + " ")
    assert str(raised.value)


@pytest.fixture(scope="module")
def stored(codec: VideoVAE, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The bytes of a codec's file, in a list, which is short where a failure is printed."""
    path = tmp_path_factory.mktemp("stored") / "codec.safetensors"
    save_codec(codec, path, {"config": VAE.to_dict()})
    return [path.read_bytes()]


def damaged(data: bytes, draw: st.DrawFn) -> bytes:
    """Bytes that are cut, changed somewhere, or something else altogether."""
    fault = draw(st.sampled_from(["cut", "flipped", "other"]))
    if fault == "cut":
        return data[: draw(st.integers(0, len(data) - 1))]
    if fault == "other":
        return draw(st.binary(max_size=200))
    place, bit = draw(st.integers(0, len(data) - 1)), draw(st.integers(0, 7))
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


@given(data=st.data())
@HUNDRED
def test_damaged_weights_are_refused(stored: list[bytes], data: st.DataObject):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "codec.safetensors"
        path.write_bytes(damaged(stored[0], data.draw))
        with pytest.raises(ValueError, match=r"path must|values must|weights must"):
            load_codec(path)
        assert list(Path(folder).iterdir()) == [path]


CACHE = 6


def made(start: int, stop: int) -> tuple[Tensor, list[list[str]]]:
    """Latents and captions as they should be."""
    return torch.arange(start, stop)[:, None, None, None, None].expand(-1, 2, 1, 2, 2) / 10, [
        [f"caption {n}"] for n in range(start, stop)
    ]


@given(data=st.data())
@HUNDRED
def test_damaged_latents_are_refused(data: st.DataObject):
    with TemporaryDirectory() as folder:
        write_latents(folder, CACHE, made, {"codec": "abc"}, block=3, progress=False)
        path = Path(folder) / data.draw(st.sampled_from(["latents.npy", "captions.jsonl"]))
        path.write_bytes(damaged(path.read_bytes(), data.draw))
        refused(lambda: LatentCache(folder), "folder ")


@given(data=st.data())
@HUNDRED
def test_latents_that_cannot_be_are_not_written(data: st.DataObject):
    fault = data.draw(st.sampled_from(["nan", "infinite", "large", "fewer", "more", "silent"]))
    bad = data.draw(st.sampled_from([0, 3]))

    def make(start: int, stop: int) -> tuple[Tensor, list[list[str]]]:
        z, captions = made(start, stop)
        if start != bad:
            return z, captions
        if fault in ("nan", "infinite", "large"):
            number = {"nan": float("nan"), "infinite": float("inf"), "large": 1e6}[fault]
            z = z.clone()
            z.view(-1)[data.draw(st.integers(0, z.numel() - 1))] = number
        if fault == "silent":
            captions[data.draw(st.integers(0, len(captions) - 1))] = []
        return (z[1:] if fault == "fewer" else z), captions + ([["one more"]] if fault == "more" else [])

    with TemporaryDirectory() as folder:
        refused(lambda: write_latents(folder, CACHE, make, {}, block=3, progress=False), "make ")
        refused(lambda: LatentCache(folder), "folder ")  # what was written does not pass for a cache
        state = Path(folder) / "state.json"
        assert (json.loads(state.read_text())["done"] if state.exists() else 0) == bad


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One good file of each kind, as bytes."""
    folder = tmp_path_factory.mktemp("films")
    clip = torch.linspace(-1, 1, 3 * 6 * 16 * 16).reshape(3, 6, 16, 16)
    for suffix in (".mp4", ".gif"):
        write_video(folder / f"film{suffix}", clip, enlarge_to=None)
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@given(data=st.data())
@HUNDRED
def test_damaged_films_are_skipped_and_told(films: dict[str, bytes], data: st.DataObject):
    suffix = data.draw(st.sampled_from(sorted(films)))
    with TemporaryDirectory() as folder:
        (Path(folder) / "good.mp4").write_bytes(films[".mp4"])
        (Path(folder) / f"bad{suffix}").write_bytes(damaged(films[suffix], data.draw))
        films_found = VideoFolder(folder, 6, 16, 16)
        clips = list(films_found)
        assert any(clip.path.name == "good.mp4" for clip in clips)
        # A flipped bit may leave a film that can still be read.
        told = set(films_found.skipped) | {clip.path.name for clip in clips}
        assert told == {"good.mp4", f"bad{suffix}"}
        assert len(list(Path(folder).iterdir())) == 2
