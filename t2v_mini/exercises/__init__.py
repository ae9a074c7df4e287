"""The checks behind the chapters' exercises: `check("1.2", answer)` and `hint("1.2")`."""

from t2v_mini.exercises.mechanism import (
    CheckResult,
    Exercise,
    Wrong,
    all_exercises,
    check,
    exercise,
    find,
    hint,
)

__all__ = ["CheckResult", "Exercise", "Wrong", "all_exercises", "check", "exercise", "find", "hint"]
