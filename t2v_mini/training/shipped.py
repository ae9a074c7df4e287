"""Weights that come with the package, and the encoder of clips and captions among them."""

from pathlib import Path

from torch import Tensor, nn

from t2v_mini.configs import ContrastiveConfig
from t2v_mini.models.text_video import TextVideoEncoder, mini_clip
from t2v_mini.training.checkpoint import load_checkpoint, read_record, save_checkpoint

PRETRAINED = Path(__file__).parents[1] / "pretrained"


def shipped_weights(kind: str = "generator") -> list[str]:
    """Names of the weights that come with the package: generators, or "clip", "codec", "classifier"."""
    return sorted(
        path.stem
        for path in PRETRAINED.glob("*.safetensors")
        if read_record(path).get("kind", "generator") == kind
    )


def weights_path(name: str | Path, kind: str = "generator") -> Path:
    """The file of shipped weights, or of weights given by path; `ValueError` for an unknown name."""
    path, known = Path(name), shipped_weights(kind)
    if path.suffix == ".safetensors":
        return path
    if str(name) not in known:
        raise ValueError(
            f"weights must be a .safetensors file or one of those shipped ({', '.join(known) or 'none'}), "
            f"got {name!r}"
        )
    return PRETRAINED / f"{name}.safetensors"


def filled(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> nn.Module:
    """The model with these weights; `ValueError` when they do not fit it."""
    try:
        model.load_state_dict({key: value.float() for key, value in tensors.items()})
    except RuntimeError as error:
        raise ValueError(f"weights must fit their configuration, got {path}: {error}") from error
    return model


def load_clip(name: str | Path = "clip", device: str = "cpu") -> TextVideoEncoder:
    """The shipped encoder of clips and captions, frozen; errors as `TextToVideo.from_pretrained`."""
    path = weights_path(name, "clip")
    tensors, record = load_checkpoint(path)
    encoder = mini_clip(ContrastiveConfig.from_dict(record["config"]).model)
    return filled(encoder, tensors, path).requires_grad_(False).eval().to(device)


def frozen(model: nn.Module, averaged: dict[str, Tensor]) -> nn.Module:
    """The model with the averaged weights of a run, rounded as `save_weights` stores them."""
    model.load_state_dict({name: value.half().float() for name, value in averaged.items()})
    return model.requires_grad_(False).eval()


def save_weights(model: nn.Module, path: str | Path, record: dict) -> str:
    """Write weights in half precision with a record, which holds their configuration; returns the hash."""
    return save_checkpoint(path, {name: value.half() for name, value in model.state_dict().items()}, record)


def clip_of(config: ContrastiveConfig, averaged: dict[str, Tensor]) -> TextVideoEncoder:
    """A copy of a run's averaged weights, rounded as `save_clip` stores them."""
    part = {
        key.removeprefix("encoder."): value for key, value in averaged.items() if key.startswith("encoder.")
    }
    return frozen(mini_clip(config.model), part)


def save_clip(encoder: TextVideoEncoder, path: str | Path, record: dict) -> str:
    """Write an encoder and its record as `save_weights` does; returns the hash."""
    return save_weights(encoder, path, record | {"kind": "clip"})
