"""The format ``arrow``: a table as a file of Arrow's, of one batch, and in its metadata what it was.

Equal columns have equal bytes: offsets begin at zero, there are zeros under nulls and behind the last bit,
and a bitmap only where there is a null. The metadata has one entry of ours, ``seamless``: a tree of
``json/1`` that says which object it is, and refers to columns by their numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from hashserver.printable import one_line

from ..errors import InvalidValue, SeamlessError
from .adapters import reader_of
from .tree import Unwalkable, dumps
from .tree_reader import ValueReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .tree import Sink

KEY = b"seamless"
_CHUNK = 1 << 20


class _File:
    """What Arrow writes to."""

    closed = False

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._sink(view)
        return view.nbytes

    def flush(self) -> None:
        """Do nothing: all is in the sink."""

    def close(self) -> None:
        """Leave the sink to the caller."""


def schema_of(fields: Sequence[Any], tree: Any) -> Any:
    """Return a schema that says what the table is."""
    return pa.schema(fields, {KEY: dumps(tree).encode()})


def write_table(schema: Any, columns: Sequence[Any], sink: Sink) -> None:
    """Write canonical columns as a file of one batch."""
    batch = pa.RecordBatch.from_arrays(list(columns), schema=schema)
    options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V5, use_threads=False)
    with pa.ipc.new_file(pa.PythonFile(_File(sink), mode="w"), schema, options=options) as writer:
        writer.write_batch(batch)


class Columns(NamedTuple):
    """The columns of a table that is read.

    Attributes
    ----------
    arrays
        The columns.
    schema
        Of the table, with its metadata.
    memory
        The buffer that the columns lie in.
    """

    arrays: list[Any]
    schema: Any
    memory: memoryview

    def numbers(self, array: Any, dtype: Any) -> Any:
        """Return the numbers of a column as an array, writable where the buffer is, without a copy."""
        _, buffer = array.buffers()
        start = array.offset * dtype.itemsize
        if buffer is None or len(array) == 0:
            return np.empty(len(array), dtype)
        at = buffer.address - pa.py_buffer(self.memory).address + start
        size = len(array) * dtype.itemsize
        if 0 <= at <= len(self.memory) - size:
            found = np.frombuffer(self.memory[at : at + size], dtype)
        else:
            found = np.frombuffer(buffer, dtype, len(array), start)
        return found if found.flags.writeable else found.copy()


def read_table(data: memoryview, trusted: bool) -> Any:
    """Return the object that a table stands for; a table with nothing of ours in it is itself.

    Raises
    ------
    InvalidValue
        When the buffer is no such file.
    """
    try:
        with pa.ipc.open_file(pa.py_buffer(data)) as file:
            schema, count = file.schema, file.num_record_batches
            _ = schema.names  # they may be no text
            tree = (schema.metadata or {}).get(KEY)
            if tree is None:
                table = file.read_all()
                table.validate(full=not trusted)
                return table
            if count != 1:
                raise InvalidValue(f"the table cannot be read: {count} batches instead of one")
            batch = file.get_batch(0)
        batch.validate(full=not trusted)
        columns = Columns(batch.columns, schema, data)
    except SeamlessError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise InvalidValue(one_line(f"the table cannot be read: {error!s:.200}")) from error
    return ValueReader(reader_of, trusted=trusted, columns=columns).read(tree)


def canonical(array: Any) -> Any:
    """Return an array with the same elements, laid out in the one way that equal arrays have.

    Raises
    ------
    Unwalkable
        For types of which that is not known.
    """
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, canonical(array.storage))
    if pa.types.is_dictionary(kind):
        indices, values = canonical(array.indices), canonical(array.dictionary)
        return pa.DictionaryArray.from_arrays(indices, values, ordered=kind.ordered, safe=False)
    if pa.types.is_null(kind):
        return pa.nulls(len(array))
    if pa.types.is_struct(kind):
        return _struct(array)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _list(array)
    if pa.types.is_fixed_size_list(kind):
        return _fixed_size_list(array)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return _text(array, np.dtype("i4"))
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        return _text(array, np.dtype("i8"))
    if pa.types.is_boolean(kind):
        return _booleans(array)
    if pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind):
        return _fixed_width(array)
    raise Unwalkable(f"has a column of Arrow's type {kind}, of which equal ones may be laid out differently")


def _bits(buffer: Any, offset: int, length: int) -> Any:
    """Return `length` bits of a buffer from the bit `offset` on, with zeros behind them."""
    first, shift = divmod(offset, 8)
    last = (offset + length + 7) // 8
    data = np.frombuffer(buffer, np.uint8, last - first, first)
    if shift:
        following: Any = np.append(data[1:], np.uint8(0))
        data = (data >> np.uint8(shift)) | (following << np.uint8(8 - shift))
    data = data[: (length + 7) // 8].copy()
    if length % 8:
        data[-1] &= np.uint8((1 << length % 8) - 1)
    return data


def validity(array: Any) -> Any:
    """Return the bitmap of what is not null as a buffer; None when nothing is null."""
    if array.null_count == 0:
        return None
    return pa.py_buffer(_bits(array.buffers()[0], array.offset, len(array)))


def are_null(bitmap: Any, start: int, stop: int) -> Any:
    """Return for the elements from `start`, a multiple of eight, to `stop` whether they are null."""
    data = np.frombuffer(bitmap, np.uint8, (stop - start + 7) // 8, start // 8)
    return np.unpackbits(data, count=stop - start, bitorder="little") == 0


def _fixed_width(array: Any) -> Any:
    width = array.type.bit_width // 8
    bitmap, data = validity(array), array.buffers()[1]
    if data is not None:
        data = data.slice(array.offset * width, len(array) * width)
    if bitmap is not None:
        data = zeroed(data, width, bitmap, len(array))
    return pa.Array.from_buffers(array.type, len(array), [bitmap, data], array.null_count)


def zeroed(data: Any, width: int, bitmap: Any, length: int) -> Any:
    """Return a buffer with zeros under nulls; the same one when it has them already."""
    elements = np.frombuffer(data, np.uint8, length * width).reshape(length, width)
    copied = False
    for start in range(0, length, _CHUNK):
        stop = min(length, start + _CHUNK)
        nulls = are_null(bitmap, start, stop)
        if not elements[start:stop][nulls].any():
            continue
        if not copied:
            elements, copied = elements.copy(), True
        elements[start:stop][nulls] = 0
    return pa.py_buffer(elements.reshape(-1)) if copied else data


def _booleans(array: Any) -> Any:
    bitmap, data = validity(array), _bits(array.buffers()[1], array.offset, len(array)) if len(array) else b""
    if bitmap is not None:
        data = data & np.frombuffer(bitmap, np.uint8)
    return pa.Array.from_buffers(array.type, len(array), [bitmap, pa.py_buffer(data)], array.null_count)


def _text(array: Any, dtype: Any) -> Any:
    bitmap = validity(array)
    _, offsets, data = array.buffers()
    if offsets is None or len(array) == 0:
        empty = pa.py_buffer(np.zeros(1, dtype))
        return pa.Array.from_buffers(
            array.type, len(array), [bitmap, empty, pa.py_buffer(b"")], array.null_count
        )
    found = np.frombuffer(offsets, dtype, len(array) + 1, array.offset * dtype.itemsize)
    if bitmap is not None and _has_hidden(found, bitmap):
        # What lies under nulls is left out where the others are put together.
        data = _text(array.drop_null(), dtype).buffers()[2]
        lengths = np.where(are_null(bitmap, 0, len(array)), dtype.type(0), np.diff(found))
        found = np.concatenate([np.zeros(1, dtype), np.cumsum(lengths, dtype=dtype)])
    start = int(found[0])
    data = pa.py_buffer(b"") if data is None else data.slice(start, int(found[-1]) - start)
    if start:
        found = found - found[0]
    return pa.Array.from_buffers(
        array.type, len(array), [bitmap, pa.py_buffer(np.ascontiguousarray(found)), data], array.null_count
    )


def _has_hidden(offsets: Any, bitmap: Any) -> bool:
    """Tell whether there are bytes under nulls."""
    for start in range(0, len(offsets) - 1, _CHUNK):
        stop = min(len(offsets) - 1, start + _CHUNK)
        if np.diff(offsets[start : stop + 1])[are_null(bitmap, start, stop)].any():
            return True
    return False


def _list(array: Any) -> Any:
    large = pa.types.is_large_list(array.type)
    dtype = np.dtype("i8" if large else "i4")
    bitmap = validity(array)
    offsets = array.buffers()[1]
    lengths: Any = np.zeros(0, dtype)
    if len(array):
        lengths = np.diff(np.frombuffer(offsets, dtype, len(array) + 1, array.offset * dtype.itemsize))
    if bitmap is not None:
        lengths[are_null(bitmap, 0, len(array))] = 0
    found = np.concatenate([np.zeros(1, dtype), np.cumsum(lengths, dtype=dtype)])
    return pa.Array.from_buffers(
        array.type,
        len(array),
        [bitmap, pa.py_buffer(found)],
        array.null_count,
        children=[canonical(array.flatten())],  # without what lies under nulls
    )


def _struct(array: Any) -> Any:
    children = [canonical(child) for child in array.flatten()]  # null where the structure is
    return pa.Array.from_buffers(
        array.type, len(array), [validity(array)], array.null_count, children=children
    )


def _fixed_size_list(array: Any) -> Any:
    size = array.type.list_size
    values = array.values.slice(array.offset * size, len(array) * size)
    if array.null_count:
        import pyarrow.compute as pc

        valid = pa.array(np.repeat(np.asarray(array.is_valid()), size))
        values = pc.if_else(valid, values, pa.scalar(None, values.type))
    return pa.Array.from_buffers(
        array.type, len(array), [validity(array)], array.null_count, children=[canonical(values)]
    )
