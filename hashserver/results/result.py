"""Results as callers see them, and as rows of a database file hold them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hashserver.checksum import Checksum
from hashserver.errors import Irreproducible
from hashserver.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashserver.results.deferred import Value

Record = dict[str, Any]


class Result(NamedTuple):
    """A result value as a database knows it.

    `record` is None where none was kept and in answers to many questions at once; `source` is the path of
    the further database that knew it, None for the own one.
    """

    format: str
    checksum: Checksum
    record: Record | None = None
    source: str | None = None


WHOLES = ("directory", "results")
"""Formats of values that consist of others."""


class Provenance(NamedTuple):
    """What a result was made from, by which its run is found.

    Attributes
    ----------
    code : Checksum
        The code.
    inputs : sequence of Checksum
        Inputs that are what they are.
    wholes : sequence of Checksum
        Inputs that name others which belong to them, such as directories.
    names : sequence of str
        What people call the run: its label, the paths of its results.
    """

    code: Checksum
    inputs: Sequence[Checksum] = ()
    wholes: Sequence[Checksum] = ()
    names: Sequence[str] = ()


class Run(NamedTuple):
    """What a database knows of one run.

    Attributes
    ----------
    tf : Checksum
        The transformation.
    result : Result or None
        What it gave, without the record; None: it failed, or the result is not current any more.
    record : dict or None
        How, without standard error.
    time : int or None
        When that was recorded, in seconds since 1970.
    """

    tf: Checksum
    result: Result | None
    record: Record | None
    time: int | None = None

    @property
    def begun(self) -> str:
        """When it began, as its record says, for sorting."""
        return str((self.record or {}).get("started", ""))


class Put(NamedTuple):
    """One result to be recorded by `Database.put_many`."""

    tf: Checksum
    format: str
    checksum: Checksum
    record: Record | None = None
    members: Sequence[Checksum] = ()
    provenance: Provenance | None = None


def dumps(record: Record) -> str:
    """Return a record as the text that is kept."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def result(row: tuple[str, bytes, str | None], source: str | None) -> Result:
    """Return the result that a row with its record stands for."""
    format_, digest, text = row
    record = None if text is None else json.loads(text)
    return Result(format_, Checksum.from_digest(digest), record, source)


def plain(value: Value, source: str | None) -> Result:
    """Return a result without record."""
    return Result(value[0], Checksum.from_digest(value[1]), None, source)


def entry(put: Put) -> tuple[bytes, Value, str | None, list[bytes]]:
    """Return the parameters of `writes.put`."""
    record = None if put.record is None else dumps(put.record)
    members = [member.digest for member in put.members]
    return put.tf.digest, (put.format, put.checksum.digest), record, members


def irreproducible(tf: bytes, known: Value, found: Value) -> Irreproducible:
    """Return the error for a result that another is in the way of."""
    names = [value[1].hex() for value in (known, found)]
    if names[0] == names[1]:
        names = [f"{value[0]} {value[1].hex()}" for value in (known, found)]
    return Irreproducible(tf.hex(), *names)
