"""What stands in a `seamless.db`, and how to tell one from any other file.

::

    results         transformation → format, checksum          one row each: the current result
    records         transformation → execution record (JSON)   apart, so that look-ups touch small rows only
    irreproducible  further results of a transformation; `contested` numbers those that were current once
    deferred        structural key → transformation it resolved to; one row for each set of upstream results
    upstream        the (key, format, checksum) pairs such a row was resolved with
    failures        transformation → record of a failed run
    members         checksum of a member → checksum of the whole (a directory, several results) it lies in

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
            for statement in TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
