"""Stored outputs must be complete, of a real run, and show nothing of the machine they were made on."""

import nbformat
import pytest
from nbformat.v4 import new_output

from tests.notebook_tools.small_project import edit_cell
from tools import stored_outputs


def test_first_code_cell_must_be_the_shared_one(root, stored):
    edit_cell(stored, lambda cell: cell.update(source="ready = False"), index=0)
    assert stored_outputs.problems(stored, root) == [
        "setup: the first code cell is not SETUP_CELL",
        "code: a code cell was edited after the run",
    ]


def test_setup_cell_must_be_a_plain_string(root):
    (root / "t2v_mini" / "notebook.py").write_text("OTHER = 1\n")
    with pytest.raises(ValueError, match="notebook.py must set SETUP_CELL to a string"):
        stored_outputs.setup_cell(root)


def test_a_file_that_is_no_notebook_is_one_line(root):
    path = root / "notebooks" / "02_broken.ipynb"
    path.write_text("{broken")
    (problem,) = stored_outputs.problems(path, root)
    assert problem.startswith("file: cannot be read as a notebook: ") and "\n" not in problem


def test_smoke_outputs_are_refused(root, stored):
    notebook = nbformat.read(stored, as_version=4)
    notebook.metadata[stored_outputs.RECORD]["profile"] = "smoke"
    nbformat.write(notebook, stored)
    (problem,) = stored_outputs.problems(stored, root)
    assert "'smoke'" in problem


def test_cell_that_was_not_executed(root, stored):
    edit_cell(stored, lambda cell: cell.update(execution_count=None))
    assert stored_outputs.problems(stored, root) == ["cells: 1 of 2 code cells were not executed"]


def test_cells_executed_out_of_order(root, stored):
    edit_cell(stored, lambda cell: cell.update(execution_count=7))
    assert stored_outputs.problems(stored, root) == ["cells: not executed once each from top to bottom"]


def test_stored_error(root, stored):
    error = new_output("error", ename="ValueError", evalue="seed must be", traceback=[])
    edit_cell(stored, lambda cell: cell.update(outputs=[error]))
    assert stored_outputs.problems(stored, root) == ["error: cell 1 stores ValueError: seed must be"]
    edit_cell(stored, lambda cell: cell.metadata.update(tags=["raises-exception"]))
    assert stored_outputs.problems(stored, root) == []


@pytest.mark.parametrize("folder", ["home/me", "root", "Users/me", "work/book", "tmp", "tmp/tmpk3x"])
@pytest.mark.parametrize("kind", ["stream", "text/plain", "text/html", "image/svg+xml"])
def test_path_of_a_machine_in_an_output(root, stored, folder, kind):
    text = f"saved in /{folder}/clip.gif"
    output = (
        new_output("stream", text=text) if kind == "stream" else new_output("display_data", data={kind: text})
    )
    edit_cell(stored, lambda cell: cell.update(outputs=[output]))
    (problem,) = stored_outputs.problems(stored, root)
    assert problem == f"path: cell 1 shows a path of the machine it ran on, /{folder}/clip.gif"


@pytest.mark.parametrize(
    "leak",
    [
        "file:///home/me/clip.gif",
        "../.venv/lib/python3.11/inspect.py",
        "/opt/env/lib/python3.11/site-packages/torch/nn.py",
        "/usr/local/lib/python3.12/dist-packages/torch/nn.py",
    ],
)
def test_place_of_an_installed_package_in_a_warning(root, stored, leak):
    output = new_output("stream", name="stderr", text=f"{leak}:12: UserWarning: slow")
    edit_cell(stored, lambda cell: cell.update(outputs=[output]))
    (problem,) = stored_outputs.problems(stored, root)
    assert problem == f"path: cell 1 shows a path of the machine it ran on, {leak}:12:"


def test_pictures_and_relative_paths_are_no_machine_paths(root, stored):
    plain = "a/root/b ~/work/x runs/tmp/x"
    picture = new_output(
        "display_data",
        data={"image/png": "A /" + "root/AAAA", "image/webp": "A /tmp/AAAA", "text/plain": plain},
    )
    inside = new_output(
        "display_data", data={"text/html": '<img src="data:image/gif;base64,/root/AAAA/home/AA">'}
    )
    edit_cell(stored, lambda cell: cell.update(outputs=[picture, inside]))
    assert stored_outputs.problems(stored, root) == []


def test_large_file(root, stored):
    output = new_output("stream", text="x" * stored_outputs.MAX_BYTES)
    edit_cell(stored, lambda cell: cell.update(outputs=[output]))
    (problem,) = stored_outputs.problems(stored, root)
    assert problem.startswith("size: 2,0")
