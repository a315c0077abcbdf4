"""Small files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from itertools import count

TEMPORARY_PREFIX = ".seamless-tmp-"
"""Files that begin so are being written by us: no part of any directory's identity."""

_numbers = count()


def temporary_path(path: str) -> str:
    """Return an unused name beside `path` that tells which process of which host writes there."""
    folder = os.path.dirname(path)
    name = f"{TEMPORARY_PREFIX}{_host()}-{os.getpid()}-{threading.get_native_id()}-{next(_numbers)}"
    return os.path.join(folder, name)


def _host() -> str:
    return os.uname().nodename.replace("-", "_").replace("/", "_")[:64]


def write_atomic(path: str | os.PathLike[str], data: bytes, mode: int = 0o666) -> None:
    """Write a file so that readers see the old content or all of the new one.

    Parameters
    ----------
    path
        Replaced when it exists.
    data
        The whole content.
    mode
        Permissions, reduced by the umask.

    Raises
    ------
    OSError
        If it cannot be written; then nothing has changed and nothing is left behind.
    """
    target = os.fspath(path)
    if not _write_unnamed(target, data, mode):
        _write_named(target, data, mode)


def _write_unnamed(target: str, data: bytes, mode: int) -> bool:
    """Write by way of a file without a name; return whether the file system can do that."""
    fd = _open_unnamed(os.path.dirname(target) or ".", mode)
    if fd is None:
        return False
    try:
        _write_all(fd, data)
        try:
            if _link(fd, target):
                return True
            # Only a name can replace a name: for this moment there is a temporary one.
            temporary = temporary_path(target)
            _link(fd, temporary)
        except OSError:
            return False  # no /proc, or a file system that cannot link such files
    finally:
        os.close(fd)
    _replace(temporary, target)
    return True


def _write_named(target: str, data: bytes, mode: int) -> None:
    temporary = temporary_path(target)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        _write_all(fd, data)
    except BaseException:
        _unlink(temporary)
        raise
    finally:
        os.close(fd)
    _replace(temporary, target)


def _replace(temporary: str, target: str) -> None:
    try:
        os.replace(temporary, target)
    except BaseException:
        _unlink(temporary)
        raise


def _open_unnamed(folder: str, mode: int) -> int | None:
    # A file without a name vanishes with its writer, so that a kill leaves nothing behind.
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            return None
        raise


def _link(fd: int, path: str) -> bool:
    """Give the unnamed file a name, unless it is taken."""
    folder = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # With a directory descriptor CPython calls linkat, which alone can follow the link in /proc.
        name = os.path.basename(path)
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder, follow_symlinks=True)
    except FileExistsError:
        return False
    finally:
        os.close(folder)
    return True


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def remove_stale(paths: list[str]) -> int:
    """Remove temporary files whose writers are dead; return how many.

    Those of other hosts are left alone: whether their writers live cannot be known here.
    """
    removed = 0
    for path in paths:
        parts = os.path.basename(path)[len(TEMPORARY_PREFIX) :].split("-")
        if len(parts) == 4 and parts[0] == _host() and parts[1].isdigit() and not _alive(int(parts[1])):
            _unlink(path)
            removed += 1
    return removed


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
