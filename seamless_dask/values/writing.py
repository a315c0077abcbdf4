"""From an object to bytes: which format it has, and what goes into a sink."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.checksum import Checksum, Hasher
from hashserver.printable import one_line

from ..errors import NotAValue
from .adapters import writer_of
from .tree import LARGE_INTEGER, Unwritable, ValueWriter, collected, dumps

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree import Sink

TREE = "json/1"
PARTS = "parts/1"
_CONSTANTS = {None: (TREE, b"null"), False: (TREE, b"false"), True: (TREE, b"true")}


class Encoded(NamedTuple):
    """What stands for an object.

    Attributes
    ----------
    format
        How the bytes are to be read.
    write
        Writes the bytes into a sink: a function that is called with each part of them. The parts stay as they
        are as long as the object does; those of large arrays are the array's own memory.
    holes
        What was left out of it, in the order of the numbers in it, by the texts that `hole` has given.
    """

    format: str
    write: Callable[[Sink], object]
    holes: dict[str, Any]


def encode(value: Any, name: str = "the value", hole: Callable[[Any], str | None] | None = None) -> Encoded:
    """Return what stands for an object; nothing large is copied.

    Parameters
    ----------
    value
        The object; it must not change until it is written.
    name
        What messages call it: ``argument 'table'``.
    hole
        Called with each object inside that is no plain data. Where it returns a text, the object is left
        out and only a number stands in its place; equal texts are one number.

    Raises
    ------
    NotAValue
        For what no bytes stand for: generators, locks, open files, containers that contain themselves.

    Warns
    -----
    WeakIdentity
        For what can only be pickled.
    """
    if (known := plain(value)) is not None:
        written, data = known
        return Encoded(written, lambda sink: sink(data), {})
    return as_tree(value, name, hole)


def as_tree(value: Any, name: str = "the value", hole: Callable[[Any], str | None] | None = None) -> Encoded:
    """Return the same, of text and bytes too by a tree; see `encode`."""
    try:
        try:
            return _encode(value, ValueWriter(writer_of, hole))
        except UnicodeEncodeError:
            return _encode(value, ValueWriter(writer_of, hole, any_text=True))
    except Unwritable as error:
        raise NotAValue(one_line(f"{name}{error}")) from None
    except RecursionError:
        raise NotAValue(f"{name} is nested too deep: pass it in pieces") from None


def plain(value: Any) -> tuple[str, bytes] | None:
    """Return format and bytes of text, bytes, numbers and constants: most arguments are those. Else None."""
    kind = type(value)
    if kind is str:
        try:
            return "text", value.encode()
        except UnicodeEncodeError:  # a half of a pair, which UTF-8 has not
            return None
    if kind is bytes:
        return "bytes", value
    if (kind is float and isfinite(value)) or (kind is int and -LARGE_INTEGER < value < LARGE_INTEGER):
        return TREE, repr(value).encode()
    return _CONSTANTS.get(value) if value is None or kind is bool else None


def _encode(value: Any, writer: ValueWriter) -> Encoded:
    tree = writer.tree(value)
    if tree == {"@": ["part", 0]} and not writer.holes:
        (part,) = writer.parts
        return Encoded(part.format, part.write, {})
    text = dumps(tree).encode()  # raises `UnicodeEncodeError` for what `any_text` is for
    if not writer.parts:
        return Encoded(TREE, lambda sink: sink(text), writer.holes)
    from .parts import write_parts

    return Encoded(PARTS, lambda sink: write_parts(text, writer.parts, sink), writer.holes)


def write_value(value: Any, sink: Sink, name: str = "the value") -> str:
    """Write an object's bytes into a sink and return their format; see `encode`."""
    encoded = encode(value, name)
    encoded.write(sink)
    return encoded.format


def to_bytes(value: Any, name: str = "the value") -> tuple[str, bytes]:
    """Return the format and the bytes of an object; see `encode`."""
    encoded = encode(value, name)
    return encoded.format, collected(encoded.write)


def identify(value: Any, name: str = "the value") -> tuple[str, Checksum]:
    """Return the format and the checksum of an object's bytes, which are kept nowhere; see `encode`."""
    hasher = Hasher()
    written = write_value(value, hasher.update, name)
    return written, hasher.finish()


def checksum_of(value: Any) -> Checksum:
    """Return the checksum of an object's bytes; objects of different formats may share one."""
    return identify(value)[1]
