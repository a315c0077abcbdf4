"""Answers of database files that somebody else made, checked before they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashserver.errors import DatabaseError
from hashserver.results import queries
from hashserver.results import result as results
from hashserver.results.sources import check_digests

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from hashserver.results.deferred import Row, Value
    from hashserver.results.result import Result


def result_of(connection: sqlite3.Connection, tf: bytes, path: str) -> Result | None:
    """Return one current result."""
    row = queries.result(connection, tf)
    if row is None:
        return None
    check_digests([row[1]], path)
    try:
        return results.result(row, path)
    except ValueError as error:
        raise DatabaseError(f"{path} holds a record that is not JSON: ask for another copy") from error


def results_of(connection: sqlite3.Connection, tfs: Sequence[bytes], path: str) -> dict[bytes, Value]:
    """Return the current results of those transformations that have one."""
    found = queries.results(connection, tfs)
    check_digests((digest for _, digest in found.values()), path)
    return found


def rows(connection: sqlite3.Connection, keys: Sequence[bytes], path: str) -> dict[bytes, list[Row]]:
    """Return the deferred rows of structural keys."""
    found = queries.rows(connection, keys)
    rows = [row for many in found.values() for row in many]
    check_digests((tf for tf, _ in rows), path)
    check_digests((key for _, pairs in rows for key, _ in pairs), path)
    return found


def producers(connection: sqlite3.Connection, checksum: bytes, path: str) -> list[bytes]:
    """Return the transformations that gave a checksum."""
    found = queries.producers(connection, checksum)
    check_digests(found, path)
    return found
