"""Objects of pandas, made of their trees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from .pandas_arrays import string_dtype, zoned_array

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree_reader import ValueReader

    Trees = list[Any]


def _frame(
    reader: ValueReader, labels: Any, rows: Any, arrays: Trees, more: dict[str, Any] | None = None
) -> Any:
    index, members = reader.value(rows), reader.values(arrays)
    # Each with its type, so that pandas guesses none, and apart, so that it copies none.
    columns = {number: _one(values, index) for number, values in enumerate(members)}
    frame = pd.DataFrame(columns, index=index, copy=False)
    frame.columns = reader.value(labels)
    return _more(reader, frame, more)


def _series(
    reader: ValueReader, label: Any, rows: Any, arrays: Trees, more: dict[str, Any] | None = None
) -> Any:
    (values,) = reader.values(arrays)
    series = _one(values, reader.value(rows))
    series.name = reader.value(label)
    return _more(reader, series, more)


def _one(values: Any, index: Any) -> Any:
    if len(values) != len(index):
        raise ValueError("columns of different lengths")
    return pd.Series(values, index=index, dtype=values.dtype, copy=False)


def _more(reader: ValueReader, value: Any, more: dict[str, Any] | None) -> Any:
    if more and "attrs" in more:
        value.attrs = reader.value(more["attrs"])
    return value.set_flags(allows_duplicate_labels=False) if more and more.get("unique") else value


def _column(reader: ValueReader, number: int, how: Trees) -> Any:
    from .pandas_columns import from_arrow

    return from_arrow(reader, reader.columns.arrays[number], how)


def _range(reader: ValueReader, start: int, stop: int, step: int, names: Trees) -> Any:
    return _named(reader, pd.RangeIndex(start, stop, step), names)


def _index(reader: ValueReader, kind: str, array: Any, names: Trees, frequency: Any = None) -> Any:
    values = reader.value(array)
    index = pd.Index(values, dtype=values.dtype, copy=False)
    if type(index).__name__ != kind:
        raise TypeError(f"an index of type {type(index).__name__} instead of {kind:.80}")
    if frequency is not None:
        index.freq = reader.value(frequency)
    return _named(reader, index, names)


def _multi(reader: ValueReader, levels: Trees, codes: Trees, names: Trees) -> Any:
    made = pd.MultiIndex(reader.values(levels), reader.values(codes), verify_integrity=not reader.trusted)
    return _named(reader, made, names)


def _named(reader: ValueReader, index: Any, names: Trees) -> Any:
    index.names = reader.values(names)
    return index


def _categorical(reader: ValueReader, codes: Any, dtype: Any) -> Any:
    return pd.Categorical.from_codes(reader.value(codes), dtype=reader.value(dtype))


def _categories(reader: ValueReader, categories: Any, ordered: bool) -> Any:
    return pd.CategoricalDtype(reader.value(categories), ordered)


def _zoned(reader: ValueReader, times: Any, zone: Any) -> Any:
    return zoned_array(reader.value(times), reader.value(zone))


def _periods(reader: ValueReader, ordinals: Any, frequency: str) -> Any:
    return pd.arrays.PeriodArray(reader.value(ordinals), dtype=pd.PeriodDtype(frequency))


def _intervals(reader: ValueReader, left: Any, right: Any, closed: str) -> Any:
    sides = [pd.Index(side, dtype=side.dtype) for side in reader.values([left, right])]
    return pd.arrays.IntervalArray.from_arrays(*sides, closed=closed)


def _sparse(reader: ValueReader, fields: Trees) -> Any:
    values, where, length, kind, fill = reader.values(fields)
    if length and len(where) and not 0 <= where.min() <= where.max() < length:
        raise ValueError("values outside a sparse array")
    more = {"fill_value": fill, "kind": kind}
    if hasattr(pd.arrays.SparseArray, "from_indices"):
        return pd.arrays.SparseArray.from_indices(values, where, length, **more)
    return _older_sparse(values, where, length, more)


def _older_sparse(values: Any, where: Any, length: int, more: dict[str, Any]) -> Any:
    """Make a sparse array as before pandas 3.1."""
    from pandas.core.arrays.sparse.array import make_sparse_index

    index = make_sparse_index(length, where, more["kind"])
    return pd.arrays.SparseArray(values, sparse_index=index, **more)


def _strings(reader: ValueReader, storage: str, missing: str, texts: Any) -> Any:
    return pd.array(reader.value(texts), dtype=string_dtype(storage, missing))


def _arrow(reader: ValueReader, column: Any) -> Any:
    return pd.arrays.ArrowExtensionArray(reader.value(column))


def _masked(reader: ValueReader, name: str, data: Any, mask: Any) -> Any:
    return pd.api.types.pandas_dtype(name).construct_array_type()(reader.value(data), reader.value(mask))


def _timestamp(reader: ValueReader, utc: Any, zone: Any, fold: int) -> Any:
    made, found = pd.Timestamp(reader.value(utc)), reader.value(zone)
    if found is not None:
        made = made.tz_localize("UTC").tz_convert(found)
    return made if made.fold == fold else made.replace(fold=fold)


READERS: dict[str, Callable[..., Any]] = {
    "frame": _frame,
    "series": _series,
    "column": _column,
    "range": _range,
    "index": _index,
    "multi": _multi,
    "bare": lambda reader, array: pd.array(reader.value(array)),
    "categorical": _categorical,
    "categories": _categories,
    "zoned": _zoned,
    "periods": _periods,
    "intervals": _intervals,
    "sparse": _sparse,
    "strings": _strings,
    "arrow": _arrow,
    "masked": _masked,
    "timestamp": _timestamp,
    "timedelta": lambda reader, span: pd.Timedelta(reader.value(span)),
    "period": lambda reader, ordinal, frequency: pd.Period(ordinal=ordinal, freq=frequency),
    "interval": lambda reader, left, right, closed: pd.Interval(
        reader.value(left), reader.value(right), closed
    ),
    "dtype": lambda reader, name: pd.api.types.pandas_dtype(name),
    "sparsetype": lambda reader, subtype, fill: pd.SparseDtype(reader.value(subtype), reader.value(fill)),
    "stringtype": lambda reader, storage, missing: string_dtype(storage, missing),
    "zonedtype": lambda reader, unit, zone: pd.DatetimeTZDtype(unit, reader.value(zone)),
    "nat": lambda reader: pd.NaT,
    "na": lambda reader: pd.NA,
}
