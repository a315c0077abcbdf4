"""Where functions and classes belong: to a class around them, to the decorator that made them."""

from __future__ import annotations

import ast
import sys
from types import FunctionType
from typing import Any

from .definitions import cells_of
from .guards import Checks
from .names import MISSING, Environment
from .scopes import analyse
from .unwrapping import plain_function


def class_of(function: FunctionType) -> type | None:
    """Return the class that a function is a method of."""
    cells = cells_of(function)
    if "__class__" in cells:
        owner = cells["__class__"].cell_contents
        return owner if isinstance(owner, type) and _has(owner, function) else None
    return class_at(function.__module__, function.__qualname__, function, function.__globals__)


def _has(owner: type, function: FunctionType) -> bool:
    found = owner.__dict__.get(function.__name__)
    return found is function or plain_function(found) is function


def class_at(
    module: str | None, path: str, value: Any, namespace: dict[str, Any] | None = None
) -> type | None:
    """Return the class in which something stands by its qualified name."""
    if namespace is None:
        namespace = vars(sys.modules[module]) if module in sys.modules else {}
    first, *middle = path.split(".")[:-1] or [""]
    owner = namespace.get(first)
    for name in middle:
        owner = owner.__dict__.get(name) if isinstance(owner, type) else None
    last = path.rpartition(".")[2]
    if not isinstance(owner, type) or owner is value:
        return None
    found = owner.__dict__.get(last)
    return (
        owner
        if found is value or (isinstance(value, FunctionType) and plain_function(found) is value)
        else None
    )


def is_known(decorator: ast.expr, environment: Environment) -> bool:
    """Tell whether all names of a decorator still mean something; variables of a factory are gone by now."""
    names = {each.name for each in analyse(decorator).outside}
    return all(
        environment.is_builtin(name) or environment.find(name, Checks()) is not MISSING for name in names
    )


def is_by_its_name(value: Any, function: FunctionType) -> bool:
    """Tell whether a wrapper may be what the definition of a function left under its name."""
    is_local = "<locals>" in function.__qualname__
    return is_local or function.__globals__.get(function.__name__) is value


def contains(outer: Any, code: Any) -> bool:
    """Tell whether a code object is in another one, however deep."""
    return outer is code or any(
        contains(each, code) for each in outer.co_consts if isinstance(each, type(outer))
    )
