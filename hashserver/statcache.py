"""The stat cache: what has not changed is not read again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from binascii import crc32
from struct import Struct
from typing import TYPE_CHECKING

from hashserver.checksum import Checksum, make_checksum
from hashserver.durability import boot
from hashserver.filesystem import is_network_filesystem, local_directory, timestamp_step_ns
from hashserver.hashing import hash_stable
from hashserver.system_text import to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from hashserver.hashing import Hashed

FILE_NAME = "stat.db"
BUSY = 2.0
"""Seconds to wait for other processes before doing without."""

SIZE_LIMIT = 256 << 20
"""A larger cache is begun anew: it is cheaper than finding out which files are gone."""

_COARSE = 2_000_000_000
_WRITTEN_BACK = 120_000_000_000
"""After so long (ns) without a change Linux has written a file to the disk by itself."""
_pack = Struct("=QQqqq").pack
_CREATE = "CREATE TABLE IF NOT EXISTS files_1 (path BLOB PRIMARY KEY, entry BLOB NOT NULL) WITHOUT ROWID"
_RANGE = "SELECT substr(path, ?), entry FROM files_1 WHERE path >= ? AND path < ?"
_ONE = "SELECT entry FROM files_1 WHERE path = ?"
_PUT = "INSERT OR REPLACE INTO files_1 VALUES (?, ?)"


def _key(status: os.stat_result) -> bytes:
    return _pack(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _entry(path: bytes, status: os.stat_result, checksum: Checksum, hashed_at: int) -> bytes:
    body = _key(status) + checksum.digest
    mark = _mark() if hashed_at - max(status.st_mtime_ns, status.st_ctime_ns) < _WRITTEN_BACK else 0
    return body + (crc32(body, crc32(path)) ^ mark).to_bytes(4, "big")


def _mark() -> int:
    """Return what tells entries that hold until the host stops from those that hold for good.

    The bytes of a file that has just been written may not be on the disk. After a power cut it may have its
    new times and its old bytes.
    """
    return crc32(boot().encode())


def _read_entry(seed: int, status: os.stat_result, entry: bytes) -> Checksum | None:
    if entry[:40] != _key(status):
        return None
    # SQLite does not notice a flipped bit, and a wrong checksum here would be a wrong result for ever.
    mark = crc32(entry[:72], seed) ^ int.from_bytes(entry[72:], "big")
    if mark and mark != _mark():
        return None
    return make_checksum(entry[40:72].hex())


def is_racy(status: os.stat_result, hashed_at: int, step: int) -> bool:
    """Tell whether a file might change once more and keep its times.

    Parameters
    ----------
    status
        The file's state when it was hashed.
    hashed_at
        When reading began, in nanoseconds since the epoch.
    step
        The time stamp step of the file system, in nanoseconds.
    """
    if status.st_ctime_ns % 1_000_000_000 == 0:  # a file system that counts seconds, whatever its name
        step = max(step, _COARSE)
    return max(status.st_mtime_ns, status.st_ctime_ns) + step >= hashed_at


class NullStatCache:
    """Remembers nothing."""

    def get(self, path: str, status: os.stat_result) -> Checksum | None:
        """Return None."""
        return None

    def get_tree(self, directory: str, files: Iterable[tuple[str, os.stat_result]]) -> dict[str, Checksum]:
        """Return nothing."""
        return {}

    def put(self, path: str, status: os.stat_result, checksum: Checksum, hashed_at: int) -> None:
        """Forget it."""

    def put_linked(self, path: str, before: os.stat_result, checksum: Checksum, hashed_at: int) -> None:
        """Forget it."""

    def put_many(self, directory: str, files: Sequence[tuple[str, Hashed]]) -> None:
        """Forget them."""

    def close(self) -> None:
        """Do nothing."""


class StatCache(NullStatCache):
    """(device, inode, size, mtime, ctime, path) → checksum, in a SQLite file that many processes share.

    No error of the file ever reaches the caller: what cannot be read is not known, what cannot be written is
    forgotten, and a corrupt file is made anew.

    Parameters
    ----------
    path
        The file; made, with its directory, when something is first put.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._broken = False
        self._thread = threading.Lock()  # a connection has one transaction, whatever thread asks
        self._step: dict[str, int] = {}

    def get(self, path: str, status: os.stat_result) -> Checksum | None:
        """Return the checksum of the file at `path` if it is known for its state `status`."""
        key = _absolute(path)
        rows = self._query(_ONE, (key,))
        return _read_entry(crc32(key), status, rows[0][0]) if rows else None

    def get_tree(self, directory: str, files: Iterable[tuple[str, os.stat_result]]) -> dict[str, Checksum]:
        """Return the known checksums of unchanged files below `directory`, with one query.

        Parameters
        ----------
        directory
            The directory.
        files
            Paths relative to it, and the files' states.
        """
        prefix = _absolute(directory).rstrip(b"/") + b"/"
        # "0" follows "/": the range holds all that begins with the prefix.
        rows = self._query(_RANGE, (len(prefix) + 1, prefix, prefix[:-1] + b"0"))
        known: dict[bytes, bytes] = dict(rows)
        found: dict[str, Checksum] = {}
        if not known:
            return found
        seed = crc32(prefix)
        for relative, status in files:
            name = to_bytes(relative)
            entry = known.get(name)
            if entry is not None and (checksum := _read_entry(crc32(name, seed), status, entry)) is not None:
                found[relative] = checksum
        return found

    def put(self, path: str, status: os.stat_result, checksum: Checksum, hashed_at: int) -> None:
        """Remember a file's checksum, unless it is so young that it could change without a trace.

        Parameters
        ----------
        path
            The file.
        status
            Its state, equal before and after it was read, and taken after any linking (which changes ctime).
        checksum
            Its checksum.
        hashed_at
            When reading began, in nanoseconds since the epoch.
        """
        if not is_racy(status, hashed_at, self._step_of(path)):
            key = _absolute(path)
            self._write([(key, _entry(key, status, checksum, hashed_at))])

    def put_linked(self, path: str, before: os.stat_result, checksum: Checksum, hashed_at: int) -> None:
        """Remember a file that was hard-linked after it was hashed, which changed its ctime.

        Parameters
        ----------
        path
            The file.
        before
            Its state when it was hashed, found unchanged right before the link was made.
        checksum
            Its checksum.
        hashed_at
            When reading began, in nanoseconds since the epoch.
        """
        try:
            after = os.stat(path)
        except OSError:
            return
        # The ctime is the link's now, and too young; the mtime still tells of any writing since.
        parts = [
            getattr(before, name) == getattr(after, name)
            for name in ("st_mtime_ns", "st_size", "st_ino", "st_dev")
        ]
        if all(parts) and not is_racy(before, hashed_at, self._step_of(path)):
            key = _absolute(path)
            self._write([(key, _entry(key, after, checksum, hashed_at))])

    def put_many(self, directory: str, files: Sequence[tuple[str, Hashed]]) -> None:
        """Remember many files below `directory` in one transaction; the conditions of `put` hold for each.

        Parameters
        ----------
        directory
            The directory.
        files
            Paths relative to it, and what was found out.
        """
        if not files:
            return
        prefix = _absolute(directory).rstrip(b"/") + b"/"
        step = self._step_of(directory + "/")
        rows = []
        for relative, (checksum, status, began) in files:
            if not is_racy(status, began, step):
                path = prefix + to_bytes(relative)
                rows.append((path, _entry(path, status, checksum, began)))
        self._write(rows)

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _step_of(self, path: str) -> int:
        folder = os.path.dirname(path)
        if folder not in self._step:
            self._step[folder] = timestamp_step_ns(folder or ".")
        return self._step[folder]

    def _query(self, text: str, values: tuple[int | bytes, ...]) -> list[Any]:
        if self._broken or (self._connection is None and not os.path.exists(self._path)):
            return []
        with self._thread:
            try:
                return self._open().execute(text, values).fetchall()
            except (sqlite3.Error, OSError) as error:
                self._recover(error)
                return []

    def _write(self, rows: list[tuple[bytes, bytes]]) -> None:
        if self._broken or not rows:
            return
        with self._thread:
            try:
                self._insert(rows)
            except (sqlite3.Error, OSError) as error:
                if self._recover(error):
                    with contextlib.suppress(sqlite3.Error, OSError):
                        self._insert(rows)

    def _insert(self, rows: list[tuple[bytes, bytes]]) -> None:
        connection = self._open(create=True)
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_PUT, rows)

    def _open(self, create: bool = False) -> sqlite3.Connection:
        if self._connection is None:
            if create:
                os.makedirs(os.path.dirname(self._path) or ".", mode=0o700, exist_ok=True)
            self._take_lock()
            if create:
                self._make_file()
            self._connection = sqlite3.connect(
                self._path, timeout=BUSY, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA synchronous = NORMAL")
        if create:
            self._ensure_table(self._connection)
        return self._connection

    def _take_lock(self) -> None:
        # Held while the file is open: removing a SQLite file that others use would mix up its parts.
        if self._lock is None:
            self._lock = os.open(self._path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _make_file(self) -> None:
        # Names of files may be private.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        if os.path.getsize(self._path) > SIZE_LIMIT:
            self._remove()

    def _ensure_table(self, connection: sqlite3.Connection) -> None:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'files_1'").fetchall():
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_CREATE)

    def _recover(self, error: Exception) -> bool:
        """Remove a corrupt file; return whether trying again makes sense."""
        if isinstance(error, OSError):
            self._broken = True
        elif not isinstance(error, sqlite3.OperationalError):
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            return self._remove()
        # Otherwise it is busy, full, read-only or without a table: good, but not for us, not now.
        return False

    def _remove(self) -> bool:
        """Remove the file unless another process has it open; tell whether it is gone."""
        if self._lock is None:
            return False
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path + suffix)
        except OSError:
            return False
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        return True


def _absolute(path: str) -> bytes:
    return os.fsencode(os.path.abspath(path))


def stat_cache(directory: str | os.PathLike[str]) -> NullStatCache:
    """Return the stat cache to use beside the other things kept in `directory`.

    On a network file system, where SQLite is slow and unsafe, it lies in a private directory of this host.
    """
    place: str | None = os.fspath(directory)
    if is_network_filesystem(directory):
        place = local_directory()
    return NullStatCache() if place is None else StatCache(os.path.join(place, FILE_NAME))


def checksum_of(path: str | os.PathLike[str], cache: NullStatCache) -> tuple[Checksum, os.stat_result]:
    """Return the checksum and the state of the file at `path`; it is read only when it is not known.

    Raises
    ------
    FileChanged
        If it changed while it was read.
    OSError
        If it cannot be read or is not a regular file.
    """
    text = os.fspath(path)
    status = os.stat(text)
    known = cache.get(text, status)
    if known is not None:
        return known, status
    hashed = hash_stable(text)
    cache.put(text, hashed.status, hashed.checksum, hashed.began)
    return hashed.checksum, hashed.status
