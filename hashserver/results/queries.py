"""The questions one database file answers, each over a plain connection; digests in, digests out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from hashserver.results.deferred import Row, Value

_CHUNK = 1000  # parameters a statement; SQLite's own limit is 32766


def among(connection: sqlite3.Connection, statement: str, values: Sequence[Any]) -> Iterator[Any]:
    """Yield the rows of `statement`, whose `{}` becomes a list of parameters, for any number of values.

    The values are sorted first: neighbours in the tree are then read together.
    """
    ordered = sorted(values)
    for start in range(0, len(ordered), _CHUNK):
        part = ordered[start : start + _CHUNK]
        yield from connection.execute(statement.format(",".join("?" * len(part))), part)


def results(connection: sqlite3.Connection, tfs: Sequence[bytes]) -> dict[bytes, Value]:
    """Return the current results of those transformations that have one."""
    rows = among(connection, "SELECT tf, format, checksum FROM results WHERE tf IN ({})", tfs)
    return {row[0]: row[1:] for row in rows}


def result(connection: sqlite3.Connection, tf: bytes) -> tuple[str, bytes, str | None] | None:
    """Return format, digest and record of one current result."""
    row: tuple[str, bytes, str | None] | None = connection.execute(
        "SELECT format, checksum, record FROM results LEFT JOIN records USING (tf) WHERE tf = ?", (tf,)
    ).fetchone()
    return row


def value(connection: sqlite3.Connection, tf: bytes) -> Value | None:
    """Return format and digest of one current result."""
    row: Value | None = connection.execute(
        "SELECT format, checksum FROM results WHERE tf = ?", (tf,)
    ).fetchone()
    return row


def contested(connection: sqlite3.Connection, tfs: Sequence[bytes]) -> set[bytes]:
    """Return those transformations of which a result has been contested."""
    statement = "SELECT DISTINCT tf FROM irreproducible WHERE contested IS NOT NULL AND tf IN ({})"
    return {tf for (tf,) in among(connection, statement, tfs)}


def irreproducible(connection: sqlite3.Connection, tf: bytes) -> list[tuple[str, bytes, str | None]]:
    """Return format, digest and record of the further results of a transformation, in the order they came."""
    return connection.execute(
        "SELECT format, checksum, record FROM irreproducible WHERE tf = ? ORDER BY rowid", (tf,)
    ).fetchall()


def rows(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, list[Row]]:
    """Return the deferred rows of structural keys, newest first."""
    statement = "SELECT id, key, tf FROM deferred WHERE key IN ({}) ORDER BY id DESC"
    found = list(among(connection, statement, keys))
    pairs: dict[int, list[tuple[bytes, Value]]] = {}
    statement = "SELECT deferred, key, format, checksum FROM upstream WHERE deferred IN ({})"
    for id_, key, format_, checksum in among(connection, statement, [id_ for id_, _, _ in found]):
        pairs.setdefault(id_, []).append((key, (format_, checksum)))
    answer: dict[bytes, list[Row]] = {}
    for id_, key, tf in found:
        answer.setdefault(key, []).append((tf, pairs.get(id_, [])))
    return answer


def failures(connection: sqlite3.Connection, tf: bytes) -> list[str]:
    """Return the records of the failed runs of a transformation, oldest first."""
    found = connection.execute("SELECT record FROM failures WHERE tf = ? ORDER BY id", (tf,))
    return [record for (record,) in found]


def producers(connection: sqlite3.Connection, checksum: bytes) -> list[bytes]:
    """Return the transformations that gave a checksum or a whole it is a member of, current results first."""
    found = connection.execute(
        "WITH RECURSIVE wholes(w) AS (SELECT ? UNION SELECT whole FROM members JOIN wholes ON member = w)"
        " SELECT tf, 0 AS place FROM results JOIN wholes ON checksum = w"
        " UNION ALL SELECT tf, 1 FROM irreproducible JOIN wholes ON checksum = w ORDER BY place, tf",
        (checksum,),
    )
    return list(dict.fromkeys(tf for tf, _ in found))


def records(connection: sqlite3.Connection, tfs: Sequence[bytes]) -> dict[bytes, str]:
    """Return the records of the current results of some transformations."""
    return dict(among(connection, "SELECT tf, record FROM records WHERE tf IN ({})", tfs))


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the number of rows by table."""
    tables = ("results", "irreproducible", "deferred", "failures")
    return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}  # noqa: S608
