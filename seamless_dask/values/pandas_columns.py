"""Columns of pandas as arrays of Arrow, and back, where that is exact: bits, types and missing values.

What is not in the list below is ``None``: the frame around it is written as a tree then.

=============================  ==========================================  ==================
column                         array                                       how it comes back
=============================  ==========================================  ==================
numbers of NumPy               the same memory; NaN is a number            ``numpy``
booleans of NumPy              bits                                        ``bool``
times, spans, with zones too   timestamps, durations; NaT is null          ``time``, ``zoned``
texts among objects            text; ``None``, or ``nan``, is null         ``object``
``str``, ``string``            text; what is missing is null               ``string``
``Int64``, ``boolean``, …      numbers, booleans; ``NA`` is null           ``masked``
types of Arrow                 themselves                                  ``arrow``
categories of these            a dictionary                                ``categorical``
=============================  ==========================================  ==================
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from .arrow import are_null, validity, zeroed
from .pandas_arrays import string_dtype, text_type, values_of, zoned_array
from .pyarrow_values import one_array
from .tree import Unwalkable

if TYPE_CHECKING:
    from collections.abc import Callable

    from .arrow import Columns
    from .tree import ValueWriter
    from .tree_reader import ValueReader

_NOT_A_TIME = np.iinfo(np.int64).min
_CHUNK = 1 << 20
_NAN = struct.pack("d", math.nan)
_MASKED = (pd.BooleanDtype, pd.core.arrays.numeric.NumericDtype)


def to_arrow(writer: ValueWriter, values: Any) -> tuple[Any, Any] | None:
    """Return a column's canonical array, and the tree of how it comes back; None where that is not exact."""
    if isinstance(values, np.ndarray):
        return _numpy(values)
    dtype = values.dtype
    try:
        if isinstance(dtype, pd.CategoricalDtype):
            return _categorical(writer, values)
        if isinstance(dtype, pd.DatetimeTZDtype):
            found = _times(values.asi8.view(f"M8[{dtype.unit}]"))
            return found and (found[0], ["zoned", dtype.unit, writer.tree(dtype.tz)])
        if isinstance(dtype, pd.StringDtype):
            return _string(values)
        if isinstance(dtype, _MASKED):
            return _masked(values), ["masked", dtype.name]
        if isinstance(dtype, pd.ArrowDtype):
            return one_array(pa.array(values)), ["arrow"]
    except (Unwalkable, pa.ArrowException):
        return None
    return None


def _numpy(values: Any) -> tuple[Any, Any] | None:
    dtype = values.dtype
    if dtype.kind == "O":
        return _objects(values)
    if not dtype.isnative or dtype.str.startswith(("<f16", ">f16")) or dtype.kind not in "biufmM":
        return None
    if dtype.kind == "b":
        return one_array(pa.array(np.ascontiguousarray(values))), ["bool"]
    if dtype.kind in "mM":
        return _times(values)
    if np.dtype(dtype.str).char != dtype.char or dtype.metadata:
        return None
    return _plain(pa.from_numpy_dtype(dtype), values), ["numpy", dtype.str]


def _plain(kind: Any, values: Any) -> Any:
    data = np.ascontiguousarray(values).view(np.uint8)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(data)], 0)


def _times(values: Any) -> tuple[Any, Any] | None:
    unit = np.datetime_data(values.dtype)
    if unit[1] != 1 or unit[0] not in ("s", "ms", "us", "ns"):
        return None
    kind = (pa.timestamp if values.dtype.kind == "M" else pa.duration)(unit[0])
    numbers = np.ascontiguousarray(values).view(np.int64)
    how = ["time", values.dtype.str]
    starts = range(0, len(numbers), _CHUNK)
    if not any((numbers[start : start + _CHUNK] == _NOT_A_TIME).any() for start in starts):
        return _plain(kind, numbers), how
    return _with_nulls(kind, numbers, numbers == _NOT_A_TIME), how


def _with_nulls(kind: Any, values: Any, missing: Any) -> Any:
    """Return an array of numbers, some of which are missing, with zeros there."""
    if not missing.any():
        return _plain(kind, values)
    bitmap = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    data = pa.py_buffer(np.ascontiguousarray(values).view(np.uint8))
    data = zeroed(data, values.itemsize, bitmap, len(values))
    return pa.Array.from_buffers(kind, len(values), [bitmap, data], int(missing.sum()))


def _masked(values: Any) -> Any:
    data, missing = values._data, values._mask  # pandas makes NaN of the one and the other of it
    if data.dtype.kind == "b":
        return one_array(pa.array(data, pa.bool_(), mask=missing))
    return _with_nulls(pa.from_numpy_dtype(data.dtype), data, missing)


def _objects(values: Any) -> tuple[Any, Any] | None:
    kinds = set(map(type, values))
    if kinds <= {str}:
        missing = ""
    elif kinds == {str, type(None)}:
        missing = "None"
    elif kinds == {str, float} and all(struct.pack("d", x) == _NAN for x in values if type(x) is float):
        missing = "nan"
    else:
        return None
    try:
        return one_array(pa.array(values, pa.large_string(), from_pandas=True)), ["object", missing]
    except (pa.ArrowException, UnicodeError):
        return None


def _string(values: Any) -> tuple[Any, Any]:
    column = one_array(pa.array(values, pa.large_string()))
    return column, ["string", *text_type(values.dtype)]


def _categorical(writer: ValueWriter, values: Any) -> tuple[Any, Any] | None:
    categories = values.categories
    if type(categories) not in (pd.Index, pd.DatetimeIndex, pd.TimedeltaIndex) or categories.name is not None:
        return None
    if getattr(categories, "freq", None) is not None:
        return None
    found = to_arrow(writer, values_of(categories))
    if found is None or found[0].null_count:
        return None
    codes = values.codes
    indices = _with_nulls(pa.from_numpy_dtype(codes.dtype), codes, codes < 0)
    ordered = bool(values.ordered)
    column = pa.DictionaryArray.from_arrays(indices, found[0], ordered=ordered, safe=False)
    return column, ["categorical", found[1], ordered]


def from_arrow(reader: ValueReader, column: Any, how: list[Any]) -> Any:
    """Return the values of a column; what NumPy has is the table's memory."""
    name, *fields = how
    return _READERS[name](reader, column, *fields)


def _read_numpy(reader: ValueReader, column: Any, name: str) -> Any:
    if column.null_count:
        raise ValueError("a column with nulls")
    return _numbers(reader, column, np.dtype(name))


def _read_bool(reader: ValueReader, column: Any) -> Any:
    if column.null_count:
        raise ValueError("a column with nulls")
    return _bits(column)


def _bits(column: Any) -> Any:
    """Return the booleans of a column, whether or not they are null."""
    if not pa.types.is_boolean(column.type) or column.offset:
        raise ValueError("a column of another type")
    data = np.frombuffer(column.buffers()[1] if len(column) else b"", np.uint8)
    return np.unpackbits(data, count=len(column), bitorder="little").view(np.bool_)


def _read_time(reader: ValueReader, column: Any, name: str) -> Any:
    columns: Columns = reader.columns
    if column.type.bit_width != 64 or np.dtype(name).itemsize != 8:
        raise ValueError("a column of another type")
    numbers = columns.numbers(column, np.dtype(np.int64))
    if column.null_count:
        numbers[_missing(column)] = _NOT_A_TIME
    return numbers.view(name)


def _read_zoned(reader: ValueReader, column: Any, unit: str, zone: Any) -> Any:
    return zoned_array(_read_time(reader, column, f"<M8[{unit}]"), reader.value(zone))


def _read_objects(reader: ValueReader, column: Any, missing: str) -> Any:
    found = np.empty(len(column), object)
    found[:] = column.to_pylist()
    if missing == "nan":
        found[[one is None for one in found]] = math.nan
    return found


def _read_string(reader: ValueReader, column: Any, storage: str, missing: str) -> Any:
    return string_dtype(storage, missing).__from_arrow__(pa.chunked_array([column]))


def _read_masked(reader: ValueReader, column: Any, name: str) -> Any:
    dtype = pd.api.types.pandas_dtype(name)
    if not isinstance(dtype, _MASKED):
        raise TypeError(name)
    missing = _missing(column)
    if isinstance(dtype, pd.BooleanDtype):
        data = _bits(column)
    else:
        data = _numbers(reader, column, dtype.numpy_dtype)
    return dtype.construct_array_type()(data, missing)


def _missing(column: Any) -> Any:
    """Return for each element whether it is null."""
    bitmap = validity(column)
    if bitmap is None:
        return np.zeros(len(column), np.bool_)
    return are_null(bitmap, 0, len(column))


def _numbers(reader: ValueReader, column: Any, dtype: Any) -> Any:
    """Return the numbers of a column, whether or not they are null."""
    columns: Columns = reader.columns
    if column.type != pa.from_numpy_dtype(dtype):
        raise ValueError("a column of another type")
    return columns.numbers(column, dtype)


def _read_arrow(reader: ValueReader, column: Any) -> Any:
    return pd.arrays.ArrowExtensionArray(pa.chunked_array([column]))


def _read_categorical(reader: ValueReader, column: Any, how: Any, ordered: bool) -> Any:
    columns: Columns = reader.columns
    indices = column.indices
    codes = columns.numbers(indices, np.dtype(indices.type.to_pandas_dtype()))
    if indices.null_count:
        codes[_missing(indices)] = -1
    values = from_arrow(reader, column.dictionary, how)
    dtype = pd.CategoricalDtype(pd.Index(values, dtype=values.dtype), ordered)
    return pd.Categorical.from_codes(codes, dtype=dtype)


_READERS: dict[str, Callable[..., Any]] = {
    "numpy": _read_numpy,
    "bool": _read_bool,
    "time": _read_time,
    "zoned": _read_zoned,
    "object": _read_objects,
    "string": _read_string,
    "masked": _read_masked,
    "arrow": _read_arrow,
    "categorical": _read_categorical,
}
