"""Opening SQLite files, waiting for their locks, and saying in one line what is wrong with them."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from typing import TYPE_CHECKING, TypeVar

from hashserver.errors import DatabaseError, HashserverError, NoSpace, ReadOnly, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds to wait for other writers; a transaction of ours takes milliseconds."""

# SQLite's own wait cannot be interrupted by Ctrl-C, so it is kept short and repeated from here.
_ATTEMPT = 0.5
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


def connect(path: str, mode: str) -> sqlite3.Connection:
    """Open an absolute path with the given URI mode (`ro`, `rw`, `rwc`, with further parameters)."""
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(
        f"file:{quoted}?mode={mode}",
        uri=True,
        timeout=_ATTEMPT,
        isolation_level=None,
        check_same_thread=False,
    )


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, 0 when the error does not come from SQLite itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def patiently(operation: Callable[[], T], path: str) -> T:
    """Call `operation` until no other process is in its way; other SQLite errors are translated."""
    deadline = time.monotonic() + PATIENCE
    pause = 0.001
    while True:
        try:
            return operation()
        except sqlite3.Error as error:
            if primary_code(error) not in _BUSY or time.monotonic() > deadline:
                raise translate(error, path) from error
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


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


def _extended(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)


def _cannot_open(path: str) -> HashserverError:
    directory = os.path.dirname(path)
    if os.path.isdir(path):
        return DatabaseError(f"{path} is a directory: a result database is a file")
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
