"""Which module writes and reads the objects of which library, found by the name of a type's module.

A library is imported only when an object of it is met: whoever holds one has imported it already.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

from . import registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from .tree import Write

_ADAPTERS = {
    "numpy": "numpy_values",
    "pandas": "pandas_values",
    "polars": "polars_values",
    "pyarrow": "pyarrow_values",
    "pytz": "pytz_values",
    "scipy": "scipy_values",
    "xarray": "xarray_values",
    **dict.fromkeys(("datetime", "decimal", "fractions", "pathlib", "uuid", "zoneinfo"), "standard"),
}
"""By the first name of a type's module."""
_OTHERS = {"standard": "standard", "object": "objects", "registered": "registry"}
"""By the first word of a tag, beside those of libraries."""
_known: dict[type, Write] = {}


def writer_of(value: Any) -> Write:
    """Return what writes a value that is no plain data."""
    kind = type(value)
    if registry.has(kind):
        return registry.write
    write = _known.get(kind)
    if write is None:
        name = _ADAPTERS.get(str(kind.__module__).partition(".")[0])
        write = None if name is None else _adapter(name).writer(kind)
        if write is None:
            from .objects import write_object

            return write_object
        _known[kind] = write  # types of libraries live as long as the process
    return write


def reader_of(name: str) -> Callable[..., Any]:
    """Return what reads the fields behind a tag of a library; raises `ValueError`, `KeyError`."""
    library, _, kind = name.partition(":")
    module = _OTHERS.get(library) or _ADAPTERS.get(library)
    if module is None:
        raise ValueError(f"unknown tag {name!r:.80}")
    read: Callable[..., Any] = _adapter(module).reader(kind)
    return read


@cache
def _adapter(name: str) -> ModuleType:
    """Return one of the modules beside this one; it is imported by name, so that the others are not."""
    return importlib.import_module(f"{__package__}.{name}")
