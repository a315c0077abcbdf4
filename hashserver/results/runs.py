"""The index of runs: what was made from what, when, and what people call it; over a plain connection.

Each result is entered when it is recorded, in the same transaction. Results of earlier versions of this
program are entered in steps (`unread`, `enter_read`), by whoever has their documents.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from hashserver.checksum import Checksum
from hashserver.errors import InvalidChecksum
from hashserver.results.queries import among, records
from hashserver.results.result import WHOLES, Provenance

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

MOST_LOOKED_AT = 10_000
"""Runs among which the newest are looked for: of the empty file there may be a million."""
_CHUNK = 500
MOST_NAMES = 50
"""Names by which a run is found: a glob of results may have thousands of paths."""
_LONGEST_NAME = 200


def provenance_of(data: bytes, label: str | None) -> Provenance | None:
    """Return what a transformation's document, as it is stored, names; None if it is no such document."""
    try:
        return provenance_of_document(json.loads(data), label)
    except (ValueError, RecursionError):
        return None


def provenance_of_document(document: Mapping[str, Any], label: str | None) -> Provenance | None:
    """Return what a transformation's document names; None if it is no such document.

    Parameters
    ----------
    document
        With the members ``code``, ``inputs``, ``stdin`` and ``result`` of a canonical form.
    label
        What people call it.
    """
    try:
        values = [*document.get("inputs", {}).values(), *([document["stdin"]] if "stdin" in document else [])]
        values = [value for value in values if isinstance(value, list)]
        result = document["result"]
        names = [*([label] if label else []), *result.get("paths", ()), *result.get("globs", ())]
        names = [str(name)[:_LONGEST_NAME] for name in names[:MOST_NAMES]]
        "".join(names).encode()  # SQLite has no halves of characters
        return Provenance(
            Checksum(document["code"]),
            [Checksum(checksum) for kind, checksum in values if kind not in WHOLES],
            [Checksum(checksum) for kind, checksum in values if kind in WHOLES],
            names,
        )
    except (ValueError, TypeError, KeyError, AttributeError, InvalidChecksum):
        return None


def enter(connection: sqlite3.Connection, tf: bytes, provenance: Provenance | None) -> None:
    """Enter a run that is recorded now; without its provenance the document is read when there is time."""
    code, now = None if provenance is None else provenance.code.digest, int(time.time())
    statement = "INSERT OR IGNORE INTO runs (tf, code, time) VALUES (?, ?, ?)"
    entered = connection.execute(statement, (tf, code, now))
    if entered.rowcount:
        if provenance is not None:
            _enter_rest(connection, entered.lastrowid, provenance)
        return
    connection.execute("UPDATE runs SET time = ? WHERE tf = ?", (now, tf))
    if provenance is not None:
        run, known = connection.execute("SELECT id, code FROM runs WHERE tf = ?", (tf,)).fetchone()
        if not known:
            _enter_provenance(connection, run, provenance)


def _enter_provenance(connection: sqlite3.Connection, run: int, provenance: Provenance) -> None:
    connection.execute("UPDATE runs SET code = ? WHERE id = ?", (provenance.code.digest, run))
    _enter_rest(connection, run, provenance)


def _enter_rest(connection: sqlite3.Connection, run: int | None, provenance: Provenance) -> None:
    whole = dict.fromkeys(provenance.inputs, 0) | dict.fromkeys(provenance.wholes, 1)
    connection.executemany(
        "INSERT OR IGNORE INTO inputs VALUES (?, ?, ?)",
        [(run, checksum.digest, flag) for checksum, flag in sorted(whole.items())],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO names VALUES (?, ?)", [(name, run) for name in sorted(set(provenance.names))]
    )


def unread(connection: sqlite3.Connection, most: int) -> list[tuple[bytes, str | None]]:
    """Return up to `most` runs whose documents are still to be read, each with its label.

    Where there are fewer, as many results of an earlier version are entered first.
    """
    statement = "SELECT tf FROM runs WHERE code IS NULL LIMIT ?"
    found = connection.execute(statement, (most,)).fetchall()
    if not found:
        _take_from_backlog(connection, most)
        found = connection.execute(statement, (most,)).fetchall()
    told = _records(connection, [tf for (tf,) in found])
    return [(tf, _text(told.get(tf, {}), "label")) for (tf,) in found]


def _take_from_backlog(connection: sqlite3.Connection, most: int) -> None:
    row = connection.execute("SELECT after FROM backlog").fetchone()
    if row is None:
        return
    statement = "SELECT tf FROM results WHERE tf > ? ORDER BY tf LIMIT ?"
    tfs = [tf for (tf,) in connection.execute(statement, (row[0], most))]
    times = {tf: _ended(record) for tf, record in _records(connection, tfs).items()}
    connection.executemany(
        "INSERT OR IGNORE INTO runs (tf, time) VALUES (?, ?)", [(tf, times.get(tf)) for tf in tfs]
    )
    if len(tfs) < most:
        connection.execute("DELETE FROM backlog")
    else:
        connection.execute("UPDATE backlog SET after = ?", (tfs[-1],))


def enter_read(connection: sqlite3.Connection, read: Iterable[tuple[bytes, Provenance | None]]) -> None:
    """Enter what has been read; None stands for a document that is nowhere."""
    for tf, provenance in read:
        found = connection.execute("SELECT id FROM runs WHERE tf = ? AND code IS NULL", (tf,)).fetchone()
        if found is None:
            continue  # recorded again in the meantime
        if provenance is None:
            connection.execute("UPDATE runs SET code = x'' WHERE id = ?", found)
        else:
            _enter_provenance(connection, found[0], provenance)


def times(connection: sqlite3.Connection, tfs: Sequence[bytes]) -> dict[bytes, int]:
    """Return when runs were recorded."""
    return dict(among(connection, "SELECT tf, time FROM runs WHERE tf IN ({})", tfs))


def recent(connection: sqlite3.Connection, limit: int) -> list[bytes]:
    """Return the runs with a result that were recorded last, newest first."""
    statement = "SELECT tf FROM runs ORDER BY time DESC, id DESC LIMIT ?"
    return [tf for (tf,) in connection.execute(statement, (limit,))]


def recent_failures(connection: sqlite3.Connection, limit: int) -> list[tuple[bytes, str]]:
    """Return transformation and record of the runs that failed last, newest first."""
    statement = "SELECT tf, record FROM failures ORDER BY id DESC LIMIT ?"
    return connection.execute(statement, (limit,)).fetchall()


def uses(connection: sqlite3.Connection, checksums: Sequence[bytes], limit: int) -> list[bytes]:
    """Return the runs that were given one of some buffers, or a whole it is a member of; newest first."""
    found: dict[bytes, tuple[int, int]] = {}
    for start in range(0, len(checksums), _CHUNK):
        part = checksums[start : start + _CHUNK]
        rows = connection.execute(
            "WITH RECURSIVE wholes(w) AS ("  # noqa: S608 - parameters only
            f" VALUES {','.join(['(?)'] * len(part))}"
            " UNION SELECT whole FROM members JOIN wholes ON member = w)"
            " SELECT tf, time, id FROM (SELECT run FROM inputs JOIN wholes ON checksum = w"
            " UNION SELECT id FROM runs JOIN wholes ON code = w LIMIT ?) JOIN runs ON id = run"
            " ORDER BY time DESC, id DESC LIMIT ?",
            (*part, MOST_LOOKED_AT, limit),
        )
        found |= {tf: (time or 0, id_) for tf, time, id_ in rows}
    return sorted(found, key=lambda tf: found[tf], reverse=True)[:limit]


def producers(connection: sqlite3.Connection, checksum: bytes, limit: int) -> list[bytes]:
    """Return the runs that gave a buffer, or a whole it is a member of: current results, newest first."""
    rows = connection.execute(
        "WITH RECURSIVE wholes(w) AS (SELECT ? UNION SELECT whole FROM members JOIN wholes ON member = w)"
        " SELECT tf FROM (SELECT tf, 0 AS place FROM results JOIN wholes ON checksum = w"
        " UNION ALL SELECT tf, 1 FROM irreproducible JOIN wholes ON checksum = w LIMIT ?)"
        " LEFT JOIN runs USING (tf) GROUP BY tf ORDER BY min(place), time DESC, id DESC LIMIT ?",
        (checksum, MOST_LOOKED_AT, limit),
    )
    return [tf for (tf,) in rows]


def similar(connection: sqlite3.Connection, code: bytes, names: Sequence[str], limit: int) -> list[bytes]:
    """Return runs of the same code, then those that share a name, up to `limit` of each, newest first."""
    statement = "SELECT tf FROM runs WHERE code = ? ORDER BY time DESC LIMIT ?"
    found = [tf for (tf,) in connection.execute(statement, (code, limit))]
    statement = "SELECT tf FROM names JOIN runs ON id = run WHERE name = ? ORDER BY run DESC LIMIT ?"
    for name in names:
        found += [tf for (tf,) in connection.execute(statement, (name[:_LONGEST_NAME], limit))]
    return list(dict.fromkeys(found))


def without_stderr(record: str | None) -> dict[str, Any] | None:
    """Return a record as it is told where there are many."""
    found = None if record is None else json.loads(record)
    return {name: value for name, value in found.items() if name != "stderr"} if found else found


def _records(connection: sqlite3.Connection, tfs: Sequence[bytes]) -> dict[bytes, dict[str, Any]]:
    return {tf: json.loads(record) for tf, record in records(connection, tfs).items()}


def _text(record: dict[str, Any], name: str) -> str | None:
    found = record.get(name)
    return found if isinstance(found, str) else None


def _ended(record: dict[str, Any]) -> int | None:
    """Return when a run has ended, as far as its record says."""
    from calendar import timegm  # and what parses moments: imported for old files only

    wall = record.get("wall")
    try:
        started = timegm(time.strptime(_text(record, "started") or "", "%Y-%m-%dT%H:%M:%SZ"))
        return started + int(wall if isinstance(wall, (int, float)) else 0)
    except (ValueError, OverflowError):
        return None
