"""Functions and classes in values: by name, or by their code where somebody from above says which."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InvalidValue
from .tree import Unwalkable, tag

if TYPE_CHECKING:
    from .tree import ValueWriter
    from .tree_reader import ValueReader

_BUILTINS = (
    *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset"),
    *("int", "list", "object", "set", "str", "tuple"),
)
SAFE = frozenset(f"builtins:{name}" for name in _BUILTINS) | frozenset(
    f"collections:{name}" for name in ("Counter", "OrderedDict", "defaultdict", "deque")
)
"""Classes whose making runs nothing but themselves."""


class Definitions(Protocol):
    """Functions and classes that count by their code, not by their name."""

    def text(self, definition: Any) -> str | None:
        """Return the code of a function or class; None when it counts by its name."""

    def find(self, text: str) -> Any:
        """Return the function or class of that code: the very one, where this process has it."""


_by_code: Definitions | None = None
_within: ContextVar[Definitions | None] = ContextVar("definitions", default=None)


def set_definitions(definitions: Definitions | None) -> None:
    """Say which functions and classes count by their code."""
    global _by_code
    _by_code = definitions


@contextmanager
def definitions_within(definitions: Definitions) -> Iterator[None]:
    """Ask these in place of those of the process, in this thread."""
    token = _within.set(definitions)
    try:
        yield
    finally:
        _within.reset(token)


def definitions() -> Definitions | None:
    """Return those that are asked, in this thread."""
    return _within.get() or _by_code


def code_of(definition: Any) -> str | None:
    """Return the code of a function or class; None when it counts by its name."""
    by_code = definitions()
    return None if by_code is None else by_code.text(definition)


def write_name(writer: ValueWriter, definition: Any) -> Any:
    """Return the tree of a function or class.

    Raises
    ------
    Unwalkable
        When its name does not lead to it, and it has no code.
    """
    known = writer.names.get(id(definition))
    if known is None:  # which is kept with its tree, so that nothing else gets its id
        known = writer.names[id(definition)] = definition, _tree_of_name(writer, definition)
    return known[1]


def _tree_of_name(writer: ValueWriter, definition: Any) -> Any:
    text = code_of(definition)
    if text is not None:
        return tag("object:code", writer.tree(text))
    name = importable(definition)
    if name is None:
        raise Unwalkable("is of a class or function that cannot be imported by its name")
    return tag("object:name", name)


def importable(definition: Any) -> str | None:
    """Return ``module:name`` when another process finds the same thing under it."""
    qualified = getattr(definition, "__qualname__", None) or getattr(definition, "__name__", None)
    module = getattr(definition, "__module__", None)
    if not isinstance(qualified, str) or not isinstance(module, str) or module == "__main__":
        return None
    return f"{module}:{qualified}" if is_found(definition, module, qualified) else None


def is_found(definition: Any, module: str, qualified: str) -> bool:
    """Tell whether something is what stands under a name."""
    try:
        return _resolve(module, qualified) is definition
    except (ImportError, AttributeError, ValueError):
        return False


def _resolve(module: str, qualified: str) -> Any:
    found: Any = sys.modules.get(module) or importlib.import_module(module)
    for part in qualified.split("."):
        found = getattr(found, part)
    return found


def read_name(reader: ValueReader, name: str) -> Any:
    """Return what stands under a name."""
    if name not in SAFE:
        reader.trust(name)
    if name not in reader.names:
        module, _, qualified = name.partition(":")
        try:
            reader.names[name] = _resolve(module, qualified)
        except (ImportError, AttributeError) as error:
            raise InvalidValue(f"the value needs {name}, which cannot be imported here: {error}") from error
    return reader.names[name]


def read_code(reader: ValueReader, text: Any) -> Any:
    """Return the function or class of some code."""
    code = reader.value(text)
    reader.trust("code that it carries")
    if code not in reader.codes:
        reader.codes[code] = found_by_code(code)
    return reader.codes[code]


def found_by_code(text: str) -> Any:
    """Return the function or class of some code, which the caller trusts."""
    by_code = definitions()
    if by_code is None:
        raise InvalidValue("the value needs the code of a class, and this process reads none")
    return by_code.find(text)
