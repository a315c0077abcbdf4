"""Frames, series, indexes and scalars of pandas.

All of them are trees. Where the columns of a frame or series are such that a table of Arrow has each of
them exactly, the table is written, with the tree in its metadata and columns in place of the arrays;
otherwise the tree, with arrays beside it. So both ways say the same: labels of both axes, types,
attributes, flags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .pandas_arrays import array_tree, dtype_tree, values_of
from .tree import Unwritable, is_encodable, tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree import ValueWriter, Write


def writer(kind: type) -> Write | None:
    """Return what writes objects of exactly this type."""
    return _WRITERS.get(kind)


def reader(name: str) -> Callable[..., Any]:
    """Return what reads the fields behind a tag; raises `KeyError`."""
    from .pandas_reader import READERS

    return READERS[name]


class _Table:
    """The columns of a table that is being made; None once something does not fit into it.

    Parameters
    ----------
    length
        Of the columns.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.columns: dict[str, Any] | None = {}

    def add(self, writer: ValueWriter, name: Any, values: Any) -> Any:
        """Take a column, and return the tree that refers to it; None when it does not fit."""
        from .pandas_columns import to_arrow

        if self.columns is None or len(values) != self.length:
            return None
        found = to_arrow(writer, values)
        text = name if type(name) is str else str(name)
        if found is None or text in self.columns or "\0" in text or not is_encodable(text):
            self.columns = None
            return None
        self.columns[text] = found[0]
        return tag("pandas:column", len(self.columns) - 1, found[1])


def _frame(writer: ValueWriter, frame: Any) -> Any:
    names = list(frame.columns)
    columns = [(name, values_of(frame.iloc[:, number])) for number, name in enumerate(names)]
    return _as_table(writer, frame, columns, "pandas:frame", frame.columns)


def _series(writer: ValueWriter, series: Any) -> Any:
    return _as_table(writer, series, [("values", values_of(series))], "pandas:series", series.name)


def _as_table(writer: ValueWriter, value: Any, columns: list[Any], name: str, label: Any) -> Any:
    """Return the tree of a frame or series: of a table, if that can be made, else with arrays beside it."""
    with writer.inside(value):
        table = _table_of(writer, value, columns, name, label)
        if table is not None:
            return table
        arrays = [_member(writer, name, values) for name, values in columns]
        return tag(name, writer.tree(label), _index(writer, value.index), arrays, *_rest(writer, value))


def _table_of(writer: ValueWriter, value: Any, columns: list[Any], name: str, label: Any) -> Any:
    try:
        from .pyarrow_values import write_columns
    except ImportError:
        return None
    parts, left_out = len(writer.parts), writer.left_out
    table = _Table(len(value))
    trees = [table.add(writer, name, values) for name, values in columns]
    index = _index(writer, value.index, table) if table.columns else None
    if index is not None:
        tree = tag(name, writer.tree(label), index, trees, *_rest(writer, value))
        if len(writer.parts) == parts and writer.left_out == left_out and table.columns:
            import pyarrow as pa

            fields = [pa.field(name, column.type) for name, column in table.columns.items()]
            return write_columns(writer, fields, list(table.columns.values()), tree)
    del writer.parts[parts:]
    return None


def _member(writer: ValueWriter, name: Any, values: Any) -> Any:
    try:
        return array_tree(writer, values)
    except Unwritable as error:
        error.path.append(f"[{name!r:.80}]")
        raise


def _rest(writer: ValueWriter, value: Any) -> list[Any]:
    """Return the trees of what most frames have not: attributes, and the flag."""
    more = {}
    if value.attrs:
        more["attrs"] = writer.named("attrs", dict(value.attrs))
    if not value.flags.allows_duplicate_labels:
        more["unique"] = True
    return [more] if more else []


def _names(writer: ValueWriter, index: Any) -> Any:
    return [writer.named("name", name) for name in index.names]


def _index(writer: ValueWriter, index: Any, table: _Table | None = None) -> Any:
    """Return the tree of an index; None when it does not fit into the table that is being made."""
    kind = type(index)
    names = _names(writer, index)
    if kind is pd.RangeIndex:
        return tag("pandas:range", index.start, index.stop, index.step, names)
    if kind is pd.MultiIndex:
        if table is not None:
            return None
        levels = [_index(writer, level) for level in index.levels]
        return tag("pandas:multi", levels, writer.items(index.codes), names)
    values = values_of(index)
    array = array_tree(writer, values) if table is None else table.add(writer, _free(table), values)
    if array is None:
        return None
    frequency = _frequency(writer, index)
    return tag("pandas:index", kind.__name__, array, names, *([] if frequency is None else [frequency]))


def _free(table: _Table) -> str:
    """Return a name for the column of the index."""
    name = "index"
    while name in (table.columns or {}):
        name += "_"
    return name


def _frequency(writer: ValueWriter, index: Any) -> Any:
    if not isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) or index.freq is None:
        return None
    text = index.freqstr
    try:
        plain = pd.tseries.frequencies.to_offset(text) == index.freq
    except ValueError:
        plain = False
    return text if plain else writer.named("freq", index.freq)


def _whole_index(writer: ValueWriter, index: Any) -> Any:
    with writer.inside(index):
        return _index(writer, index)


def _timestamp(writer: ValueWriter, value: Any) -> Any:
    utc = value if value.tz is None else value.tz_convert("UTC").tz_localize(None)
    with writer.inside(value):
        return tag("pandas:timestamp", writer.tree(utc.asm8), writer.tree(value.tz), value.fold)


def _timedelta(writer: ValueWriter, value: Any) -> Any:
    with writer.inside(value):
        return tag("pandas:timedelta", writer.tree(value.asm8))


def _period(writer: ValueWriter, value: Any) -> Any:
    return tag("pandas:period", value.ordinal, value.freqstr)


def _interval(writer: ValueWriter, value: Any) -> Any:
    with writer.inside(value):
        return tag("pandas:interval", writer.tree(value.left), writer.tree(value.right), value.closed)


_ARRAYS = [
    pd.Categorical, pd.arrays.DatetimeArray, pd.arrays.TimedeltaArray, pd.arrays.PeriodArray,
    pd.arrays.IntervalArray, pd.arrays.SparseArray, pd.arrays.StringArray,
    pd.arrays.ArrowStringArray, pd.arrays.ArrowExtensionArray,
    pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray,
]  # fmt: skip
_INDEXES = [
    pd.Index, pd.RangeIndex, pd.MultiIndex, pd.DatetimeIndex, pd.TimedeltaIndex, pd.PeriodIndex,
    pd.IntervalIndex, pd.CategoricalIndex,
]  # fmt: skip
_DTYPES = [
    pd.CategoricalDtype, pd.DatetimeTZDtype, pd.SparseDtype, pd.StringDtype, pd.PeriodDtype, pd.IntervalDtype,
    pd.ArrowDtype, pd.BooleanDtype, pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype, pd.UInt8Dtype,
    pd.UInt16Dtype, pd.UInt32Dtype, pd.UInt64Dtype, pd.Float32Dtype, pd.Float64Dtype,
]  # fmt: skip


def _array(writer: ValueWriter, values: Any) -> Any:
    if isinstance(values.dtype, np.dtype):  # times and spans without a zone
        with writer.inside(values):
            return tag("pandas:bare", writer.tree(values.asi8.view(values.dtype)))
    return array_tree(writer, values)


_WRITERS: dict[type, Write] = {
    pd.DataFrame: _frame,
    pd.Series: _series,
    pd.Timestamp: _timestamp,
    pd.Timedelta: _timedelta,
    pd.Period: _period,
    pd.Interval: _interval,
    type(pd.NaT): lambda *_: tag("pandas:nat"),
    type(pd.NA): lambda *_: tag("pandas:na"),
    **dict.fromkeys(_INDEXES, _whole_index),
    **dict.fromkeys(_DTYPES, dtype_tree),
    **dict.fromkeys(_ARRAYS, _array),
}
