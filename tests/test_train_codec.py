"""A codec that goes on from finished weights."""

from dataclasses import replace

import pytest
import torch

from experiments.cards import origin_rows
from experiments.results_file import conditions
from experiments.train_codec import Refinement
from t2v_mini.configs import CodecConfig, DataConfig, TrainConfig, VideoVAEConfig
from t2v_mini.data.moving_shapes import training_batch
from t2v_mini.metrics.caption_accuracy import layouts_of
from t2v_mini.training.video_vae import (
    VideoVAETrainer,
    codec_of,
    latents_hash,
    load_codec,
    measure_latents,
    save_codec,
)

TINY = VideoVAEConfig(
    "tiny",
    model=CodecConfig(widths=(8, 16), depth=1),
    data=(DataConfig(level=1, frames=9, height=16, width=16),),
    train=TrainConfig(steps=4, batch=4, warmup=2, bf16=False, compile=False),
)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A file of weights that were trained a little."""
    trainer = VideoVAETrainer(TINY)
    trainer.train(stop_at=3, progress=False)
    codec, path = codec_of(TINY, trainer.ema.state), tmp_path_factory.mktemp("codec") / "codec.safetensors"
    measure_latents(codec, trainer.clips(training_batch(TINY.data[0], 0, 4)))
    save_codec(codec, path, trainer.record() | {"conditions": conditions()})
    return path


def test_a_refinement_begins_with_the_weights_and_says_so(start, tmp_path):
    trainer, (codec, record) = Refinement(str(start), TINY, tmp_path), load_codec(start)
    for name, value in codec.state_dict().items():
        assert torch.equal(trainer.model.state_dict()[name], value)
        assert torch.equal(trainer.ema.state[name], value)
    train = trainer.config.train
    assert (train.start, train.seed) == (record["hash"], TINY.train.seed + 1)
    assert train.learning_rate == TINY.train.learning_rate / 2
    trainer.train(stop_at=1, progress=False)
    told = trainer.record() | {"conditions": conditions()}
    assert f"| start | the weights `{record['hash'][:12]}`: 3 steps of 4 clips" in "\n".join(
        origin_rows(told, "abc")
    )
    again = Refinement(str(start), TINY, tmp_path)
    again.resume()
    assert again.step == 1


def test_a_refinement_of_the_decoder_leaves_the_latents_alone(start):
    trainer, (codec, _) = Refinement(str(start), TINY, None, decoder=True), load_codec(start)
    trainer.train(stop_at=2, progress=False)
    made = codec_of(TINY, trainer.ema.state)
    assert latents_hash(made) == latents_hash(codec)
    changed = [n for n, value in made.state_dict().items() if not torch.equal(value, codec.state_dict()[n])]
    assert changed and all(name.startswith("decoder.") for name in changed)


def test_level_1_is_seen_least_in_a_refinement(start):
    data = tuple(replace(TINY.data[0], level=level) for level in (1, 2, 3))
    trainer = Refinement(str(start), replace(TINY, data=data), None)
    batches = list(trainer.batches(5))
    several = [max(len(claim.objects) for claim in batch.claims) > 1 for batch in batches]
    assert several == [True, True, True, True, False]
    covered = [all("in front of" in layouts_of(claim) for claim in batch.claims) for batch in batches]
    assert covered[2:4] == [True, True] and not covered[4]


def test_clips_that_come_out_worse_count_for_more(start):
    trainer = Refinement(str(start), TINY, None)
    plain = VideoVAETrainer(trainer.config)
    plain.model.load_state_dict(trainer.model.state_dict())
    batch = training_batch(TINY.data[0], 5, 4)
    assert trainer.loss(batch) > plain.loss(batch) * 1.001
    # Of equal clips each counts once; little is left of the difference, since their noise differs.
    batch.video = batch.video[:1].expand(4, -1, -1, -1, -1).clone()
    torch.testing.assert_close(trainer.loss(batch), plain.loss(batch), rtol=1e-3, atol=0)
