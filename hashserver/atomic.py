"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from contextlib import suppress
from functools import cache
from itertools import count
from typing import TYPE_CHECKING

from hashserver.durability import sync_directory

if TYPE_CHECKING:
    from typing import Self

    Bytes = bytes | bytearray | memoryview

TEMPORARY_PREFIX = ".seamless-tmp-"
"""Files that begin so are being written by us: no part of any directory's identity."""

# what a file system says that has no anonymous files (NFS, FAT, some of FUSE); EISDIR is an old kernel's
_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS})
_numbers = count()


def temporary_path(path: str) -> str:
    """Return an unused name beside `path` that tells which process of which host writes there."""
    folder = os.path.dirname(path)
    name = f"{TEMPORARY_PREFIX}{_host()}-{os.getpid()}-{threading.get_native_id()}-{next(_numbers)}"
    return os.path.join(folder, name)


def _host() -> str:
    return os.uname().nodename.replace("-", "_").replace("/", "_")[:64]


def write_all(fd: int, data: Bytes) -> None:
    """Write all of `data`: one call may write a part (over 2 GiB, or when a disk fills up)."""
    written = os.write(fd, data)
    if written < len(data):
        view = memoryview(data)
        while written < len(data):
            written += os.write(fd, view[written:])


@cache
def _has_proc() -> bool:
    """Say whether descriptors have paths."""
    return os.path.exists("/proc/self/fd")


class NewFile:
    """A file that is written first and gets its name when it is complete.

    Where the file system can, it has no name until then, so that a dead writer leaves nothing.
    Elsewhere it has a temporary name and is locked while its writer lives.

    Parameters
    ----------
    directory
        A directory on the file system of the future name.
    temporary
        The path to use where files without a name are not possible. What a dead writer left there
        is taken over; when a live one has it, a number is appended.
    mode
        The permissions, before the umask.

    Raises
    ------
    OSError
        As the system says.
    """

    def __init__(self, directory: str, temporary: str, mode: int = 0o666) -> None:
        self._temporary, self._named = temporary, False
        try:
            self.fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
            self._open_named(mode)
        else:
            if not _has_proc():  # a jail: no way to name it
                os.close(self.fd)
                self._open_named(mode)

    def _open_named(self, mode: int) -> None:
        base, number = self._temporary, 0
        while not self._take(mode):
            number += 1
            self._temporary = f"{base}-{number}"
        self._named = True
        os.ftruncate(self.fd, 0)

    def _take(self, mode: int) -> bool:
        fd = os.open(self._temporary, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, mode | 0o200)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # its former owner may have renamed or removed it between our open and our lock
            if os.path.samestat(os.fstat(fd), os.stat(self._temporary)):
                os.fchmod(fd, mode & ~_umask())
                self.fd = fd
                return True
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(fd)
                raise
        os.close(fd)
        return False

    def sync(self) -> None:
        """Have the bytes survive a power cut; to be called before `publish`."""
        os.fsync(self.fd)

    def publish(self, target: str, replace: bool = True) -> bool:
        """Give the file its name.

        Parameters
        ----------
        target
            The path.
        replace
            Whether a file of that name gives way.

        Returns
        -------
        bool
            False when there was one and `replace` is not set.
        """
        if self._named:
            if not replace and os.path.lexists(target):
                return False
            os.replace(self._temporary, target)
            self._named = False
            return True
        try:
            self._link(target)
        except FileExistsError:
            if replace:
                self._replace(target)
            return replace
        return True

    def _link(self, target: str) -> None:
        # src_dir_fd means nothing for an absolute path; with it CPython calls linkat(AT_SYMLINK_FOLLOW)
        # instead of link(), which would link the symbolic link in /proc
        os.link(f"/proc/self/fd/{self.fd}", target, src_dir_fd=self.fd, follow_symlinks=True)

    def _replace(self, target: str) -> None:
        # Every writer of this path tries this name first: what one left that died between the two calls goes
        # with the next. A live one's stays: a file that has lost its only name cannot get another.
        name = self._temporary
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            self._link(name)
        except FileExistsError:
            _remove_dead(name)
            name = temporary_path(target)
            self._link(name)
        try:
            os.rename(name, target)
        except OSError:  # a directory in its place
            _remove(name)
            raise

    def close(self) -> None:
        """Close it; without a name by now it is gone."""
        if self._named:
            _remove(self._temporary)
            self._named = False
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_atomic(path: str | os.PathLike[str], data: bytes, mode: int = 0o666, durable: bool = False) -> None:
    """Write a file so that readers see the old content or all of the new one.

    Parameters
    ----------
    path
        Replaced when it exists.
    data
        The whole content.
    mode
        Permissions, reduced by the umask.
    durable
        Whether it survives a power cut from the return of this function on.

    Raises
    ------
    OSError
        If it cannot be written; then nothing has changed and nothing is left behind.
    """
    target = os.fspath(path)
    try:
        with NewFile(os.path.dirname(target) or ".", temporary_path(target), mode) as file:
            write_all(file.fd, data)
            if durable:
                file.sync()
            file.publish(target)
    except OSError as error:
        if error.filename is not None:  # its directory, or a temporary name, which nobody knows
            error.filename, error.filename2 = target, None
        raise
    if durable:
        sync_directory(os.path.dirname(target))


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _remove_dead(path: str) -> None:
    """Remove a file that nobody has locked: whoever named it is gone, and who else removes it locks it."""
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.lstat(path)):
                os.unlink(path)
        finally:
            os.close(fd)
