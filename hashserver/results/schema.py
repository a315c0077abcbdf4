"""What stands in a `seamless.db`, and how to tell one from any other file.

::

    results         transformation → format, checksum          one row each: the current result
    records         transformation → execution record (JSON)   apart, so that look-ups touch small rows only
    irreproducible  further results of a transformation; `contested` numbers those that were current once
    deferred        structural key → transformation it resolved to; one row for each set of upstream results
    upstream        the (key, format, checksum) pairs such a row was resolved with
    failures        transformation → record of a failed run
    members         checksum of a member → checksum of the whole (a directory, several results) it lies in
    runs            transformation → checksum of its code, when its result was recorded last
    inputs          what such a run was given; `whole`: it names others that belong to it (a directory)
    names           what people call a run: its label, the paths of its results
    backlog         up to where results of an earlier version have been entered in `runs`; no row: all of them

`runs`, `inputs` and `names` follow from the documents of transformations. A `code` that is NULL says that the
document is still to be read, an empty one that it was nowhere. Versions that know nothing of these tables
read and write the file as before: the trigger enters in `runs` what they record.

Checksums are blobs of 32 bytes. Look into one with ``SELECT lower(hex(tf)), format, lower(hex(checksum))``.
"""

from __future__ import annotations

import sqlite3

from hashserver.errors import DatabaseError

APPLICATION_ID = 0x5345414D  # "SEAM" in the file's header
VERSION = 1

TABLES = (
    "CREATE TABLE results (tf BLOB PRIMARY KEY, format TEXT NOT NULL, checksum BLOB NOT NULL) WITHOUT ROWID",
    "CREATE INDEX results_by_checksum ON results (checksum)",
    "CREATE TABLE records (tf BLOB PRIMARY KEY, record TEXT NOT NULL)",
    "CREATE TABLE irreproducible (tf BLOB, checksum BLOB, format TEXT, record TEXT, contested INTEGER,"
    " PRIMARY KEY (tf, checksum, format))",
    "CREATE INDEX irreproducible_by_checksum ON irreproducible (checksum)",
    "CREATE TABLE deferred (id INTEGER PRIMARY KEY, key BLOB NOT NULL, pairs BLOB NOT NULL,"
    " tf BLOB NOT NULL, UNIQUE (key, pairs))",
    "CREATE TABLE upstream (deferred INTEGER, key BLOB, format TEXT NOT NULL, checksum BLOB NOT NULL,"
    " PRIMARY KEY (deferred, key)) WITHOUT ROWID",
    "CREATE TABLE failures (id INTEGER PRIMARY KEY, tf BLOB NOT NULL, record TEXT NOT NULL)",
    "CREATE INDEX failures_by_tf ON failures (tf)",
    "CREATE TABLE members (member BLOB, whole BLOB, PRIMARY KEY (member, whole)) WITHOUT ROWID",
)

RUNS = (
    "CREATE TABLE IF NOT EXISTS runs"
    " (id INTEGER PRIMARY KEY, tf BLOB NOT NULL UNIQUE, code BLOB, time INTEGER)",
    "CREATE INDEX IF NOT EXISTS runs_by_code ON runs (code, time)",
    "CREATE INDEX IF NOT EXISTS runs_by_time ON runs (time)",
    "CREATE TABLE IF NOT EXISTS inputs (run INTEGER, checksum BLOB, whole INTEGER NOT NULL,"
    " PRIMARY KEY (run, checksum)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS inputs_by_checksum ON inputs (checksum)",
    "CREATE TABLE IF NOT EXISTS names (name TEXT, run INTEGER, PRIMARY KEY (name, run)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS backlog (after BLOB NOT NULL)",
    "CREATE TRIGGER IF NOT EXISTS results_are_runs AFTER INSERT ON results BEGIN"
    " INSERT OR IGNORE INTO runs (tf, time) VALUES (new.tf, CAST(strftime('%s', 'now') AS INTEGER)); END",
)
"""The index of runs, which files of earlier versions do not have."""


def is_empty(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the file is still to be filled; anything but that or our version raises.

    Raises
    ------
    DatabaseError
        The file is of a newer version, or a SQLite file of another program.
    """
    application, version, tables = _header(connection)
    if application == APPLICATION_ID and version == VERSION:
        return False
    if application == APPLICATION_ID:
        raise DatabaseError(
            f"{path} is a result database of version {version}, known is {VERSION}: upgrade seamless-dask"
        )
    if application or version or tables:
        raise DatabaseError(f"{path} is the SQLite file of another program: name another database")
    return True


def _header(connection: sqlite3.Connection) -> list[int]:
    """Return application, version and number of tables at one moment: another process may be making it."""
    questions = ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    alone = not connection.in_transaction
    if alone:
        connection.execute("BEGIN")
    try:
        return [int(connection.execute(question).fetchone()[0]) for question in questions]
    finally:
        if alone and connection.in_transaction:
            connection.execute("ROLLBACK")


def create(connection: sqlite3.Connection, path: str) -> None:
    """Fill an empty file; of several processes that try, one does it and the others find it done."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if is_empty(connection, path):
            for statement in (*TABLES, *RUNS):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def has_runs(connection: sqlite3.Connection) -> bool:
    """Whether a file has the index of runs."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone() is not None


def extend(connection: sqlite3.Connection) -> None:
    """Give a file of an earlier version the index of runs; what it holds is entered later, in steps."""
    if has_runs(connection):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not has_runs(connection):  # else another process has done it while this one waited
            for statement in RUNS:
                connection.execute(statement)
            connection.execute("INSERT INTO backlog VALUES (x'')")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
