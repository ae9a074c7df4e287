"""The project's public address, in every place where it has to stand literally.

A Colab badge cannot look up a variable, so the address stands in badges, setup cells, the citation
file and the book's configuration. Its one source is `[project.urls] Repository` in pyproject.toml.

    python -m tools.address https://github.com/you/fork   writes a new address everywhere
    python -m tools.address --check                       lists the places that disagree with pyproject.toml
"""

import argparse
import re
import sys
from pathlib import Path

from t2v_mini.files import atomic_path
from tools.project import ROOT, project_files, pyproject, read_text

REPOSITORY = re.compile(r"https://github\.com/([A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}/[A-Za-z0-9_.-]{1,100})")
LINK = re.compile(
    r"(?P<site>git\+https://github\.com/|https://github\.com/|git@github\.com:"
    r"|raw\.githubusercontent\.com/|nbviewer\.org/github/"
    r"|colab\.research\.google\.com/github/|mybinder\.org/v2/gh/)"
    r"(?P<owner>[A-Za-z0-9][A-Za-z0-9-]*)/(?P<name>[A-Za-z0-9_-]+(?:\.(?!git\b)[A-Za-z0-9_-]+)*)"
)
# A book about video models links to other people's repositories, but it installs and opens only its own.
ALWAYS_OURS = ("git+", "colab.", "mybinder.")
EXAMPLE_OWNER = "you"  # https://github.com/you/fork in a text is an example and stays one


def slug_of(url: str) -> str:
    """`owner/name` of a GitHub address. Raises `ValueError` when it is not one."""
    text = url.strip().rstrip("/").removesuffix(".git")
    match = REPOSITORY.fullmatch(text)
    if match is None or match[1].split("/")[1] in (".", ".."):
        raise ValueError(
            "URL must look like https://github.com/owner/name (Colab and Binder open GitHub "
            f"repositories), got {url!r}"
        )
    return match[1]


def current_slug(root: Path = ROOT) -> str:
    """`owner/name` as pyproject.toml has it."""
    return slug_of(pyproject(root)["project"]["urls"]["Repository"])


class Addresses:
    """Finds and rewrites the project's own addresses in a text, and leaves other people's alone."""

    def __init__(self, root: Path = ROOT) -> None:
        self.slug = current_slug(root)
        self.project = pyproject(root)["project"]["name"]

    def find(self, text: str) -> list[re.Match]:
        """Every link to this project, under its own or an older address."""
        return [match for match in LINK.finditer(text) if self._is_ours(match)]

    def rewrite(self, text: str, slug: str) -> str:
        """The text with every link to this project led to `slug`."""
        return LINK.sub(lambda match: match["site"] + slug if self._is_ours(match) else match[0], text)

    def neutral(self, text: str) -> str:
        """The text with a fixed address, so that a fork's hashes equal the original's."""
        return self.rewrite(text, "owner/name")

    def _is_ours(self, match: re.Match) -> bool:
        if match["owner"] == EXAMPLE_OWNER:
            return False
        if match["site"].startswith(ALWAYS_OURS) or match["name"] == self.project:
            return True
        # With its owner only: a fork may be called like a repository that the book cites.
        return f"{match['owner']}/{match['name']}" == self.slug


def disagreements(root: Path = ROOT) -> list[str]:
    """One line for each link to this project that does not lead to pyproject.toml's address."""
    addresses, lines = Addresses(root), []
    for path in project_files(root):
        text = read_text(path) or ""
        for match in addresses.find(text):
            slug = f"{match['owner']}/{match['name']}"
            if slug != addresses.slug:
                line = text.count("\n", 0, match.start()) + 1
                lines.append(
                    f"{path.relative_to(root)}:{line}: {slug}, but pyproject.toml has {addresses.slug}"
                )
    return lines


def move(url: str, root: Path = ROOT) -> dict[str, int]:
    """Write `url` in every place; returns the number of links changed in each file.

    Raises `ValueError` for an address that is not on GitHub, and for the one that examples use.
    """
    slug, addresses, changed = slug_of(url), Addresses(root), {}
    if slug.split("/")[0] == EXAMPLE_OWNER:
        # Links to it are left alone as examples: a later move would not find them.
        raise ValueError(f"URL must be your own address, not the example that stands in texts, got {url!r}")
    for path in project_files(root):
        text = read_text(path) or ""
        links = [match for match in addresses.find(text) if f"{match['owner']}/{match['name']}" != slug]
        if links:
            with atomic_path(path) as temporary:
                temporary.write_bytes(addresses.rewrite(text, slug).encode("utf-8"))
            changed[str(path.relative_to(root))] = len(links)
    return changed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.address", description=__doc__.splitlines()[0])
    parser.add_argument("url", nargs="?", help="the new address, https://github.com/owner/name")
    parser.add_argument("--check", action="store_true", help="list the places that disagree")
    options = parser.parse_args()
    if options.check == (options.url is not None):
        parser.error("give either a URL or --check")
    if options.check:
        lines = disagreements()
        print("\n".join(lines) or f"every link leads to https://github.com/{current_slug()}")
        return 1 if lines else 0
    try:
        changed = move(options.url)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for name, count in changed.items():
        print(f"{name}: {count} {'link' if count == 1 else 'links'}")
    print(f"{len(changed)} files changed; the address is now https://github.com/{current_slug()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
