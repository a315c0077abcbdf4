"""Which module writes and reads the objects of which library, found by the name of a type's module.

A library is imported only when an object of it is met: whoever holds one has imported it already.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from .tree import Write

_STANDARD = frozenset({"datetime", "decimal", "fractions", "pathlib", "uuid", "zoneinfo"})
_ADAPTERS = {
    "standard": "standard",
    "object": "objects",
    "registered": "registry",
    "numpy": "numpy_values",
    "pandas": "pandas_values",
    "polars": "polars_values",
    "pyarrow": "pyarrow_values",
    "pytz": "pytz_values",
    "scipy": "scipy_values",
    "xarray": "xarray_values",
}
_known: dict[type, Write] = {}


def writer_of(value: Any) -> Write:
    """Return what writes a value that is no plain data."""
    kind = type(value)
    if registry.has(kind):
        return registry.write
    write = _known.get(kind)
    if write is None:
        library = str(kind.__module__).partition(".")[0]
        adapter = module_of("standard" if library in _STANDARD else library)
        write = None if adapter is None else adapter.writer(kind)
        if write is None:
            from .objects import write_object

            return write_object
        _known[kind] = write  # types of libraries live as long as the process
    return write


def reader_of(name: str) -> Callable[..., Any]:
    """Return what reads the fields behind a tag of a library; raises `ValueError`, `KeyError`."""
    library, _, kind = name.partition(":")
    adapter = module_of(library)
    if adapter is None:
        raise ValueError(f"unknown tag {name!r:.80}")
    read: Callable[..., Any] = adapter.reader(kind)
    return read


def module_of(library: str) -> ModuleType | None:
    """Return the module for a library's objects, or for tags that begin with that word."""
    name = _ADAPTERS.get(library)
    return None if name is None else importlib.import_module(f"{__package__}.{name}")
