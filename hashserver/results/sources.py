"""Reading a `seamless.db` that is not ours to write: a colleague's, an exported one, read-only media."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING, TypeVar

from hashserver.errors import DatabaseError
from hashserver.filesystem import is_network_filesystem
from hashserver.results import schema
from hashserver.results.sqlitefile import connect, patiently

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

T = TypeVar("T")


class ReadOnlyDatabase:
    """A database file that is only read, and beside which no file is ever made.

    Safe in threads: one connection behind a lock.

    Parameters
    ----------
    path
        The file. It is opened when first asked.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(os.fsdecode(path))
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._seen: object = None  # what an immutable file looked like when opened

    def read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Call `operation` with a connection.

        Raises
        ------
        DatabaseError
            The file is missing, damaged, newer, not ours, or in use in a way that keeps us from reading it.
        """
        with self._lock:
            return patiently(lambda: self._undisturbed(operation), self.path)

    ask = read  # what is asked stands in no transaction here

    def close(self) -> None:
        """Close the file; a later `read` opens it again."""
        with self._lock:
            self._drop()

    def _undisturbed(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        # SQLite takes no locks on an immutable file and never refreshes its pages, so that it is for us to
        # see that its owner has begun to write, before and after.
        while True:
            if self._seen is not None and self._seen != _appearance(self.path):
                self._drop()
            answer = operation(self._opened())
            if self._seen is None or self._seen == _appearance(self.path):
                return answer

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and self._pid == os.getpid():
            return self._connection
        self._seen = None
        mode = self._mode()
        connection = connect(self.path, mode)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")  # whoever made the file runs nothing here
            connection.execute("PRAGMA cell_size_check = ON")
            if schema.is_empty(connection, self.path):
                raise DatabaseError(f"{self.path} is empty: not a result database")
        except BaseException:
            connection.close()
            raise
        self._connection, self._pid = connection, os.getpid()
        return connection

    def _mode(self) -> str:
        """Parameters for opening so that nothing is written, not even the index of a write-ahead log."""
        if not _in_wal_mode(self.path):
            return "ro"
        if not os.path.exists(self.path + "-wal"):
            self._seen = _appearance(self.path)
            return "ro&immutable=1"
        if is_network_filesystem(self.path):
            raise DatabaseError(
                f"{self.path} is in use elsewhere: ask for a copy (seamless-status --export-db)"
            )
        return "ro&readonly_shm=1"

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._seen = None, None


def _appearance(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, os.path.exists(path + "-wal")


_headers: dict[tuple[int, int], int] = {}


def _in_wal_mode(path: str) -> bool:
    """Return whether the header of a file asks for a write-ahead log.

    The descriptor stays open for good: POSIX drops all locks a process holds on a file when it closes any
    descriptor of it, those of SQLite too.
    """
    try:
        status = os.stat(path)
        name = (status.st_dev, status.st_ino)
        if stat.S_ISREG(status.st_mode) and name not in _headers:
            _headers[name] = os.open(path, os.O_RDONLY)
        return name in _headers and os.pread(_headers[name], 1, 18) == b"\x02"
    except OSError:
        return False


def check_digests(digests: Iterable[object], path: str) -> None:
    """Raise `DatabaseError` if one of the values that a foreign file gave is not 32 bytes."""
    if not all(isinstance(digest, bytes) and len(digest) == 32 for digest in digests):
        raise DatabaseError(f"{path} holds rows that are not checksums: ask for another copy")
