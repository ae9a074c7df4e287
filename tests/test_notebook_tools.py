"""Stored outputs go stale when, and only when, something they depend on has changed."""

import hashlib
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import address, notebooks
from tools.fingerprints import module_hashes
from tools.project import ROOT

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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small project of the same form, with one notebook that has not been run."""
    package = tmp_path / "t2v_mini"
    (package / "pretrained").mkdir(parents=True)
    for name, text in LIBRARY.items():
        (package / name).write_text(text)
    (package / "pretrained" / "mini.safetensors").write_bytes(b"weights")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "notebooks").mkdir()
    return tmp_path


def write(root: Path, *cells) -> Path:
    """A notebook that begins with the set-up cell; the given cells count from 1."""
    path = root / "notebooks" / "01_tiny.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(SETUP, execution_count=1), *cells]), path)
    return path


def store(path: Path, root: Path) -> Path:
    """What `execute` leaves behind, without the seconds that a kernel takes to start."""
    notebook = nbformat.read(path, as_version=4)
    for count, cell in enumerate(notebooks.code_cells(notebook), start=1):
        cell.execution_count = count
    notebook.metadata[notebooks.RECORD] = {**notebooks.fingerprint(notebook, root), "profile": "cpu"}
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def stored(root: Path) -> Path:
    """A notebook that imports `t2v_mini.numbers`, stored and fresh."""
    return store(write(root, new_code_cell("from t2v_mini.numbers import double\ndouble(2)")), root)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def edit_cell(path: Path, change, index: int = 1) -> None:
    notebook = nbformat.read(path, as_version=4)
    change(notebook.cells[index])
    nbformat.write(notebook, path)


def test_fresh(root, stored):
    assert notebooks.problems(stored, root) == []


def test_without_a_record(root):
    path = write(root, new_code_cell("1 + 1", execution_count=2))
    (problem,) = notebooks.problems(path, root)
    assert "never stored" in problem


def test_edited_code_is_stale(root, stored):
    edit_cell(stored, lambda cell: cell.update(source=cell.source + " # twice"))
    assert notebooks.problems(stored, root) == ["code: a code cell was edited after the run"]


def test_edited_prose_is_fresh(root):
    path = store(write(root, new_markdown_cell("Some prose."), new_code_cell("1 + 1")), root)
    edit_cell(path, lambda cell: cell.update(source="Better prose."))
    assert notebooks.problems(path, root) == []


@pytest.mark.parametrize("module", ["numbers", "deeper"])
def test_changed_module_is_stale(root, stored, module):
    edit(root / "t2v_mini" / f"{module}.py", "factor", "ratio")
    assert f"module: t2v_mini.{module} was edited after the run" in notebooks.problems(stored, root)


def test_new_import_in_a_module_is_stale(root, stored):
    edit(root / "t2v_mini" / "deeper.py", "factor", "from t2v_mini import unused\nfactor")
    assert notebooks.problems(stored, root) == [
        "module: t2v_mini.deeper was edited after the run",
        "module: t2v_mini.unused is imported now and was not at the run",
    ]


def test_removed_module_is_stale(root, stored):
    (root / "t2v_mini" / "deeper.py").unlink()
    assert notebooks.problems(stored, root) == ["module: t2v_mini.deeper is no longer imported"]


def test_docstring_comment_and_layout_stay_fresh(root, stored):
    file = root / "t2v_mini" / "numbers.py"
    edit(file, '"""Twice x."""', '"""Two times x,\n\n    as ever."""\n    # A comment.\n')
    edit(file, "factor * x", "(factor\n        * x)")
    edit(file, '"""Numbers."""\n', "")
    assert notebooks.problems(stored, root) == []


def test_unrelated_module_stays_fresh(root, stored):
    edit(root / "t2v_mini" / "unused.py", "None", "1")
    assert notebooks.problems(stored, root) == []


def test_weights_count_only_with_the_pipeline(root, stored):
    weights = root / "t2v_mini" / "pretrained" / "mini.safetensors"
    weights.write_bytes(b"other weights")
    assert notebooks.problems(stored, root) == []

    with_pipeline = store(write(root, new_code_cell("def f():\n    import t2v_mini.pipeline")), root)
    record = nbformat.read(with_pipeline, as_version=4).metadata[notebooks.RECORD]
    assert record["weights"] == {"mini.safetensors": hashlib.sha256(b"other weights").hexdigest()}
    assert notebooks.problems(with_pipeline, root) == []
    weights.write_bytes(b"trained again")
    assert notebooks.problems(with_pipeline, root) == ["weights: mini.safetensors was replaced after the run"]
    weights.unlink()
    assert notebooks.problems(with_pipeline, root) == ["weights: mini.safetensors is no longer there"]


def test_first_code_cell_must_be_the_shared_one(root, stored):
    edit_cell(stored, lambda cell: cell.update(source="ready = False"), index=0)
    assert notebooks.problems(stored, root) == [
        "setup: the first code cell is not SETUP_CELL",
        "code: a code cell was edited after the run",
    ]


def test_setup_cell_must_be_a_plain_string(root):
    (root / "t2v_mini" / "notebook.py").write_text("OTHER = 1\n")
    with pytest.raises(ValueError, match="notebook.py must set SETUP_CELL to a string"):
        notebooks.setup_cell(root)


def test_a_file_that_is_no_notebook_is_one_line(root):
    path = root / "notebooks" / "02_broken.ipynb"
    path.write_text("{broken")
    (problem,) = notebooks.problems(path, root)
    assert problem.startswith("file: cannot be read as a notebook: ") and "\n" not in problem


def test_a_syntax_error_is_one_line_and_runs_nothing(root, stored):
    edit_cell(stored, lambda cell: cell.update(source="def f(:"))
    before = stored.read_bytes()
    (problem,) = notebooks.problems(stored, root)
    assert problem == "syntax: a code cell cannot be read as Python, invalid syntax: def f(:"
    with pytest.raises(RuntimeError, match=r"a code cell cannot be read as Python, .*def f\(:"):
        notebooks.execute(stored, "cpu", root)
    assert stored.read_bytes() == before


def test_a_syntax_error_in_a_module_names_its_file(root, stored):
    (root / "t2v_mini" / "deeper.py").write_text("factor = = 2\n")
    (problem,) = notebooks.problems(stored, root)
    assert problem == "syntax: deeper.py cannot be read as Python, invalid syntax: factor = = 2"


def test_smoke_outputs_are_refused(root, stored):
    notebook = nbformat.read(stored, as_version=4)
    notebook.metadata[notebooks.RECORD]["profile"] = "smoke"
    nbformat.write(notebook, stored)
    (problem,) = notebooks.problems(stored, root)
    assert "'smoke'" in problem


def test_cell_that_was_not_executed(root, stored):
    edit_cell(stored, lambda cell: cell.update(execution_count=None))
    assert notebooks.problems(stored, root) == ["cells: 1 of 2 code cells were not executed"]


def test_cells_executed_out_of_order(root, stored):
    edit_cell(stored, lambda cell: cell.update(execution_count=7))
    assert notebooks.problems(stored, root) == ["cells: not executed once each from top to bottom"]


def test_stored_error(root, stored):
    error = new_output("error", ename="ValueError", evalue="seed must be", traceback=[])
    edit_cell(stored, lambda cell: cell.update(outputs=[error]))
    assert notebooks.problems(stored, root) == ["error: cell 1 stores ValueError: seed must be"]
    edit_cell(stored, lambda cell: cell.metadata.update(tags=["raises-exception"]))
    assert notebooks.problems(stored, root) == []


@pytest.mark.parametrize("folder", ["home/me", "root", "Users/me", "work/book", "tmp", "tmp/tmpk3x"])
@pytest.mark.parametrize("kind", ["stream", "text/plain", "text/html", "image/svg+xml"])
def test_path_of_a_machine_in_an_output(root, stored, folder, kind):
    text = f"saved in /{folder}/clip.gif"
    output = (
        new_output("stream", text=text) if kind == "stream" else new_output("display_data", data={kind: text})
    )
    edit_cell(stored, lambda cell: cell.update(outputs=[output]))
    (problem,) = notebooks.problems(stored, root)
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
    (problem,) = notebooks.problems(stored, root)
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
    assert notebooks.problems(stored, root) == []


def test_large_file(root, stored):
    output = new_output("stream", text="x" * notebooks.MAX_BYTES)
    edit_cell(stored, lambda cell: cell.update(outputs=[output]))
    (problem,) = notebooks.problems(stored, root)
    assert problem.startswith("size: 2,0")


def test_a_new_address_keeps_outputs_fresh(root):
    code = "%pip install git+https://github.com/t2v-mini/t2v-mini\nfrom t2v_mini.address import ADDRESS"
    path = store(write(root, new_code_cell(code)), root)
    changed = address.move("https://github.com/" + "some-one/other", root)
    assert set(changed) == {"notebooks/01_tiny.ipynb", "pyproject.toml", "t2v_mini/address.py"}
    assert "some-one/other" in nbformat.read(path, as_version=4).cells[1].source
    assert notebooks.problems(path, root) == []


def test_modules_are_found_wherever_they_are_imported(root):
    found = module_hashes(
        ["%matplotlib inline\n!ls\nif True:\n    %time\n", "import t2v_mini.unused as u"], root
    )
    assert set(found) == {"t2v_mini", "t2v_mini.unused"}
    assert set(module_hashes(["%%bash\nimport t2v_mini\n"], root)) == set()
    assert set(module_hashes(["import numpy, t2v_mini_extra"], root)) == set()


EVERY_SYNTAX = '''
"""Docstring."""
import os as system
from collections import abc, Counter

type_of: dict[str, "int"] = {"a": 1, **{}}


@abc.Callable.register
class Thing(Counter, metaclass=type):
    """Docstring."""

    x: float = 1e-5

    async def go(self, a, /, b=None, *args, c: int = ..., **kwargs) -> bytes:
        async with self as s, s:
            return b"\\x00" if await a else f"{a!r:>{b}} {{}} {c:.3f}" "joined"


def walk(n):
    global type_of
    while (m := n - 1) and not 0 <= m < 3:
        try:
            yield from (i * -1 for i in range(m) if i @ m)
        except (ValueError, OSError) as error:
            raise KeyError from error
        else:
            del n, type_of[m::2]
        finally:
            assert lambda *_, q=1j: q or None, "text"
    match n:
        case [1, *rest] | {"k": rest, **rest} if rest:
            pass
        case Thing(x=0) as thing:
            a, *b = thing[..., 1:2]
'''


def test_hashes_do_not_depend_on_the_python_version(root):
    # Made with Python 3.11. That the tests pass under another version shows that hashes agree.
    (root / "t2v_mini" / "unused.py").write_text(EVERY_SYNTAX)
    hashes = module_hashes(["import t2v_mini.unused"], root)
    assert hashes["t2v_mini.unused"][:16] == "6d2dfe1588bcb98e"


def test_execute_stores_outputs_and_record(root):
    show = "import os\nprint(os.environ['T2V_PROFILE'], os.environ['T2V_STATIC'])"
    path = write(root, new_code_cell(show), new_code_cell("40 + 2"))
    record = notebooks.execute(path, "cpu", root)
    notebook = nbformat.read(path, as_version=4)
    _, first, second = notebook.cells
    assert first.outputs[0].text == "cpu 1\n"
    assert second.outputs[0].data["text/plain"] == "42"
    assert notebook.metadata[notebooks.RECORD] == record
    assert record["profile"] == "cpu" and record["seconds"] > 0 and record["device"]
    assert record["versions"]["python"] == sys.version.split()[0]
    assert all("execution" not in cell.metadata for cell in notebook.cells)
    assert notebooks.problems(path, root) == []
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_execute_leaves_the_file_alone_when_a_cell_fails(root):
    path = write(root, new_code_cell("1 / 0"))
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        notebooks.execute(path, "cpu", root)
    assert path.read_bytes() == before


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
