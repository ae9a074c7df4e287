"""The exercises: every solution passes, every plausible wrong answer fails for the right reason."""

import ast
import importlib.util
import inspect
import re
import textwrap
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
import torch

from t2v_mini.exercises import Exercise, Wrong, all_exercises, check, exercise, find, hint, mechanism
from t2v_mini.exercises.mechanism import NOT_ATTEMPTED

ROOT = Path(__file__).parents[1]
BANKS = ROOT / "tests" / "exercise_bank"
EXERCISES = all_exercises()
MIN_WRONG = 3


@cache
def bank(chapter: int) -> ModuleType:
    """The bank of a chapter, found by its file, so that no other package named tests gets in the way."""
    path = BANKS / f"chapter_{chapter:02}.py"
    spec = importlib.util.spec_from_file_location(f"exercise_bank_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chapter_of(id: str) -> int:
    return int(id.split(".")[0])


def solution_of(id: str) -> tuple[Any, str]:
    """The solution and its source. Of a source, the last name that it defines is the answer."""
    module = bank(chapter_of(id))
    solution = module.SOLUTIONS[id]
    if not isinstance(solution, str):
        return solution, textwrap.dedent(inspect.getsource(solution))
    space = dict(vars(module))
    exec(compile(solution, f"<solution {id}>", "exec"), space)
    last = ast.parse(solution).body[-1]
    return space[last.targets[0].id if isinstance(last, ast.Assign) else last.name], solution


def wrong_answers() -> list:
    """Each wrong answer of each registered exercise, as a case with a name."""
    return [
        pytest.param(item.id, answer, pattern, id=f"{item.id}-{name}")
        for item in EXERCISES
        for name, answer, pattern in bank(chapter_of(item.id)).WRONG.get(item.id, [])
    ]


def other_right_answers() -> list:
    """Each right answer that is not the book's own, as a case with a name; a bank need not have any."""
    return [
        pytest.param(item.id, answer, id=f"{item.id}-{name}")
        for item in EXERCISES
        for name, answer in getattr(bank(chapter_of(item.id)), "RIGHT", {}).get(item.id, [])
    ]


def plain(source: str) -> str:
    """A source without the call of its check and without spaces at the ends of lines."""
    lines = [line.rstrip() for line in source.strip().splitlines()]
    return "\n".join(line for line in lines if not line.startswith("check(")).strip()


def notebook_of(chapter: int) -> nbformat.NotebookNode:
    paths = list((ROOT / "notebooks").glob(f"{chapter:02}_*.ipynb"))
    assert len(paths) == 1, f"chapter {chapter} has exercises and must be one notebook, found {len(paths)}"
    return nbformat.read(paths[0], as_version=4)


def shown_solutions(notebook: nbformat.NotebookNode, id: str) -> list[str]:
    """What a notebook gives as the solution: a marked code cell, or a marked block of a text cell."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.metadata.get("solution") == id:
            found.append(cell.source)
        elif cell.cell_type == "markdown":
            blocks = re.findall(r"```python\n(.*?)```", cell.source, flags=re.DOTALL)
            marked = [block.partition("\n") for block in blocks]
            found += [rest for first, _, rest in marked if first.strip() == f"# solution {id}"]
    return found


def test_every_bank_belongs_to_registered_exercises():
    known = {item.id for item in EXERCISES}
    for path in BANKS.glob("chapter_*.py"):
        module = bank(int(path.stem.removeprefix("chapter_")))
        assert set(module.SOLUTIONS) | set(module.WRONG) | set(getattr(module, "RIGHT", {})) <= known
        assert {chapter_of(id) for id in module.SOLUTIONS} == {int(path.stem.removeprefix("chapter_"))}


@pytest.mark.parametrize("item", EXERCISES, ids=lambda item: item.id)
def test_a_solution_passes(item):
    answer, _ = solution_of(item.id)
    result = check(item.id, answer)
    assert result.passed, result.message


@pytest.mark.parametrize(("id", "answer"), other_right_answers())
def test_another_right_answer_passes(id, answer):
    result = check(id, answer)
    assert result.passed, result.message


@pytest.mark.parametrize(("id", "answer", "pattern"), wrong_answers())
def test_a_wrong_answer_fails_for_its_reason(id, answer, pattern):
    result = check(id, answer)
    assert not result.passed
    assert re.search(pattern, result.message), result.message


@pytest.mark.parametrize("item", EXERCISES, ids=lambda item: item.id)
def test_each_exercise_rejects_several_wrong_answers(item):
    answers = bank(chapter_of(item.id)).WRONG.get(item.id, [])
    assert len({name for name, _, _ in answers}) >= MIN_WRONG
    assert not check(item.id, None).passed


@pytest.mark.parametrize("item", EXERCISES, ids=lambda item: item.id)
def test_the_notebook_shows_the_solution_that_is_tested(item):
    shown = shown_solutions(notebook_of(chapter_of(item.id)), item.id)
    assert len(shown) == 1, f"the notebook must mark one solution of {item.id}"
    assert plain(shown[0]) == plain(solution_of(item.id)[1])


@pytest.mark.parametrize("chapter", sorted({chapter_of(item.id) for item in EXERCISES}))
def test_the_notebook_and_the_register_name_the_same_exercises(chapter):
    code = "\n".join(cell.source for cell in notebook_of(chapter).cells if cell.cell_type == "code")
    checked = set(re.findall(r"\bcheck\(\s*[\"']([^\"']+)[\"']", code))
    assert checked == {item.id for item in EXERCISES if chapter_of(item.id) == chapter}


# The mechanism, with exercises made up for it.


@pytest.fixture
def double(monkeypatch) -> Exercise:
    """A made-up exercise: double a tensor."""
    monkeypatch.setattr(mechanism, "_registry", {})

    @exercise(id="98.1", title="Double it", difficulty=1, minutes=2, hint="Add x to <itself>.")
    def check_double(answer):
        x = torch.randn(3)
        got = answer(x)
        if got.shape != x.shape:
            raise Wrong(f"The shape must stay (3,), got {tuple(got.shape)}.")
        if not torch.equal(got, 2 * x):
            raise Wrong("The values are not twice <those> of x.")

    return find("98.1")


def test_a_right_answer_passes_and_is_shown(double, capsys):
    result = check("98.1", lambda x: x + x)
    assert result.passed
    assert "✓ 98.1 Double it: correct." in capsys.readouterr().out


def test_a_wrong_answer_is_told_what_is_wrong(double, capsys):
    result = check("98.1", lambda x: x[:2])
    assert not result.passed and result.message == "The shape must stay (3,), got (2,)."
    assert "✗ 98.1 Double it: The shape must stay" in capsys.readouterr().out


def stub_of_dots(x):
    """Say what to do."""
    ...


def stub_of_pass(x):
    # Your code here.
    pass


def stub_that_returns_dots(x):
    y = x + 1
    return ... if y is not None else y


def stub_that_raises(x):
    raise NotImplementedError("Write this.")


class StubModule(torch.nn.Module):
    """A class whose forward is to be written."""

    def __init__(self):
        super().__init__()

    def forward(self, x):
        """Say what to do."""


STUBS = [
    None,
    ...,
    stub_of_dots,
    stub_of_pass,
    stub_that_returns_dots,
    stub_that_raises,
    lambda x: None,
    StubModule,
]


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: getattr(stub, "__name__", repr(stub)))
def test_an_untouched_stub_is_not_called_wrong(double, capsys, stub):
    result = check("98.1", stub)
    assert not result.passed and result.message.startswith(NOT_ATTEMPTED)
    assert capsys.readouterr().out.startswith("○ 98.1")


def forgets_return(x):
    y = x + x  # noqa: F841


def divides_by_zero(x):
    return x / (1 // 0)


def leaves(x):
    raise SystemExit(1)


class NotAFunction:
    """A class that makes nothing of use."""

    def __init__(self, x):
        raise KeyError("weights")


@pytest.mark.parametrize(
    ("answer", "pattern"),
    [
        (forgets_return, r"^forgets_return returned None\. Is a return statement missing\?$"),
        (
            divides_by_zero,
            r"in the line `return x / \(1 // 0\)`\. It ended with ZeroDivisionError: .*by zero",
        ),
        (leaves, "SystemExit: 1"),
        (NotAFunction, "your code raised .*KeyError: 'weights'"),
        (lambda: 1, "TypeError: .*takes 0 positional arguments"),
        (lambda x: "text", "AttributeError: 'str' object has no attribute 'shape'"),
        (3, "pass the function itself, not its result: got a int"),
        ("text", "a str"),
        (torch.zeros(3), "a Tensor"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_an_error_becomes_a_diagnosis(double, answer, pattern):
    result = check("98.1", answer)
    assert not result.passed
    assert re.search(pattern, result.message), result.message


def test_an_answer_that_works_in_place_may_return_nothing(monkeypatch):
    monkeypatch.setattr(mechanism, "_registry", {})

    @exercise(id="98.2", title="Zero it", difficulty=2, minutes=3, hint="zero_", in_place=True)
    def check_zero(answer):
        x = torch.ones(2)
        answer(x)
        if x.any():
            raise Wrong("x must be zero.")

    def zero(x):
        x.zero_()

    assert check("98.2", zero).passed
    assert check("98.2", lambda x: x + 0).message == "x must be zero."


def test_a_check_is_repeatable_and_leaves_the_random_numbers_alone(monkeypatch):
    monkeypatch.setattr(mechanism, "_registry", {})
    seen = []

    @exercise(id="98.3", title="Draw", difficulty=3, minutes=1, hint="randn")
    def check_draw(answer):
        seen.append(torch.randn(()).item())

    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    check("98.3", 1)
    check("98.3", 1)
    assert torch.equal(torch.randn(3), expected)
    assert seen[0] == seen[1]


def test_a_hint_is_printed(double, capsys):
    hint("98.1")
    assert capsys.readouterr().out == "Hint for 98.1 (Double it): Add x to <itself>.\n"


def test_what_is_shown_is_escaped_and_not_shown_twice(double, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    result = check("98.1", lambda x: x)
    assert len(shown) == 1
    html = shown[0]._repr_html_()
    assert "twice &lt;those&gt; of x" in html and "<those>" not in html
    assert result._ipython_display_() is None and len(shown) == 1


@pytest.mark.parametrize("id", ["", "1", "1.2.3", "0.1", "one.two", "1.0", "../x.1"])
def test_a_malformed_id_is_refused(id):
    for use in (hint, lambda id: check(id, None)):
        with pytest.raises(ValueError, match="id must be chapter.number"):
            use(id)


def test_an_unknown_exercise_is_refused_with_those_that_exist(double):
    with pytest.raises(ValueError, match=r"got '98\.7'; chapter 98 has 98\.1"):
        check("98.7", None)
    with pytest.raises(ValueError, match="chapter 97 has none"):
        hint("97.1")


def test_a_chapter_is_imported_only_when_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(mechanism, "_registry", {})
    package = importlib.import_module(mechanism.PACKAGE)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    (tmp_path / "chapter_96.py").write_text(
        "from t2v_mini.exercises import exercise\n\n"
        '@exercise(id="96.1", title="Late", difficulty=1, minutes=1, hint="none")\n'
        "def late(answer):\n    pass\n"
    )
    assert find("96.1").title == "Late"
    (tmp_path / "chapter_95.py").write_text("import no_such_module_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        find("95.1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "98"}, "id must be"),
        ({"difficulty": 4}, "difficulty"),
        ({"minutes": 0}, "minutes"),
        ({"hint": " "}, "hint must not be empty"),
        ({"title": ""}, "title must not be empty"),
        ({"id": "98.1"}, "belongs to 'Double it'"),
    ],
)
def test_a_bad_registration_is_refused(double, change, message):
    fields = {"id": "98.9", "title": "T", "difficulty": 1, "minutes": 1, "hint": "h"} | change
    with pytest.raises(ValueError, match=message):

        @exercise(**fields)
        def another(answer):
            pass


def test_a_reloaded_check_replaces_itself(double):
    exercise(id="98.1", title="Double it", difficulty=2, minutes=2, hint="New.")(double.check)
    assert find("98.1").difficulty == 2


def test_solutions_are_found_in_both_forms_of_a_notebook():
    code = nbformat.v4.new_code_cell(
        "def f(x):\n    return x  \n\ncheck('1.1', f)", metadata={"solution": "1.1"}
    )
    text = nbformat.v4.new_markdown_cell("Fold\n\n```python\n# solution 1.2\ndef g():\n    return 1\n```\n")
    notebook = nbformat.v4.new_notebook(cells=[code, text])
    assert [plain(s) for s in shown_solutions(notebook, "1.1")] == ["def f(x):\n    return x"]
    assert [plain(s) for s in shown_solutions(notebook, "1.2")] == ["def g():\n    return 1"]
    assert shown_solutions(notebook, "1.3") == []
