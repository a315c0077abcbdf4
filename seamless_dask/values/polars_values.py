"""Frames and series of Polars, in the format ``arrow`` where Arrow has all of their types, else pickled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from .objects import write_pickled
from .tree import Unwalkable, Unwritable, tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree import ValueWriter, Write
    from .tree_reader import ValueReader


def writer(kind: type) -> Write | None:
    """Return what writes objects of exactly this type."""
    return {pl.DataFrame: _frame, pl.Series: _series, pl.LazyFrame: _lazy}.get(kind)


def reader(name: str) -> Callable[..., Any]:
    """Return what reads the fields behind a tag; raises `KeyError`."""
    return {"frame": _read_frame, "series": _read_series}[name]


def _frame(writer: ValueWriter, value: Any) -> Any:
    return _table(writer, value, value, tag("polars:frame"))


def _series(writer: ValueWriter, value: Any) -> Any:
    return _table(writer, value, value.to_frame(), tag("polars:series"))


def _lazy(writer: ValueWriter, value: Any) -> Any:
    raise Unwritable("is a LazyFrame: pass what collect() gives, or make it inside the function")


def _table(writer: ValueWriter, value: Any, frame: Any, tree: Any) -> Any:
    try:
        from .pyarrow_values import one_array, write_columns

        table = _calm(frame.to_arrow)
        if _calm(pl.from_arrow, table[:0]).schema != frame.schema:
            raise Unwalkable("has columns of types that Arrow has not")
        columns = [one_array(column) for column in table.columns]
    except Unwalkable as error:
        return write_pickled(writer, value, error.reason)
    except Exception as error:  # of Polars, pyarrow, or because there is none
        return write_pickled(writer, value, f"cannot be given to Arrow ({error!s:.100})")
    return write_columns(writer, list(table.schema), columns, tree)


def _calm(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call Polars; what it gives up upon in Rust is no `Exception`, and is made one."""
    try:
        return work(*arguments, **named)
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"Polars gave up: {error}") from None


def _read_frame(reader: ValueReader) -> Any:
    import pyarrow as pa

    columns = reader.columns
    table = pa.Table.from_arrays(columns.arrays, schema=columns.schema.remove_metadata())
    return _calm(pl.from_arrow, table, rechunk=False)


def _read_series(reader: ValueReader) -> Any:
    return _read_frame(reader).to_series()
