"""Running notebooks stores their outputs whole or not at all, and reports by exit code."""

import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from tests.notebook_tools.small_project import edit_cell, write
from tools import notebooks, stored_outputs


def test_execute_stores_outputs_and_record(root):
    show = "import os\nprint(os.environ['T2V_PROFILE'], os.environ['T2V_STATIC'])"
    path = write(root, new_code_cell(show), new_code_cell("40 + 2"))
    record = notebooks.execute(path, "cpu", root)
    notebook = nbformat.read(path, as_version=4)
    _, first, second = notebook.cells
    assert first.outputs[0].text == "cpu 1\n"
    assert second.outputs[0].data["text/plain"] == "42"
    assert notebook.metadata[stored_outputs.RECORD] == record
    assert record["profile"] == "cpu" and record["seconds"] > 0 and record["device"]
    assert record["versions"]["python"] == sys.version.split()[0]
    assert all("execution" not in cell.metadata for cell in notebook.cells)
    assert stored_outputs.problems(path, root) == []
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_execute_leaves_the_file_alone_when_cells_fail(root):
    path = write(root, new_code_cell("1 / 0"), new_code_cell("6 * 7"), new_code_cell("[][0]"))
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match=r"(?s)cell 1:.*ZeroDivisionError.*cell 3:.*IndexError"):
        notebooks.execute(path, "cpu", root)
    assert path.read_bytes() == before
    kept = nbformat.read(root / "_build" / "failed" / path.name, as_version=4)
    assert kept.cells[2].outputs[0].data["text/plain"] == "42"


def test_commands_report_by_exit_code(root, stored, capsys):
    assert notebooks.run_check([stored], root) == 0
    assert notebooks.run_execute([stored], "cpu", stale_only=True, root=root) == 0
    assert "fresh, left as it is" in capsys.readouterr().out
    edit_cell(stored, lambda cell: cell.update(source="1 / 0"))
    assert notebooks.run_check([stored], root) == 1
    assert "01_tiny.ipynb: code" in capsys.readouterr().out
    assert notebooks.run_execute([stored], "cpu", stale_only=True, root=root) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_without_notebooks_nothing_passes(monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "all_notebooks", list)
    assert notebooks.main(["check"]) == 1
    assert notebooks.main(["check", "notebooks/nowhere.ipynb"]) == 2
    assert "holds none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "option", "profile"),
    [(None, [], "cpu"), ("gpu", [], "gpu"), ("gpu", ["--profile", "cpu"], "cpu"), ("", [], "cpu")],
)
def test_profile_of_a_run(monkeypatch, stored, variable, option, profile):
    runs = []
    monkeypatch.delenv("T2V_PROFILE", raising=False)
    if variable is not None:
        monkeypatch.setenv("T2V_PROFILE", variable)
    monkeypatch.setattr(notebooks, "run_execute", lambda paths, profile, stale: runs.append(profile) or 0)
    assert notebooks.main(["execute", str(stored), *option]) == 0
    assert runs == [profile]


def test_smoke_outputs_are_never_stored(monkeypatch, stored, capsys):
    monkeypatch.setenv("T2V_PROFILE", "smoke")
    before = stored.read_bytes()
    with pytest.raises(SystemExit) as stop:
        notebooks.main(["execute", str(stored)])
    assert stop.value.code == 2 and stored.read_bytes() == before
    assert "T2V_PROFILE must be one of cpu, gpu to store outputs, got 'smoke'" in capsys.readouterr().err
