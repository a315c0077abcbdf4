"""The format ``json/1``, read: back to the object, with nothing imported or run unless trusted."""

from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING, Any

from hashserver.printable import one_line

from ..errors import InvalidValue, SeamlessError, UntrustedValue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FAULTS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError, OSError)


_TREES = (list, dict)
"""What may stand for something else than itself."""


class ValueReader:
    """Reads trees.

    Parameters
    ----------
    reader_of
        Returns what reads the fields behind a tag that is not one of the plain ones.
    part
        Returns what stands beside the tree, by its number.
    trusted
        Whether what the tree names may be imported and called.
    holes
        What takes the places that were left out.
    columns
        Of the table around the tree, in the format ``arrow``.

    Attributes
    ----------
    names, codes
        What stands under a name, and what is of some code: asked but once, however many objects there are.
    """

    def __init__(
        self,
        reader_of: Callable[[str], Callable[..., Any]],
        part: Callable[[int], Any] | None = None,
        trusted: bool = False,
        holes: Sequence[Any] = (),
        columns: Any = None,
    ) -> None:
        self.trusted, self.columns = trusted, columns
        self.names: dict[str, Any] = {}
        self.codes: dict[str, Any] = {}
        self._readers = _READERS.copy()
        self._reader_of, self._part, self._holes = reader_of, part, holes

    def read(self, data: bytes) -> Any:
        """Return the object that the text of a tree stands for.

        Raises
        ------
        InvalidValue
            When it is no ``json/1``.
        UntrustedValue
            When it names what is to be imported or run.
        """
        try:
            text = data.decode()
            tree = _DECODER.decode(text)
            return self.value(tree) if '"@"' in text else tree
        except Exception as error:
            self._tell(error)
            raise

    def read_tree(self, tree: Any) -> Any:
        """Return the object that a whole tree stands for; raises as `read` does."""
        try:
            return self.value(tree)
        except Exception as error:
            self._tell(error)
            raise

    def _tell(self, error: Exception) -> None:
        """Make the errors of those who are called ours."""
        if isinstance(error, SeamlessError):
            return
        if isinstance(error, ImportError):
            raise InvalidValue(one_line(f"the value needs what is not installed here: {error}")) from error
        # With those who are not trusted nothing but their bytes can be at fault, whatever a library says.
        if not self.trusted or isinstance(error, _FAULTS):
            message = f"the value cannot be read: {type(error).__name__}: {error!s:.200}"
            raise InvalidValue(one_line(message)) from error

    def value(self, tree: Any) -> Any:
        """Return the object that a tree stands for."""
        if isinstance(tree, list):
            return self.values(tree)
        if not isinstance(tree, dict):
            return tree
        if "@" not in tree:
            value = self.value
            return {
                name: value(member) if type(member) in _TREES else member for name, member in tree.items()
            }
        if len(tree) != 1:
            raise ValueError("a tag with more beside it")
        name, *fields = tree["@"]
        read = self._readers.get(name)
        if read is None:
            read = self._readers[name] = self._reader_of(name)
        return read(self, *fields)

    def values(self, trees: Sequence[Any]) -> list[Any]:
        """Return the objects that several trees stand for."""
        value = self.value
        return [value(tree) if type(tree) in _TREES else tree for tree in trees]

    def mapping(self, pairs: Sequence[Any]) -> dict[Any, Any]:
        """Return the dictionary that pairs of trees stand for: a key each, and what belongs to it."""
        return {self.value(name): self.value(member) for name, member in pairs}

    def trust(self, what: object) -> None:
        """Raise `UntrustedValue` unless what a value names may be imported and called."""
        if not self.trusted:
            raise UntrustedValue(
                f"the value would import or run {what!s:.200},"
                " and it does not come from a place that is trusted"
            )


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _float(reader: ValueReader, digits: str) -> float:
    (value,) = struct.unpack(">d", bytes.fromhex(digits))
    return float(value)


def _hole(reader: ValueReader, number: int) -> Any:
    return reader._holes[number]


def _read_part(reader: ValueReader, number: int) -> Any:
    if reader._part is None:
        raise ValueError("no such part")
    return reader._part(number)


def _number(reader: ValueReader, tree: Any) -> float:
    value = reader.value(tree)
    if type(value) is not float:
        raise TypeError("a complex number of other numbers")
    return value


_READERS: dict[str, Callable[..., Any]] = {
    "float": _float,
    "int": lambda _, digits: int(digits, 16),
    "text": lambda _, digits: bytes.fromhex(digits).decode("utf-8", "surrogatepass"),
    "tuple": lambda reader, members: tuple(reader.values(members)),
    "set": lambda reader, members: set(reader.values(members)),
    "frozenset": lambda reader, members: frozenset(reader.values(members)),
    "dict": lambda reader, pairs: reader.mapping(pairs),
    "bytes": lambda _, text: base64.b64decode(text, validate=True),
    "bytearray": lambda _, text: bytearray(base64.b64decode(text, validate=True)),
    "complex": lambda reader, real, imag: complex(_number(reader, real), _number(reader, imag)),
    "range": lambda reader, *fields: range(*reader.values(fields)),
    "slice": lambda reader, *fields: slice(*reader.values(fields)),
    "ellipsis": lambda _: Ellipsis,
    "notimplemented": lambda _: NotImplemented,
    "part": _read_part,
    "hole": _hole,
}
