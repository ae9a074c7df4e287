"""What checks do with answers: take them as numbers, or say what is wrong with their kind."""

import math
from collections.abc import Callable, Iterable

import torch

from t2v_mini.exercises.mechanism import Wrong


def tensor_of(name: str, found, shape: tuple[int, ...]) -> torch.Tensor:
    """The answer as float64, or what is wrong with its kind and shape."""
    if not isinstance(found, torch.Tensor):
        raise Wrong(f"{name} must be a tensor, got {type(found).__name__}.")
    if tuple(found.shape) != shape:
        raise Wrong(f"{name} must have the shape {shape}, got {tuple(found.shape)}.")
    if not torch.isfinite(found).all():
        raise Wrong(f"{name} holds numbers that are not finite.")
    return found.detach().double()


def number_of(name: str, found) -> float:
    """The answer as a float, or what is wrong with it."""
    if isinstance(found, torch.Tensor) and found.numel() != 1:
        raise Wrong(f"{name} must be one number, got a tensor of shape {tuple(found.shape)}.")
    if isinstance(found, bool) or not isinstance(found, (int, float, torch.Tensor)):
        raise Wrong(f"{name} must be a number, got {type(found).__name__}.")
    value = float(found)
    if not math.isfinite(value):
        raise Wrong(f"{name} is {value}: not finite.")
    return value


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    """Whether shapes agree, and no number differs by the tolerance or more."""
    return found.shape == expected.shape and bool((found - expected).abs().max() < tolerance)


def agree(found: list[float], faulty: list[float]) -> bool:
    """Whether two lists of numbers are equal to rounding."""
    return all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(found, faulty, strict=True))


def diagnose(found, faults: Iterable[tuple[object, str]], agree: Callable[[object, object], bool]) -> None:
    """Raise `Wrong` with the message of the first faulty answer that the found one agrees with."""
    for faulty, message in faults:
        if agree(found, faulty):
            raise Wrong(message)
