"""Sparse matrices and arrays of SciPy, by their class, shape and the arrays they consist of.

How they were made leaves nothing behind: what SciPy remembers of them (whether indices are sorted, say) is
left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from .objects import write_object
from .tree import tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree import ValueWriter, Write
    from .tree_reader import ValueReader

_COMPRESSED = ("csr", "csc", "bsr")
_CLASSES = {
    f"{layout}_{what}": getattr(scipy.sparse, f"{layout}_{what}")
    for layout in (*_COMPRESSED, "coo", "dia")
    for what in ("array", "matrix")
}


def writer(kind: type) -> Write | None:
    """Return what writes objects of exactly this type; ``lil`` and ``dok`` tell themselves."""
    return _sparse if kind in _CLASSES.values() else None


def reader(name: str) -> Callable[..., Any]:
    """Return what reads the fields behind a tag; raises `KeyError`."""
    return {"sparse": _read}[name]


def _sparse(writer: ValueWriter, value: Any) -> Any:
    fields = _fields(value)
    if not all(type(field) is np.ndarray for field in fields):
        return write_object(writer, value)
    with writer.inside(value):
        shape = [int(length) for length in value.shape]
        return tag("scipy:sparse", type(value).__name__, shape, writer.items(fields))


def _fields(value: Any) -> list[Any]:
    if value.format in _COMPRESSED:
        return [value.data, value.indices, value.indptr]
    if value.format == "dia":
        return [value.data, value.offsets]
    return [value.data, *(value.coords if hasattr(value, "coords") else (value.row, value.col))]


def _read(reader: ValueReader, name: str, shape: list[int], fields: list[Any]) -> Any:
    kind, arrays = _CLASSES[name], reader.values(fields)
    size = tuple(shape)
    layout = name[:3]
    if layout == "coo":
        data, *where = arrays
        return _with_types(kind((data, tuple(where)), shape=size), where, data)
    made = kind(tuple(arrays), shape=size)
    if layout == "dia":
        return made
    _, made.indices, made.indptr = arrays  # SciPy may have chosen other types
    if not reader.trusted:
        made.check_format(full_check=True)  # its loops believe the indices
    return made


def _with_types(made: Any, where: list[Any], data: Any) -> Any:
    if hasattr(made, "coords"):
        made.coords = tuple(where)
    else:
        made.row, made.col = where
    made.data = data
    return made
