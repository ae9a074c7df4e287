"""Weights that come with the package, and the encoder of clips and captions among them."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from t2v_mini.configs import ContrastiveConfig
from t2v_mini.models.text_video import TextVideoEncoder, mini_clip
from t2v_mini.training.checkpoint import load_checkpoint, read_record, save_checkpoint

SCALE = ".scale"  # after the name of a weight: what its rows have to be multiplied by
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
        model.load_state_dict(restored(tensors))
    except RuntimeError as error:
        raise ValueError(f"weights must fit their configuration, got {path}: {error}") from error
    return model


def load_frozen(
    name: str | Path, kind: str, build: Callable[[dict], nn.Module], device: str = "cpu"
) -> tuple[nn.Module, dict]:
    """A model of shipped weights by name, or of a weights file by path, frozen, and its record with its hash.

    `build` makes the model from the dictionary of its configuration. Raises `ValueError` for an unknown
    name, and for a missing, damaged or foreign file.
    """
    path = weights_path(name, kind)
    tensors, record = load_checkpoint(path)
    model = filled(build(record["config"]), tensors, path)
    return model.requires_grad_(False).eval().to(device), record


def load_clip(name: str | Path = "clip", device: str = "cpu") -> TextVideoEncoder:
    """The shipped encoder of clips and captions, as `load_frozen` gives it."""

    def build(config: dict) -> TextVideoEncoder:
        return mini_clip(ContrastiveConfig.from_dict(config).model)

    return load_frozen(name, "clip", build, device)[0]


def stored(state: dict[str, Tensor], bits: int = 16) -> dict[str, Tensor]:
    """Weights as they are written: in half precision, or with matrices and kernels in 8 bits.

    Of 8 bits, -127 to 127 stand for a row's weights over a scale of the row, in half precision (Dettmers et
    al. 2022, section 2.1, by rows). Raises `ValueError` for other bits.
    """
    if bits not in (8, 16):
        raise ValueError(f"bits must be 8 or 16, got {bits!r}")
    found = {}
    for name, value in state.items():
        if bits == 16 or value.ndim < 2:
            found[name] = value.half()
            continue
        rows = value.flatten(1).float()
        scale = (rows.abs().amax(1) / 127).half()
        whole = (rows / torch.where(scale > 0, scale, 1).float()[:, None]).round().clamp(-127, 127)
        found |= {name: whole.to(torch.int8).reshape(value.shape), name + SCALE: scale}
    return found


def restored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, in single precision, that `stored` has written."""
    found = {}
    for name, value in tensors.items():
        if not name.endswith(SCALE):
            found[name] = value.float()
        if name + SCALE in tensors:
            found[name] *= tensors[name + SCALE].float().view(-1, *[1] * (value.ndim - 1))
    return found


def frozen(model: nn.Module, averaged: dict[str, Tensor], bits: int = 16) -> nn.Module:
    """The model with the averaged weights of a run, rounded as `save_weights` stores them."""
    model.load_state_dict(restored(stored(averaged, bits)))
    return model.requires_grad_(False).eval()


def save_weights(model: nn.Module, path: str | Path, record: dict) -> str:
    """Write weights with a record, which holds their configuration, and in it the bits; returns the hash."""
    return save_checkpoint(
        path, stored(model.state_dict(), record["config"]["train"].get("bits", 16)), record
    )


def clip_of(config: ContrastiveConfig, averaged: dict[str, Tensor]) -> TextVideoEncoder:
    """A copy of a run's averaged weights, rounded as `save_clip` stores them."""
    part = {
        key.removeprefix("encoder."): value for key, value in averaged.items() if key.startswith("encoder.")
    }
    return frozen(mini_clip(config.model), part)


def save_clip(encoder: TextVideoEncoder, path: str | Path, record: dict) -> str:
    """Write an encoder and its record as `save_weights` does; returns the hash."""
    return save_weights(encoder, path, record | {"kind": "clip"})
