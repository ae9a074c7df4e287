"""Training: resumable to the bit, honest about failure, and able to learn."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch

from t2v_mini.configs import ClipConfig, Config, DataConfig, TrainConfig
from t2v_mini.data.moving_shapes import FIRST_TRAINING_SEED, training_batch, training_batches
from t2v_mini.models.generator import Generator
from t2v_mini.models.text_video import mini_clip
from t2v_mini.training import trainer as module
from t2v_mini.training.checkpoint import content_hash, load_checkpoint, read_record, save_checkpoint
from t2v_mini.training.ema import EMA
from t2v_mini.training.learning_rate import trapezoid
from t2v_mini.training.trainer import Trainer
from t2v_mini.world import is_held_out, judge_claims, parse
from t2v_mini.world.caption import normalise
from tests.tiny_generator import TINY_GENERATOR

TINY = Config(
    "tiny",
    model=TINY_GENERATOR,
    data=DataConfig(frames=8, height=16, width=16),
    train=TrainConfig(steps=6, batch=4, warmup=2, bf16=False, compile=False),
)
CLIP = ClipConfig(
    text_width=16, text_heads=2, text_depth=1, embed=16, patch=8, width=32, depth=1, heads=2,
    temporal_depth=1, temporal_heads=2,
)  # fmt: skip


def weights(trainer):
    return {f"model.{k}": v for k, v in trainer.model.state_dict().items()} | {
        f"ema.{k}": v for k, v in trainer.ema.state.items()
    }


def test_resumed_run_equals_uninterrupted_run(tmp_path):
    whole = Trainer(TINY)
    whole.train(progress=False)
    first = Trainer(TINY, tmp_path)
    first.train(stop_at=3, progress=False)
    second = Trainer(TINY, tmp_path)
    second.resume()
    assert second.step == 3
    second.train(progress=False)
    assert second.losses == whole.losses
    a, b = weights(whole), weights(second)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_what_observers_found_survives_a_stop(tmp_path):
    def look(trainer):
        trainer.curve.append({"step": trainer.step})
        return ""

    Trainer(TINY, tmp_path).train(observe_every=1, observe=look, stop_at=2, progress=False)
    again = Trainer(TINY, tmp_path)
    again.resume()
    again.train(observe_every=1, observe=look, stop_at=4, progress=False)
    assert again.curve == [{"step": step} for step in (1, 2, 3, 4)]


def test_killed_run_equals_uninterrupted_run(tmp_path):
    """SIGKILL in the middle of training loses no more than the steps since the last checkpoint."""
    script = textwrap.dedent(
        """
        import os, signal, sys
        from tests.test_training import TINY
        from t2v_mini.training.trainer import Trainer

        def kill(trainer):
            os.kill(os.getpid(), signal.SIGKILL)

        if __name__ == "__main__":
            Trainer(TINY, sys.argv[1]).train(save_every=2, observe_every=5, observe=kill, progress=False)
        """
    )
    (tmp_path / "run.py").write_text(script)
    # Sums depend on how many threads share them.
    env = os.environ | {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path)], env=env, capture_output=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    resumed, whole = Trainer(TINY, tmp_path), Trainer(TINY)
    resumed.resume()
    assert resumed.step == 4
    resumed.train(progress=False)
    whole.train(progress=False)
    a, b = weights(whole), weights(resumed)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_checkpoint_of_another_configuration_is_refused(tmp_path):
    Trainer(TINY, tmp_path).save()
    other = Trainer(replace(TINY, train=replace(TINY.train, steps=9)), tmp_path)
    with pytest.raises(ValueError, match="belongs to another configuration"):
        other.resume()


def test_loss_that_is_not_finite_stops_training():
    trainer = Trainer(TINY)
    torch.nn.init.constant_(trainer.model.denoiser.head[-1].bias, float("nan"))
    with pytest.raises(
        FloatingPointError, match=r"the loss is nan at step 0 \(seed 0\); last checkpoint: None"
    ):
        trainer.train_step(training_batch(TINY.data, 0, 4))


def test_it_learns():
    trainer = Trainer(replace(TINY, train=replace(TINY.train, steps=60, learning_rate=3e-3)))
    batch = training_batch(TINY.data, 0, 4)
    losses = [trainer.train_step(batch) for _ in range(60)]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_batches_are_seen_truthful_and_reproducible():
    data = DataConfig()
    batch = training_batch(data, 3, 32)
    assert not any(is_held_out(claim) for claim in batch.claims)
    said = [parse(text) for text in batch.captions]
    assert all(v.correct for v in judge_claims(batch.video / 127.5 - 1, said))
    assert any(claim != full for claim, full in zip(said, batch.claims, strict=True))  # some leave facts out
    again = list(training_batches(data, 3, 5, 32))
    assert torch.equal(again[0].video, batch.video) and again[0].captions == batch.captions
    assert not torch.equal(again[1].video, batch.video) and FIRST_TRAINING_SEED > 10**6


def test_kinds_of_clips_and_captions_may_be_chosen():
    (three,) = list(training_batches(DataConfig(level=3, kind="three", short_captions=0.0), 0, 1, 6))
    assert all(len(claim.objects) == 3 for claim in three.claims)
    full = [normalise(claim) for claim in three.claims]
    assert [normalise(parse(text)) for text in three.captions] == full
    short = training_batch(DataConfig(level=3, kind="three", short_captions=1.0), 0, 6)
    assert torch.equal(short.video, three.video)
    assert all(normalise(parse(text)) != claim for text, claim in zip(short.captions, full, strict=True))


def test_average():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    ema = EMA(model, 0.5)
    torch.nn.init.ones_(model.weight)
    expected = 0.0
    for update in range(1, 6):
        ema.update(model)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay)
        assert ema.state["weight"].item() == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\), got 1"):
        EMA(model, 1)


def test_learning_rate():
    factors = [trapezoid(s, 100, 10, 0.3) for s in range(101)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == 1 and factors[70] == 1
    assert factors[85] == pytest.approx(0.5) and factors[100] == 0
    with pytest.raises(ValueError, match="cooldown must lie"):
        trapezoid(0, 1, 1, 1.5)


def test_checkpoints(tmp_path):
    path, tensors = tmp_path / "a.safetensors", {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)}
    digest = save_checkpoint(path, tensors, {"note": "x"})
    assert read_record(path) == {"note": "x", "hash": digest}
    found, record = load_checkpoint(path)
    assert record["hash"] == content_hash(found) and all(torch.equal(found[k], tensors[k]) for k in tensors)
    assert content_hash({"w": tensors["w"].T, "n": tensors["n"]}) != digest
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="undamaged checkpoint"):
        load_checkpoint(path)
    path.write_bytes(data[:20])
    with pytest.raises(ValueError, match="readable checkpoint"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match="there is none"):
        load_checkpoint(tmp_path / "b.safetensors")


def test_failed_save_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"w": torch.zeros(2)}, {"step": 1})
    with pytest.raises(TypeError):
        save_checkpoint(path, {"w": torch.ones(2)}, {"step": object()})
    assert read_record(path)["step"] == 1 and os.listdir(tmp_path) == ["a.safetensors"]


def test_foreign_safetensors(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(1)}, str(tmp_path / "a.safetensors"), metadata={"record": json.dumps({})})
    with pytest.raises(ValueError, match="t2v_mini-2 checkpoint"):
        read_record(tmp_path / "a.safetensors")


def test_text_tower_of_a_clip_is_taken_over_and_stays(monkeypatch, tmp_path):
    """Frozen in training, saved with the weights, and refused where the sizes differ."""
    encoder = mini_clip(CLIP)
    monkeypatch.setattr(module, "load_clip", lambda name: encoder)
    config = replace(TINY, train=replace(TINY.train, text_weights="clip"))
    trainer = Trainer(config)
    before = {k: v.clone() for k, v in trainer.model.text.tower.state_dict().items()}
    for name, value in encoder.clip.text.state_dict().items():
        assert torch.equal(before[name], value)
    trainer.train_step(training_batch(config.data, 0, 4))
    for name, value in trainer.model.text.tower.state_dict().items():
        assert torch.equal(before[name], value)
        assert torch.equal(before[name], trainer.ema.state[f"text.tower.{name}"])
    other = mini_clip(replace(CLIP, text_width=32))
    monkeypatch.setattr(module, "load_clip", lambda name: other)
    with pytest.raises(ValueError, match="text_weights must fit the configuration's text tower"):
        Trainer(config)


def test_text_weights_need_a_transformer(monkeypatch):
    """A bag of words has no tower to take over; it is refused before anything of it is frozen."""
    encoder = mini_clip(CLIP)
    bag = replace(TINY.model, text="bag")
    model = Generator(bag)
    with pytest.raises(ValueError, match="text_weights need a Transformer for the text, got BagOfWords"):
        module.take_text(model, encoder)
    assert all(p.requires_grad for p in model.parameters())
    monkeypatch.setattr(module, "load_clip", lambda name: encoder)
    with pytest.raises(ValueError, match="text_weights need a Transformer"):
        Trainer(replace(TINY, model=bag, train=replace(TINY.train, text_weights="clip")))
