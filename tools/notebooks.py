"""Run the notebooks and store their outputs; check that stored outputs still belong to the code.

    python -m tools.notebooks execute [--stale] [--profile cpu] [FILE ...]
    python -m tools.notebooks check [FILE ...]
    python -m tools.notebooks list

`execute` writes into each notebook's metadata what its outputs were made from: hashes of its code
cells, of the library modules it imports and of the weights it can load, and the profile, seconds,
device and versions of the run. `check` compares these with the files as they are now.
"""

import argparse
import ast
import json
import os
import platform
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from t2v_mini.files import atomic_path
from tools.fingerprints import PACKAGE, code_hash, module_hashes, weight_hashes
from tools.project import MACHINE_PATH, ROOT

RECORD = "t2v_mini"
PROFILES = ("cpu", "gpu")
MAX_BYTES = 2_000_000
CELL_SECONDS = 3600
BASE64 = re.compile(r";base64,(?:[A-Za-z0-9+/=]|\\?\n)+")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
# What a run shows of its machine: folders of its user, of temporary files and of installed packages.
LEAK = re.compile(
    MACHINE_PATH.pattern
    + r"|(?<![\w.~/-])/tmp/\w[^\s\"'\\]{0,60}"
    + r"|file:///\w[^\s\"'\\]{0,60}"
    + r"|[^\s\"'\\]{0,60}(?:\.venv|site-packages|dist-packages)/[^\s\"'\\]{0,60}"
)


def all_notebooks(root: Path = ROOT) -> list[Path]:
    """The chapters, in their order."""
    return sorted((root / "notebooks").glob("*.ipynb"))


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
        "weights": weight_hashes(modules, root),
    }


def execute(path: Path, profile: str, root: Path = ROOT) -> dict:
    """Run every cell in a fresh kernel, then store outputs and record in place; returns the record.

    The file stays as it was when a cell fails: then `RuntimeError` carries the cell's traceback.
    """
    notebook = nbformat.read(path, as_version=4)
    # Taken before the run: an edit made while it runs must leave the notebook stale.
    try:
        record = fingerprint(notebook, root)
    except SyntaxError as error:
        raise RuntimeError(_syntax(error)) from error
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        allow_errors=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    started = time.perf_counter()
    try:
        client.execute(env={**os.environ, "T2V_PROFILE": profile, "T2V_STATIC": "1"})
    except (CellTimeoutError, DeadKernelError) as error:
        raise RuntimeError(str(error)) from error
    seconds = time.perf_counter() - started
    for index, cell in enumerate(notebook.cells):
        cell.metadata.pop("execution", None)
        for error in unexpected_errors(cell):
            raise RuntimeError(f"cell {index}:\n" + ANSI.sub("", "\n".join(error.traceback)))
    record |= {
        "profile": profile,
        "seconds": round(seconds, 1),
        "device": device(),
        "versions": versions(),
    }
    notebook.metadata[RECORD] = record
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return record


def unexpected_errors(cell: NotebookNode) -> list[NotebookNode]:
    """The cell's stored errors, unless its tag `raises-exception` says that it shows one on purpose."""
    if "raises-exception" in cell.metadata.get("tags", []):
        return []
    return [output for output in cell.get("outputs", []) if output.output_type == "error"]


def device() -> str:
    """What the notebooks run on, without the machine's name."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"


def versions() -> dict[str, str]:
    """The versions that can change a result."""
    import torch

    return {"python": platform.python_version(), "torch": torch.__version__}


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
        return [f"syntax: {_syntax(error)}"]
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
    for name, value in record.get("weights", {}).items():
        if name not in now["weights"]:
            lines.append(f"weights: {name} is no longer there")
        elif now["weights"][name] != value:
            lines.append(f"weights: {name} was replaced after the run")
    if record.get("profile") not in PROFILES:
        lines.append(f"profile: outputs must come from one of {PROFILES}, got {record.get('profile')!r}")
    return lines


def _syntax(error: SyntaxError) -> str:
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


def run_execute(paths: list[Path], profile: str, stale_only: bool, root: Path = ROOT) -> int:
    """Execute the notebooks one after the other; the number of those that failed."""
    failed = 0
    for path in paths:
        if stale_only and not problems(path, root):
            print(f"{path.name}: fresh, left as it is")
            continue
        print(f"{path.name}: running in the {profile} profile ...", flush=True)
        try:
            record = execute(path, profile, root)
        except RuntimeError as error:
            print(f"{path.name}: FAILED, the file was left as it was\n{error}")
            failed += 1
            continue
        found = problems(path, root)
        failed += bool(found)
        print(f"{path.name}: stored, {record['seconds']} s on {record['device']}")
        print("".join(f"{path.name}: {line}\n" for line in found), end="")
    return failed


def run_check(paths: list[Path], root: Path = ROOT) -> int:
    """Print the problems of the notebooks; the number of notebooks that have any."""
    failed = 0
    for path in paths:
        found = problems(path, root)
        failed += bool(found)
        print("".join(f"{path.name}: {line}\n" for line in found), end="")
    if failed:
        print(f"{failed} of {len(paths)} notebooks must be run again: make notebooks")
    else:
        print(f"{len(paths)} notebooks, all outputs belong to their code")
    return failed


def run_list(paths: list[Path]) -> int:
    """Print how long each notebook took, and on what."""
    for path in paths:
        record = nbformat.read(path, as_version=4).metadata.get(RECORD, {})
        cells = (record.get("profile", "-"), record.get("seconds", "-"), record.get("device", "not run yet"))
        print(f"{path.name:40} {cells[0]:8} {cells[1]:>8} s  {cells[2]}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["execute", "check", "list"])
    parser.add_argument("files", nargs="*", type=Path, help="notebooks; all of them when none is named")
    parser.add_argument("--profile", choices=PROFILES, help="for execute (default: T2V_PROFILE, or cpu)")
    parser.add_argument("--stale", action="store_true", help="execute only those that fail the check")
    options = parser.parse_args(arguments)
    profile = options.profile or os.environ.get("T2V_PROFILE") or "cpu"
    if options.command == "execute" and profile not in PROFILES:
        parser.error(f"T2V_PROFILE must be one of {', '.join(PROFILES)} to store outputs, got {profile!r}")
    paths = [path.resolve() for path in options.files] or all_notebooks()
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        print(f"no such notebook: {', '.join(missing) or 'notebooks/ holds none'}", file=sys.stderr)
        return 2 if missing else 1
    if options.command == "execute":
        return min(run_execute(paths, profile, options.stale), 1)
    return min(run_check(paths), 1) if options.command == "check" else run_list(paths)


if __name__ == "__main__":
    sys.exit(main())
