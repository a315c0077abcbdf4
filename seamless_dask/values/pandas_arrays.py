"""Arrays and types of pandas as trees, for what no column of Arrow holds exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .objects import write_object
from .tree import tag

if TYPE_CHECKING:
    from .tree import ValueWriter


def values_of(values: Any) -> Any:
    """Return the array of an index or series: NumPy's own where that is what it has."""
    array = values.array
    if type(array).__name__ in ("NumpyExtensionArray", "PandasArray"):
        return array.to_numpy()
    if isinstance(array.dtype, np.dtype) and hasattr(array, "asi8"):
        return array.asi8.view(array.dtype)
    return array


def array_tree(writer: ValueWriter, values: Any) -> Any:
    """Return the tree of an array of values."""
    if isinstance(values, np.ndarray):
        return writer.tree(values)
    dtype = values.dtype
    with writer.inside(values):
        if isinstance(dtype, pd.CategoricalDtype):
            return tag("pandas:categorical", writer.tree(values.codes), dtype_tree(writer, dtype))
        if isinstance(dtype, pd.DatetimeTZDtype):
            times = values.asi8.view(f"M8[{dtype.unit}]")
            return tag("pandas:zoned", writer.tree(times), writer.tree(dtype.tz))
        if isinstance(dtype, pd.PeriodDtype):
            return tag("pandas:periods", writer.tree(values.asi8), values.freqstr)
        if isinstance(dtype, pd.IntervalDtype):
            sides = [array_tree(writer, values_of(side)) for side in (values.left, values.right)]
            return tag("pandas:intervals", *sides, values.closed)
        if isinstance(dtype, pd.SparseDtype):
            return _sparse(writer, values)
        if isinstance(dtype, pd.StringDtype):
            return _strings(writer, values)
        if isinstance(dtype, pd.ArrowDtype):
            import pyarrow as pa

            return tag("pandas:arrow", writer.tree(pa.chunked_array(pa.array(values))))
        if hasattr(values, "_mask") and hasattr(values, "_data"):
            return _masked(writer, values)
    return write_object(writer, values)


def _sparse(writer: ValueWriter, values: Any) -> Any:
    index = values.sp_index
    where = index.indices if values.kind == "integer" else index.to_int_index().indices
    fields = (values.sp_values, where, len(values), values.kind, values.fill_value)
    return tag("pandas:sparse", writer.items(fields))


def _strings(writer: ValueWriter, values: Any) -> Any:
    found = [one if type(one) is str else None for one in values.astype(object)]
    return tag("pandas:strings", *text_type(values.dtype), writer.tree(found))


def text_type(dtype: Any) -> tuple[str, str]:
    """Return how a type for texts keeps them, and what stands for a missing one."""
    return dtype.storage, "nan" if isinstance(dtype.na_value, float) else "NA"


def _masked(writer: ValueWriter, values: Any) -> Any:
    data, mask = values._data, values._mask
    if mask.any():
        data = np.where(mask, np.zeros(1, data.dtype), data)
    return tag("pandas:masked", values.dtype.name, writer.tree(data), writer.tree(mask))


def dtype_tree(writer: ValueWriter, dtype: Any) -> Any:
    """Return the tree of a type."""
    if isinstance(dtype, pd.CategoricalDtype):
        categories = None if dtype.categories is None else writer.tree(dtype.categories)
        return tag("pandas:categories", categories, dtype.ordered)
    if isinstance(dtype, pd.SparseDtype):
        return tag("pandas:sparsetype", writer.tree(dtype.subtype), writer.tree(dtype.fill_value))
    if isinstance(dtype, pd.StringDtype):
        return tag("pandas:stringtype", *text_type(dtype))
    if isinstance(dtype, pd.DatetimeTZDtype):
        return tag("pandas:zonedtype", dtype.unit, writer.tree(dtype.tz))
    if isinstance(dtype, pd.ArrowDtype):
        return write_object(writer, dtype)
    return tag("pandas:dtype", str(dtype))


def zoned_array(times: Any, zone: Any) -> Any:
    """Return pandas' array of times in a zone, made of those in UTC."""
    return pd.DatetimeIndex(times, copy=False).tz_localize("UTC").tz_convert(zone).array


def string_dtype(storage: str, missing: str) -> Any:
    """Return pandas' type for texts."""
    if missing == "NA":
        return pd.StringDtype(storage)
    try:
        return pd.StringDtype(storage, na_value=np.nan)
    except TypeError:  # before pandas 2.3 that was a storage of its own
        return pd.StringDtype(f"{storage.removesuffix('_numpy')}_numpy")
