"""The functions inside of what decorators, descriptors and classes lie around."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from .markers import TEXT_FILE

_CELLS = ("<ipython-input", "<python-input", "<stdin")


def methods(owner: type) -> Iterator[FunctionType]:
    """Yield the functions of a class's own."""
    for value in owner.__dict__.values():
        function = plain_function(value)
        if function is not None:
            yield function


def plain_function(value: Any) -> FunctionType | None:
    """Return the function that decorators and descriptors lie around."""
    for _ in range(20):
        if isinstance(value, FunctionType) and not hasattr(value, "__wrapped__"):
            return value
        inner = None
        for name in ("__wrapped__", "__func__", "fget", "py_func", *_of_functools(value)):
            inner = inner if inner is not None else _attribute(value, name)
        if inner is None or inner is value:
            return value if isinstance(value, FunctionType) else None
        value = inner
    return None


def tells_defaults(function: Any) -> bool:
    """Tell whether the defaults in a signature can be passed as they stand there.

    What is written in C may tell defaults that are none: ``numpy.sin`` refuses its own.
    """
    if not isinstance(function, type):
        return plain_function(function) is not None
    return any(plain_function(getattr(function, name)) is not None for name in ("__init__", "__new__"))


def why_no_result(function: Any) -> str | None:
    """Return what a function gives where that cannot be kept; None where it may be kept."""
    if hasattr(function, "__wrapped__"):
        return None  # a decorator such as ``contextmanager`` makes something else of a generator
    inner = plain_function(function)
    if inspect.iscoroutinefunction(inner):
        return "is a coroutine, which nobody would await: decorate a plain function that runs it"
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        return "gives a generator, which can be read only once: return a list instead"
    return None


def layers(value: Any) -> int:
    """Return how many objects lie around a function."""
    number = 0
    while number < 20 and (inner := _attribute(value, "__wrapped__")) is not None:
        value, number = inner, number + 1
    return number


def is_generated(function: FunctionType) -> bool:
    """Tell whether a library wrote the source of a function, as `dataclass` and `attrs` do."""
    name = function.__code__.co_filename
    return name.startswith("<") and name != TEXT_FILE and not name.startswith(_CELLS)


def _of_functools(value: Any) -> tuple[str, ...]:
    return ("func",) if type(value).__module__ == "functools" else ()


def _attribute(value: Any, name: str) -> Any:
    """Return what an object has by a name, without running ``__getattr__`` of the user's."""
    try:
        return object.__getattribute__(value, name)
    except Exception:
        return None
