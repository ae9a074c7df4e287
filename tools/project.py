"""Where things are: the repository's root, what pyproject.toml says, and the files that belong to it."""

import os
import re
import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from t2v_mini.files import atomic_path

ROOT = Path(__file__).resolve().parent.parent

# Folders of the machine on which a file was made. `(?<![\w.~-])` lets "a/work/b" and "../home/x" pass.
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:home|root|work|Users|tmp/ipykernel)[/_]\w[^\s\"'\\]{0,60}")

_NOT_OURS = {"_build", "build", "dist", "node_modules", "__pycache__"}
_HIDDEN_BUT_OURS = {".ci", ".github", ".gitignore", ".gitattributes"}


def pyproject(root: Path = ROOT) -> dict:
    """What pyproject.toml says."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(extras: tuple[str, ...] = (), root: Path = ROOT) -> list[str]:
    """The core's requirements and those of the named extras, as pyproject.toml writes them."""
    project = pyproject(root)["project"]
    return project["dependencies"] + [
        requirement for extra in extras for requirement in project["optional-dependencies"][extra]
    ]


def project_files(root: Path = ROOT) -> list[Path]:
    """Every file of the project: what git tracks or would track; without git, what is not a build output."""
    if (root / ".git").exists():
        listed = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True,
        )
        if listed.returncode == 0:
            names = {root / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name}
            return sorted(path for path in names if path.is_file())
    return sorted(path for path in root.rglob("*") if path.is_file() and _is_ours(path.relative_to(root)))


def _is_ours(path: Path) -> bool:
    return not any(
        part in _NOT_OURS
        or part.endswith(".egg-info")
        or (part.startswith(".") and part not in _HIDDEN_BUT_OURS)
        for part in path.parts
    )


def read_text(path: Path) -> str | None:
    """The file's text, or None when it is not UTF-8 text. Line ends are kept as they are."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically; the folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
