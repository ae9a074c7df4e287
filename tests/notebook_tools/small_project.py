"""A project of the same form as this one, small enough for a test, and what a reader may do to it."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from tools import stored_outputs

SETUP = "ready = True"
LIBRARY = {
    "__init__.py": '"""A tiny library."""\n',
    "numbers.py": (
        '"""Numbers."""\nfrom .deeper import factor\n\n\n'
        'def double(x):\n    """Twice x."""\n    return factor * x\n'
    ),
    "deeper.py": "factor = 2\n",
    "unused.py": "nothing = None\n",
    "notebook.py": f"SETUP_CELL = {SETUP!r}\n",
    "pipeline.py": "from t2v_mini import numbers\n",
    "address.py": 'ADDRESS = "https://github.com/t2v-mini/t2v-mini"\n',
}


def write(root: Path, *cells) -> Path:
    """A notebook that begins with the set-up cell; the given cells count from 1."""
    path = root / "notebooks" / "01_tiny.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(SETUP, execution_count=1), *cells]), path)
    return path


def store(path: Path, root: Path) -> Path:
    """What `execute` leaves behind, without the seconds that a kernel takes to start."""
    notebook = nbformat.read(path, as_version=4)
    for count, cell in enumerate(stored_outputs.code_cells(notebook), start=1):
        cell.execution_count = count
    notebook.metadata[stored_outputs.RECORD] = {
        **stored_outputs.fingerprint(notebook, root),
        "profile": "cpu",
    }
    nbformat.write(notebook, path)
    return path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def edit_cell(path: Path, change, index: int = 1) -> None:
    notebook = nbformat.read(path, as_version=4)
    change(notebook.cells[index])
    nbformat.write(notebook, path)
