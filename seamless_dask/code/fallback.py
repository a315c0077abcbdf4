"""What has no source that can be trusted, by value, as cloudpickle writes it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from ..errors import NoIdentity
from .border import Border
from .items import Buffer

WEAKER = (
    "{name} counts by its pickle, because {reason}: the identity is weaker, it can change with the version of"
    " Python or with the session, and then what is known is not found"
)


def reason_of(error: Exception) -> str:
    """Return why something has no text."""
    return "it is too deeply nested" if isinstance(error, RecursionError) else str(error)


def pickled(value: Any, border: Border, name: str, reason: str) -> Buffer:
    """Return an object and all of the user's that it names, by value.

    Parameters
    ----------
    value
        The object.
    border
        What is the user's.
    name, reason
        What it is called, and why it has no text.

    Raises
    ------
    NoIdentity
        It cannot be pickled either.
    """
    try:
        return Buffer("pickle", _dumped(value, border))
    except Exception as error:  # whatever the reducers of other people's objects raise
        raise NoIdentity(f"{name} has no identity: {reason}, and it cannot be pickled: {error}") from error


def _dumped(value: Any, border: Border) -> bytes:
    import cloudpickle

    modules = [module for name, module in list(sys.modules.items()) if _by_value(name, module, border)]
    before = cloudpickle.list_registry_pickle_by_value()
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        dumped: bytes = cloudpickle.dumps(value)
        return dumped
    finally:
        for module in modules:
            if module.__name__ not in before:
                cloudpickle.unregister_pickle_by_value(module)


def _by_value(name: str, module: Any, border: Border) -> bool:
    return (
        isinstance(module, ModuleType)
        and module.__name__ == name
        and name != "__main__"  # which goes by value anyhow
        and border.owns(name)
    )
