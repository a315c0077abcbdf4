"""Opening SQLite files, waiting for their locks, and saying in one line what is wrong with them."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from hashserver.atomic import temporary_path
from hashserver.durability import sync_directory
from hashserver.errors import DatabaseError, HashserverError, NoSpace, ReadOnly, ServiceUnavailable
from hashserver.retry import pauses

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds to wait for other writers; a transaction of ours takes milliseconds."""

# SQLite's own wait cannot be interrupted by Ctrl-C, so it is kept short and repeated from here.
_ATTEMPT = 0.5
# A database may be a link; what SQLite puts beside it is none, but for one that somebody else has put there.
_FILES = (("", os.stat), ("-wal", os.lstat), ("-shm", os.lstat), ("-journal", os.lstat))
_OTHERS = (
    *(sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY, sqlite3.SQLITE_READONLY_CANTLOCK),
    sqlite3.SQLITE_IOERR_DELETE_NOENT,
)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


def connect(path: str, mode: str) -> sqlite3.Connection:
    """Open an absolute path with the given URI mode (`ro`, `rw`, `rwc`, with further parameters).

    Raises
    ------
    DatabaseError
        If what is there is no regular file: SQLite would wait for ever for the writer of a pipe.
    """
    _refuse_special(path)
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(
        f"file:{quoted}?mode={mode}",
        uri=True,
        timeout=_ATTEMPT,
        isolation_level=None,
        check_same_thread=False,
    )


def make_file(path: str, mode: int) -> None:
    """Make an empty file of that mode, whatever the umask; no error when there is one.

    It is not opened under its name: closing a descriptor drops all locks that this process has on the file,
    those of SQLite too.
    """
    temporary = temporary_path(path)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        os.chmod(temporary, mode)
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        with suppress(FileExistsError):
            os.mknod(path, stat.S_IFREG | mode)
    finally:
        os.unlink(temporary)
    sync_directory(os.path.dirname(path))  # what SQLite syncs is the file, and not its name


def _refuse_special(path: str) -> None:
    for suffix, look in _FILES:
        try:
            state = look(path + suffix)
        except OSError:
            continue  # SQLite says what is wrong with it
        if stat.S_ISDIR(state.st_mode) and not suffix:
            raise DatabaseError(f"{path} is a directory: a result database is a file")
        if not stat.S_ISREG(state.st_mode):
            raise DatabaseError(f"{path}{suffix} is not a regular file: name another database")


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, 0 when the error does not come from SQLite itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def patiently(operation: Callable[[], T], path: str) -> T:
    """Call `operation` until no other process is in its way; other SQLite errors are translated."""
    waits = pauses(0.001, 0.05, seconds=PATIENCE)
    while True:
        try:
            return operation()
        except sqlite3.Error as error:
            if not _passes(error) or not (pause := next(waits)):
                raise translate(error, path) from error
        time.sleep(pause)


def _passes(error: sqlite3.Error) -> bool:
    """Say whether another process is in the way, perhaps one on a host whose locks are not seen here."""
    return primary_code(error) in _BUSY or _extended(error) in _OTHERS


def translate(error: sqlite3.Error, path: str) -> HashserverError:
    """Return the error of this package that says what to do about an error of SQLite."""
    code = primary_code(error)
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR):
        return DatabaseError(f"{path} is damaged or no database ({error}): move it away or restore it")
    if code == sqlite3.SQLITE_FULL or _extended(error) == sqlite3.SQLITE_IOERR_SHMSIZE:
        return NoSpace(f"no room on the device of {path}: nothing was recorded")
    if code == sqlite3.SQLITE_READONLY:
        return ReadOnly(f"{path} may not be written: check its permissions, or name another database")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return _cannot_open(path)
    if code in _BUSY:
        return ServiceUnavailable(f"{path} is locked by another process since {PATIENCE:.0f} s: try again")
    return ServiceUnavailable(f"{path} cannot be used ({error}): check its disk, quota and file locking")


def is_beside(error: sqlite3.Error) -> bool:
    """Say whether it is what lies beside a database that cannot be made or written: it may still be read."""
    code = primary_code(error)
    return code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL) or (
        _extended(error)
        in (sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_IOERR_SHMMAP)
    )


def _extended(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)


def _cannot_open(path: str) -> HashserverError:
    directory = os.path.dirname(path)
    if os.path.exists(path) and not os.access(path, os.R_OK):
        return DatabaseError(f"{path} may not be read: check its permissions")
    if not os.path.isdir(directory):
        return DatabaseError(f"{path} cannot be opened: there is no directory {directory}")
    if os.path.exists(path) or not os.access(directory, os.W_OK):
        return ReadOnly(f"{path} cannot be written: check the permissions of {directory}")
    return DatabaseError(f"{path} does not exist or cannot be opened")


def translate_os(error: OSError, path: str) -> HashserverError:
    """Return the error of this package for a failed operation on a file or directory."""
    reason = f"{path}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"no room on the device of {reason}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReadOnly(f"{reason}: check its permissions, or name another database")
    return DatabaseError(f"{reason}: name another database")
