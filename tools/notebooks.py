"""Run the notebooks and store their outputs; check that stored outputs still belong to the code.

    python -m tools.notebooks execute [--stale] [--profile cpu] [FILE ...]
    python -m tools.notebooks check [FILE ...]
    python -m tools.notebooks list

`execute` writes into each notebook's metadata what its outputs were made from: hashes of its code
cells, of the library modules it imports, of the weights and results it can load, and the profile,
seconds, device and versions of the run. `check` compares these with the files as they are now.
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from tools.project import ROOT, write_text
from tools.stored_outputs import (
    ANSI,
    PROFILES,
    RECORD,
    fingerprint,
    problems,
    syntax_problem,
    unexpected_errors,
)

CELL_SECONDS = 3600


def all_notebooks(root: Path = ROOT) -> list[Path]:
    """The chapters, in their order."""
    return sorted((root / "notebooks").glob("*.ipynb"))


def execute(path: Path, profile: str, root: Path = ROOT) -> dict:
    """Run every cell in a fresh kernel, then store outputs and record in place; returns the record.

    The file stays as it was when a cell fails: then `RuntimeError` carries the traceback of each such cell,
    and what was run lies in `_build/failed`.
    """
    notebook = nbformat.read(path, as_version=4)
    # Taken before the run: an edit made while it runs must leave the notebook stale.
    try:
        record = fingerprint(notebook, root)
    except SyntaxError as error:
        raise RuntimeError(syntax_problem(error)) from error
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
    errors = []
    for index, cell in enumerate(notebook.cells):
        cell.metadata.pop("execution", None)
        for error in unexpected_errors(cell):
            errors.append(f"cell {index}:\n" + ANSI.sub("", "\n".join(error.traceback)))
    if errors:
        write_text(root / "_build" / "failed" / path.name, _text(notebook))
        raise RuntimeError("\n".join(errors))
    record |= {
        "profile": profile,
        "seconds": round(seconds, 1),
        "device": device(),
        "versions": versions(),
    }
    notebook.metadata[RECORD] = record
    write_text(path, _text(notebook))
    return record


def _text(notebook: nbformat.NotebookNode) -> str:
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def device() -> str:
    """What the notebooks run on, without the machine's name."""
    import torch

    from t2v_mini.notebook import usable_cores

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{usable_cores()} CPU cores"


def versions() -> dict[str, str]:
    """The versions that can change a result."""
    import torch

    return {"python": platform.python_version(), "torch": torch.__version__}


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
