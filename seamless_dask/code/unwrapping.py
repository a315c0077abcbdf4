"""The functions inside of what decorators, descriptors and classes lie around."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType
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


def signed(function: Any) -> list[FunctionType]:
    """Return the functions whose defaults a signature tells, as they can be passed.

    What is written in C may tell defaults that are none: ``numpy.sin`` refuses its own.
    """
    is_class = isinstance(function, type)
    called = (function.__init__, function.__new__) if is_class else (function,)
    return [plain for each in called if (plain := plain_function(each)) is not None]


def codes(maker: Any) -> Iterator[CodeType]:
    """Yield all code of a function or class."""
    found = list(methods(maker)) if isinstance(maker, type) else [plain_function(maker)]
    waiting = [each.__code__ for each in found if each is not None]
    for code in waiting:
        yield code
        waiting += [each for each in code.co_consts if isinstance(each, CodeType)]


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
