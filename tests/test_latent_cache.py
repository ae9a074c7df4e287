"""Latents on disk: whole, the same after a stop, and refused when they are damaged or of something else."""

import json

import numpy as np
import pytest
import torch

from t2v_mini.data.latent_cache import LatentCache, write_latents

COUNT, BLOCK = 11, 4
Z = torch.randn(COUNT, 3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
CAPTIONS = [[f"clip {i}, caption {k}" for k in range(1 + i % 3)] for i in range(COUNT)]
OF = {"codec": "abc", "data": [1, 2]}


def make(start, stop):
    return Z[start:stop], CAPTIONS[start:stop]


def write(folder, source=make, **changes):
    return write_latents(folder, **{"count": COUNT, "fingerprint": OF} | changes, make=source, block=BLOCK)


def test_latents_come_back_in_half_precision_and_captions_as_they_were(tmp_path):
    cache = write(tmp_path / "new" / "folder")
    assert len(cache) == COUNT and cache.captions == CAPTIONS and cache.fingerprint == OF
    assert isinstance(cache.latents, np.memmap) and cache.latents.dtype == np.float16
    index = torch.tensor([10, 0, 10, 3])
    z, texts = cache.batch(index, torch.Generator().manual_seed(0))
    assert z.dtype == torch.float32 and torch.equal(z, Z[index].half().float())
    assert all(text in CAPTIONS[i] for i, text in zip(index.tolist(), texts, strict=True))


def test_every_caption_is_drawn_about_equally_often(tmp_path):
    cache = write(tmp_path)
    index = torch.full((3000,), 2)
    _, texts = cache.batch(index, torch.Generator().manual_seed(0))
    # 1000 each, with a deviation of 26.
    assert all(abs(texts.count(text) - 1000) < 110 for text in CAPTIONS[2])
    assert cache.batch(index, torch.Generator().manual_seed(0))[1] == texts


@pytest.mark.parametrize("stop_at", range(0, COUNT, BLOCK))
@pytest.mark.parametrize("moment", ["before", "captions written", "latents written"])
def test_a_stopped_run_goes_on_and_ends_the_same(tmp_path, stop_at, moment):
    def stopped(start, stop):
        if start == stop_at:
            raise KeyboardInterrupt
        return make(start, stop)

    whole, folder = tmp_path / "whole", tmp_path / "stopped"
    write(whole)
    with pytest.raises(KeyboardInterrupt):
        write(folder, stopped)
    if stop_at and moment == "captions written":
        with (folder / "captions.jsonl").open("a") as file:
            file.write('["half a li')
    if stop_at and moment == "latents written":
        np.load(folder / "latents.npy", mmap_mode="r+")[stop_at : stop_at + 2] = 9
    asked = []
    write(folder, lambda start, stop: asked.append(start) or make(start, stop))
    assert asked == list(range(stop_at, COUNT, BLOCK))  # nothing is made twice
    for name in ("latents.npy", "captions.jsonl", "state.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    write(folder, stopped if stop_at >= COUNT else lambda *_: pytest.fail("made again"))


@pytest.mark.parametrize("name", ["latents.npy", "captions.jsonl"])
def test_damage_is_seen(tmp_path, name):
    write(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[-3] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match="folder must hold undamaged latents"):
        LatentCache(tmp_path)


def test_unfinished_and_missing_latents_are_refused(tmp_path):
    with pytest.raises(ValueError, match="folder must hold latents, but there is no state.json"):
        LatentCache(tmp_path)

    def stopped(start, stop):
        if start:
            raise KeyboardInterrupt
        return make(start, stop)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, stopped)
    with pytest.raises(ValueError, match="folder must hold finished latents, got 4 of 11"):
        LatentCache(tmp_path)


@pytest.mark.parametrize("change", [{"fingerprint": {"codec": "abd", "data": [1, 2]}}, {"count": 7}])
def test_latents_of_something_else_are_left_alone(tmp_path, change):
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="folder must be empty or hold the same latents"):
        write(tmp_path, **change)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda a, b: (Z[a : b - 1], CAPTIONS[a:b]), "make must return 4 latents"),
        (lambda a, b: (Z[a:b], CAPTIONS[a : b + 1]), "got 4 latents and 5 lists"),
        (lambda a, b: (Z[a:b], [[]] * (b - a)), "with one caption or more each"),
        (lambda a, b: (Z[a:b] * 1e6, CAPTIONS[a:b]), "latents that half precision can hold"),
        (lambda a, b: (Z[a:b] / 0, CAPTIONS[a:b]), "latents that half precision can hold"),
    ],
)
def test_bad_blocks_are_refused_and_not_counted(tmp_path, source, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, source)
    assert not (tmp_path / "state.json").exists()


@pytest.mark.parametrize("count", [0, -1, 2.0, True])
def test_a_count_is_a_positive_integer(tmp_path, count):
    with pytest.raises(ValueError, match="count must be a positive integer"):
        write(tmp_path / "none", count=count)
    assert not (tmp_path / "none").exists()


def test_the_state_can_be_read(tmp_path):
    write(tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["fingerprint"] == OF and state["done"] == state["count"] == COUNT
