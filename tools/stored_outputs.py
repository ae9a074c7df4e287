"""Whether a notebook's stored outputs belong to its code, and show nothing that they should not.

The hashes in a notebook's metadata, written when it ran, are compared with the files as they are.
"""

import ast
import json
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.fingerprints import PACKAGE, code_hash, module_hashes, result_hashes, weight_hashes
from tools.project import MACHINE_PATH, ROOT

RECORD = "t2v_mini"
PROFILES = ("cpu", "gpu")
MAX_BYTES = 2_000_000
BASE64 = re.compile(r";base64,(?:[A-Za-z0-9+/=]|\\?\n)+")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
# What a run shows of its machine: folders of its user, of temporary files and of installed packages.
LEAK = re.compile(
    MACHINE_PATH.pattern
    + r"|(?<![\w.~/-])/tmp/\w[^\s\"'\\]{0,60}"
    + r"|file:///\w[^\s\"'\\]{0,60}"
    + r"|[^\s\"'\\]{0,60}(?:\.venv|site-packages|dist-packages)/[^\s\"'\\]{0,60}"
)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells that hold code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def fingerprint(notebook: NotebookNode, root: Path = ROOT) -> dict:
    """Hashes of everything the notebook's outputs depend on, as the files are now."""
    sources = [cell.source for cell in code_cells(notebook)]
    modules = module_hashes(sources, root)
    return {
        "code_hash": code_hash(sources, root),
        "modules": modules,
        "weights": weight_hashes(sources, root),
        "results": result_hashes(sources, root),
    }


def unexpected_errors(cell: NotebookNode) -> list[NotebookNode]:
    """The cell's stored errors, unless its tag `raises-exception` says that it shows one on purpose."""
    if "raises-exception" in cell.metadata.get("tags", []):
        return []
    return [output for output in cell.get("outputs", []) if output.output_type == "error"]


def problems(path: Path, root: Path = ROOT) -> list[str]:
    """What is wrong with a stored notebook, one line each; nothing when its outputs can be trusted."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except ValueError as error:
        return [f"file: cannot be read as a notebook: {str(error).splitlines()[0]}"]
    setup = setup_problem(notebook, root)
    return [
        *([f"setup: {setup}"] if setup else []),
        *_stale(notebook, root),
        *_outputs(notebook),
        *_file_problems(path),
    ]


def setup_problem(notebook: NotebookNode, root: Path = ROOT) -> str | None:
    """What is wrong with a chapter's set-up: the shared cell must be its first code, and stand once."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    if not sources or sources[0] != setup_cell(root):
        return "the first code cell is not SETUP_CELL"
    if any("profile = setup(" in source for source in sources[1:]):
        return "another cell sets up once more"
    return None


def setup_cell(root: Path = ROOT) -> str:
    """SETUP_CELL as the library's file has it, without the seconds that importing the library takes.

    Raises `ValueError` when the file does not set it to a plain string.
    """
    path = root / PACKAGE / "notebook.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", None) == "SETUP_CELL" for t in node.targets):
            return ast.literal_eval(node.value)
    raise ValueError(f"{path.name} must set SETUP_CELL to a string, found no such line")


def _stale(notebook: NotebookNode, root: Path) -> list[str]:
    record = notebook.metadata.get(RECORD)
    if record is None:
        return ["has no record of a run: its outputs were never stored with `make notebooks`"]
    try:
        now, lines = fingerprint(notebook, root), []
    except SyntaxError as error:
        return [f"syntax: {syntax_problem(error)}"]
    if record.get("code_hash") != now["code_hash"]:
        lines.append("code: a code cell was edited after the run")
    then = record.get("modules", {})
    for name in sorted(then.keys() | now["modules"].keys()):
        if name not in then:
            lines.append(f"module: {name} is imported now and was not at the run")
        elif name not in now["modules"]:
            lines.append(f"module: {name} is no longer imported")
        elif then[name] != now["modules"][name]:
            lines.append(f"module: {name} was edited after the run")
    for kind in ("weights", "results"):
        for name, value in record.get(kind, {}).items():
            if name not in now[kind]:
                lines.append(f"{kind}: {name} is no longer there")
            elif now[kind][name] != value:
                lines.append(f"{kind}: {name} was replaced after the run")
    if record.get("profile") not in PROFILES:
        lines.append(f"profile: outputs must come from one of {PROFILES}, got {record.get('profile')!r}")
    return lines


def syntax_problem(error: SyntaxError) -> str:
    """A syntax error in one line: where it is and what it reads."""
    where = "a code cell" if error.filename in (None, "<unknown>") else Path(error.filename).name
    return f"{where} cannot be read as Python, {error.msg}: {(error.text or '').strip()}"


def _outputs(notebook: NotebookNode) -> list[str]:
    lines = []
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if None in counts:
        lines.append(f"cells: {counts.count(None)} of {len(counts)} code cells were not executed")
    elif counts != list(range(1, len(counts) + 1)):
        lines.append("cells: not executed once each from top to bottom")
    for index, cell in enumerate(notebook.cells):
        lines += [f"error: cell {index} stores {e.ename}: {e.evalue}" for e in unexpected_errors(cell)]
        if "execution" in cell.metadata:
            lines.append(f"cells: cell {index} stores the times of its execution")
        for output in cell.get("outputs", []):
            found = LEAK.search(_text(output))
            if found:
                lines.append(f"path: cell {index} shows a path of the machine it ran on, {found[0]}")
    return lines


def _text(output: NotebookNode) -> str:
    """Everything readable in an output: no pictures, neither on their own nor inside HTML."""
    data = {
        kind: value
        for kind, value in output.get("data", {}).items()
        if not kind.startswith("image/") or kind == "image/svg+xml"
    }
    parts = [output.get("text", ""), *output.get("traceback", []), *map(_string, data.values())]
    return ANSI.sub("", BASE64.sub("", "\n".join(parts)))


def _string(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _file_problems(path: Path) -> list[str]:
    size = path.stat().st_size
    return [f"size: {size:,} bytes, at most {MAX_BYTES:,} are allowed"] if size > MAX_BYTES else []
