"""From prompts to clips: the shipped generator behind one call."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from t2v_mini.configs import Config
from t2v_mini.data.checks import check_video
from t2v_mini.data.moving_shapes import evaluation_set
from t2v_mini.diffusion.guidance import guided
from t2v_mini.diffusion.named import make_process, sample, sampler_of
from t2v_mini.layers.conditioning import known_frames
from t2v_mini.metrics.caption_accuracy import caption_accuracy
from t2v_mini.metrics.diversity import spread_ratio
from t2v_mini.models.generator import Generator
from t2v_mini.models.vae import VideoVAE
from t2v_mini.training.shipped import frozen, load_frozen, save_weights
from t2v_mini.training.trainer import Trainer
from t2v_mini.training.video_vae import codec_for
from t2v_mini.world import CaptionError, Facts, caption, judge_claims, parse, render
from t2v_mini.world.levels import level_of

BATCH = 64


class TextToVideo:
    """Text to video: `TextToVideo.from_pretrained("mini")(["a red circle moves left"])`.

    Where the configuration names a codec, the model makes latents, and the codec makes clips of them.
    """

    def __init__(
        self, model: Generator, config: Config, record: dict | None = None, codec: VideoVAE | None = None
    ) -> None:
        if bool(config.codec) != (codec is not None):
            made = config.codec or "pixels"
            raise ValueError(f"codec must be given for latents, and only for them; the model makes {made}")
        self.model, self.config, self.record = model.eval(), config, record or {}
        self.codec = codec
        self.process = make_process(config.train, self.device)

    @classmethod
    def from_pretrained(cls, name: str | Path = "mini", device: str = "cpu") -> "TextToVideo":
        """Load shipped weights by name, or a weights file by path.

        Raises `ValueError` for an unknown name, for a missing, damaged or foreign file, and for a codec
        that is not the one whose latents the weights make.
        """

        def build(config: dict) -> Generator:
            return Generator(Config.from_dict(config).model)

        model, record = load_frozen(name, "generator", build, device)
        config = Config.from_dict(record["config"])
        return cls(model, config, record, codec_for(config, record, device))

    @classmethod
    def from_trainer(cls, trainer: Trainer) -> "TextToVideo":
        """A copy of the averaged weights of a training run, as it stands, rounded as `save` stores them."""
        bits = trainer.config.train.bits
        model = frozen(Generator(trainer.config.model), trainer.ema.state, bits).to(trainer.device)
        return cls(model, trainer.config, trainer.record(), trainer.codec)

    def save(self, path: str | Path) -> str:
        """Write weights (as `save_weights` does), configuration and record; returns the content hash."""
        return save_weights(self.model, path, self.record | {"config": self.config.to_dict()})

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def sampler(self) -> str:
        """The sampler that is taken where none is named."""
        return sampler_of(self.process, self.config.sample.sampler)

    def check_prompt(self, prompt: str) -> str:
        """Return the prompt, or raise `CaptionError` when the world or this model does not know it."""
        level = level_of(parse(prompt))
        if level > self.config.data.level:
            raise CaptionError(
                f"these weights know captions up to level {self.config.data.level}, "
                f"but {prompt!r} is of level {level}"
            )
        return prompt

    @property
    def made_shape(self) -> tuple[int, int, int, int]:
        """Channels, frames, rows and columns of what the model makes: of a clip, or of its latent."""
        data = self.config.data
        size = data.frames, data.height, data.width
        if self.codec is not None:
            size = self.codec.latent_size(*self.codec.legal(*size))
        return self.config.model.channels, *size

    def check_given(self, given: Tensor, clips: int) -> None:
        """Raise `ValueError` unless these can be the first frames of so many clips."""
        if not self.config.model.given:
            raise ValueError("given must be None: these weights were not trained to go on from frames")
        data = self.config.data
        whole = (clips, 3, given.shape[2] if given.ndim == 5 else 0, data.height, data.width)
        if tuple(given.shape) != whole or not 0 < whole[2] < data.frames:
            raise ValueError(
                f"given must be ({clips}, 3, K, {data.height}, {data.width}) with 0 < K < {data.frames}, "
                f"got {tuple(given.shape)}"
            )
        if self.codec is None:
            check_video("given", given)
        else:
            self.codec.check_clip(given, name="given")

    def to_made(self, video: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, "B C G I J"]:
        """What the model would have made: the clips themselves, or their normalised latents."""
        if self.codec is None:
            return video
        return self.codec.to_latent(video)

    def to_video(self, made: Float[Tensor, "B C G I J"]) -> Float[Tensor, "B 3 F H W"]:
        """The clips in [-1, 1] of what the model has made."""
        data = self.config.data
        if self.codec is not None:
            z = self.codec.denormalize(made)
            made = self.codec.decode(z, (data.frames, data.height, data.width))
        return made.clamp(-1, 1)

    @torch.no_grad()
    def __call__(
        self,
        prompts: str | list[str],
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        callback: Callable[[int, Tensor, Tensor], None] | None = None,
        negative: str = "",
        rescale: float = 0.0,
        interval: tuple[float, float] = (0.0, 1.0),
        given: Tensor | None = None,
        sampler: str | None = None,
    ) -> Float[Tensor, "B 3 F H W"]:
        """Generate one clip a prompt, in [-1, 1]; clip i starts from the noise of seed `seed` + i.

        `steps`, `guidance` and `sampler` default to the weights' own. Guidance other than 0 and 1 costs two
        denoiser calls a step. Guidance leads away from the `negative` prompt, the empty one by
        default; `rescale` and `interval` are those of `guided`. `given` (B, 3, K, H, W), in [-1, 1],
        are the first frames of each clip, to go on from: one makes a picture move, several are a
        beginning. Raises `CaptionError` for a prompt that cannot be read, and `ValueError` for `given`
        that cannot be the first frames and for steps or a sampler that the process does not have.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not prompts:
            raise ValueError("prompts must hold at least one prompt, got none")
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be an integer >= 0, got {seed!r}")
        for prompt in (*prompts, *filter(None, [negative])):
            self.check_prompt(prompt)
        if given is not None:
            self.check_given(given, len(prompts))
        settings, shape = self.config.sample, self.made_shape
        steps = settings.steps if steps is None else steps
        sampler = sampler or self.sampler
        scale = settings.guidance if guidance is None else guidance
        clips = []
        for start in range(0, len(prompts), BATCH):
            part = prompts[start : start + BATCH]
            noise = torch.stack(
                [
                    torch.randn(shape, generator=torch.Generator().manual_seed(seed + start + i))
                    for i in range(len(part))
                ]
            ).to(self.device)
            text, null = self.model.encode(part), self.model.encode([negative] * len(part))
            known = None if given is None else self._known(given[start : start + BATCH], noise)
            predict = guided(partial(self.model, given=known), text, null, scale, rescale, interval)
            # Not the seed of a clip's first noise, which a sampler would draw once more.
            rng = [torch.Generator().manual_seed(2**31 + seed + start + i) for i in range(len(part))]
            made = sample(
                self.process, predict, noise, steps, sampler, settings.shift, rng, callback, settings.last
            )
            clips.append(self.to_video(made))
        video = torch.cat(clips)
        if given is not None:
            video[:, :, : given.shape[2]] = given.to(video)  # as they are, not as they were made again
        return video

    def _known(self, given: Tensor, noise: Tensor) -> Float[Tensor, "B Y G I J"]:
        first = self.to_made(given.to(noise))
        whole = torch.zeros_like(noise)
        whole[:, :, : first.shape[2]] = first
        return known_frames(whole, torch.full((len(noise),), first.shape[2]))


def evaluate(
    pipeline: TextToVideo,
    split: str,
    clips: int,
    steps: int | None = None,
    guidance: float | None = None,
    progress: Callable[[int], None] | None = None,
    look: Callable[[list[Facts], Tensor], None] | None = None,
    level: int | None = None,
    sampler: str | None = None,
) -> dict:
    """The frozen protocol: full captions of seeds 0 ... clips - 1, one sample each, all of them judged.

    Returns `caption_accuracy`, its 95 % `interval`, `facts` (accuracy by kind), `layouts` (by number of
    objects, and by relation), `ceiling` (the judge's accuracy on the world's own clips of the same
    captions), `spread` (see `metrics.diversity`), `clips`, and the settings. `level` is the weights' own by
    default. `progress` gets the number of clips judged so far, `look` each part's claims and clips. Raises
    `ValueError` for a split, count or level that does not exist, and `CaptionError` for a level above the
    weights' own.
    """
    if not isinstance(clips, int) or clips < 1:
        raise ValueError(f"clips must be a positive integer, got {clips!r}")
    data = pipeline.config.data
    data = data if level is None else replace(data, level=level)
    scenes = evaluation_set(data, split, clips)
    claims = [scene.facts for scene in scenes]
    captions = [caption(claim) for claim in claims]
    made, verdicts, ceiling, truth = [], [], [], []
    for start in range(0, clips, BATCH):
        part = slice(start, start + BATCH)
        video = pipeline(captions[part], steps=steps, guidance=guidance, seed=start, sampler=sampler).cpu()
        real = render(scenes[part], data.frames, data.height, data.width)
        verdicts += judge_claims(video, claims[part], captions[part])
        ceiling += judge_claims(real, claims[part], captions[part])
        made.append(video)
        truth.append(real)
        if look is not None:
            look(claims[part], video)
        if progress is not None:
            progress(len(verdicts))
    accuracy = caption_accuracy(verdicts, claims)
    return {
        "caption_accuracy": accuracy.caption_accuracy,
        "interval": list(accuracy.interval),
        "facts": accuracy.facts,
        "layouts": accuracy.layouts,
        "ceiling": caption_accuracy(ceiling, claims).caption_accuracy,
        "spread": spread_ratio(torch.cat(made), torch.cat(truth), claims),
        "clips": clips,
        "level": data.level,
        "split": split,
        "steps": pipeline.config.sample.steps if steps is None else steps,
        "guidance": pipeline.config.sample.guidance if guidance is None else guidance,
        "sampler": sampler or pipeline.sampler,
    }


class Watcher:
    """Looks at a training run: judges clips of its averaged weights, and adds a point to the run's curve.

    The clips are the first of the frozen protocol, on unseen combinations, with the configuration's guidance.
    """

    def __init__(self, clips: int = 64) -> None:
        self.clips = clips

    def __call__(self, trainer: Trainer) -> str:
        found = evaluate(TextToVideo.from_trainer(trainer), "unseen", self.clips)
        point = {"step": trainer.step, "minutes": trainer.seconds / 60, "clips": self.clips}
        trainer.curve.append(point | {key: found[key] for key in ("caption_accuracy", "interval", "facts")})
        return f"unseen {found['caption_accuracy']:.0%}"
