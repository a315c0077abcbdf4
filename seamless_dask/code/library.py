"""Under which public name a library's object is found again."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any


def attribute(value: Any, name: str, otherwise: Any = None) -> Any:
    """Return an attribute of whatever object; proxies raise what they like where they stand for nothing."""
    try:
        return getattr(value, name, otherwise)
    except Exception:
        return otherwise


def name_of(value: Any, otherwise: str) -> str:
    """Return the name that an object gives itself."""
    name = attribute(value, "__name__")
    return name if isinstance(name, str) else otherwise


def public_name(value: Any, hint: str) -> tuple[str, str] | None:
    """Return module and qualified name of an object, the shallowest module that has it; None where none has.

    Modules that a library means for itself (``numpy._core``) move with its versions, those above them stay.
    """
    for module in _modules(value):
        for name in _names(value, hint):
            if _found(module, name) is value:
                return module, name
        for name, each in list(vars(sys.modules[module]).items()):
            if each is value and name.isidentifier():
                return module, name
    return None


def _modules(value: Any) -> Iterator[str]:
    """Yield modules that may have an object, from the top down."""
    seen = set()
    owner = attribute(value, "__self__")
    for holder in (value, owner, type(value), type(owner)):
        name = attribute(holder, "__module__")
        if isinstance(holder, types.ModuleType):
            name = holder.__name__
        parts = name.split(".") if isinstance(name, str) else []
        for length in range(1, len(parts) + 1):
            module = ".".join(parts[:length])
            if module not in seen and isinstance(sys.modules.get(module), types.ModuleType):
                seen.add(module)
                # The interpreter's own types have other names than those by which they are imported.
                yield "types" if module == "builtins" else module


def _names(value: Any, hint: str) -> Iterator[str]:
    for name in (attribute(value, "__qualname__"), attribute(value, "__name__"), hint):
        if isinstance(name, str) and all(part.isidentifier() for part in name.split(".")):
            yield name


def _found(module: str, path: str) -> Any:
    first, *others = path.split(".")
    value = vars(sys.modules[module]).get(first)
    for name in others:
        value = getattr(value, "__dict__", {}).get(name)
    return value
