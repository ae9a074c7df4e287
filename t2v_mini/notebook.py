"""What every chapter starts with: one set-up cell, one profile, one way to explore."""

import json
import os
import platform
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from t2v_mini import __version__
from t2v_mini.viz import use_style

PROFILES = ("smoke", "cpu", "gpu")
# The first code cell of every chapter, word for word. Colab brings torch and numpy: pinning them to
# what is there keeps pip from replacing them.
SETUP_CELL = """\
try:
    from t2v_mini.notebook import setup
except ImportError:
    import numpy
    import torch

    here = f"torch=={torch.__version__} numpy=={numpy.__version__}"
    source = "git+https://github.com/t2v-mini/t2v-mini"
    %pip install -q {here} "t2v-mini @ {source}"
    from t2v_mini.notebook import setup

profile = setup(seed=0)"""
RESULTS = Path(__file__).parent / "results"
LIVE_ONLY = "The live explorer runs in the notebook."


@dataclass(frozen=True)
class Profile:
    """How much a notebook computes, and where: `name` is smoke, cpu or gpu, `device` cpu or cuda."""

    name: str
    device: str

    def pick(self, **values: Any) -> Any:
        """The value for this profile: `profile.pick(smoke=5, cpu=300, gpu=5000)`.

        Raises `ValueError` unless there is one value for each of smoke, cpu and gpu, so that a run
        under one profile finds what another would miss.
        """
        if set(values) != set(PROFILES):
            raise ValueError(f"pick needs a value for each of {', '.join(PROFILES)}, got {sorted(values)}")
        return values[self.name]

    def trained_check(self, condition: Any, message: str) -> None:
        """Assert something about a trained result; under smoke, say that it was skipped.

        Raises `AssertionError` with the message under cpu and gpu. Shapes, parity and mathematics do
        not depend on training: assert those directly.
        """
        if self.name == "smoke":
            print(f"skipped under smoke: {message}")
        elif not bool(condition):
            raise AssertionError(message)


def setup(seed: int = 0) -> Profile:
    """Seed everything, set threads and style, print versions and device, and return the profile.

    The profile comes from T2V_PROFILE; without it, it is gpu where CUDA is present and cpu elsewhere.
    Raises `ValueError` for a profile that does not exist or needs a device that is not there.
    """
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be an integer >= 0, got {seed!r}")
    cuda = torch.cuda.is_available()
    name = os.environ.get("T2V_PROFILE") or ("gpu" if cuda else "cpu")
    if name not in PROFILES:
        raise ValueError(f"T2V_PROFILE must be one of {', '.join(PROFILES)}, got {name!r}")
    if name == "gpu" and not cuda:
        raise ValueError("T2V_PROFILE=gpu needs a CUDA device, and there is none; use cpu")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    # Notebooks that are tested side by side share the cores.
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    cores = usable_cores()
    torch.set_num_threads(max(1, cores // workers))
    use_style()
    place = torch.cuda.get_device_name() if name == "gpu" else f"{cores} CPU core{'s' * (cores != 1)}"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"
    print(f"t2v_mini {__version__}, {versions}, {place}, profile {name}, seed {seed}")
    return Profile(name, "cuda" if name == "gpu" else "cpu")


def load_result(name: str) -> dict:
    """What `python -m experiments.NAME` measured and wrote down.

    Raises `ValueError` for an experiment without a result.
    """
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in RESULTS.glob("*.json"))) or "none"
        raise ValueError(f"name must be an experiment with a result ({known}), got {name!r}")
    return json.loads(path.read_text())


def usable_cores() -> int:
    """The cores that this process may use: fewer than the machine has, in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_colab() -> bool:
    """Whether this runs in Google Colab."""
    return "google.colab" in sys.modules


def is_live() -> bool:
    """Whether somebody sits at this notebook: a widget without a kernel behind it is dead.

    A run that only stores outputs cannot answer `input()`, and says so in each request; T2V_STATIC=1
    declares such a run where that does not tell.
    """
    if os.environ.get("T2V_STATIC") == "1" or "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and bool(kernel.get_parent().get("content", {}).get("allow_stdin"))


def explore(function: Callable[..., Any], static: Any, /, **controls: Any) -> None:
    """Let the reader turn the controls of `function`; a page shows `static`, such as a player.

    Controls are written as for `ipywidgets.interact`: a list of choices, or a range such as (0, 9).
    Raises `ValueError` when there are no controls, or `static` cannot be shown as HTML.
    """
    from IPython.display import display

    if not controls:
        raise ValueError("explore needs at least one control, such as color=['red', 'blue']")
    html = static._repr_html_() if hasattr(static, "_repr_html_") else None
    if not html:
        raise ValueError(f"static must have an HTML form, such as viz.player, got {type(static).__name__}")
    page = {"text/plain": LIVE_ONLY, "text/html": f"{html}<p><em>{LIVE_ONLY}</em></p>"}
    if not is_live():
        # A page prefers a stored widget to its HTML, and a widget without a kernel is dead. Its mere
        # existence makes the page load scripts from elsewhere, so none is made.
        display(page, raw=True)
        return
    from ipywidgets import interactive

    widget = interactive(function, **controls)
    if not hasattr(widget, "_repr_mimebundle_"):  # ipywidgets 7, which Colab brings
        display(widget)
        return
    # A front end that knows widgets takes the widget, every other one the page.
    bundle = widget._repr_mimebundle_()
    display({**page, **(bundle[0] if isinstance(bundle, tuple) else bundle)}, raw=True)
