"""Training of the generator, and of the encoder of clips and captions."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from t2v_mini.configs import Config, ContrastiveConfig
from t2v_mini.data.moving_shapes import Batch, contrastive_batch, training_batches
from t2v_mini.diffusion.named import make_process
from t2v_mini.layers.attention import quick_attention
from t2v_mini.layers.conditioning import drop_condition, give_beginnings
from t2v_mini.losses.contrastive import ContrastiveLoss
from t2v_mini.models.generator import Generator
from t2v_mini.models.text import TextEncoder
from t2v_mini.models.text_video import TextVideoEncoder, mini_clip
from t2v_mini.models.vae import VideoVAE
from t2v_mini.training.loop import TrainingLoop
from t2v_mini.training.precision import autocast
from t2v_mini.training.shipped import load_clip
from t2v_mini.world import parse
from t2v_mini.world.verdict import entailment


class Trainer(TrainingLoop):
    """Trains a `Generator` on Moving Shapes.

    With `text_weights` the text tower is that of a trained CLIP, and stays as it is. Raises
    `ValueError` when its sizes are not those of the configuration, and as `make_process` does.
    """

    codec: VideoVAE | None = None  # whose latents are made; None: clips

    def __init__(self, config: Config, folder: str | Path | None = None, device: str = "cpu") -> None:
        torch.manual_seed(config.train.seed)
        model = Generator(config.model)
        if config.train.text_weights:
            take_text(model, load_clip(config.train.text_weights))
        super().__init__(config, model, folder, device)
        if config.train.compile:
            self.model.denoiser.compile()
        self.process = make_process(config.train, self.device)

    def loss(self, batch: Batch) -> Tensor:
        settings, rng = self.config.train, self.random()
        x0 = self.clips(batch)
        noise = torch.randn(x0.shape, generator=rng).to(self.device)
        t = self.process.draw_times(len(x0), rng).to(self.device)
        captions = drop_condition(batch.captions, settings.drop_text, rng)
        given = give_beginnings(x0, settings.give_frames, rng) if self.config.model.given else None
        with autocast(self.device, settings.bf16):
            xt = self.process.corrupt(x0, noise, t)
            text = self.model.encode(captions)
            if settings.compile:
                # The number of words changes with the batch: said at once, it saves a second compilation.
                torch._dynamo.mark_dynamic(text.tokens, 1)
                torch._dynamo.mark_dynamic(text.mask, 1)
            predicted = self.model(xt, self.process.network_time(t), text, given)
        return self.process.loss(predicted.float(), x0, noise, t).mean()


def take_text(model: Generator, encoder: TextVideoEncoder) -> None:
    """Give a generator the text tower of a CLIP, and freeze it."""
    if not isinstance(model.text, TextEncoder):
        raise ValueError(f"text_weights need a Transformer for the text, got {type(model.text).__name__}")
    try:
        model.text.tower.load_state_dict(encoder.clip.text.state_dict())
    except RuntimeError as error:
        raise ValueError(f"text_weights must fit the configuration's text tower: {error}") from error
    model.text.requires_grad_(False)


class ContrastiveTrainer(TrainingLoop):
    """Trains a small CLIP for clips on Moving Shapes; its levels take turns, one batch each."""

    def __init__(
        self, config: ContrastiveConfig, folder: str | Path | None = None, device: str = "cpu"
    ) -> None:
        torch.manual_seed(config.train.seed)
        model = nn.ModuleDict({"encoder": mini_clip(config.model), "loss": ContrastiveLoss()})
        super().__init__(config, model, folder, device)

    def batches(self, stop: int) -> Iterator[Batch]:
        train = self.config.train
        return training_batches(
            self.config.training_data, self.step, stop, train.batch, train.seed, draw=contrastive_batch
        )

    def loss(self, batch: Batch) -> Tensor:
        positives = entailment(batch.claims, [parse(text) for text in batch.captions])
        encoder = self.model["encoder"]
        with autocast(self.device, self.config.train.bf16), quick_attention(self.device):
            clips, texts = encoder.encode_video(self.clips(batch)), encoder.encode_text(batch.captions)
        return self.model["loss"](clips.float(), texts.float(), positives=positives.to(self.device))
