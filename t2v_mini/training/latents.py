"""Training of a generator on the latents of a frozen codec."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from t2v_mini.configs import Config, DataConfig
from t2v_mini.data.latent_cache import LatentCache, write_latents
from t2v_mini.data.moving_shapes import Batch, training_clips, workers
from t2v_mini.data.video_files import from_uint8
from t2v_mini.models.vae import VideoVAE
from t2v_mini.training.trainer import Trainer
from t2v_mini.training.video_vae import codec_for, latents_hash, load_codec

CAPTIONS = 4  # paraphrases that are kept for each clip
MOST_WORKERS = 16  # processes that draw clips


def cache_latents(
    folder: str | Path,
    codec: VideoVAE,
    data: Sequence[DataConfig],
    clips: int,
    seed: int = 0,
    progress: bool = True,
) -> LatentCache:
    """The normalised latents of training clips, written to `folder` or found there.

    The configurations take turns, a clip each; all need clips of one size. Latents are the posterior's
    mode. Raises `ValueError` when the sizes differ, and as `write_latents` does.
    """
    sizes = {(one.frames, one.height, one.width) for one in data}
    if len(sizes) != 1:
        raise ValueError(f"data must be clips of one size, got {sorted(sizes)}")

    device, cores = codec.latent_mean.device, min(os.cpu_count() or 1, MOST_WORKERS)

    @torch.no_grad()
    def make(start: int, stop: int) -> tuple[Tensor, list[list[str]]]:
        parts = []
        for turn, config in enumerate(data):
            numbers = [n for n in range(start, stop) if n % len(data) == turn]
            shares = [numbers[first::cores] for first in range(cores)]
            parts += [(config, share) for share in shares if share]
        drawing = [pool.submit(training_clips, config, share, CAPTIONS, seed) for config, share in parts]
        z, captions = {}, {}
        for (_, share), drawn in zip(parts, drawing, strict=True):
            video, texts = drawn.result()
            z |= dict(zip(share, codec.to_latent(from_uint8(video).to(device)).cpu(), strict=True))
            captions |= dict(zip(share, texts, strict=True))
        order = range(start, stop)
        return torch.stack([z[n] for n in order]), [captions[n] for n in order]

    fingerprint = {"codec": latents_hash(codec), "data": [asdict(one) for one in data], "seed": seed}
    with workers(cores) as pool:
        return write_latents(folder, clips, make, fingerprint, progress=progress)


def trainer_for(config: Config, folder: str | Path, device: str = "cpu") -> Trainer:
    """The trainer that a configuration needs: of clips, or of latents, which are kept in the folder.

    Raises `ValueError` as `LatentTrainer` and `cache_latents` do.
    """
    if not config.codec:
        return Trainer(config, folder, device)
    codec, _ = load_codec(config.codec, device)
    return LatentTrainer(config, latents_for(config, folder, codec), folder, device)


def latents_for(config: Config, folder: str | Path, codec: VideoVAE) -> LatentCache:
    """The training latents of a configuration, in the folder of its runs; errors as `cache_latents`."""
    train = config.train
    return cache_latents(Path(folder) / "latents", codec, config.training_data, train.latents, train.seed)


class LatentTrainer(Trainer):
    """Trains a `Generator` on the latents of a cache; everything else is as for pixels.

    Raises `ValueError` when the configuration names no codec, or another one than that of the latents, when
    its channels are not theirs, when frames shall be given and the codec is not causal, so that their latents
    tell of later frames, and for a cache with fewer latents than levels.
    """

    def __init__(
        self, config: Config, cache: LatentCache, folder: str | Path | None = None, device: str = "cpu"
    ) -> None:
        if not config.codec:
            raise ValueError("config must name the codec of the latents, got none")
        channels = cache.latents.shape[1]
        if config.model.channels != channels:
            raise ValueError(
                f"config must have a model of {channels} channels, those of the latents, "
                f"got {config.model.channels}"
            )
        levels = len(cache.fingerprint["data"])
        if len(cache) < levels:
            raise ValueError(f"cache must hold a latent or more of each of {levels} levels, got {len(cache)}")
        super().__init__(config, folder, device)
        self.cache = cache
        self.codec = codec_for(config, self.record(), device)
        if config.model.given and not self.codec.config.causal:
            raise ValueError("config must have a model without given frames: the codec is not causal")

    def record(self) -> dict:
        """As for pixels, and the codec's `latents_hash`."""
        return super().record() | {"codec": self.cache.fingerprint["codec"]}

    def batches(self, stop: int) -> Iterator[Batch]:
        """Batches of clips of all kinds together."""
        train = self.config.train
        for step in range(self.step, stop):
            # Other numbers than those of `random`, which draws the noise.
            rng = torch.Generator().manual_seed((train.seed + 1) * 1_000_000_007 + step)
            index = torch.randint(len(self.cache), (train.batch,), generator=rng)
            yield Batch(*self.cache.batch(index, rng), claims=[])

    def clips(self, batch: Batch) -> Float[Tensor, "B Z G I J"]:
        """A batch's latents, where the model is."""
        return batch.video.to(self.device)
