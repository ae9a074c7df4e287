"""The small project as fixtures."""

import shutil
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell

from tests.notebook_tools.small_project import LIBRARY, store, write
from tools.project import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small project of the same form, without notebooks."""
    package = tmp_path / "t2v_mini"
    for folder in ("pretrained", "results", "exercises"):
        (package / folder).mkdir(parents=True)
    for name, text in LIBRARY.items():
        (package / name).write_text(text)
    (package / "pretrained" / "mini.safetensors").write_bytes(b"weights")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "notebooks").mkdir()
    return tmp_path


@pytest.fixture
def stored(root: Path) -> Path:
    """A notebook that imports `t2v_mini.numbers`, stored and fresh."""
    return store(write(root, new_code_cell("from t2v_mini.numbers import double\ndouble(2)")), root)
