"""Tables, batches and columns of pyarrow, in the format ``arrow``: how they are chunked is not kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .arrow import canonical, schema_of, write_table
from .objects import write_pickled
from .tree import Unwalkable, tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree import ValueWriter, Write
    from .tree_reader import ValueReader

_VERSIONS = ("creator", "pandas_version")


def writer(kind: type) -> Write | None:
    """Return what writes objects of exactly this type."""
    if kind is pa.Table or kind is pa.RecordBatch:
        return _table
    if issubclass(kind, pa.Array) and kind.__module__ == "pyarrow.lib":
        return _array
    return _array if kind is pa.ChunkedArray else None


def reader(name: str) -> Callable[..., Any]:
    """Return what reads the fields behind a tag; raises `KeyError`."""
    return _READERS[name]


def one_array(column: Any) -> Any:
    """Return a column as one canonical array.

    Raises
    ------
    Unwalkable
        When one array cannot hold it, or when its type is one of which that is not known.
    """
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks == 1:
            return canonical(column.chunk(0))
        if pa.types.is_dictionary(column.type):
            column = column.unify_dictionaries()
        column = column.combine_chunks() if column.num_chunks else pa.array([], column.type)
        if isinstance(column, pa.ChunkedArray):
            if column.num_chunks != 1:
                raise Unwalkable("has a column that is too large for one array: cast it to a large type")
            column = column.chunk(0)
    return canonical(column)


def write_columns(writer: ValueWriter, fields: list[Any], columns: list[Any], tree: Any) -> Any:
    """Put a table beside the tree, and return what refers to it."""
    schema = schema_of(fields, tree)
    return writer.part("arrow", lambda sink: write_table(schema, columns, sink))


def _table(writer: ValueWriter, value: Any) -> Any:
    try:
        if value.num_rows and not value.num_columns:
            raise Unwalkable("has rows without columns")
        columns = [one_array(column) for column in value.columns]
    except Unwalkable as error:
        return write_pickled(writer, value, error.reason)
    name = "pyarrow:table" if isinstance(value, pa.Table) else "pyarrow:batch"
    return write_columns(writer, list(value.schema), columns, tag(name, _metadata(writer, value.schema)))


def _metadata(writer: ValueWriter, schema: Any) -> Any:
    """Return the tree of a schema's metadata, without the versions of the libraries that wrote it."""
    if schema.metadata is None:
        return None
    found = dict(schema.metadata)
    if b"pandas" in found:
        found[b"pandas"] = _without_versions(found[b"pandas"])
    return writer.tree(found)


def _without_versions(text: bytes) -> bytes:
    try:
        document = json.loads(text)
    except ValueError:
        return text
    if not isinstance(document, dict):
        return text
    return json.dumps({name: document[name] for name in document if name not in _VERSIONS}).encode()


def _array(writer: ValueWriter, value: Any) -> Any:
    try:
        column = one_array(value)
    except Unwalkable as error:
        return write_pickled(writer, value, error.reason)
    name = "pyarrow:chunked" if isinstance(value, pa.ChunkedArray) else "pyarrow:array"
    return write_columns(writer, [pa.field("", column.type)], [column], tag(name))


def _fields(reader: ValueReader) -> list[Any]:
    return list(reader.columns.schema)


def _read_table(reader: ValueReader, metadata: Any) -> Any:
    schema = pa.schema(_fields(reader), reader.value(metadata))
    return pa.Table.from_arrays(reader.columns.arrays, schema=schema)


def _read_batch(reader: ValueReader, metadata: Any) -> Any:
    schema = pa.schema(_fields(reader), reader.value(metadata))
    return pa.RecordBatch.from_arrays(reader.columns.arrays, schema=schema)


def _read_array(reader: ValueReader) -> Any:
    (column,) = reader.columns.arrays
    return column


def _read_chunked(reader: ValueReader) -> Any:
    return pa.chunked_array([_read_array(reader)])


_READERS: dict[str, Callable[..., Any]] = {
    "table": _read_table,
    "batch": _read_batch,
    "array": _read_array,
    "chunked": _read_chunked,
}
