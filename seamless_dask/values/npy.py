"""The format ``npy``: NumPy's own for one array, with a header that no release of NumPy changes.

Memory order and byte order are kept; an array that is contiguous in neither order is that of its C-ordered
copy. Bytes between the fields of a structure and behind the digits of a ``longdouble`` are zeros.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hashserver.printable import one_line

from ..errors import InvalidValue

if TYPE_CHECKING:
    from .tree import Sink

MAGIC = b"\x93NUMPY"
_CHUNK = 8 << 20
_LONGEST_HEADER = 1 << 16


def is_plain(dtype: Any) -> bool:
    """Tell whether a header can say all that a type is."""
    if dtype.hasobject or dtype.itemsize == 0:
        return False
    try:
        described = _described(dtype)
        again = np.lib.format.descr_to_dtype(described)
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return len(ascii(described)) < _LONGEST_HEADER - 1024 and _same(again, dtype)


def _described(dtype: Any) -> Any:
    return dtype.descr if dtype.names is not None else dtype.str


def _same(one: Any, other: Any) -> bool:
    """Tell whether two types are one, in what ``==`` overlooks too."""
    if one != other or one.char != other.char or one.type is not other.type:
        return False
    if one.isalignedstruct != other.isalignedstruct or one.metadata != other.metadata:
        return False
    if one.subdtype is not None:
        return other.subdtype is not None and _same(one.base, other.base)
    return one.names is None or all(_same(one.fields[name][0], other.fields[name][0]) for name in one.names)


def is_fortran(array: Any) -> bool:
    """Tell whether an array is kept in Fortran's order."""
    return bool(array.flags.f_contiguous and not array.flags.c_contiguous)


def write_array(array: Any, sink: Sink) -> None:
    """Write an array of a plain type; what is contiguous is not copied."""
    sink(header(array.dtype, is_fortran(array), array.shape))
    for data in raw(array):
        sink(data)


def header(dtype: Any, fortran: bool, shape: tuple[int, ...]) -> bytes:
    """Return what stands before the bytes of an array."""
    # The repr of other text depends on the release of Unicode that the interpreter knows.
    text = f"{{'descr': {_described(dtype)!a}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}"
    short = len(MAGIC) + 2 + 2 + len(text) + 64 < 1 << 16
    version, width = (b"\x01\x00", 2) if short else (b"\x02\x00", 4)
    size = len(text) + 1
    size += -(len(MAGIC) + 2 + width + size) % 64
    return MAGIC + version + size.to_bytes(width, "little") + text.ljust(size - 1).encode("ascii") + b"\n"


def raw(array: Any) -> Iterator[memoryview]:
    """Yield the bytes of an array in its order; they stay as they are as long as the array does."""
    if array.size == 0:
        return
    if is_fortran(array):
        array = array.T
    mask = significant(array.dtype)
    if array.flags.c_contiguous and mask is None:
        yield memoryview(array.reshape(-1).view(np.uint8))
        return
    for chunk in _chunks(array):
        data = np.ascontiguousarray(chunk).reshape(-1).view(np.uint8)
        yield memoryview(data if mask is None else (data.reshape(-1, mask.size) & mask).reshape(-1))


def _chunks(array: Any) -> Iterator[Any]:
    """Yield an array in pieces, in C's order, each small enough to be copied."""
    if array.ndim == 0 or array.nbytes <= _CHUNK:
        yield array
        return
    row = array.nbytes // len(array)
    if row > _CHUNK and array.ndim > 1:
        for part in array:
            yield from _chunks(part)
        return
    step = max(1, _CHUNK // row)
    for start in range(0, len(array), step):
        yield array[start : start + step]


def significant(dtype: Any) -> Any:
    """Return which bits of an element mean something, as a byte each of 255 or 0; None when all do."""
    mask = _significant(dtype)
    return None if mask.all() else mask


def _significant(dtype: Any) -> Any:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return np.tile(_significant(base), int(np.prod(shape)))
    if dtype.names is not None:
        mask = np.zeros(dtype.itemsize, np.uint8)
        for name in dtype.names:
            field, offset = dtype.fields[name][:2]
            mask[offset : offset + field.itemsize] |= _significant(field)
        return mask
    mask = np.full(dtype.itemsize, 255, np.uint8)
    if dtype.char in "gG" and np.finfo(np.longdouble).nmant == 63:  # 80 bits, in 12 or 16 bytes
        halves = mask.reshape(2 if dtype.char == "G" else 1, -1)
        if dtype.isnative:
            halves[:, 10:] = 0
        else:
            halves[:, :-10] = 0
    return mask


def read_array(data: memoryview) -> Any:
    """Return the array of a buffer; it uses the buffer's memory where that can be written to.

    Raises
    ------
    InvalidValue
        When the buffer is no array, is one of objects, or its length is another one.
    """
    try:
        text, start = _header_of(data)
        described, fortran, shape = _read_header(text)
        # A type for each array: whoever names its fields otherwise changes the type itself.
        dtype = np.lib.format.descr_to_dtype(described)
        return _array(dtype, fortran, shape, data[start:])
    except (ValueError, TypeError, KeyError, IndexError, SyntaxError, OverflowError) as error:
        message = f"the array cannot be read: {type(error).__name__}: {error!s:.200}"
        raise InvalidValue(one_line(message)) from error
    except (MemoryError, RecursionError, AttributeError) as error:
        raise InvalidValue(f"the array's header cannot be read: {type(error).__name__}") from error


def _header_of(data: memoryview) -> tuple[str, int]:
    """Return the text of the header, and where the array's own bytes begin."""
    version = bytes(data[len(MAGIC) : len(MAGIC) + 2])
    if bytes(data[: len(MAGIC)]) != MAGIC or version not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise ValueError("no array")
    width = 2 if version == b"\x01\x00" else 4
    begin = len(MAGIC) + 2 + width
    size = int.from_bytes(data[begin - width : begin], "little")
    if size > _LONGEST_HEADER or begin + size > len(data):
        raise ValueError("a header of another length")
    encoding = "utf-8" if version == b"\x03\x00" else "latin-1"
    return bytes(data[begin : begin + size]).decode(encoding), begin + size


@lru_cache(64)  # that takes half as long as to map the file of an array
def _read_header(text: str) -> tuple[Any, bool, tuple[int, ...]]:
    """Return what describes the type, whether the order is Fortran's, and the shape."""
    found = ast.literal_eval(text)
    shape, fortran = found["shape"], found["fortran_order"]
    if len(found) != 3 or type(shape) is not tuple or type(fortran) is not bool:
        raise ValueError("another header")
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError("another shape")
    return found["descr"], fortran, shape


def _array(dtype: Any, fortran: bool, shape: tuple[int, ...], data: memoryview) -> Any:
    if dtype.hasobject or dtype.subdtype is not None or dtype.itemsize == 0:
        raise ValueError("an array of objects, of arrays, or of nothing")
    count = 1
    for length in shape:
        count *= length
    if count * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes instead of {count * dtype.itemsize}")
    array = np.frombuffer(data, dtype) if count else np.empty(0, dtype)
    if not array.flags.writeable:
        array = array.copy()
    return array.reshape(shape, order="F" if fortran else "C")


def is_plain_name(text: str, dtype: Any) -> bool:
    """Tell whether a text names a type, in what ``==`` overlooks too."""
    try:
        return _same(np.dtype(text), dtype)
    except TypeError:
        return False
