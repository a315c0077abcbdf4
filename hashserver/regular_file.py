"""Opening what others may have put there: a regular file or an error, and never a wait."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Without O_NONBLOCK a pipe that nobody writes to would be waited for without end; O_NOCTTY: a terminal
# that is opened must not become ours.
READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

PATH_MAX = 4096
"""Linux takes paths of fewer bytes."""


def open_regular(path: str | os.PathLike[str], follow: bool = True) -> tuple[int, os.stat_result]:
    """Open a regular file for reading; return its descriptor and its state.

    Parameters
    ----------
    path
        The file.
    follow
        Whether `path` may be a symbolic link.

    Raises
    ------
    OSError
        As the system says, or because it is a directory, a pipe, a socket, a device or, unless `follow`,
        a link.
    """
    fd = os.open(path, READ_FLAGS if follow else READ_FLAGS | os.O_NOFOLLOW)
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode):
            raise not_regular(path, state)
    except BaseException:
        os.close(fd)
        raise
    return fd, state


def open_secret(path: str, what: str, refuse: Callable[[str], Exception]) -> int:
    """Open a file that nobody but this user, or root, can have read or written; return its descriptor.

    Parameters
    ----------
    path
        The file.
    what
        What it holds, as a message says it: ``the token file``.
    refuse
        Makes the error for a file of somebody else's, and for one that others may read.

    Raises
    ------
    OSError
        As of `open_regular`.
    """
    fd, state = open_regular(path)
    reason = None
    if state.st_uid not in (os.geteuid(), 0):
        reason = f"{path} belongs to another user"
    elif state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        reason = f"others may read {what} {path}: chmod 600 {path}"
    if reason is not None:
        os.close(fd)
        raise refuse(reason)
    return fd


@contextmanager
def named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Have what the system says about a descriptor name its file: reading one that is open does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def open_far(path: str, flags: int) -> int:
    """Open what may have a longer path than the system takes in one piece: a part after the other.

    Whoever is in a deep directory names what is there by a short relative path, and it has its absolute one
    all the same.

    Raises
    ------
    OSError
        As the system says: `errno.ENAMETOOLONG` only where a single name is too long.
    """
    left, above = os.fsencode(path), None
    try:
        while len(left) >= PATH_MAX and (at := left.rfind(b"/", 1, PATH_MAX - 1)) > 0:
            folder = os.open(left[:at], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=above)
            if above is not None:
                os.close(above)
            left, above = left[at:].lstrip(b"/"), folder
        return os.open(left, flags, dir_fd=above)
    finally:
        if above is not None:
            os.close(above)


def read_regular(path: str | os.PathLike[str], limit: int | None = None, follow: bool = True) -> bytes:
    """Return the content of a regular file, at most its first `limit` bytes; parameters as `open_regular`."""
    fd, state = open_regular(path, follow)
    with os.fdopen(fd, "rb", buffering=0) as file:
        left = state.st_size + 1 if limit is None else limit
        parts = []
        with named(path):
            while left > 0 and (part := file.read(left)):
                parts.append(part)
                left = left if limit is None else left - len(part)
    return b"".join(parts)


def not_regular(path: str | os.PathLike[str], state: os.stat_result) -> OSError:
    """Return the error for what is no regular file."""
    if stat.S_ISDIR(state.st_mode):
        return IsADirectoryError(errno.EISDIR, "Is a directory", os.fspath(path))
    return OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
