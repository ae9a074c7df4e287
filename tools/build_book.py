"""Build the book and say where to open it: `python -m tools.build_book`.

First the landing page's clips are generated with the shipped weights. A warning of Sphinx fails the
build. Every page is read again each time, because Sphinx warns about a page only when it reads it.
"""

import subprocess
import sys
from pathlib import Path

from tools.project import ROOT

INDEX = ROOT / "_build" / "html" / "index.html"


def main() -> int:
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    steps = (
        ("generating the landing page's clips", [sys.executable, "-m", "tools.landing"]),
        ("building the pages", [str(jupyter_book), "build", ".", "--all", "-W", "--keep-going", "-q"]),
    )
    for number, (what, command) in enumerate(steps, 1):
        print(f"{number}/{len(steps)} {what} ...", flush=True)
        if subprocess.run(command, cwd=ROOT).returncode:
            shown = " ".join([Path(command[0]).name, *command[1:]])
            print(f"\nThe book was not built: {shown} failed.", file=sys.stderr)
            return 1
    if not INDEX.is_file():
        print(f"\nThe book was not built: there is no {INDEX.relative_to(ROOT)}.", file=sys.stderr)
        return 1
    print(f"\nThe book is built. Open {INDEX.relative_to(ROOT)} in a browser:\n  {INDEX.as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
