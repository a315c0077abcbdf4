"""What a database file, ours or somebody else's, knows of runs: checked before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hashserver.checksum import Checksum
from hashserver.errors import DatabaseError
from hashserver.results import queries, runs, schema
from hashserver.results import result as results
from hashserver.results.result import Run
from hashserver.results.sources import check_digests

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence


def runs_of(connection: sqlite3.Connection, tfs: Sequence[bytes], path: str | None) -> dict[bytes, Run]:
    """Return the runs of those transformations that have a current result; no path: in the own database."""
    found = queries.results(connection, tfs)
    check_digests((digest for _, digest in found.values()), path or "the result database")
    times = runs.times(connection, list(found)) if schema.has_runs(connection) else {}
    records = queries.records(connection, list(found))
    return {
        tf: Run(
            Checksum.from_digest(tf),
            results.plain(value, path),
            _record(records.get(tf), path),
            times.get(tf),
        )
        for tf, value in found.items()
    }


def recent(connection: sqlite3.Connection, limit: int) -> list[Run]:
    """Return the runs that were recorded last, newest first."""
    if not schema.has_runs(connection):
        return []
    tfs = runs.recent(connection, limit)
    known = runs_of(connection, tfs, None)
    failed = [
        Run(Checksum.from_digest(tf), None, _record(record, None))
        for tf, record in runs.recent_failures(connection, limit)
    ]
    done = [known[tf] for tf in tfs if tf in known]
    return sorted([*done, *failed], key=lambda run: run.begun, reverse=True)[:limit]


def uses(connection: sqlite3.Connection, path: str, checksums: Sequence[bytes], limit: int) -> list[bytes]:
    """Return the runs that were given one of some buffers."""
    found = runs.uses(connection, checksums, limit) if schema.has_runs(connection) else []
    check_digests(found, path)
    return found


def producers_of(
    connection: sqlite3.Connection, checksums: Sequence[bytes], limit: int, path: str
) -> dict[bytes, list[bytes]]:
    """Return the runs that gave each of some buffers, as far as there are any."""
    in_time = schema.has_runs(connection)
    found = {
        checksum: runs.producers(connection, checksum, limit)
        if in_time
        else queries.producers(connection, checksum)[:limit]
        for checksum in checksums
    }
    check_digests((tf for many in found.values() for tf in many), path)
    return {checksum: many for checksum, many in found.items() if many}


def similar(
    connection: sqlite3.Connection, path: str, code: bytes, names: Sequence[str], limit: int
) -> list[bytes]:
    """Return the runs that are like one with this code and these names."""
    found = runs.similar(connection, code, names, limit) if schema.has_runs(connection) else []
    check_digests(found, path)
    return found


def _record(text: str | None, path: str | None) -> dict[str, Any] | None:
    try:
        found = runs.without_stderr(text)
    except (ValueError, AttributeError) as error:
        raise DatabaseError(f"{path} holds a record that is not JSON: ask for another copy") from error
    return found
