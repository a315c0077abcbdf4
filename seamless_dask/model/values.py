"""Values and their bytes: what several results look like as one, and how one of them is found again.

A transformation that declares exactly one result has that one's value: a file, or the directory that a
path or a glob gave. One that declares several has a value of format ``results``, whose buffer is JSON with
sorted keys and no spaces::

    {"globs":{"*.log":["directory",hex]},"paths":{"out.csv":["file",hex]},"stdout":["file",hex]}

with what was not declared left out.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.checksum import Checksum
from hashserver.errors import HashserverError

from ..errors import UsageError
from .transformation import ResultSpec, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hashserver.storage.store import Store

    Fetch = Callable[[Checksum], bytes]
    Keep = Callable[[bytes], Checksum]

RESULTS = "results"


class NamedValues(NamedTuple):
    """The values of one run, by the names under which they were declared."""

    stdout: Value | None = None
    paths: dict[str, Value] = {}  # noqa: RUF012 - never changed
    globs: dict[str, Value] = {}  # noqa: RUF012 - never changed

    @property
    def values(self) -> list[Value]:
        """All values, standard output first."""
        return [*([self.stdout] if self.stdout else []), *self.paths.values(), *self.globs.values()]

    def only(self) -> Value | None:
        """Return the value when there is exactly one: it is the result itself."""
        values = self.values
        return values[0] if len(values) == 1 else None

    def to_bytes(self) -> bytes:
        """Return the buffer of a ``results`` value."""
        document: dict[str, Any] = {}
        if self.stdout is not None:
            document["stdout"] = self.stdout
        for name, values in (("paths", self.paths), ("globs", self.globs)):
            if values:
                document[name] = values
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_results(data: bytes) -> NamedValues:
    """Read the buffer of a ``results`` value; raises `UsageError` for another one."""
    try:
        document = json.loads(data)
        stdout = document.get("stdout")
        return NamedValues(
            None if stdout is None else _value(stdout),
            {name: _value(value) for name, value in document.get("paths", {}).items()},
            {name: _value(value) for name, value in document.get("globs", {}).items()},
        )
    except (ValueError, TypeError, AttributeError, RecursionError, HashserverError):
        raise UsageError("the buffer of a result with several parts is not what it should be") from None


def select(spec: ResultSpec, value: Value, path: str | None, fetch: Fetch, keep: Keep) -> Value:
    """Pick one declared result, or something below it, out of a transformation's value.

    Parameters
    ----------
    spec
        What the transformation declares.
    value
        What it gave.
    path
        A declared path or glob, or a path inside a declared directory; None: standard output, or else the
        only result.
    fetch
        Returns the bytes of a checksum; called for ``results`` and to look into a directory.
    keep
        Stores bytes; called with the index when a directory inside a directory is meant.

    Raises
    ------
    UsageError
        When there is no such result.
    """
    if path is None:
        if spec.number == 1:
            return value
        if spec.stdout:
            stdout = parse_results(fetch(value.checksum)).stdout
            if stdout is not None:
                return stdout
        raise UsageError(f"one of its results must be named: {', '.join((*spec.paths, *spec.globs))}")
    name = _declared(spec, path)
    if spec.number > 1:
        results = parse_results(fetch(value.checksum))
        value = (results.paths | results.globs)[name]
    return value if path == name else _below(value, path.removeprefix(name + "/"), path, fetch, keep)


def _declared(spec: ResultSpec, path: str) -> str:
    if path in spec.paths or path in spec.globs:
        return path
    above = [name for name in spec.paths if path.startswith(name + "/")]
    if not above:
        declared = ", ".join((*spec.paths, *spec.globs)) or "only standard output"
        raise UsageError(f"there is no result {path!r}; declared: {declared}")
    return max(above, key=len)


def _below(value: Value, rest: str, path: str, fetch: Fetch, keep: Keep) -> Value:
    """Return a file, or a directory, that lies in a directory."""
    from hashserver.workspace.index import index_bytes, members_below, parse_index

    if value.format == "directory":
        index = parse_index(fetch(value.checksum))
        if rest in index:
            return Value("file", index[rest])
        if inner := members_below(index, rest):
            return Value("directory", keep(index_bytes(inner)))
    raise UsageError(f"there is no {path!r} in the result")


def members(value: Value, fetch: Fetch) -> list[Checksum]:
    """Return the checksums inside a value, the indices of its directories included.

    Parameters
    ----------
    fetch
        Returns the bytes of a checksum.
    """
    from hashserver.workspace.index import parse_index

    if value.format == "directory":
        return list(dict.fromkeys(parse_index(fetch(value.checksum)).values()))
    if value.format != RESULTS:
        return []
    parts = parse_results(fetch(value.checksum)).values
    return [checksum for part in parts for checksum in (part.checksum, *members(part, fetch))]


def missing(store: Store, values: Sequence[Value]) -> list[Checksum]:
    """Return what of the bytes of some values no place has.

    Of what is inside an index that is gone only the index is told.
    """
    wanted = dict.fromkeys(value.checksum for value in values)
    gone = _absent(store, list(wanted))
    inside = [value for value in values if value.format in ("directory", RESULTS)]
    parts: dict[Checksum, None] = {}
    for value in inside:
        if value.checksum not in gone:
            _gather(store, value, gone, parts)
    return [*gone, *_absent(store, [part for part in parts if part not in wanted])]


def _gather(store: Store, value: Value, gone: dict[Checksum, None], parts: dict[Checksum, None]) -> None:
    from hashserver.errors import BufferMissing

    try:
        parts.update(dict.fromkeys(members(value, store.get)))
    except BufferMissing as error:
        gone[Checksum(error.checksum)] = None


def _absent(store: Store, checksums: list[Checksum]) -> dict[Checksum, None]:
    if not checksums:
        return {}
    return {
        checksum: None for checksum, size in zip(checksums, store.has(checksums), strict=True) if size < 0
    }


def _value(pair: Any) -> Value:
    name, checksum = pair
    if not isinstance(name, str):
        raise TypeError(name)
    return Value(name, Checksum(checksum))
