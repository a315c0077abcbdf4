"""From bytes back to the object.

Bytes are data. What would import or run something that they name is refused, unless the caller says that
they are trusted: that the user's own database, server or argument named their checksum.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any

from ..errors import InvalidValue, UntrustedValue
from .adapters import reader_of
from .tree_reader import ValueReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashserver.checksum import Bytes

    Source = Bytes | str | os.PathLike[str]

_MAPPED = 1 << 20
"""Smaller files are read: mapping one costs more than it saves."""
_COMMON = os.uname().machine in ("x86_64", "aarch64")
_PRIVATE = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000 if _COMMON else 0)
"""Without a reservation: Linux refuses a writable map of a file that is larger than its memory."""
_READ_AND_WRITE = mmap.PROT_READ | mmap.PROT_WRITE


def load(format: str, source: Source, *, trusted: bool = False, holes: Sequence[Any] = ()) -> Any:  # noqa: A002
    """Return the object that some bytes stand for.

    Parameters
    ----------
    format
        Of the bytes.
    source
        The bytes, or the path of a file of them. Large arrays and tables of a file are mapped into memory:
        what is done to them changes neither the file nor what others see. The file must not be cut.
    trusted
        Whether the bytes may name what is imported and run: true only for what the user's own database,
        server or argument has named.
    holes
        What takes the places that were left out, in the order of `Encoded.holes`.

    Raises
    ------
    InvalidValue
        When the bytes are not what the format says, or need what is not installed.
    UntrustedValue
        When they name what is to be imported or run.
    """
    return _load(format, _memory(source), trusted, holes)


def _memory(source: Source) -> memoryview:
    if isinstance(source, str | os.PathLike):
        return _file(source)
    view = memoryview(source)
    return view if view.format == "B" else view.cast("B")


def _file(path: str | os.PathLike[str]) -> memoryview:
    with open(path, "rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size >= _MAPPED:
            # Private: an array can be changed like any other, and the store's file is not.
            return memoryview(mmap.mmap(stream.fileno(), size, flags=_PRIVATE, prot=_READ_AND_WRITE))
        data = bytearray(size)
        if stream.readinto(data) != size:
            raise InvalidValue(f"{os.fspath(path)} was cut while it was read")
        return memoryview(data)


def _load(format: str, data: memoryview, trusted: bool, holes: Sequence[Any]) -> Any:  # noqa: A002
    match format:
        case "json/1":
            return ValueReader(reader_of, trusted=trusted, holes=holes).read(bytes(data))
        case "parts/1":
            return _load_parts(data, trusted, holes)
        case "text":
            return _text(data)
        case "bytes":
            return bytes(data)
        case "bytearray":
            return bytearray(data)
        case "npy" | "npy-scalar":
            return _array(format, data)
        case "arrow":
            return _table(data, trusted)
        case "pickle":
            return _pickle(data, trusted)
        case _:
            raise InvalidValue(
                f"values of format {format!r:.80} are not known here: is there a newer release?"
            )


def _load_parts(data: memoryview, trusted: bool, holes: Sequence[Any]) -> Any:
    from .parts import read_parts

    tree, parts = read_parts(data)

    def part(number: int) -> Any:
        name, part_data = parts[number]
        if name == "parts/1":
            raise InvalidValue("the value cannot be read: parts inside of parts")
        return _load(name, part_data, trusted, ())

    return ValueReader(reader_of, part, trusted, holes).read_tree(tree)


def _text(data: memoryview) -> str:
    try:
        return bytes(data).decode()
    except UnicodeDecodeError as error:
        raise InvalidValue(f"the text cannot be read: {error}") from None


def _array(format: str, data: memoryview) -> Any:  # noqa: A002
    try:
        from .npy import read_array
    except ImportError as error:
        raise InvalidValue(f"an array needs what is not installed here: {error}") from error
    array = read_array(data)
    if format == "npy":
        return array
    if array.ndim:
        raise InvalidValue("the scalar cannot be read: it is an array")
    return array[()]


def _table(data: memoryview, trusted: bool) -> Any:
    try:
        from .arrow import read_table
    except ImportError as error:
        raise InvalidValue(f"a table needs what is not installed here: {error}") from error
    return read_table(data, trusted)


def _pickle(data: memoryview, trusted: bool) -> Any:
    if not trusted:
        raise UntrustedValue("the value is a pickle, and does not come from a place that is trusted")
    from .objects import load_pickle

    return load_pickle(data)
