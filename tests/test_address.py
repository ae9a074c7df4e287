"""A fork's address goes into every place where it has to stand, and into no other."""

import json
from pathlib import Path

import pytest

from tools.address import current_slug, disagreements, move, slug_of

OURS = "t2v-mini/t2v-mini"
# Never written out in this file, so that a real move leaves these tests alone.
FORK = "https://github.com/" + "some-one/fork"
PLACES = {
    "README.md": (
        f"https://github.com/{OURS}, https://github.com/{OURS}. git@github.com:{OURS}.git\n"
        f"[badge](https://colab.research.google.com/github/{OURS}/blob/main/notebooks/01.ipynb)\n"
        f"[live](https://mybinder.org/v2/gh/{OURS}/main)\n"
        f"![clip](https://raw.githubusercontent.com/{OURS}/main/clip.gif)\n",
        6,
    ),
    "_config.yml": (f"repository:\n  url: https://github.com/{OURS}\n", 1),
    "notebooks/01.ipynb": (json.dumps({"source": [f"!pip install git+https://github.com/{OURS}.git\n"]}), 1),
    "t2v_mini/notebook.py": (f'REPOSITORY = "https://github.com/{OURS}"\r\n', 1),
}
THEIRS = (
    "https://github.com/huggingface/diffusers, https://github.com/t2v-mini/another-thing "
    "and, as an example, https://github.com/you/t2v-mini\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, (text, _) in PLACES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    (tmp_path / "references.md").write_text(THEIRS)
    (tmp_path / "clip.gif").write_bytes(b"GIF89a\xff\xfe\x00")
    (tmp_path / "_build").mkdir()
    (tmp_path / "_build" / "index.html").write_text(f"https://github.com/{OURS}")
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "t2v-mini"\n[project.urls]\nRepository = "https://github.com/{OURS}"\n'
    )
    return tmp_path


@pytest.mark.parametrize("name", ["t2v-mini", "my.course"])
def test_move_rewrites_every_place_and_nothing_else(root, name):
    assert disagreements(root) == []
    changed = move(f"https://github.com/some-one/{name}", root)
    assert changed == {"pyproject.toml": 1} | {place: count for place, (_, count) in PLACES.items()}
    for place, (text, _) in PLACES.items():
        assert (root / place).read_bytes().decode() == text.replace(OURS, f"some-one/{name}")
    assert (root / "references.md").read_text() == THEIRS
    assert OURS in (root / "_build" / "index.html").read_text()
    assert current_slug(root) == f"some-one/{name}"
    assert disagreements(root) == []


def test_there_and_back(root):
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    move(FORK, root)
    move(f"https://github.com/{OURS}", root)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_fork_called_like_a_cited_repository_leaves_that_alone(root):
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    move("https://github.com/" + "some-one/diffusers", root)
    assert disagreements(root) == []
    assert (root / "references.md").read_text() == THEIRS
    move(f"https://github.com/{OURS}", root)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_the_address_of_the_examples_is_refused(root):
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="URL must be your own address, not the example .*, got"):
        move("https://github.com/you/fork", root)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_moving_to_the_same_address_changes_nothing(root):
    assert move(f"https://github.com/{OURS}", root) == {}


@pytest.mark.parametrize(
    "stray",
    [  # "@" stands for the owner, lest the command find these lines themselves
        "https://github.com/@/t2v-mini",
        "https://colab.research.google.com/github/@/name/blob/main/x.ipynb",
        "pip install git+https://github.com/@/name",
        "https://mybinder.org/v2/gh/@/name/main",
    ],
)
def test_an_old_address_is_told_with_its_line_and_can_be_moved(root, stray):
    (root / "book.md").write_text(f"One line.\n{stray.replace('@', 'old')}\n")
    (line,) = disagreements(root)
    assert line.startswith("book.md:2: old/") and OURS in line
    move(FORK, root)
    assert disagreements(root) == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "you/fork",
        "http://github.com/you/fork",
        "https://gitlab.com/you/fork",
        "https://github.com/you",
        "https://github.com/you/fork/tree/main",
        "https://github.com/-you/fork",
        "https://github.com/you/..",
        "https://github.com/you/fo rk",
        'https://github.com/you/fork"\n',
    ],
)
def test_bad_addresses(root, url):
    with pytest.raises(ValueError, match=r"URL must look like https://github.com/owner/name .*, got"):
        move(url, root)
    assert current_slug(root) == OURS


def test_addresses_that_mean_the_same():
    for url in (
        "https://github.com/you/fork",
        "https://github.com/you/fork/",
        " https://github.com/you/fork.git",
    ):
        assert slug_of(url) == "you/fork"
