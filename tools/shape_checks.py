"""The type checker behind the tests: beartype, for shapes and dtypes of arrays only.

A NumPy integer where `int` is written is no fault, and a wrong type must reach the function's own
`ValueError`, which the tests look at. Wrong shapes are what hides without a check.
"""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def is_array_hint(hint: Any) -> bool:
    """Whether a type hint is a jaxtyping array, or holds one: `Float[Tensor, "B"] | None`."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(is_array_hint(part) for part in get_args(hint))


def shapes_only(function: Callable) -> Callable:
    """`function`, checked at each call against its array hints. For `jaxtyping.install_import_hook`."""
    hints = {name: hint for name, hint in function.__annotations__.items() if is_array_hint(hint)}
    if not hints:
        return function
    function.__annotations__ = hints
    return beartype(function)
