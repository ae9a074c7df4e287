"""The runner of the checks: no failure gets lost, and what did not run is told."""

import sys

import pytest

from tools import run_checks
from tools.run_checks import STEPS, Step, run_all

GOOD = [sys.executable, "-c", "print('fine')"]
BAD = [sys.executable, "-c", "raise SystemExit(3)"]


def last_line(capfd) -> str:
    return capfd.readouterr().out.strip().splitlines()[-1]


def test_every_step_runs_after_a_failure(tmp_path, capfd):
    mark = [sys.executable, "-c", "open('ran', 'w')"]
    steps = [Step("a", "fails", [BAD]), Step("b", "runs", [GOOD, mark])]
    assert run_all(steps, tmp_path) == 1
    assert (tmp_path / "ran").exists()
    assert last_line(capfd) == "1 passed, 1 failed"


def test_one_bad_command_fails_the_step(tmp_path, capfd):
    mark = [sys.executable, "-c", "open('ran', 'w')"]
    assert run_all([Step("a", "", [GOOD, BAD, mark])], tmp_path) == 1
    assert not (tmp_path / "ran").exists()
    assert last_line(capfd) == "0 passed, 1 failed"


def test_a_missing_program_fails(tmp_path, capfd):
    assert run_all([Step("a", "", [["no-such-program"]])], tmp_path) == 1
    assert last_line(capfd) == "0 passed, 1 failed"


def test_environment_of_a_step(tmp_path):
    check = [sys.executable, "-c", "import os; raise SystemExit(os.environ['T2V_PROFILE'] != 'smoke')"]
    assert run_all([Step("a", "", [check], env={"T2V_PROFILE": "smoke"})], tmp_path) == 0
    assert run_all([Step("a", "", [check], env={"T2V_PROFILE": "cpu"})], tmp_path) == 1


def test_without_chromium(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(run_checks, "CHROMIUM", ("no-such-browser",))
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.delenv("CI", raising=False)
    steps = [Step("a", "", [GOOD]), Step("browser", "", [GOOD], needs_chromium=True)]
    assert run_all(steps, tmp_path) == 0
    out = capfd.readouterr().out
    assert out.count("BROWSER TEST NOT RUN: chromium not found") == 2
    assert out.strip().splitlines()[-1] == "1 passed, 0 failed"
    monkeypatch.setenv("CI", "true")
    assert run_all(steps, tmp_path) == 1
    assert last_line(capfd) == "1 passed, 1 failed"


def test_with_chromium(tmp_path, monkeypatch):
    monkeypatch.setenv("CHROMIUM", sys.executable)
    check = [sys.executable, "-c", "import os, sys; raise SystemExit(os.environ['CHROMIUM'] != sys.argv[1])"]
    assert run_all([Step("browser", "", [[*check, sys.executable]], needs_chromium=True)], tmp_path) == 0


def test_unknown_step(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run_checks", "lnt"])
    with pytest.raises(SystemExit) as stopped:
        run_checks.main()
    assert stopped.value.code == 2
    assert "unknown step lnt" in capsys.readouterr().err


def test_the_steps_cover_everything_that_contributing_promises():
    from tools.project import ROOT

    rows = [line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [step.name for step in STEPS]
