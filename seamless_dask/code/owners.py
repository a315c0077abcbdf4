"""Where functions and classes belong: to a class around them, to the decorator that made them."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
from types import FunctionType, ModuleType
from typing import Any

from .border import Border
from .data import is_immutable, literal
from .definitions import cells_of
from .expressions import expression
from .guards import Checks
from .library import attribute
from .matching import matches
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
    return _is_given_by(owner.__dict__.get(function.__name__), function)


def _is_given_by(found: Any, value: Any) -> bool:
    """Tell whether a class in which something stands gives just that when it is asked for it."""
    return found is value or (isinstance(found, staticmethod) and found.__func__ is value)


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
    return owner if _is_given_by(owner.__dict__.get(last), value) else None


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


def may_give(
    tree: ast.expr,
    namespace: dict[str, Any],
    value: Any,
    border: Border,
    imports: tuple[str, ...],
    private: str = "",
) -> bool:
    """Tell whether an expression may have made a wrapper: another one may have taken its place.

    What lies in the wrapper stands in the expression then, or a function of the user's is called there, of
    which it is not known what it gives.
    """
    function = plain_function(value)
    if function is None or not border.owns(function.__globals__.get("__name__")):
        return True
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and matches(node, private, function.__code__, imports):
            return True
        if isinstance(node, ast.Call) and border.owns(attribute(meant(node.func, namespace), "__module__")):
            return True
        found = meant(node, namespace)
        parts = found.values() if type(found) is dict else found if type(found) in (list, tuple) else [found]
        if any(plain_function(each) is function for each in parts):
            return True
    return False


def meant(node: ast.AST, namespace: dict[str, Any]) -> Any:
    """Return what a name or an attribute means, without running code of the user's; None for other nodes."""
    if isinstance(node, ast.Name):
        return namespace.get(node.id, getattr(builtins, node.id, None))
    if not isinstance(node, ast.Attribute):
        return None
    owner = meant(node.value, namespace)
    if isinstance(owner, ModuleType):
        return vars(owner).get(node.attr)
    return inspect.getattr_static(owner, node.attr, None)


def was_given(node: ast.expr, root: FunctionType, wrapper: FunctionType, environment: Environment) -> bool:
    """Tell whether globals that stand in the call of a decorator are still what its wrapper holds."""
    if not isinstance(node, ast.Call):
        return True
    try:
        named = {str(each.arg): each.value for each in node.keywords}
        given = inspect.signature(root).bind(*node.args, **named).arguments
    except TypeError:  # what it is called with is made when it is called: `@scaled(*factors)`
        return True
    cells = cells_of(wrapper)
    for name, each in given.items():
        if name not in cells or not isinstance(each, ast.Name):
            continue
        held, present = cells[name].cell_contents, environment.find(each.id, Checks())
        if is_immutable(held) and (
            not is_immutable(present) or expression(literal(present)) != expression(literal(held))
        ):
            return False
    return True


def contains(outer: Any, code: Any) -> bool:
    """Tell whether a code object is in another one, however deep."""
    return outer is code or any(
        contains(each, code) for each in outer.co_consts if isinstance(each, type(outer))
    )
