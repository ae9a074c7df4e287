"""Run every check of the repository, one step after the other: `python -m tools.run_checks [STEP ...]`.

A failing step does not stop the others. The table at the end has each step's result and seconds, and
the last line counts them. What could not run counts as neither passed nor failed, and is told above it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tools.project import ROOT

BIN = Path(sys.executable).parent
PYTEST = [sys.executable, "-m", "pytest"]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True)
class Step:
    """One line of the table: commands that must all succeed."""

    name: str
    title: str
    commands: list[list[str]]
    env: dict[str, str] = field(default_factory=dict)
    needs_chromium: bool = False


STEPS = [
    Step("lint", "Style and unused code", [["ruff", "check", "."], ["ruff", "format", "--check", "."]]),
    # Its cache goes by the time of a file, and can miss an import.
    Step("imports", "Imports point one way", [["lint-imports", "--no-cache"]]),
    Step("tests", "Unit and parity tests", [[*PYTEST, "-n", "2", "--ignore=tests/browser"]]),
    Step(
        "notebooks",
        "Every notebook runs (smoke profile)",
        [
            [
                *PYTEST,
                "--nbval-lax",
                "--nbval-sanitize-with=tests/nbval_sanitize.cfg",
                "--nbval-cell-timeout=600",
                *("-n", "2", "--dist", "loadfile"),
                "notebooks",
            ]
        ],
        env={"T2V_PROFILE": "smoke"},
    ),
    Step(
        "fresh", "Stored outputs belong to their code", [[sys.executable, "-m", "tools.notebooks", "check"]]
    ),
    Step("address", "Links agree on the address", [[sys.executable, "-m", "tools.address", "--check"]]),
    Step(
        "weights", "Shipped weights do what their cards say", [[sys.executable, "-m", "tools.check_weights"]]
    ),
    Step("book", "The book builds without warnings", [[sys.executable, "-m", "tools.build_book"]]),
    Step("browser", "The book in a browser", [[*PYTEST, "tests/browser"]], needs_chromium=True),
]


def find_chromium() -> str | None:
    """The browser for the last step: `CHROMIUM` from the environment, or the first found on the path."""
    return next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *CHROMIUM))), None)


def run(step: Step, root: Path = ROOT) -> str:
    """Run the step's commands until one fails; returns "passed", "failed" or "NOT RUN"."""
    environment = {**os.environ, **step.env, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
    if step.needs_chromium:
        chromium = find_chromium()
        if chromium is None:
            print("BROWSER TEST NOT RUN: chromium not found", flush=True)
            # On a build server nobody reads this line, so there the browser is required.
            return "failed" if os.environ.get("CI") else "NOT RUN"
        environment["CHROMIUM"] = chromium
    for command in step.commands:
        shown = [Path(command[0]).name, *command[1:]]
        print(f"$ {' '.join(shown)}", flush=True)
        try:
            code = subprocess.run(command, cwd=root, env=environment, stdin=subprocess.DEVNULL).returncode
        except FileNotFoundError:
            print(f"{command[0]} is not installed in this environment", flush=True)
            code = 127
        if code:
            return "failed"
    return "passed"


def run_all(steps: list[Step], root: Path = ROOT) -> int:
    """Run the steps and print the table; the number of steps that failed."""
    rows = []
    for step in steps:
        print(f"\n=== {step.title} ({step.name}) ===", flush=True)
        started = time.perf_counter()
        result = run(step, root)
        rows.append((step, result, time.perf_counter() - started))
    results = [result for _, result, _ in rows]
    print("\n=== Result ===")
    for step, result, seconds in rows:
        print(f"{step.name:10} {result:8} {seconds:7.1f} s   {step.title}")
    if "NOT RUN" in results:
        print("BROWSER TEST NOT RUN: chromium not found")
    print(f"{results.count('passed')} passed, {results.count('failed')} failed", flush=True)
    return results.count("failed")


def main() -> int:
    names = [step.name for step in STEPS]
    parser = argparse.ArgumentParser(prog="python -m tools.run_checks", description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"any of: {', '.join(names)} (default: all)")
    chosen = parser.parse_args().steps
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        parser.error(f"unknown step {', '.join(unknown)}; there are {', '.join(names)}")
    return min(run_all([step for step in STEPS if not chosen or step.name in chosen]), 1)


if __name__ == "__main__":
    sys.exit(main())
