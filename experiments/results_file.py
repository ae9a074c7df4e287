"""How an experiment writes down what it found, and under which conditions."""

import json
import platform
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch

from t2v_mini.files import atomic_path
from t2v_mini.notebook import RESULTS, load_result
from t2v_mini.training.precision import has_bf16
from t2v_mini.training.shipped import PRETRAINED


def conditions() -> dict:
    """Device, versions, commit and day of this run."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "bf16": has_bf16(device),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit or None,
        "date": date.today().isoformat(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write_results(name: str, values: dict) -> Path:
    """Write t2v_mini/results/NAME.json with the conditions of the run, atomically."""
    path = RESULTS / f"{name}.json"
    write_json(path, {**values, "conditions": conditions()})
    return path


def known_results(name: str) -> dict:
    """What an earlier run wrote to t2v_mini/results/NAME.json; empty if there was none."""
    return load_result(name) if (RESULTS / f"{name}.json").exists() else {}


def publish(name: str, save: Callable[[Path], str], card: Callable[[str], str], results: dict) -> Path:
    """Write weights into the package, their card beside them, and the results of their training.

    `save` writes the weights and returns their hash, of which `card` makes the card's text.
    """
    path = PRETRAINED / f"{name}.safetensors"
    digest = save(path)
    with atomic_path(path.with_suffix(".md")) as temporary:
        temporary.write_text(card(digest), encoding="utf-8")
    write_results(f"train_{name}", results | {"weights": digest})
    return path


def write_json(path: str | Path, values: dict) -> None:
    """Write values whole, or not at all; the folder is made where it is missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n")
