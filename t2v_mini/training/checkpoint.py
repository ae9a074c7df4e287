"""Checkpoints as safetensors: tensors, and a JSON record in the file's metadata. No pickle anywhere."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from t2v_mini.files import atomic_path

FORMAT = "t2v_mini-2"
OLDER = "t2v_mini-1"  # without a hash of the record


def training_state(folder: str | Path, name: str) -> Path:
    """Where a run of that configuration keeps its state."""
    return Path(folder) / f"{name}-training.safetensors"


def content_hash(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes, types and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(value.shape)}|{value.dtype}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(path: str | Path, tensors: dict[str, Tensor], record: dict) -> str:
    """Write tensors and record, atomically; returns the content hash that is stored with them."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    digest, text = content_hash(tensors), json.dumps(record)
    metadata = {"format": FORMAT, "hash": digest, "record": text, "record_hash": _text_hash(text)}
    with atomic_path(path) as temporary:
        save_file(tensors, str(temporary), metadata=metadata)
    return digest


def read_record(path: str | Path) -> dict:
    """The record of a checkpoint, and its hash under "hash", without reading the tensors."""
    return _open(path, lambda file: _record(file, path))


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Read tensors and record; raises `ValueError` for a missing, damaged or foreign file."""

    def read(file):
        record = _record(file, path)
        return {name: file.get_tensor(name) for name in file.keys()}, record  # noqa: SIM118

    tensors, record = _open(path, read)
    if content_hash(tensors) != record["hash"]:
        raise ValueError(
            f"path must hold an undamaged checkpoint, but the content of {path} does not fit its hash"
        )
    return tensors, record


def _open(path, read):
    if not Path(path).is_file():
        raise ValueError(f"path must be a checkpoint file, but there is none at {path}")
    try:
        with safe_open(str(path), framework="pt") as file:
            return read(file)
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ValueError(f"path must hold a readable checkpoint, got {path}: {error}") from error


def _record(file, path) -> dict:
    metadata = file.metadata() or {}
    if metadata.get("format") not in (FORMAT, OLDER):
        raise ValueError(
            f"path must hold a {FORMAT} checkpoint, got {path} with format {metadata.get('format')!r}"
        )
    due = {"hash", "record"} | ({"record_hash"} if metadata["format"] == FORMAT else set())
    whole = due <= metadata.keys()
    if not whole or metadata.get("record_hash", "") not in ("", _text_hash(metadata["record"])):
        raise ValueError(
            f"path must hold an undamaged checkpoint, but the record of {path} does not fit its hash"
        )
    return {**json.loads(metadata["record"]), "hash": metadata["hash"]}


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
