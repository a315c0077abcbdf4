"""Whether the bytes of results are there: a hit is not yet bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hashserver.checksum import Checksum
from hashserver.errors import HashserverError
from hashserver.results.result import WHOLES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from hashserver.storage.store import Store

    Value = tuple[str, Checksum]
    """Format, checksum."""


def present(store: Store, values: Sequence[Value], read: Collection[Checksum] = ()) -> list[bool]:
    """Tell of each value whether all its bytes can be read, those of its members included.

    Parameters
    ----------
    store
        Where the bytes should be.
    values
        Any number of values; their buffers are asked for together, level by level.
    read
        Buffers that have just been read.
    """
    members: dict[Value, list[Value]] = {}
    asked = list({checksum for _, checksum in values}.difference(read))
    known = dict.fromkeys(read, True)
    known.update((one, length >= 0) for one, length in zip(asked, store.has(asked), strict=True))
    if not any(kind in WHOLES for kind, _ in values):  # by far the most: ten thousand in one go
        return [known[checksum] for _, checksum in values]
    level = list(dict.fromkeys(values))
    while level:
        wanted = list({checksum for _, checksum in level} - known.keys())
        known.update(zip(wanted, (length >= 0 for length in store.has(wanted)), strict=True))
        found = {value: _members(store, value) for value in level if value[0] in WHOLES and known[value[1]]}
        members.update(found)
        level = list({part for parts in found.values() for part in parts} - members.keys())
        level = [value for value in level if value[1] not in known or value[0] in WHOLES]
    return [_complete(value, known, members) for value in values]


def _complete(value: Value, known: dict[Checksum, bool], members: dict[Value, list[Value]]) -> bool:
    parts = members.get(value, ())
    return known[value[1]] and all(_complete(part, known, members) for part in parts)


def _members(store: Store, value: Value) -> list[Value]:
    """Return the values that a directory or a set of results consists of; a corrupt one has none."""
    kind, checksum = value
    try:
        document = json.loads(store.get(checksum))
        if kind == "directory":
            return [("file", Checksum(member)) for member in document.values()]
        return [(name, Checksum(member)) for name, member in _pairs(document)]
    except (HashserverError, ValueError, TypeError, AttributeError, KeyError):
        return []


def _pairs(document: dict[str, object]) -> Iterable[tuple[str, str]]:
    for part in document.values():
        if isinstance(part, dict):
            yield from part.values()
        elif isinstance(part, list):
            yield part[0], part[1]
