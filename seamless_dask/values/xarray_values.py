"""Arrays and data sets of xarray: variables with dimensions, attributes and encoding; indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import xarray.indexes

from .objects import write_object
from .refused import refuse
from .tree import tag, write_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree import ValueWriter, Write
    from .tree_reader import ValueReader


def writer(kind: type) -> Write | None:
    """Return what writes objects of exactly this type."""
    return {
        xr.Dataset: _dataset, xr.DataArray: _array, xr.Variable: _variable, xr.IndexVariable: _variable,
    }.get(kind)  # fmt: skip


def reader(name: str) -> Callable[..., Any]:
    """Return what reads the fields behind a tag; raises `KeyError`."""
    return _READERS[name]


def _dataset(writer: ValueWriter, value: Any) -> Any:
    refuse(value)
    indexes = _indexes(value)
    if indexes is None:
        return write_object(writer, value)
    with writer.inside(value):
        names = [*value.data_vars, *value.coords]
        variables = {name: value.variables[name] for name in names}
        return tag(
            "xarray:dataset", *_parts(writer, value, variables, indexes), _mapping(writer, value.encoding)
        )


def _array(writer: ValueWriter, value: Any) -> Any:
    refuse(value)
    indexes = _indexes(value)
    if indexes is None:
        return write_object(writer, value)
    with writer.inside(value):
        variables = {name: value.coords[name].variable for name in value.coords}
        coordinates = _parts(writer, value, variables, indexes)
        return tag("xarray:array", writer.tree(value.name), _variable(writer, value.variable), *coordinates)


def _indexes(value: Any) -> list[list[Any]] | None:
    """Return each index of pandas with dimension, names and types; None when there is another one."""
    groups = value.xindexes.group_by_index()
    found = []
    for index, names in groups:
        if type(index) not in (xr.indexes.PandasIndex, xr.indexes.PandasMultiIndex):
            return None
        several = type(index) is xr.indexes.PandasMultiIndex
        types = index.level_coords_dtype if several else index.coord_dtype
        found.append([index.to_pandas_index(), index.dim, list(names), types])
    return found


def _parts(writer: ValueWriter, value: Any, variables: dict[Any, Any], indexes: Any) -> list[Any]:
    """Return the trees of variables and indexes; what is a variable of an index has no data of its own."""
    indexed = {name for _, _, names, _ in indexes for name in names}
    data = {name: _variable(writer, variable, name in indexed) for name, variable in variables.items()}
    return [
        [[writer.tree(name), tree] for name, tree in data.items()],
        [writer.items(index) for index in indexes],
        writer.items(value.coords),
        _mapping(writer, value.attrs),
    ]


def _mapping(writer: ValueWriter, value: Any) -> Any:
    return write_pairs(writer, value.items())


def _variable(writer: ValueWriter, value: Any, indexed: bool = False) -> Any:
    dims = writer.items(value.dims)
    data = None if indexed else _data(writer, value)
    name = "xarray:index" if isinstance(value, xr.IndexVariable) else "xarray:variable"
    return tag(name, dims, data, _mapping(writer, value.attrs), _mapping(writer, value.encoding))


def _data(writer: ValueWriter, value: Any) -> Any:
    if isinstance(value, xr.IndexVariable):
        return writer.tree(value.to_index())
    data = value.data  # of a file that was opened lazily: read now
    return writer.tree(data if not isinstance(data, np.generic) else np.asarray(data))


def _read_variable(kind: Any, reader: ValueReader, dims: Any, data: Any, attrs: Any, encoding: Any) -> Any:
    made = kind(reader.values(dims), reader.value(data), reader.mapping(attrs))
    made.encoding = reader.mapping(encoding)
    return made


def _dataset_of(reader: ValueReader, variables: Any, indexes: Any, coords: Any, attrs: Any) -> Any:
    known = _indexed(reader, indexes)
    found: dict[Any, Any] = {}
    for name_tree, tree in variables:
        name, (_, _, data, *fields) = reader.value(name_tree), tree["@"]
        if data is None:
            found[name] = known[name][1]
            found[name].attrs, found[name].encoding = (reader.mapping(pairs) for pairs in fields)
        else:
            found[name] = reader.value(tree)
    names = reader.values(coords)
    coordinates = {name: found.pop(name) for name in names}
    made = xr.Dataset(found, xr.Coordinates(coordinates, {name: index for name, (index, _) in known.items()}))
    made.attrs = reader.mapping(attrs)
    return made


def _indexed(reader: ValueReader, indexes: Any) -> dict[Any, tuple[Any, Any]]:
    """Return the index and the variable of each name that has one."""
    import pandas as pd

    found: dict[Any, tuple[Any, Any]] = {}
    for trees in indexes:
        index, dim, names, types = reader.values(trees)
        if isinstance(index, pd.MultiIndex):
            made = xr.indexes.PandasMultiIndex(index, dim, types)
        else:
            made = xr.indexes.PandasIndex(index, dim, types)
        created = made.create_variables()
        variables = {name: created[name if name in created else index.name] for name in names}
        found |= {name: (made, variable) for name, variable in variables.items()}
    return found


def _read_dataset(
    reader: ValueReader, variables: Any, indexes: Any, coords: Any, attrs: Any, encoding: Any
) -> Any:
    made = _dataset_of(reader, variables, indexes, coords, attrs)
    made.encoding = reader.mapping(encoding)
    return made


def _read_array(
    reader: ValueReader, name: Any, variable: Any, variables: Any, indexes: Any, coords: Any, attrs: Any
) -> Any:
    coordinates = _dataset_of(reader, variables, indexes, coords, []).coords
    data = reader.value(variable)
    made = xr.DataArray(data, coordinates, name=reader.value(name))
    made.attrs, made.encoding = data.attrs, data.encoding
    return made


_READERS: dict[str, Callable[..., Any]] = {
    "dataset": _read_dataset,
    "array": _read_array,
    "variable": lambda *fields: _read_variable(xr.Variable, *fields),
    "index": lambda *fields: _read_variable(xr.IndexVariable, *fields),
}
