"""How an exercise is registered, found and checked.

A chapter's module `t2v_mini/exercises/chapter_NN.py` registers its checks:

    @exercise(id="1.1", title="Clip to bytes", difficulty=1, minutes=5, hint="...")
    def to_bytes(answer):
        if answer(zeros).dtype != torch.uint8:
            raise Wrong("The result must be torch.uint8.")

A check returns when the answer is right and raises `Wrong` when it is not. Everything else that can
happen, such as an untouched stub or an error in the reader's code, is told apart here.
"""

import dis
import functools
import importlib
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from types import CodeType, FunctionType
from typing import Any

PACKAGE = __name__.rpartition(".")[0]
ID = re.compile(r"([1-9]\d?)\.([1-9]\d?)")
NOT_ATTEMPTED = "not attempted yet"
# All that a body of `...`, `pass` or `return None` compiles to, in Python 3.10 and later.
_STUB_STEPS = {
    "RESUME",
    "NOP",
    "LOAD_CONST",
    "LOAD_COMMON_CONSTANT",
    "RETURN_CONST",
    "RETURN_VALUE",
    "POP_TOP",
}


class Wrong(Exception):
    """Raised by a check; the message tells the reader what is wrong."""


class _Untouched(Exception):
    """The answer is the stub that the chapter gave."""


@dataclass(frozen=True)
class Exercise:
    """A registered exercise; `difficulty` from 1 to 3, `minutes` as a reader needs them."""

    id: str
    title: str
    difficulty: int
    minutes: int
    hint: str
    check: Callable[[Any], None]
    in_place: bool = False


@dataclass(frozen=True)
class CheckResult:
    """What `check` found. It has been shown already, so a notebook does not show it again."""

    passed: bool
    message: str

    def _ipython_display_(self) -> None:
        pass


@dataclass(frozen=True)
class _Shown:
    """The line a reader sees, in text and in HTML."""

    mark: str
    head: str
    message: str
    color: str

    def __repr__(self) -> str:
        return f"{self.mark} {self.head}: {self.message}"

    def _repr_html_(self) -> str:
        return (
            f'<div class="t2v-check" role="status" style="border-left:4px solid {self.color};'
            f'padding:.3em .8em"><b>{self.mark} {escape(self.head)}</b>: '
            f'<span style="white-space:pre-wrap">{escape(self.message)}</span></div>'
        )


_registry: dict[str, Exercise] = {}


def exercise(
    *, id: str, title: str, difficulty: int, minutes: int, hint: str, in_place: bool = False
) -> Callable[[Callable], Callable]:
    """Register a check under an id such as "1.2" (chapter 1, exercise 2).

    Say `in_place` where the right answer returns nothing. Raises `ValueError` for a malformed id, an
    id that is taken, or a field that is out of range or empty.
    """
    if not ID.fullmatch(id):
        raise ValueError(f"id must be chapter.number, such as '1.2', got {id!r}")
    if difficulty not in (1, 2, 3):
        raise ValueError(f"difficulty must be 1, 2 or 3, got {difficulty!r}")
    if minutes < 1:
        raise ValueError(f"minutes must be at least 1, got {minutes!r}")
    for name, text in (("title", title), ("hint", hint)):
        if not text.strip():
            raise ValueError(f"{name} must not be empty")

    def register(function: Callable) -> Callable:
        known = _registry.get(id)
        # A reloaded module registers the same check once more; only another one is a mistake.
        if known and _place(known.check) != _place(function):
            raise ValueError(f"id must be new, got {id!r}, which belongs to {known.title!r}")
        _registry[id] = Exercise(id, title, difficulty, minutes, hint, function, in_place)
        return function

    return register


def _place(function: Callable) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def find(id: str) -> Exercise:
    """The exercise of this id; its chapter's module is imported only now.

    Raises `ValueError` for an id that no chapter registers.
    """
    match = ID.fullmatch(id) if isinstance(id, str) else None
    if match is None:
        raise ValueError(f"id must be chapter.number, such as '1.2', got {id!r}")
    if id not in _registry:
        name = f"{PACKAGE}.chapter_{int(match[1]):02}"
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    if id not in _registry:
        known = sorted((key for key in _registry if key.split(".")[0] == match[1]), key=_order)
        have = f"chapter {match[1]} has {', '.join(known)}" if known else f"chapter {match[1]} has none"
        raise ValueError(f"id must name an exercise, got {id!r}; {have}")
    return _registry[id]


def all_exercises() -> list[Exercise]:
    """Every exercise of every chapter, in order."""
    for module in pkgutil.iter_modules(sys.modules[PACKAGE].__path__):
        if module.name.startswith("chapter_"):
            importlib.import_module(f"{PACKAGE}.{module.name}")
    return [_registry[id] for id in sorted(_registry, key=_order)]


def _order(id: str) -> tuple[int, ...]:
    return tuple(map(int, id.split(".")))


def hint(id: str) -> None:
    """Print the hint of an exercise."""
    found = find(id)
    print(f"Hint for {id} ({found.title}): {found.hint}")


def check(id: str, answer: Any) -> CheckResult:
    """Check an answer, show the outcome, and return it; a wrong answer never raises.

    The random numbers of a check are seeded, and yours go on as if it had not run. Raises
    `ValueError` for an id that no chapter registers.
    """
    found = find(id)
    result = _outcome(found, answer)
    _show(found, result)
    return result


def _outcome(found: Exercise, answer: Any) -> CheckResult:
    import torch

    try:
        if _is_stub(answer):
            raise _Untouched
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found.check(_watched(answer, found.in_place))
    except (_Untouched, NotImplementedError):
        return CheckResult(False, f"{NOT_ATTEMPTED}. Replace the stub by your answer, then run this again.")
    except Wrong as wrong:
        return CheckResult(False, str(wrong))
    # The reader's code may raise anything, and even try to leave the session.
    except (Exception, SystemExit) as error:
        return CheckResult(False, _diagnosis(error, answer))
    return CheckResult(True, "correct.")


def _show(found: Exercise, result: CheckResult) -> None:
    from IPython.display import display

    head = f"{found.id} {found.title}"
    mark, color = ("✓", "#28735a") if result.passed else ("✗", "#ca1e0b")
    if result.message.startswith(NOT_ATTEMPTED):
        mark, color = "○", "#8a8f9c"
    display(_Shown(mark, head, result.message, color))


def _is_stub(answer: Any) -> bool:
    """Whether an answer is missing, or a function or class whose body is still empty."""
    if answer is None or answer is ...:
        return True
    if isinstance(answer, type):
        methods = [value for name, value in vars(answer).items() if name != "__init__"]
        return any(_is_empty(value.__code__) for value in methods if isinstance(value, FunctionType))
    return isinstance(answer, FunctionType) and _is_empty(answer.__code__)


def _is_empty(code: CodeType) -> bool:
    steps = list(dis.get_instructions(code))
    if not {step.opname for step in steps} <= _STUB_STEPS:
        return False
    constants = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    return all(value is None or value is ... for value in constants)


def _watched(answer: Any, in_place: bool) -> Any:
    """The answer; a function is watched, so that a forgotten `return` is told as such."""
    if not isinstance(answer, FunctionType) or in_place:
        return answer

    @functools.wraps(answer)
    def watched(*args: Any, **kwargs: Any) -> Any:
        value = answer(*args, **kwargs)
        if value is ...:
            raise _Untouched
        if value is None:
            raise Wrong(f"{answer.__name__} returned None. Is a return statement missing?")
        return value

    return watched


def _diagnosis(error: BaseException, answer: Any) -> str:
    """The error's last line, and the reader's own line that led to it where there is one."""
    last = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    own = set(_code_files(answer))
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in own]
    if not lines and not callable(answer) and "is not callable" in last:
        return f"pass the function itself, not its result: got a {type(answer).__name__}"
    if not lines:
        return f"the check cannot work with your answer, a {type(answer).__name__}. It ended with {last}"
    line = f", in the line `{lines[-1].line}`" if lines[-1].line else ""
    return f"your code raised an error{line}. It ended with {last}"


def _code_files(answer: Any) -> Iterator[str]:
    if isinstance(answer, FunctionType):
        yield answer.__code__.co_filename
        return
    for base in answer.__mro__ if isinstance(answer, type) else type(answer).__mro__:
        if base.__module__.split(".")[0] in ("builtins", "torch"):
            continue
        yield from (v.__code__.co_filename for v in vars(base).values() if isinstance(v, FunctionType))
