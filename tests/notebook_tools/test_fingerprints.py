"""What a notebook depends on is found, and hashed alike everywhere."""

import pytest

from tools.fingerprints import module_hashes


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


@pytest.mark.parametrize(
    "cell",
    [
        "%%time\nimport t2v_mini.unused",
        "names = !ls\nimport t2v_mini.unused",
        "int?\nimport t2v_mini.unused",
        "%pip install --quiet \\\n    einops\nimport t2v_mini.unused",
    ],
)
def test_what_ipython_reads_and_python_does_not(root, cell):
    assert set(module_hashes([cell], root)) == {"t2v_mini", "t2v_mini.unused"}
