r"""The format ``parts/1``: a tree of ``json/1`` with bytes of other formats beside it, in one buffer.

::

    b"seamless parts/1\n"              padded with zeros to 64 bytes
    each part                         padded in the same way, so that arrays can be mapped into memory
    {"parts":[[format,length],…],"value":…}
    the length of that text           8 bytes, little-endian

The text comes last, since the lengths are known only once the parts are written.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InvalidValue
from .tree import dumps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashserver.checksum import Bytes

    from .tree import Sink, TreePart

MAGIC = b"seamless parts/1\n"
_ALIGNMENT = 64


def write_parts(tree: bytes, parts: Sequence[TreePart], sink: Sink) -> None:
    """Write the text of a tree and what stands beside it."""
    sink(_padded(MAGIC))
    table = []
    for part in parts:
        size = 0

        def counted(data: Bytes) -> None:
            nonlocal size
            size += memoryview(data).nbytes
            sink(data)

        part.write(counted)
        sink(bytes(-size % _ALIGNMENT))
        table.append([part.format, size])
    head, end = f'{{"parts":{dumps(table)},"value":'.encode(), b"}"
    for data in (head, tree, end):
        sink(data)
    sink((len(head) + len(tree) + len(end)).to_bytes(8, "little"))


class ReadParts(NamedTuple):
    """A tree, and what stands beside it."""

    tree: Any
    parts: list[tuple[str, memoryview]]


def read_parts(data: memoryview) -> ReadParts:
    """Take a buffer apart; raises `InvalidValue` when it is none of ``parts/1``."""
    try:
        length = int.from_bytes(data[-8:], "little")
        end = len(data) - 8 - length
        if bytes(data[: len(MAGIC)]) != MAGIC or end < _ALIGNMENT:
            raise ValueError("no such buffer")
        text = bytes(data[end:-8]).decode()
        document = json.loads(text, parse_constant=_finite, parse_float=_finite)
        parts, start = [], _ALIGNMENT
        for name, size in document["parts"]:
            if type(size) is not int or not 0 <= size <= end - start or type(name) is not str:
                raise ValueError("a part outside the buffer")
            parts.append((name, data[start : start + size]))
            start += size + -size % _ALIGNMENT
        if start != end:
            raise ValueError("bytes between the parts")
        return ReadParts(document["value"], parts)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidValue(f"the value cannot be read: {type(error).__name__}: {error!s:.200}") from error


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text:.80} is no JSON")
    return value


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)
