"""Named configurations: frozen, serialisable, and the only place for sizes and rates."""

import dataclasses
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the text encoder and the denoiser."""

    channels: int = 3
    patch: tuple[int, int, int] = (2, 8, 8)
    width: int = 192
    depth: int = 4
    heads: int = 4
    stem_width: int = 384
    text: str = "transformer"  # or "bag": the mean of the words, whatever their order
    text_width: int = 128
    text_heads: int = 4
    text_depth: int = 2
    text_context: int = 80  # tokens; the world's longest caption and its two ends take 79
    denoiser: str = "dit"  # or "unet"
    attention: str = "joint"  # or "factorized", "axial"
    positions: str = "sincos"  # or "rotary", "relative", "none"
    words: bool = True  # cross-attention to the words, beside the pooled vector
    given: bool = False  # further channels for frames that are given, and for a mask of which ones are

    @property
    def inputs(self) -> int:
        """Channels that the denoiser takes: the noisy ones, and those of given frames."""
        return 2 * self.channels + 1 if self.given else self.channels


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of a small CLIP for clips: towers for frames and text, and a head along time."""

    image_size: int = 32
    patch: int = 8
    width: int = 192
    depth: int = 3
    heads: int = 4
    text_width: int = 128
    text_heads: int = 4
    text_depth: int = 2
    text_context: int = 80
    embed: int = 128
    temporal_depth: int = 2
    temporal_heads: int = 4
    frames: int = 4  # looked at; of a longer clip, as many are picked evenly


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of a video VAE. Each step to the next level halves rows and columns, the last ones frames too."""

    channels: int = 3
    latent: int = 4
    patch: int = 2  # pixels of a patch become channels before anything else
    widths: tuple[int, ...] = (32, 64)
    depth: int = 2  # blocks a level
    halvings: int = 1  # steps that halve the frames
    block: str = "dense"  # or "efficient"
    norm: str = "pixel"  # or "frame"
    causal: bool = True


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a classifier of motions and events."""

    channels: int = 3
    patch: int = 2  # pixels of a patch become channels before anything else
    widths: tuple[int, ...] = (16, 32, 64)
    depth: int = 1  # blocks a level
    halvings: int = 1  # steps that halve the frames
    block: str = "dense"  # or "efficient"
    norm: str = "frame"  # or "group", "pixel"
    causal: bool = False


@dataclass(frozen=True)
class DataConfig:
    """The clips: their level in the Moving Shapes world and their canvas."""

    level: int = 1  # 0: clips of something else, such as a film
    frames: int = 8
    height: int = 32
    width: int = 32
    kind: str = ""  # of layouts, as of `sample_scene`; empty: all
    short_captions: float = 0.5  # share of the training captions that leave facts out


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train."""

    steps: int = 8000
    batch: int = 64
    learning_rate: float = 1e-3  # of AdamW
    matrix_learning_rate: float = 4e-3  # of Muon, for the matrices inside the networks; 0: AdamW for all
    matrix_kernels: bool = False  # whether kernels of convolutions are matrices for Muon, too
    warmup: int = 50
    cooldown: float = 0.5  # share of the steps in which the rate falls to zero
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.998
    drop_text: float = 0.1
    give_frames: float = 0.0  # share of the clips whose beginning is given
    levels: tuple[int, ...] = ()  # of the training clips, in turns; empty: the level of the data
    kinds: tuple[str, ...] = ()  # of layouts, for each of these levels; empty: all
    latents: int = 0  # training clips that are kept on disk as latents, where a codec is named
    process: str = "flow"  # or a noise schedule of Gaussian diffusion: "cosine", "linear", ...
    time_mean: float = 0.8  # of a flow's training times, before the sigmoid
    time_std: float = 1.0  # of the same
    prediction: str = "x0"  # or "velocity" of a flow, "epsilon" or "v" of a diffusion
    text_weights: str = ""  # whose text tower is taken over and frozen, e.g. "clip"; empty: trained along
    start: str = ""  # content hash of the weights whose denoiser the run started from; empty: from scratch
    seed: int = 0
    bits: int = 16  # of a weight in the file that is written; 8: of those in matrices
    bf16: bool = True
    compile: bool = True


@dataclass(frozen=True)
class SampleConfig:
    """Default sampling of a shipped model."""

    steps: int = 16
    guidance: float = 2.0
    shift: float = 3.0  # of a flow's times
    last: float = 0.0  # where a flow's last step starts; 0: as the others do
    sampler: str = ""  # one of `diffusion.named.samplers_of` the process; empty: the first of them


class Serializable:
    """What the configurations of whole models share."""

    def to_dict(self) -> dict:
        """Plain nested dictionaries, for JSON."""
        return dataclasses.asdict(self)

    @property
    def training_data(self) -> tuple[DataConfig, ...]:
        """The clips of the training, which take turns."""
        return self.data


@dataclass(frozen=True)
class Config(Serializable):
    """Everything that makes one model."""

    name: str
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    codec: str = ""  # whose latents the denoiser makes, e.g. "codec"; empty: pixels

    @staticmethod
    def from_dict(values: dict) -> "Config":
        """The inverse of `to_dict`; an unknown field or a missing part raises `ValueError`."""
        parts = {"model": ModelConfig, "data": DataConfig, "train": TrainConfig, "sample": SampleConfig}
        return Config(values["name"], **_build(values, parts), codec=values.get("codec", ""))

    @property
    def training_data(self) -> tuple[DataConfig, ...]:
        """The clips of the training, which take turns; `data` are those that the model is for."""
        levels = self.train.levels or (self.data.level,)
        kinds = self.train.kinds or ("",) * len(levels)
        return tuple(
            dataclasses.replace(self.data, level=level, kind=kind)
            for level, kind in zip(levels, kinds, strict=True)
        )


@dataclass(frozen=True)
class ContrastiveConfig(Serializable):
    """Everything that makes one encoder of clips and captions."""

    name: str
    model: ClipConfig = field(default_factory=ClipConfig)
    data: tuple[DataConfig, ...] = (DataConfig(), DataConfig(level=2, frames=16))
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1150, batch=128, compile=False))

    @staticmethod
    def from_dict(values: dict) -> "ContrastiveConfig":
        """The inverse of `to_dict`; an unknown field or a missing part raises `ValueError`."""
        built = _build(values, {"model": ClipConfig, "train": TrainConfig})
        return ContrastiveConfig(values["name"], data=_data(values), **built)


@dataclass(frozen=True)
class CodecLossConfig:
    """Weights of a video VAE's loss, beside the mean absolute error, which counts once.

    The squared error gets the training under way: where most of a clip is background, a flat picture of
    the background is a plateau of the absolute error.
    """

    squared: float = 5.0
    difference: float = 1.0  # of the error of differences between neighbours, in time, rows and columns
    kl: float = 1e-4  # of the divergence, per number of the latent
    perceptual: float = 0.0  # of LPIPS, frame by frame; needs weights that are downloaded
    noise: float = 0.0  # largest deviation of noise on the latents, in deviations of the latents


@dataclass(frozen=True)
class VideoVAEConfig(Serializable):
    """Everything that makes one video VAE."""

    name: str
    model: CodecConfig = field(default_factory=CodecConfig)
    loss: CodecLossConfig = field(default_factory=CodecLossConfig)
    data: tuple[DataConfig, ...] = tuple(DataConfig(level=level, frames=16) for level in (1, 2, 3))
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(steps=8000, batch=16, matrix_kernels=True, drop_text=0.0)
    )

    @staticmethod
    def from_dict(values: dict) -> "VideoVAEConfig":
        """The inverse of `to_dict`; an unknown field or a missing part raises `ValueError`."""
        built = _build(values, {"model": CodecConfig, "loss": CodecLossConfig, "train": TrainConfig})
        return VideoVAEConfig(values["name"], data=_data(values), **built)


@dataclass(frozen=True)
class VideoClassifierConfig(Serializable):
    """Everything that makes one classifier of motions and events."""

    name: str
    model: ClassifierConfig = field(default_factory=ClassifierConfig)
    data: tuple[DataConfig, ...] = tuple(DataConfig(level=level, frames=16) for level in (1, 2, 3))
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1500, batch=32, drop_text=0.0))

    @staticmethod
    def from_dict(values: dict) -> "VideoClassifierConfig":
        """The inverse of `to_dict`; an unknown field or a missing part raises `ValueError`."""
        built = _build(values, {"model": ClassifierConfig, "train": TrainConfig})
        return VideoClassifierConfig(values["name"], data=_data(values), **built)


def _data(values: dict) -> tuple[DataConfig, ...]:
    return tuple(_build({"data": one}, {"data": DataConfig})["data"] for one in values["data"])


def _build(values: dict, parts: dict[str, type]) -> dict:
    """A configuration's parts; a field that an older file lacks takes its default."""

    def plain(value: object) -> object:
        return tuple(value) if isinstance(value, list) else value  # JSON has lists only

    try:
        return {
            key: part(**{name: plain(value) for name, value in values[key].items()})
            for key, part in parts.items()
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"values must hold the fields of a configuration: {error}") from error


CLIP = ContrastiveConfig("clip")
CLASSIFIER = VideoClassifierConfig("classifier", train=TrainConfig(steps=6000, batch=32, drop_text=0.0))
CODEC = VideoVAEConfig("codec", model=CodecConfig(latent=3, depth=1), loss=CodecLossConfig(noise=0.5))
CONFIGS = {
    "mini": Config("mini", train=TrainConfig(text_weights="clip")),
    "latent": Config(
        "latent",
        # A token holds three latent frames of 8 by 8 pixels.
        model=ModelConfig(channels=CODEC.model.latent, patch=(3, 2, 2), width=224, text_depth=4, given=True),
        data=DataConfig(level=3, frames=16, short_captions=0.15),
        train=TrainConfig(
            steps=18_000,
            give_frames=0.15,
            # Three objects, and one in front of another, are the hardest, and the levels have few of them.
            levels=(3, 2, 3, 1, 3, 2, 3, 3, 3, 3),
            kinds=("three", "", "two", "", "three", "in front", "one", "three", "two", "in front"),
            latents=60_000,
            bits=8,
            # Where objects are is decided above t = 0.9, and with two objects that is hard to learn.
            time_mean=1.8,
            time_std=1.5,
        ),
        # New noise in each step lets errors fade, and costs some variety. What noise is left at the end, the
        # codec's decoder takes away.
        sample=SampleConfig(guidance=1.5, last=0.5, sampler="stochastic"),
        codec=CODEC.name,
    ),
}


def get_config(name: str) -> Config:
    """The configuration of that name; `ValueError` lists the known ones."""
    if name not in CONFIGS:
        raise ValueError(f"config must be one of {', '.join(CONFIGS)}, got {name!r}")
    return CONFIGS[name]
