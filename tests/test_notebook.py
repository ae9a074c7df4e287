"""The chapters' set-up: the same cell everywhere, the right profile, and no dead widget on a page."""

import ast
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest
import torch
from IPython.display import HTML
from nbclient import NotebookClient

from t2v_mini import notebook
from t2v_mini.notebook import LIVE_ONLY, PROFILES, SETUP_CELL, Profile, explore, is_colab, is_live, setup
from tools.address import Addresses, current_slug
from tools.fingerprints import parse_cell
from tools.project import ROOT
from tools.stored_outputs import setup_cell, setup_problem

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(autouse=True)
def _leave_no_trace(monkeypatch: pytest.MonkeyPatch):
    """No profile from outside, and the threads and style as they were."""
    for name in ("T2V_PROFILE", "T2V_STATIC"):
        monkeypatch.delenv(name, raising=False)
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    with matplotlib.rc_context():
        yield
    torch.set_num_threads(threads)
    torch.random.set_rng_state(state)


def chapter(*sources: str) -> nbformat.NotebookNode:
    v4 = nbformat.v4
    return v4.new_notebook(cells=[v4.new_markdown_cell("# A chapter"), *map(v4.new_code_cell, sources)])


def test_every_chapter_begins_with_the_shared_cell():
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert paths, "notebooks/ holds no chapter"
    assert setup_cell() == SETUP_CELL
    problems = {path.name: setup_problem(nbformat.read(path, as_version=4)) for path in paths}
    assert {name: problem for name, problem in problems.items() if problem} == {}


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ((SETUP_CELL, "x = 1"), None),
        (("x = 1", SETUP_CELL), "first code cell"),
        ((SETUP_CELL.replace("seed=0", "seed=1"),), "first code cell"),
        ((SETUP_CELL + "\n",), "first code cell"),
        ((SETUP_CELL, "profile = setup(seed=3)"), "once more"),
        ((), "first code cell"),
    ],
)
def test_a_chapter_with_another_cell_is_found(sources, expected):
    problem = setup_problem(chapter(*sources))
    assert problem is None if expected is None else expected in problem


def test_the_cell_installs_from_the_project_s_address():
    links = Addresses().find(SETUP_CELL)
    assert [f"{link['owner']}/{link['name']}" for link in links] == [current_slug()]
    assert links[0]["site"] == "git+https://github.com/"


def test_the_repository_s_tools_can_read_the_cell(tmp_path: Path):
    imports = ast.dump(parse_cell(SETUP_CELL))
    assert "t2v_mini.notebook" in imports
    nbformat.write(chapter(SETUP_CELL, "profile"), tmp_path / "chapter.ipynb")
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", ROOT / "pyproject.toml", tmp_path],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def run_cell(folder: Path, installed: bool) -> tuple[str, str]:
    """Run SETUP_CELL in a bare IPython that records what it would install; its output and the record."""
    code = f"""
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
if not {installed}:
    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name == "t2v_mini":
                raise ImportError("not installed")
    refuse = Refuse()
    sys.meta_path.insert(0, refuse)
def pip(line):
    open("pip.txt", "w").write(line)
    sys.meta_path.remove(refuse)
shell.register_magic_function(pip, "line", "pip")
result = shell.run_cell({SETUP_CELL!r})
result.raise_error()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "T2V_PROFILE": "smoke", "IPYTHONDIR": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    record = folder / "pip.txt"
    return done.stdout, record.read_text() if record.exists() else ""


def test_the_cell_installs_nothing_where_the_project_is_there(tmp_path: Path):
    output, installed = run_cell(tmp_path, installed=True)
    assert installed == "" and "profile smoke, seed 0" in output


def test_the_cell_installs_the_project_and_holds_torch_and_numpy(tmp_path: Path):
    output, installed = run_cell(tmp_path, installed=False)
    assert f'"t2v-mini @ git+https://github.com/{current_slug()}"' in installed
    assert f"torch=={torch.__version__} numpy=={np.__version__} " in installed
    assert "--upgrade" not in installed and "--force" not in installed
    assert "profile smoke, seed 0" in output


def test_setup_prints_one_line_that_two_runs_share(capsys: pytest.CaptureFixture):
    setup()
    first = capsys.readouterr().out
    setup()
    assert capsys.readouterr().out == first and first.count("\n") == 1
    assert re.fullmatch(
        r"t2v_mini [\d.]+, Python [\d.]+, torch \S+, numpy [\d.]+, .+, profile \w+, seed 0\n", first
    )


def test_setup_seeds_every_source_of_random_numbers():
    def draw(seed: int) -> tuple:
        setup(seed)
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    first = draw(7)
    assert draw(7) == first
    assert all(a != b for a, b in zip(first, draw(8), strict=True))


def test_setup_shares_the_cores_among_workers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(notebook, "usable_cores", lambda: 8)
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "4")
    setup()
    assert torch.get_num_threads() == 2


def test_setup_gives_figures_the_book_s_style():
    matplotlib.rcParams["axes.spines.top"] = True
    setup()
    assert matplotlib.rcParams["axes.spines.top"] is False


@pytest.mark.parametrize(
    ("wanted", "cuda", "name", "device"),
    [
        (None, False, "cpu", "cpu"),
        ("", False, "cpu", "cpu"),
        ("smoke", False, "smoke", "cpu"),
        ("smoke", True, "smoke", "cpu"),
        ("cpu", True, "cpu", "cpu"),
        (None, True, "gpu", "cuda"),
        ("gpu", True, "gpu", "cuda"),
    ],
)
def test_the_profile_comes_from_the_environment(monkeypatch, wanted, cuda, name, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    if wanted is not None:
        monkeypatch.setenv("T2V_PROFILE", wanted)
    assert setup() == Profile(name, device)


def test_a_profile_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("T2V_PROFILE", "fast")
    with pytest.raises(ValueError, match="T2V_PROFILE must be one of smoke, cpu, gpu, got 'fast'"):
        setup()
    monkeypatch.setenv("T2V_PROFILE", "gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="needs a CUDA device"):
        setup()
    with pytest.raises(ValueError, match="seed must be an integer >= 0, got -1"):
        setup(-1)


def test_pick_takes_the_profile_s_value_and_wants_all_three():
    values = {"smoke": 5, "cpu": 300, "gpu": 5000}
    assert [Profile(name, "cpu").pick(**values) for name in PROFILES] == [5, 300, 5000]
    for bad in ({"smoke": 5, "cpu": 300}, {**values, "tpu": 1}, {}):
        with pytest.raises(ValueError, match="a value for each of smoke, cpu, gpu"):
            Profile("cpu", "cpu").pick(**bad)


def test_a_trained_check_asserts_and_under_smoke_says_that_it_did_not(capsys: pytest.CaptureFixture):
    for name in ("cpu", "gpu"):
        Profile(name, "cpu").trained_check(torch.tensor(True), "the loss falls")
        with pytest.raises(AssertionError, match="the loss falls"):
            Profile(name, "cpu").trained_check(torch.tensor(False), "the loss falls")
    assert capsys.readouterr().out == ""
    Profile("smoke", "cpu").trained_check(False, "the loss falls")
    assert capsys.readouterr().out == "skipped under smoke: the loss falls\n"


def test_colab_is_known_by_its_module(monkeypatch: pytest.MonkeyPatch):
    assert not is_colab()
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    assert is_colab()


@pytest.mark.parametrize("static_run", [False, True])
def test_a_stored_explorer_is_a_page_and_no_widget(static_run: bool):
    """Run a notebook as `make notebooks` does: nobody sits at it, with T2V_STATIC and without."""
    book = chapter(
        "from IPython.display import HTML\nfrom t2v_mini.notebook import explore\n"
        "explore(lambda i: print(i), HTML('<b>fixed</b>'), i=(0, 3))"
    )
    client = NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    )
    client.execute(env={**os.environ, **({"T2V_STATIC": "1"} if static_run else {})})
    (output,) = book.cells[1].outputs
    assert set(output.data) == {"text/plain", "text/html"}
    assert output.data["text/html"] == f"<b>fixed</b><p><em>{LIVE_ONLY}</em></p>"
    # Any stored widget state makes the page load scripts.
    assert (
        not book.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state")
    )


def test_a_live_explorer_is_a_widget_with_the_page_behind_it(monkeypatch: pytest.MonkeyPatch):
    shown, calls = [], []
    monkeypatch.setattr(notebook, "is_live", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    explore(lambda color: calls.append(color), HTML("<b>fixed</b>"), color=["red", "blue"])
    assert shown[0][WIDGET]["model_id"] and "<b>fixed</b>" in shown[0]["text/html"]
    assert calls == ["red"]


def test_a_live_explorer_works_with_the_older_widgets_of_colab(monkeypatch: pytest.MonkeyPatch):
    shown, widget = [], object()
    monkeypatch.setattr(notebook, "is_live", lambda: True)
    monkeypatch.setattr("ipywidgets.interactive", lambda function, **controls: widget)
    monkeypatch.setattr("IPython.display.display", shown.append)
    explore(print, HTML("<b>fixed</b>"), color=["red", "blue"])
    assert shown == [widget]


def test_an_explorer_without_controls_or_page_is_refused():
    with pytest.raises(ValueError, match="at least one control"):
        explore(print, HTML("<b>fixed</b>"))
    with pytest.raises(ValueError, match="static must have an HTML form, such as viz.player, got int"):
        explore(print, 3, i=(0, 3))


def test_nobody_sits_at_a_test():
    assert not is_live()
