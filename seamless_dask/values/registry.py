"""Types of the user's own: what writes them as other values, and makes them of those."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..errors import InvalidValue, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree import ValueWriter
    from .tree_reader import ValueReader

T = TypeVar("T")


class _Registered(NamedTuple):
    to_value: Callable[[Any], Any]
    from_value: Callable[[Any], Any]
    version: int


_registered: dict[type, _Registered] = {}


def register(
    type: type[T],  # noqa: A002 - the word for it
    to_value: Callable[[T], Any],
    from_value: Callable[[Any], T],
    version: int = 1,
) -> None:
    """Say how objects of one type are written as values.

    Parameters
    ----------
    type
        Exactly this one: subclasses are not meant. It must be importable by its name where values are read,
        by a module that registers it.
    to_value
        Returns what an object consists of: anything that is a value. Equal objects must give equal ones.
    from_value
        Makes an object of that again.
    version
        Part of the identity: another number when `to_value` gives something else for the same object.

    Raises
    ------
    UsageError
        When the arguments are no type, no functions, or no whole number above zero.
    """
    if not isinstance(type, _TYPE):
        raise UsageError(f"register() wants a type, not {type!r:.80}")
    if not callable(to_value) or not callable(from_value):
        raise UsageError("register() wants two functions: to_value and from_value")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise UsageError(f"register() wants a version of 1 or more, not {version!r:.80}")
    if type.__module__ in ("builtins", "__future__"):
        raise UsageError(f"{type.__name__} is Python's own: how it is written cannot be changed")
    _registered[type] = _Registered(to_value, from_value, version)


_TYPE = type


def has(kind: type) -> bool:
    """Tell whether a type is registered."""
    return kind in _registered


def write(writer: ValueWriter, value: Any) -> Any:
    """Return the tree of an object of a registered type."""
    from .names import write_name
    from .tree import tag

    kind = type(value)
    found = _registered[kind]
    with writer.inside(value):
        return tag("registered:", write_name(writer, kind), found.version, writer.tree(found.to_value(value)))


def reader(name: str) -> Callable[..., Any]:
    """Return what reads the fields behind the tag."""
    if name:
        raise ValueError(name)
    return _read


def _read(reader: ValueReader, kind: Any, version: int, tree: Any) -> Any:
    named = reader.value(kind)
    found = _registered.get(named)
    if found is None:
        raise InvalidValue(f"{named!r:.200} is not registered here: import what calls register() for it")
    if found.version != version:
        raise InvalidValue(
            f"the value was written by version {version} of what is registered for {named!r:.200};"
            f" here it is version {found.version}"
        )
    return found.from_value(reader.value(tree))
