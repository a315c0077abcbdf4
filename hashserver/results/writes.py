"""The changes to a database file, each inside a transaction that its caller began."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from hashserver.results.deferred import Value

_KEPT_FAILURES = 10  # a transformation; each may hold 64 KiB of stderr, and the file is there to be mailed


def put(
    connection: sqlite3.Connection,
    tf: bytes,
    value: Value,
    record: str | None,
    members: Sequence[bytes],
    elsewhere: Mapping[bytes, Value],
) -> Value | None:
    """Record a result; return the one that stands in its way, when there is another.

    Parameters
    ----------
    elsewhere
        Results that further databases know.
    """
    known = _current(connection, tf)
    if known is None and not _is_contested(connection, tf):
        known = elsewhere.get(tf)
    if known is not None and known != value:
        _keep_beside(connection, tf, value, record)
        return known
    if record is None and known is None:
        record = _record_beside(connection, tf, value)
    _make_current(connection, tf, value, record)
    _put_members(connection, value[1], members)
    return None


def contest(connection: sqlite3.Connection, tf: bytes, elsewhere: Value | None) -> Value | None:
    """Move the current result to the irreproducible ones and return it."""
    value = _current(connection, tf)
    if value is None and not _is_contested(connection, tf):
        value = elsewhere
    if value is None:
        return None
    record = _record(connection, tf)
    _keep_beside(connection, tf, value, record)
    connection.execute(
        "UPDATE irreproducible SET contested ="
        " (SELECT 1 + coalesce(max(contested), 0) FROM irreproducible WHERE tf = ?)"
        " WHERE tf = ? AND format = ? AND checksum = ?",
        (tf, tf, *value),
    )
    _drop_current(connection, tf)
    return value


def undo(connection: sqlite3.Connection, tf: bytes) -> Value | None:
    """Make the result that was contested last current again and return it."""
    value: Value | None = connection.execute(
        "SELECT format, checksum FROM irreproducible WHERE tf = ? AND contested IS NOT NULL"
        " ORDER BY contested DESC LIMIT 1",
        (tf,),
    ).fetchone()
    if value is None:
        return None
    other = _current(connection, tf)
    if other is not None:
        _keep_beside(connection, tf, other, _record(connection, tf))
        _drop_current(connection, tf)
    _make_current(connection, tf, value, _record_beside(connection, tf, value))
    return value


def put_deferred(
    connection: sqlite3.Connection,
    key: bytes,
    pairs: bytes,
    tf: bytes,
    upstream: Sequence[tuple[bytes, Value]],
) -> None:
    """Record what a structural key resolved to; `pairs` is a digest over `upstream`."""
    statement = "SELECT id, tf FROM deferred WHERE key = ? AND pairs = ?"
    found = connection.execute(statement, (key, pairs)).fetchone()
    if found is not None:
        if found[1] != tf:
            connection.execute("UPDATE deferred SET tf = ? WHERE id = ?", (tf, found[0]))
        return
    statement = "INSERT INTO deferred (key, pairs, tf) VALUES (?, ?, ?)"
    id_ = connection.execute(statement, (key, pairs, tf)).lastrowid
    connection.executemany(
        "INSERT INTO upstream VALUES (?, ?, ?, ?)", [(id_, up, *value) for up, value in upstream]
    )


def put_failure(connection: sqlite3.Connection, tf: bytes, record: str) -> None:
    """Record a failed run, and forget the oldest beyond a limit."""
    connection.execute("INSERT INTO failures (tf, record) VALUES (?, ?)", (tf, record))
    connection.execute(
        "DELETE FROM failures WHERE tf = ? AND id NOT IN"
        " (SELECT id FROM failures WHERE tf = ? ORDER BY id DESC LIMIT ?)",
        (tf, tf, _KEPT_FAILURES),
    )


def _current(connection: sqlite3.Connection, tf: bytes) -> Value | None:
    statement = "SELECT format, checksum FROM results WHERE tf = ?"
    row: Value | None = connection.execute(statement, (tf,)).fetchone()
    return row


def _record(connection: sqlite3.Connection, tf: bytes) -> str | None:
    row = connection.execute("SELECT record FROM records WHERE tf = ?", (tf,)).fetchone()
    return None if row is None else row[0]


def _is_contested(connection: sqlite3.Connection, tf: bytes) -> bool:
    statement = "SELECT 1 FROM irreproducible WHERE tf = ? AND contested IS NOT NULL"
    return connection.execute(statement, (tf,)).fetchone() is not None


def _keep_beside(connection: sqlite3.Connection, tf: bytes, value: Value, record: str | None) -> None:
    connection.execute(
        "INSERT INTO irreproducible (tf, format, checksum, record) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET record = coalesce(excluded.record, record)",
        (tf, *value, record),
    )


def _record_beside(connection: sqlite3.Connection, tf: bytes, value: Value) -> str | None:
    row = connection.execute(
        "SELECT record FROM irreproducible WHERE tf = ? AND format = ? AND checksum = ?", (tf, *value)
    ).fetchone()
    return None if row is None else row[0]


def _make_current(connection: sqlite3.Connection, tf: bytes, value: Value, record: str | None) -> None:
    connection.execute("INSERT OR IGNORE INTO results (tf, format, checksum) VALUES (?, ?, ?)", (tf, *value))
    connection.execute(
        "DELETE FROM irreproducible WHERE tf = ? AND format = ? AND checksum = ?", (tf, *value)
    )
    if record is not None:
        connection.execute(
            "INSERT INTO records (tf, record) VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET record = excluded.record WHERE record IS NOT excluded.record",
            (tf, record),
        )


def _drop_current(connection: sqlite3.Connection, tf: bytes) -> None:
    connection.execute("DELETE FROM results WHERE tf = ?", (tf,))
    connection.execute("DELETE FROM records WHERE tf = ?", (tf,))


def _put_members(connection: sqlite3.Connection, whole: bytes, members: Sequence[bytes]) -> None:
    if members:
        rows = [(member, whole) for member in members]
        connection.executemany("INSERT OR IGNORE INTO members VALUES (?, ?)", rows)
