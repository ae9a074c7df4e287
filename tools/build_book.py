"""Build the book and say where to open it: `python -m tools.build_book [--all]`.

First the landing page's clips are generated with the shipped weights. A warning of Sphinx fails the
build. Sphinx warns about a page only when it reads it: `--all` reads every page again.
"""

import subprocess
import sys
from pathlib import Path

from tools.project import ROOT


def main() -> int:
    flags = sys.argv[1:]
    if flags not in ([], ["--all"]):
        print("usage: python -m tools.build_book [--all]", file=sys.stderr)
        return 2
    subprocess.run([sys.executable, "-m", "tools.landing"], cwd=ROOT, check=True)
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    subprocess.run([jupyter_book, "build", ".", "-W", "--keep-going", *flags], cwd=ROOT, check=True)
    index = ROOT / "_build" / "html" / "index.html"
    if not index.is_file():
        print(f"the build ended without {index.relative_to(ROOT)}", file=sys.stderr)
        return 1
    print(f"\nThe book is built. Open {index.relative_to(ROOT)} in a browser:\n  {index.as_uri()}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        print(f"\nThe book was not built: {' '.join(map(str, error.cmd))} failed.", file=sys.stderr)
        sys.exit(1)
