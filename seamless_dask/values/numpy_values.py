"""Arrays, scalars and types of NumPy: as ``npy`` where that can say all of it, else as trees.

A type that ``npy`` cannot say (objects, text of any length, aligned or overlapping fields, records) is
written as a tree, and the elements as values or field by field. A subclass of NumPy's own is what it looks
at, and its name.
"""

from __future__ import annotations

import base64
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import npy
from .objects import write_object
from .tree import collected, tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree import ValueWriter, Write
    from .tree_reader import ValueReader

_SMALL = 1 << 10
"""Up to here an array inside something else stands in its tree."""
_VIEWS: dict[str, type] = {"matrix": np.matrix, "memmap": np.memmap, "recarray": np.recarray}
_REMEMBERED = {"_mmap", "filename", "offset", "mode", "_getitem"}
"""Of where a map comes from; of what a matrix does at the moment."""


def writer(kind: type) -> Write | None:
    """Return what writes objects of exactly this type."""
    if kind is np.ndarray:
        return write_array
    if kind is np.ma.MaskedArray:
        return _masked
    if kind is np.ma.core.MaskedConstant:
        return lambda *_: tag("numpy:constant")
    if kind in _VIEWS.values():
        return _view
    if issubclass(kind, np.generic):
        return _scalar
    return _dtype if issubclass(kind, np.dtype) else None


def reader(name: str) -> Callable[..., Any]:
    """Return what reads the fields behind a tag; raises `KeyError`."""
    return _READERS[name]


def write_array(writer: ValueWriter, array: Any) -> Any:
    """Return the tree of an array of exactly `numpy.ndarray`."""
    dtype = array.dtype
    if npy.is_plain(dtype):
        if writer.nested and array.nbytes <= _SMALL:
            return tag("numpy:small", _base64(collected(partial(npy.write_array, array))))
        return writer.part("npy", partial(npy.write_array, array))
    described = describe(writer, dtype)
    if described is None or dtype.itemsize == 0:
        return write_object(writer, array)
    head = (described, list(array.shape), npy.is_fortran(array))
    with writer.inside(array):
        if dtype.names is not None:
            return tag("numpy:fields", *head, [writer.named(name, array[name]) for name in dtype.names])
        if dtype.hasobject or dtype.char == "T":
            return tag("numpy:elements", *head, writer.items(array.reshape(-1).tolist()))
        plain = np.dtype(dtype.str)
        return tag("numpy:as", described, write_array(writer, array.view(plain)))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _scalar(writer: ValueWriter, value: Any) -> Any:
    if isinstance(value, np.str_):
        return tag("numpy:text", writer.tree(str(value)))
    if isinstance(value, np.bytes_):
        return tag("numpy:text", writer.tree(bytes(value)))
    array = np.asarray(value)
    if npy.is_plain(array.dtype) and type(array[()]) is type(value):
        if not writer.nested:
            return writer.part("npy-scalar", partial(npy.write_array, array))
        if array.dtype.names is None:
            return tag("numpy:scalar", array.dtype.str, _base64(b"".join(npy.raw(array))))
    with writer.inside(value):
        return tag("numpy:item", write_array(writer, array))


def _view(writer: ValueWriter, value: Any) -> Any:
    """Return the tree of an object that is an array, looked at in another way."""
    kind = type(value)
    name = next(name for name, known in _VIEWS.items() if known is kind)
    plain = value.view(np.ndarray)
    if plain.dtype.type is np.record:
        plain = plain.view(np.dtype((np.void, plain.dtype)))
    if set(getattr(value, "__dict__", ())) - _REMEMBERED or plain.view(kind).dtype != value.dtype:
        return write_object(writer, value)
    with writer.inside(value):
        return tag("numpy:view", name, write_array(writer, plain))


def _masked(writer: ValueWriter, value: Any) -> Any:
    data = value.data
    state = vars(value)
    fill = state.get("_fill_value")
    if fill is not None and _is_default(fill, value.dtype):
        fill = None  # NumPy writes it down when somebody looks at the array
    mask = None if value.mask is np.ma.nomask else np.ma.getmaskarray(value)
    fields = {"data": data, "mask": mask, "fill_value": fill, "hard": value.hardmask}
    if state.get("_optinfo"):
        fields["info"] = state["_optinfo"]
    with writer.inside(value):
        return tag("numpy:masked", {name: writer.named(name, field) for name, field in fields.items()})


def _is_default(fill: Any, dtype: Any) -> bool:
    default = np.array(np.ma.default_fill_value(dtype), dtype)
    return not dtype.hasobject and bool(default.tobytes() == np.asarray(fill, dtype).tobytes())


def _dtype(writer: ValueWriter, value: Any) -> Any:
    described = describe(writer, value)
    return write_object(writer, value) if described is None else tag("numpy:dtype", described)


def describe(writer: ValueWriter, dtype: Any) -> Any:
    """Return the tree of an array's type; None for what is not NumPy's own."""
    if dtype.metadata:
        inner = dtype.str if dtype.names is None and dtype.subdtype is None else None
        return None if inner is None else {"type": inner, "metadata": writer.tree(dict(dtype.metadata))}
    if dtype.subdtype is not None:
        inner = describe(writer, dtype.base)
        return None if inner is None else {"base": inner, "shape": list(dtype.shape)}
    if dtype.names is not None:
        return _structure(writer, dtype)
    if dtype.char == "T":
        missing = {"missing": writer.tree(dtype.na_object)} if hasattr(dtype, "na_object") else {}
        return {"coerce": dtype.coerce, **missing}
    for text in (dtype.str, dtype.byteorder.replace("|", "=") + dtype.char):
        if npy.is_plain_name(text, dtype):
            return text
    return None


def _structure(writer: ValueWriter, dtype: Any) -> Any:
    fields = [dtype.fields[name] for name in dtype.names]
    formats = [describe(writer, field[0]) for field in fields]
    titles = [field[2] if len(field) > 2 else None for field in fields]
    if None in formats or not all(title is None or type(title) is str for title in titles):
        return None
    return {
        "names": list(dtype.names),
        "formats": formats,
        "offsets": [field[1] for field in fields],
        "titles": titles,
        "itemsize": dtype.itemsize,
        "align": dtype.isalignedstruct,
        "record": dtype.type is np.record,
    }


def make_dtype(reader: ValueReader, described: Any) -> Any:
    """Return the type that a tree stands for."""
    if isinstance(described, str):
        return np.dtype(described)
    if "metadata" in described:
        return np.dtype(make_dtype(reader, described["type"]), metadata=reader.value(described["metadata"]))
    if "base" in described:
        return np.dtype((make_dtype(reader, described["base"]), tuple(described["shape"])))
    if "coerce" in described:
        missing = {"na_object": reader.value(described["missing"])} if "missing" in described else {}
        return np.dtypes.StringDType(coerce=described["coerce"], **missing)
    fields = {name: described[name] for name in ("names", "offsets", "titles", "itemsize")}
    fields["formats"] = [make_dtype(reader, one) for one in described["formats"]]
    if not any(fields["titles"]):
        del fields["titles"]
    made = np.dtype(fields, align=described["align"])
    return np.dtype((np.record, made)) if described["record"] else made


def _read_small(reader: ValueReader, text: str) -> Any:
    return npy.read_array(memoryview(bytearray(base64.b64decode(text, validate=True))))


def _read_scalar(reader: ValueReader, name: str, text: str) -> Any:
    (value,) = np.frombuffer(base64.b64decode(text, validate=True), np.dtype(name))
    return value


def _read_item(reader: ValueReader, tree: Any) -> Any:
    return reader.value(tree)[()]


def _read_text(reader: ValueReader, tree: Any) -> Any:
    value = reader.value(tree)
    return np.str_(value) if isinstance(value, str) else np.bytes_(value)


def _read_fields(reader: ValueReader, described: Any, shape: list[int], fortran: bool, fields: Any) -> Any:
    dtype, members = make_dtype(reader, described), reader.values(fields)
    for name, member in zip(dtype.names, members, strict=True):
        if member.shape != tuple(shape) + dtype[name].shape:  # nothing is made that is not there
            raise ValueError(f"field {name!r:.80} of another shape")
    size = dtype.itemsize * (members[0].size if members else 0)
    if not reader.trusted and size > _SMALL + 64 * sum(member.nbytes for member in members):
        raise ValueError("a structure with little in it")
    array = np.zeros(shape, dtype, "F" if fortran else "C")
    for name, member in zip(dtype.names, members, strict=True):
        array[name] = member
    return array


def _read_elements(
    reader: ValueReader, described: Any, shape: list[int], fortran: bool, elements: list[Any]
) -> Any:
    array = np.empty(len(elements), make_dtype(reader, described))
    for number, element in enumerate(elements):  # one by one: a list is an element too
        array[number] = reader.value(element)
    array = array.reshape(shape)
    return np.asfortranarray(array) if fortran else array


def _read_as(reader: ValueReader, described: Any, tree: Any) -> Any:
    return reader.value(tree).view(make_dtype(reader, described))


def _read_view(reader: ValueReader, name: str, tree: Any) -> Any:
    return reader.value(tree).view(_VIEWS[name])


def _read_masked(reader: ValueReader, fields: dict[str, Any]) -> Any:
    found = {name: reader.value(tree) for name, tree in fields.items()}
    mask = np.ma.nomask if found["mask"] is None else found["mask"]
    made = np.ma.MaskedArray(found["data"], mask, copy=False, hard_mask=found["hard"])
    made._fill_value = found["fill_value"]
    if "info" in found:
        made._optinfo.update(found["info"])
    return made


_READERS: dict[str, Callable[..., Any]] = {
    "small": _read_small,
    "scalar": _read_scalar,
    "item": _read_item,
    "text": _read_text,
    "fields": _read_fields,
    "elements": _read_elements,
    "as": _read_as,
    "view": _read_view,
    "masked": _read_masked,
    "constant": lambda _: np.ma.masked,
    "dtype": make_dtype,
}
