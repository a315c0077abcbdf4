"""The format ``json/1``, written: an object as a tree that the standard library's JSON encoder takes.

Text, whole numbers, finite floats, booleans, None, lists, and dictionaries whose keys are all text are JSON
as they are. Everything else is an object with the one key ``@``, whose value is a list that begins with a
tag::

    (1, nan)        {"@":["tuple",[1,{"@":["float","7ff8000000000000"]}]]}
    {1: "a"}        {"@":["dict",[[1,"a"]]]}
    an array        {"@":["part",0]}, and its bytes beside the tree, in another format

What is done is decided by the exact type: an ``IntEnum`` is no whole number.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hashserver.checksum import Bytes

    Sink = Callable[[Bytes], object]
    Write = Callable[[Any, Any], Any]

MAX_DEPTH = 100
"""Python ends recursion at a thousand calls, and some levels take six."""
LARGE_INTEGER = 1 << 1024
"""From here on in hexadecimal digits: how many decimal ones Python reads is limited."""
LARGE_BYTES = 1 << 16
"""From here on bytes stand beside the tree as they are."""
_PLAIN = {str, type(None), bool, int, float}

dumps = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
).encode


class TreePart(NamedTuple):
    """Bytes beside a tree: their format, and what writes them into a sink."""

    format: str
    write: Callable[[Sink], object]


class Unwritable(Exception):
    """No bytes stand for an object.

    Parameters
    ----------
    reason
        What is said behind the name of the argument: ``is a generator: pass a list``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []

    def __str__(self) -> str:
        return f"{''.join(reversed(self.path))} {self.reason}"


class Unwalkable(Unwritable):
    """What can perhaps be pickled, as a whole with the object around it."""


class Endless(Unwalkable):
    """What contains itself, or is nested too deep."""


class _Inside:
    """Of a `ValueWriter`, while it writes what is inside an object."""

    __slots__ = ("_nested", "_number", "_writer")

    def __init__(self, writer: ValueWriter, number: int) -> None:
        self._writer, self._number, self._nested = writer, number, writer.nested

    def __enter__(self) -> None:
        around = self._writer._around
        if self._number in around:
            raise Endless("contains itself")
        if len(around) >= MAX_DEPTH:
            raise Endless(f"is nested more than {MAX_DEPTH} deep")
        around.add(self._number)
        self._writer.nested = True

    def __exit__(self, *_: object) -> None:
        self._writer.nested = self._nested
        self._writer._around.discard(self._number)


class ValueWriter:
    """Writes objects as trees.

    Parameters
    ----------
    writer_of
        Returns what writes an object that is no plain data.
    hole
        Called with each object that is no plain data; returns a key when the object is an input of its own
        and only its number shall stand in the tree.
    any_text
        Whether some text in the value cannot be written as UTF-8: found out by trying.

    Attributes
    ----------
    parts
        What stands beside the tree.
    holes
        Keys of what is left out, in the order of their numbers, and the objects.
    left_out
        How often something was left out, known or not.
    classes, names
        What is asked but once, however many objects there are: what has to be known of their classes, and the
        trees of classes and functions. By identity: metaclasses can say what is equal.
    """

    def __init__(
        self,
        writer_of: Callable[[Any], Write],
        hole: Callable[[Any], str | None] | None = None,
        any_text: bool = False,
    ) -> None:
        self.parts: list[TreePart] = []
        self.holes: dict[str, Any] = {}
        self.nested = False
        self.objects = self.left_out = 0
        self.classes: dict[int, Any] = {}
        self.names: dict[int, tuple[Any, Any]] = {}
        self._writer_of, self._hole, self._any_text = writer_of, hole, any_text
        self._named_holes = False
        self._numbers: dict[str, int] = {}
        self._around: set[int] = set()

    def tree(self, value: Any) -> Any:
        """Return what stands for a value.

        Raises
        ------
        Unwritable
            When nothing can.
        """
        try:
            write = _EXACT.get(type(value))
        except TypeError:
            raise Unwritable(
                f"is a {type(value).__name__}, a class without a hash: pass its fields"
            ) from None
        return self._other(value) if write is None else write(self, value)

    def part(self, format: str, write: Callable[[Sink], object]) -> dict[str, Any]:  # noqa: A002
        """Put bytes beside the tree, and return what refers to them."""
        self.parts.append(TreePart(format, write))
        return tag("part", len(self.parts) - 1)

    def is_left_out(self, value: Any) -> bool:
        """Tell whether an object is an input of its own."""
        return self._hole is not None and self._hole(value) is not None

    def inside(self, value: Any) -> _Inside:
        """Mark that what is written next is inside `value`."""
        return _Inside(self, id(value))

    def items(self, values: Iterable[Any]) -> list[Any]:
        """Return the trees of the members of a sequence."""
        found: list[Any] = []
        try:
            for value in values:
                found.append(self.tree(value))
        except Unwritable as error:
            error.path.append(f"[{len(found)}]")
            raise
        return found

    def named(self, name: str, value: Any) -> Any:
        """Return the tree of an object's attribute."""
        try:
            return self.tree(value)
        except Unwritable as error:
            error.path.append(f".{name}")
            raise

    def sorted_items(self, values: Iterable[Any]) -> list[Any]:
        """Return the trees of members that have no order, sorted by their bytes."""
        found = sorted((self._alone(value) for value in values), key=lambda one: one[0])
        # What refers to parts and holes by number has its numbers by that order.
        return [self.tree(value) if tree is None else tree for _, tree, value in found]

    def _alone(self, value: Any) -> tuple[bytes, Any, Any]:
        """Return what to sort a member of a set by, its tree if that can be used as it is, and the member."""
        writer = ValueWriter(self._writer_of, self._hole, self._any_text)
        writer._around, writer.objects, writer.nested = self._around, self.objects, True
        writer.classes, writer.names = self.classes, self.names
        writer._named_holes = True
        tree = writer.tree(value)
        key = dumps(tree).encode("utf-8", "surrogatepass")
        if not writer.parts and not writer.holes:
            return key, tree, value
        return b"".join([key, *(collected(part.write) for part in writer.parts)]), None, value

    def _other(self, value: Any) -> Any:
        if self._hole is not None and (key := self._hole(value)) is not None:
            number = self._numbers.setdefault(key, len(self._numbers))
            self.holes[key] = value
            self.left_out += 1
            return tag("hole", key if self._named_holes else number)
        return self._writer_of(value)(self, value)


def collected(write: Callable[[Sink], object]) -> bytes:
    """Return all that is written into a sink."""
    parts: list[bytes] = []
    write(lambda data: parts.append(bytes(data)))
    return b"".join(parts)


def tag(name: str, *fields: Any) -> dict[str, Any]:
    """Return what stands for something that is no JSON."""
    return {"@": [name, *fields]}


def write_float(value: float) -> Any:
    """Return what stands for a float; not a number by its bits, of which there are many."""
    if math.isfinite(value):
        return value
    return tag("float", struct.pack(">d", value).hex())


def write_integer(value: int) -> Any:
    """Return what stands for a whole number."""
    if -LARGE_INTEGER < value < LARGE_INTEGER:
        return value
    return tag("int", format(value, "x"))


def _itself(writer: ValueWriter, value: Any) -> Any:
    return value


def _text(writer: ValueWriter, value: str) -> Any:
    if writer._any_text and not is_encodable(value):
        # Two halves of a pair are two characters in Python, and in JSON one.
        return tag("text", value.encode("utf-8", "surrogatepass").hex())
    return value


def is_encodable(value: str) -> bool:
    """Tell whether UTF-8 has a text: halves of pairs it has not."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_plain(writer: ValueWriter, values: Any) -> bool:
    """Tell whether all members of a list or dictionary are JSON as they are; quicker than to walk them."""
    try:
        kinds = set(map(type, values))
    except TypeError:  # a class without a hash
        return False
    if not kinds <= _PLAIN or (writer._any_text and str in kinds):
        return False
    if float in kinds and not all(map(math.isfinite, _of_type(float, kinds, values))):
        return False
    if int in kinds:
        numbers = _of_type(int, kinds, values)
        return bool(min(numbers) > -LARGE_INTEGER and max(numbers) < LARGE_INTEGER)
    return True


def _of_type(kind: type, kinds: set[type], values: Any) -> Any:
    return values if len(kinds) == 1 else [value for value in values if type(value) is kind]


def _list(writer: ValueWriter, value: list[Any]) -> Any:
    if _is_plain(writer, value):
        return value
    with writer.inside(value):
        return writer.items(value)


def _tuple(writer: ValueWriter, value: tuple[Any, ...]) -> Any:
    if _is_plain(writer, value):
        return tag("tuple", value)
    with writer.inside(value):
        return tag("tuple", writer.items(value))


def _dict(writer: ValueWriter, value: dict[Any, Any]) -> Any:
    plain = set(map(type, value)) <= {str} and "@" not in value
    if plain and writer._any_text:
        plain = all(map(is_encodable, value))
    if plain and _is_plain(writer, value.values()):
        return value
    with writer.inside(value):
        if plain:
            return {name: _member(writer, name, member) for name, member in value.items()}
        return tag("dict", write_pairs(writer, value.items()))


def write_pairs(writer: ValueWriter, pairs: Iterable[tuple[Any, Any]]) -> list[list[Any]]:
    """Return the trees of keys and members of a mapping."""
    return [[writer.tree(name), _member(writer, name, member)] for name, member in pairs]


def _member(writer: ValueWriter, name: Any, member: Any) -> Any:
    try:
        return writer.tree(member)
    except Unwritable as error:
        error.path.append(f"[{name!r:.80}]")
        raise


def _unordered(name: str, writer: ValueWriter, value: set[Any] | frozenset[Any]) -> Any:
    with writer.inside(value):
        return tag(name, writer.sorted_items(value))


def _bytes(name: str, writer: ValueWriter, value: bytes | bytearray) -> Any:
    if len(value) < LARGE_BYTES:
        return tag(name, base64.b64encode(value).decode("ascii"))
    return writer.part(name, lambda sink: sink(value))


def _complex(writer: ValueWriter, value: complex) -> Any:
    return tag("complex", write_float(value.real), write_float(value.imag))


def _range(name: str, writer: ValueWriter, value: Any) -> Any:
    fields = ("start", "stop", "step")
    return tag(name, *(writer.named(field, getattr(value, field)) for field in fields))


_EXACT: dict[type, Write] = {
    str: _text,
    type(None): _itself,
    bool: _itself,
    int: lambda _, value: write_integer(value),
    float: lambda _, value: write_float(value),
    list: _list,
    dict: _dict,
    tuple: _tuple,
    set: partial(_unordered, "set"),
    frozenset: partial(_unordered, "frozenset"),
    bytes: partial(_bytes, "bytes"),
    bytearray: partial(_bytes, "bytearray"),
    complex: _complex,
    range: partial(_range, "range"),
    slice: partial(_range, "slice"),
    type(Ellipsis): lambda *_: tag("ellipsis"),
    type(NotImplemented): lambda *_: tag("notimplemented"),
}
