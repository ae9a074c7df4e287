"""Stored outputs go stale when, and only when, something they depend on has changed."""

import hashlib

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell

from t2v_mini.training.checkpoint import save_checkpoint
from tests.notebook_tools.small_project import edit, edit_cell, store, write
from tools import address, notebooks, stored_outputs
from tools.fingerprints import weight_hashes


def test_fresh(root, stored):
    assert stored_outputs.problems(stored, root) == []


def test_without_a_record(root):
    path = write(root, new_code_cell("1 + 1", execution_count=2))
    (problem,) = stored_outputs.problems(path, root)
    assert "never stored" in problem


def test_edited_code_is_stale(root, stored):
    edit_cell(stored, lambda cell: cell.update(source=cell.source + " # twice"))
    assert stored_outputs.problems(stored, root) == ["code: a code cell was edited after the run"]


def test_edited_prose_is_fresh(root):
    path = store(write(root, new_markdown_cell("Some prose."), new_code_cell("1 + 1")), root)
    edit_cell(path, lambda cell: cell.update(source="Better prose."))
    assert stored_outputs.problems(path, root) == []


@pytest.mark.parametrize("module", ["numbers", "deeper"])
def test_changed_module_is_stale(root, stored, module):
    edit(root / "t2v_mini" / f"{module}.py", "factor", "ratio")
    assert f"module: t2v_mini.{module} was edited after the run" in stored_outputs.problems(stored, root)


def test_new_import_in_a_module_is_stale(root, stored):
    edit(root / "t2v_mini" / "deeper.py", "factor", "from t2v_mini import unused\nfactor")
    assert stored_outputs.problems(stored, root) == [
        "module: t2v_mini.deeper was edited after the run",
        "module: t2v_mini.unused is imported now and was not at the run",
    ]


def test_removed_module_is_stale(root, stored):
    (root / "t2v_mini" / "deeper.py").unlink()
    assert stored_outputs.problems(stored, root) == ["module: t2v_mini.deeper is no longer imported"]


def test_docstring_comment_and_layout_stay_fresh(root, stored):
    file = root / "t2v_mini" / "numbers.py"
    edit(file, '"""Twice x."""', '"""Two times x,\n\n    as ever."""\n    # A comment.\n')
    edit(file, "factor * x", "(factor\n        * x)")
    edit(file, '"""Numbers."""\n', "")
    assert stored_outputs.problems(stored, root) == []


def test_unrelated_module_stays_fresh(root, stored):
    edit(root / "t2v_mini" / "unused.py", "None", "1")
    assert stored_outputs.problems(stored, root) == []


def test_weights_count_where_they_are_loaded(root, stored):
    weights = root / "t2v_mini" / "pretrained" / "mini.safetensors"
    weights.write_bytes(b"other weights")
    assert stored_outputs.problems(stored, root) == []

    loading = store(write(root, new_code_cell("TextToVideo.from_pretrained()")), root)
    record = nbformat.read(loading, as_version=4).metadata[stored_outputs.RECORD]
    assert record["weights"] == {"mini.safetensors": hashlib.sha256(b"other weights").hexdigest()}
    assert stored_outputs.problems(loading, root) == []
    weights.write_bytes(b"trained again")
    assert stored_outputs.problems(loading, root) == ["weights: mini.safetensors was replaced after the run"]
    weights.unlink()
    assert stored_outputs.problems(loading, root) == ["weights: mini.safetensors is no longer there"]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("load_codec()", {"codec"}),
        ("load_codec('film')", {"film"}),
        ("load_codec(name='film', device='cpu')", {"film"}),
        ("x = shipped.load_clip('clip')", {"clip"}),
        ("TextToVideo.from_pretrained('latent')", {"clip", "codec", "latent"}),  # it needs the others
        ("trainer = Trainer(get_config('latent'))", {"clip", "codec", "latent"}),
        ("replace(config, train=TrainConfig(text_weights='clip'))", {"clip"}),
        ("for name in names: load_codec(name)", {"clip", "codec", "film", "latent", "mini"}),
        ("shipped_weights()", {"clip", "codec", "film", "latent", "mini"}),
        ("print('codec', load_result('clip'))", set()),
    ],
)
def test_a_cell_depends_on_the_weights_that_it_names(root, code, names):
    folder = root / "t2v_mini" / "pretrained"
    for name in ("clip", "codec", "film"):
        (folder / f"{name}.safetensors").write_bytes(name.encode())
    config = {"codec": "codec", "train": {"text_weights": "clip"}}
    save_checkpoint(folder / "latent.safetensors", {"w": torch.zeros(1)}, {"config": config})
    assert set(weight_hashes([code], root)) == {f"{name}.safetensors" for name in names}


def test_a_syntax_error_is_one_line_and_runs_nothing(root, stored):
    edit_cell(stored, lambda cell: cell.update(source="def f(:"))
    before = stored.read_bytes()
    (problem,) = stored_outputs.problems(stored, root)
    assert problem == "syntax: a code cell cannot be read as Python, invalid syntax: def f(:"
    with pytest.raises(RuntimeError, match=r"a code cell cannot be read as Python, .*def f\(:"):
        notebooks.execute(stored, "cpu", root)
    assert stored.read_bytes() == before


def test_a_syntax_error_in_a_module_names_its_file(root, stored):
    (root / "t2v_mini" / "deeper.py").write_text("factor = = 2\n")
    (problem,) = stored_outputs.problems(stored, root)
    assert problem == "syntax: deeper.py cannot be read as Python, invalid syntax: factor = = 2"


def test_a_new_address_keeps_outputs_fresh(root):
    code = "%pip install git+https://github.com/t2v-mini/t2v-mini\nfrom t2v_mini.address import ADDRESS"
    path = store(write(root, new_code_cell(code)), root)
    changed = address.move("https://github.com/" + "some-one/other", root)
    assert set(changed) == {"notebooks/01_tiny.ipynb", "pyproject.toml", "t2v_mini/address.py"}
    assert "some-one/other" in nbformat.read(path, as_version=4).cells[1].source
    assert stored_outputs.problems(path, root) == []


def test_a_replaced_result_is_stale(root):
    result = root / "t2v_mini" / "results" / "judge.json"
    result.write_text("1")
    path = store(write(root, new_code_cell('table = load_result("judge")')), root)
    assert stored_outputs.problems(path, root) == []
    result.write_text("2")
    assert stored_outputs.problems(path, root) == ["results: judge.json was replaced after the run"]
    result.unlink()
    assert stored_outputs.problems(path, root) == ["results: judge.json is no longer there"]


def test_an_edited_check_of_an_exercise_is_stale(root):
    module = root / "t2v_mini" / "exercises" / "chapter_01.py"
    module.write_text("limit = 1\n")
    path = store(write(root, new_code_cell('check("1.2", answer)')), root)
    module.write_text("limit = 2\n")
    (problem,) = stored_outputs.problems(path, root)
    assert problem == "module: t2v_mini.exercises.chapter_01 was edited after the run"
