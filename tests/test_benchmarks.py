"""The benchmarks measure what they say, on sizes that take seconds."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import attention, codec, contestants, generate, sampling, world
from benchmarks.contestants import OURS, UNET, WAN, Contestant, Missing, text_condition
from benchmarks.kernels import attention_rows, fused_wins_from
from benchmarks.measuring import fair_clock, interleaved
from benchmarks.sampling import TRAINER, step_rows
from experiments.results_file import write_json
from t2v_mini.configs import (
    CODEC,
    CodecConfig,
    Config,
    DataConfig,
    ModelConfig,
    SampleConfig,
    TrainConfig,
    get_config,
)

# As many parameters as the smallest Unet3D has.
TINY = Config(
    "tiny",
    model=ModelConfig(width=96, depth=5, heads=2, stem_width=96, text_width=16, text_heads=2, text_depth=1),
    data=DataConfig(frames=8, height=16, width=16),
    train=TrainConfig(steps=6, batch=2, warmup=2),
)

TINY_LATENT = Config(
    "tiny latent",
    model=ModelConfig(patch=(3, 2, 2), width=32, depth=3, heads=2, stem_width=64, text_width=16, given=True),
    data=DataConfig(frames=4, height=16, width=16),  # 5 legal frames, and latents of 3 by 4 by 4
    sample=SampleConfig(steps=2),
    codec="codec",
)
TINY_CODEC = CodecConfig(latent=3, widths=(16, 32), depth=1)


def test_works_take_turns_after_a_warm_up():
    calls = []
    found = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert "".join(calls) == "ab" + 3 * "ab"
    for times in found.values():
        assert 0 <= times["least"] <= times["seconds"] <= times["most"]


def test_the_clock_is_the_wall_where_several_threads_add_up(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert fair_clock() == "cpu_seconds"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert fair_clock() == "seconds"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_of_steps_say_what_was_compared(dtype):
    rows = step_rows(TINY, 2, dtype, False, 1, unet_clips=1)
    measured = [row for row in rows if "seconds" in row]
    for group in ("training step", "sampling step"):
        names = [row["name"] for row in rows if row["group"] == group]
        assert names == [OURS, WAN, UNET] + [TRAINER] * (group == "training step")
    for row in rows:
        assert (row["batch"], row["dtype"], row["compile"]) == (2, dtype, False)
        assert row["threads"] == torch.get_num_threads()
    for row in measured:
        assert 0 < row["least"] <= row["seconds"] <= row["most"]
        assert row["configuration"] and row["parameters"] > 0
        mine = next(r for r in rows if r["name"] == OURS and r["group"] == row["group"])
        if row["name"] in (WAN, UNET):
            assert row["ratio"] == mine[row["clock"]] / row[row["clock"]]
            assert ("the peer wins" in row["verdict"]) == (row["ratio"] > 1)
            if "trainer_ratio" in row:
                assert ("the peer wins" in row["trainer_verdict"]) == (row["trainer_ratio"] > 1)
            assert ("trainer_ratio" in row) == (row["group"] == "training step")
            assert 0.75 <= row["parameters"] / mine["parameters"] <= 1.25
        assert row["clips_measured"] == (1 if row["name"] == UNET else 2)
        assert row["tokens"] == (8 * 16 * 16 if row["name"] == UNET else 16)
        assert sampling._line(row)


@pytest.mark.parametrize("peer", [contestants.wan, contestants.unet])
def test_peers_of_the_mini_configuration_have_its_size(peer):
    config = get_config("mini")
    mine = contestants.ours(config)
    other = peer(config, mine.parameters)
    if isinstance(other, Missing):
        pytest.skip(other.reason)
    assert 0.75 <= other.parameters / mine.parameters <= 1.25
    if peer is contestants.wan:
        assert other.tokens == mine.tokens == 64


def test_tokens_are_those_that_the_transformers_see():
    mine = contestants.ours(TINY)
    found = {}
    others = [mine, contestants.wan(TINY, mine.parameters)]
    for contestant in [other for other in others if isinstance(other, Contestant)]:
        contestant.model.blocks[0].register_forward_pre_hook(
            lambda _, args, name=contestant.name: found.update({name: args[0].shape[1]})
        )
        x, text = torch.randn(2, 3, 8, 16, 16), text_condition(2, 16)
        assert contestant.call(contestant.model, x, torch.rand(2), text).shape == x.shape
        assert found[contestant.name] == contestant.tokens == 16


def test_a_missing_peer_is_a_row_not_a_crash(monkeypatch):
    # None makes an import fail.
    monkeypatch.setitem(sys.modules, "diffusers", None)
    monkeypatch.setitem(sys.modules, "video_diffusion_pytorch", None)
    rows = step_rows(TINY, 2, "float32", False, 1)
    for row in rows:
        if row["name"] in (WAN, UNET):
            assert row["verdict"].startswith("not installed: pip install ")
            assert "seconds" not in row
            assert row["verdict"] in sampling._line(row)


def test_parts_of_a_batch_are_the_batch():
    torch.manual_seed(0)
    inputs = (torch.randn(6, 3, 8, 16, 16), torch.rand(6), text_condition(6, 16))
    mine = contestants.ours(TINY)
    whole = sampling._parts(mine, inputs)
    mine.micro_batch = 4
    parts = sampling._parts(mine, inputs)
    assert [len(x) for x, _, _ in whole] == [6]
    assert [len(x) for x, _, _ in parts] == [4, 2]
    for i, joined in enumerate(inputs[:2]):
        assert torch.equal(torch.cat([part[i] for part in parts]), joined)
    assert torch.equal(torch.cat([part[2].mask for part in parts]), inputs[2].mask)


def test_rows_of_attention_cover_dtypes_passes_and_masks():
    rows = attention_rows(2, 2, 8, [(4, 3, True), (4, 4, False), (8, 8, False)], ["float32", "bfloat16"], 1)
    assert len(rows) == 3 * 2 * 2
    for row in rows:
        assert row["ratio"] == row["written_out"][row["clock"]] / row["fused"][row["clock"]]
        assert row["verdict"].startswith("fused" if row["ratio"] > 1 else "written out")
        assert sampling._line(row)
    assert set(fused_wins_from(rows)) == {
        f"{dtype}, {kind}"
        for dtype in ("float32", "bfloat16")
        for kind in ("forward", "forward and backward")
    }


@pytest.mark.parametrize(
    ("ratios", "expected"), [([2, 2, 2], 64), ([2, 0.5, 2], 256), ([2, 2, 0.5], None), ([0.5, 2, 2], 128)]
)
def test_fused_wins_from_the_length_after_which_it_never_loses(ratios, expected):
    row = {"group": "attention", "masked": False, "dtype": "float32", "pass": "forward"}
    rows = [row | {"keys": keys, "ratio": ratio} for keys, ratio in zip((64, 128, 256), ratios, strict=True)]
    assert fused_wins_from(rows) == {"float32, forward": expected}


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ValueError, match="dtypes must be float32 or bfloat16, got float16"):
        sampling.measure(sampling.Arguments(dtypes=("float16",)))


def test_exponents_of_a_power_law_are_its_exponents():
    """Of the largest clips alone: small ones and those that were left out do not count."""
    slopes = {"joint": (2.0, 1.5), "factorized": (1.5, 1.0), "axial": (1.25, 1.0)}
    rows = []
    for kind, (time, memory) in slopes.items():
        for tokens in (16, 64, 256, 1024, 4096):
            row = {"kind": kind, "path": "fused", "tokens": tokens, "seconds": 7.0, "peak_bytes": 7}
            if tokens > 16:
                row |= {"seconds": 3e-6 * tokens**time, "peak_bytes": 5 * tokens**memory}
            if tokens == 4096:
                row = {"kind": kind, "path": "fused", "tokens": tokens, "left_out": "too large"}
            rows.append(row)
    alone = [{"kind": "joint", "path": "written out", "tokens": 64, "seconds": 1.0, "peak_bytes": 1}]
    found = attention.exponents([*rows, *alone])
    assert set(found) == {f"{kind}, fused" for kind in slopes}  # no line through a single point
    for kind, (time, memory) in slopes.items():
        assert found[f"{kind}, fused"] == pytest.approx({"time": time, "memory": memory}, abs=1e-9)


@pytest.mark.parametrize(("kind", "looked_at"), [("joint", 4 * 8 * 16), ("factorized", 128), ("axial", 16)])
def test_logits_are_counted_at_the_stage_that_has_most(kind, looked_at):
    assert attention.logit_bytes(kind, (4, 8, 16), 3) == 4 * 3 * (4 * 8 * 16) * looked_at


def test_attention_over_clips_is_measured_and_written(tmp_path, capsys):
    path = tmp_path / "found.json"
    # Two grids; the written-out logits of the larger one, a quarter of a MiB a head, are too many.
    attention.main(
        attention.Arguments(width=16, heads=2, repeats=1, largest=256, logits=2**-12, json=True, out=path)
    )
    found = json.loads(path.read_text())
    assert found == json.loads(capsys.readouterr().out)
    assert set(found) == {"settings", "scaling", "exponents", "peers", "conditions"}
    assert found["settings"] == {"width": 16, "heads": 2, "pass": "forward and backward"}
    assert [(row["tokens"], row["grid"]) for row in found["scaling"]] == 6 * [(128, [2, 8, 8])] + 6 * [
        (256, [4, 8, 8])
    ]
    cases = {(row["kind"], row["path"], row["tokens"]): row for row in found["scaling"]}
    assert len(cases) == len(found["scaling"])
    out = cases.pop(("joint", "written out", 256))
    assert "seconds" not in out and out["left_out"] == "its logits alone take 524288 bytes"
    for (kind, way, _), row in cases.items():
        assert 0 < row["least"] <= row["seconds"] <= row["most"] and row["cpu_seconds"] > 0
        if way == "written out":
            assert row["peak_bytes"] > attention.logit_bytes(kind, tuple(row["grid"]), 2)
    assert cases["joint", "fused", 128]["peak_bytes"] < cases["joint", "written out", 128]["peak_bytes"]
    names = {f"{kind}, {way}" for kind in attention.KINDS for way in ("written out", "fused")}
    assert set(found["exponents"]) == names - {"joint, written out"}
    assert found["conditions"]["threads"] == torch.get_num_threads()
    for row in found["peers"]:
        assert (row["grid"], row["batch"], row["dtype"]) == ([8, 8, 8], 4, "float32")
        if "left_out" not in row:
            assert row["ratio"] == row["ours"][fair_clock()] / row["peer"][fair_clock()]
            assert row["verdict"] == ("ours" if row["ratio"] < 1 else "the peer") + " is faster"
            assert min(row["ours_parameters"], row["peer_parameters"]) > 0


def test_attention_is_measured_without_its_peers(capsys, monkeypatch):
    # None makes an import fail, also of what another test has imported.
    for name in (
        "diffusers.models.transformers.transformer_wan",
        "rotary_embedding_torch",
        "video_diffusion_pytorch.video_diffusion_pytorch",
    ):
        monkeypatch.setitem(sys.modules, name, None)
    rows = attention.peer_rows(attention.Arguments(width=16, heads=2, repeats=1))
    assert len(rows) == 2
    for row in rows:
        assert row["left_out"].startswith("the peer is not installed: ") and "ratio" not in row
    attention.main(attention.Arguments(width=16, heads=2, repeats=1, largest=128))
    printed = capsys.readouterr().out
    assert printed.count("the peer is not installed") == 2
    assert printed.count("128 tokens") == 6 and "time ~" not in printed


@pytest.mark.parametrize("module", [generate, sampling, world])
def test_results_are_written_as_printed(module, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "measure", lambda arguments: {"unit": "clips a second", "rows": []})
    path = tmp_path / "results" / "found.json"
    module.main(module.Arguments(json=True, out=path))
    assert json.loads(path.read_text()) == json.loads(capsys.readouterr().out)
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(TypeError):
        write_json(path, {"not": object()})
    assert json.loads(path.read_text())["unit"] == "clips a second"


def test_a_training_pass_leaves_frozen_parameters_alone():
    """Peers hold some, such as the speeds of rotary positions."""
    layer = torch.nn.Linear(4, 4)
    layer.bias.requires_grad_(False)
    attention.training_pass(layer, torch.ones(2, 4))()
    assert layer.weight.grad is None and layer.bias.grad is None


def test_rows_of_codecs_have_equal_compression_and_about_equal_parameters():
    assert codec.Arguments().widths == CODEC.model.widths
    rows = codec.rows_of(codec.Arguments(frames=5, size=16, batch=1, widths=(16, 32), repeats=1))
    measured = [row for row in rows if "seconds" in row]
    names = list(dict.fromkeys(row["name"] for row in rows))
    assert names == [codec.OURS, "ours, efficient", "diffusers CogVideoX", "diffusers Wan 2.1"]
    assert len({tuple(row["latent"]) for row in measured}) == 1
    first = measured[0]["parameters"]
    for row in measured:
        assert row["pass"] in ("encode", "decode", "training step") and row["peak_bytes"] > 0
        # Small codecs come in coarse steps of width.
        assert 0.5 < row["parameters"] / first < 2
        assert row["clips_per_second"] == pytest.approx(1 / row["seconds"])
    assert all(row["ratio"] == 1 for row in measured if row["name"] == codec.OURS)
    json.dumps(rows)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_of_generation_say_what_was_compared(dtype):
    rows = generate.rows_of(TINY_LATENT, TINY_CODEC, generate.Arguments(batch=2, dtype=dtype, repeats=1))
    names = [generate.OURS, "diffusers Wan 2.1", "diffusers CogVideoX"]
    assert list(dict.fromkeys(row["name"] for row in rows)) == names
    parts = {"encode": ["codec"], "decode": ["codec"], "training step": ["denoiser"],
             "generation": ["denoiser", "codec"]}  # fmt: skip
    measured = {(row["name"], row["pass"]): row for row in rows if "left_out" not in row}
    for (name, what), row in measured.items():
        assert list(row["configuration"]) == parts[what]
        assert (row["batch"], row["threads"], row["compile"]) == (2, torch.get_num_threads(), False)
        assert row["dtype"] == (dtype if "denoiser" in parts[what] else "float32")
        assert row["clip"] == [3, 5, 16, 16]
        assert 0 < row["least"] <= row["seconds"] <= row["most"] and row["peak_bytes"] > 0
        assert row["clips_per_second"] == pytest.approx(2 / row["seconds"])
        mine = measured[generate.OURS, what]
        assert row["ratio"] == mine[fair_clock()] / row[fair_clock()]
        # Small codecs come in coarse steps of width.
        low, high = (0.5, 2) if "codec" in parts[what] else (0.75, 1.25)
        assert low < row["parameters"] / mine["parameters"] < high
        each = {"codec": "encode", "denoiser": "training step"}
        assert row["parameters"] == sum(measured[name, each[part]]["parameters"] for part in parts[what])
        if "denoiser" in parts[what]:
            assert row["tokens"] == 4 and row["note"]
        assert generate._line(row)
    for what in parts:
        assert measured[generate.OURS, what]["ratio"] == 1
    assert measured[generate.OURS, "training step"]["configuration"]["denoiser"]["given"] is False
    json.dumps(rows)


def test_all_systems_make_clips_of_the_same_latents_in_the_same_steps():
    config = contestants.on_latents(TINY_LATENT, (3, 4, 4))
    text, null = text_condition(2, 16), text_condition(2, 16, 2)
    noise = torch.randn(2, 3, 3, 4, 4)
    for system in generate.systems(config, TINY_CODEC):
        if isinstance(system, Missing):
            continue
        seen, tokens, call, model = [], [], system.denoiser.call, system.denoiser.model

        def watched(model, x, t, given, seen=seen, call=call):
            seen.append((t.tolist(), given is text))
            return call(model, x, t, given)

        system.denoiser.call = watched
        last = model.head if system.name == generate.OURS else model.proj_out
        last.register_forward_pre_hook(lambda _, args, tokens=tokens: tokens.append(args[0].shape[1]))
        with torch.no_grad():
            clips = generate.generate(system, config, text, null, "float32", noise)
        assert clips.shape == (2, 3, 5, 16, 16) and clips.abs().max() <= 1
        assert seen == [([t, t], with_text) for t in (1, 0.75) for with_text in (False, True)]
        assert tokens == 4 * [system.denoiser.tokens]


def test_generation_is_measured_without_its_peers(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)  # makes its import fail
    rows = generate.rows_of(TINY_LATENT, TINY_CODEC, generate.Arguments(batch=1, repeats=1))
    assert [row["name"] for row in rows] == 4 * [generate.OURS] + [name for name, *_ in generate.PEERS]
    for row in rows[4:]:
        assert row["left_out"] == "not installed: pip install diffusers" and "ratio" not in row
    monkeypatch.setattr(generate, "measure", lambda arguments: {"rows": rows})
    generate.main(generate.Arguments())
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(rows)
    assert all("not installed" in line for line in printed[4:])


def test_the_latent_configuration_is_seen_as_latents_for_clips():
    config = get_config("latent")
    seen = contestants.on_latents(config, (9, 8, 8))
    assert contestants.token_count(seen) == contestants.ours(seen).tokens == 3 * 4 * 4
    assert seen.model == replace(config.model, given=False)
