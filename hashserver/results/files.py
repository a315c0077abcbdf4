"""The one database file that is ours to write: opening, making, locking."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from hashserver.durability import Together
from hashserver.errors import DatabaseError, ServiceUnavailable
from hashserver.filesystem import is_network_filesystem
from hashserver.results import schema
from hashserver.results.sqlitefile import connect, is_beside, make_file, patiently, primary_code, translate_os

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashserver.results.sources import ReadOnlyDatabase

    _Operation = Callable[[sqlite3.Connection], Any]

T = TypeVar("T")


class WritableDatabase:
    """A database file that processes and threads read and write at once.

    One connection reads and another one writes, each behind a lock of its own, so that look-ups never wait
    for a writer (with a write-ahead log). A forked child opens its own.

    Parameters
    ----------
    path
        The file, made with its directory when it is first used. Opened then, too.
    warnings
        Lines for the user are appended here.
    """

    def __init__(self, path: str | os.PathLike[str], warnings: list[str]) -> None:
        self.path = os.path.abspath(os.fsdecode(path))
        self._warnings = warnings
        self._pid = os.getpid()
        self._remote = False
        self._forget()

    def _forget(self) -> None:
        self._read_lock, self._write_lock = threading.Lock(), threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._unwritable: ReadOnlyDatabase | None = None
        self._writes: Together[_Operation, tuple[Any, Exception | None]] = Together(self._write_all)

    def read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Call `operation` with a connection; all its queries see one state of the file."""
        self._mind_fork()
        with self._read_lock:
            if self._unwritable is None:
                self._reader = self._reader or patiently(self._open, self.path)
            if self._unwritable is not None:
                return self._unwritable.read(operation)
            reader = self._reader
            assert reader is not None
            return patiently(lambda: within(reader, "BEGIN", self._guarded(operation)), self.path)

    def ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Call what is one query, which sees one state of the file by itself: without a transaction."""
        self._mind_fork()
        with self._read_lock:
            if self._reader is not None and not self._remote:
                with suppress(sqlite3.Error):  # below it is told, or waited for whoever is in the way
                    return query(self._reader)
        return self.read(query)

    def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Call `operation` in a transaction: all of it is recorded, to survive a power cut, or nothing.

        Threads that write at the same time share the transaction, and so its sync.
        """
        self._mind_fork()
        answer, error = self._writes(operation)
        if error is not None:
            raise error
        return answer  # type: ignore[no-any-return]

    def _write_all(self, operations: list[_Operation]) -> list[tuple[Any, Exception | None]]:
        """Return of each operation what it gave, or the error that it alone has met."""
        with self._write_lock:
            writer = self._writer = self._writer or self._new_writer()

            def write(some: list[_Operation]) -> list[tuple[Any, Exception | None]]:
                def operation(connection: sqlite3.Connection) -> list[tuple[Any, Exception | None]]:
                    return [(each(connection), None) for each in some]

                return patiently(
                    lambda: within(writer, "BEGIN IMMEDIATE", self._guarded(operation)), self.path
                )

            try:
                return write(operations)
            except ServiceUnavailable:
                raise  # a full disk, another process: the same for all
            except Exception as error:
                if len(operations) == 1:
                    return [(None, error)]
            return [_alone(write, operation) for operation in operations]

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        self._mind_fork()
        with self._write_lock, self._read_lock:
            for opened in (self._reader, self._writer, self._unwritable):
                if opened is not None:
                    opened.close()
            self._reader = self._writer = self._unwritable = None

    def _mind_fork(self) -> None:
        # A connection must not be used, not even closed, by another process than the one that opened it.
        if self._pid != os.getpid():
            self._pid = os.getpid()
            _inherited.append((self._reader, self._writer))
            self._forget()

    def _open(self) -> sqlite3.Connection | None:
        connection = self._connect()
        try:
            self._prepare(connection)
        except sqlite3.OperationalError as error:
            connection.close()
            if not is_beside(error):
                raise
            # A write-ahead log cannot be made in a directory that is not writable, or on a full disk.
            from hashserver.results.sources import ReadOnlyDatabase

            self._unwritable = ReadOnlyDatabase(self.path)
            return None
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        try:
            state = os.stat(self.path)
        except OSError:
            self._make()
        else:
            self._tighten(state)
        return connect(self.path, "rwc")

    def _make(self) -> None:
        """Make an empty file with the mode it is to have; SQLite gives what lies beside it the same."""
        from hashserver.storage.modes import make_root, new_file_mode  # only where there is none yet

        directory = os.path.dirname(self.path)
        try:
            make_root(directory)
            make_file(self.path, new_file_mode(directory))
        except OSError as error:
            if not os.path.isdir(directory):
                raise translate_os(error, directory) from error
            # else SQLite says what is wrong, or makes it where there are no hard links

    def _tighten(self, state: os.stat_result) -> None:
        """Take from a database of ours what lets everybody change it; refuse somebody else's."""
        excess = state.st_mode & 0o022
        if not excess or not stat.S_ISREG(state.st_mode):
            return
        excess &= ~(os.stat(os.path.dirname(self.path)).st_mode & 0o020)  # a directory that a group shares
        if not excess:
            return
        if state.st_uid != os.geteuid():
            raise DatabaseError(
                f"{self.path} belongs to another user and others may write to it: name another database"
            )
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                os.chmod(self.path + suffix, stat.S_IMODE(state.st_mode) & ~excess)
        self._warnings.append(f"{self.path} could be written by others: its mode has been tightened")

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._remote = remote = is_network_filesystem(self.path)
        if remote:
            self._warn_of_network()
            if _in_wal_mode(connection):
                self._leave_wal_mode(connection)
        if schema.is_empty(connection, self.path):
            if not remote:
                connection.execute("PRAGMA journal_mode = WAL")
            schema.create(connection, self.path)

    def _new_writer(self) -> sqlite3.Connection:
        # What lies beside a file is opened once a process: for reading only, nobody in it can write.
        with self._read_lock:
            if self._unwritable is not None:
                self._unwritable.close()
                self._unwritable = None
            return patiently(self._open_for_writing, self.path)

    def _open_for_writing(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            self._prepare(connection)
            schema.extend(connection)
            if not self._remote and not _in_wal_mode(
                connection
            ):  # exported, or once on a network file system
                connection.execute("PRAGMA journal_mode = WAL")
            # EXTRA syncs the directory, too, once a rollback journal is gone from it: before that it might
            # come back and undo what was acknowledged. With a write-ahead log it is the same as FULL.
            connection.execute("PRAGMA synchronous = EXTRA")
        except BaseException:
            connection.close()
            raise
        return connection

    def _leave_wal_mode(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY:
                raise
            raise self._in_use_elsewhere() from error

    def _guarded(self, operation: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
        """Return `operation`, undone where the host that has the disk has turned on the write-ahead log.

        That is shared memory, which a network file system does not share: the file would be damaged.
        """
        if not self._remote:
            return operation

        def guarded(connection: sqlite3.Connection) -> T:
            answer = operation(connection)
            if _in_wal_mode(connection):
                raise self._in_use_elsewhere()
            return answer

        return guarded

    def _in_use_elsewhere(self) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"{self.path} is in use on the host whose disk it is on, and cannot be shared with it over the"
            " network: run seamless-init there and use its hashserver"
        )

    def _warn_of_network(self) -> None:
        line = (
            f"{self.path} is on a network file system, where SQLite is slow and its locks may fail:"
            " seamless-init starts a hashserver that keeps the database for all hosts"
        )
        if line not in self._warnings:
            self._warnings.append(line)


def _alone(
    write: Callable[[list[_Operation]], list[tuple[Any, Exception | None]]], operation: _Operation
) -> tuple[Any, Exception | None]:
    try:
        return write([operation])[0]
    except Exception as error:
        return None, error


_inherited: list[object] = []  # connections of a parent process, never closed here


def _in_wal_mode(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal")


def within(connection: sqlite3.Connection, begin: str, operation: Callable[[sqlite3.Connection], T]) -> T:
    """Call `operation` between `begin` and COMMIT, or roll back."""
    connection.execute(begin)
    try:
        answer = operation(connection)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return answer
