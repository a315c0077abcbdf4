"""FIFOs by which one process of a host wakes another that waits for something in a file."""

from __future__ import annotations

import errno
import os
import select
import time
from contextlib import suppress

_NO_FIFO = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EACCES)


class Bell:
    """The reading end of an asker's FIFO."""

    def __init__(self, path: str) -> None:
        self._fd: int | None = None
        with suppress(FileNotFoundError):  # this file system has none, or it was removed
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, seconds: float) -> None:
        """Return when it rings, or after some time."""
        if self._fd is None:
            time.sleep(seconds)
        elif select.select([self._fd], [], [], seconds)[0] and not os.read(self._fd, 64):
            time.sleep(min(seconds, 0.005))  # the writer has closed and the outcome is about to be read

    def close(self) -> None:
        """Take it down."""
        if self._fd is not None:
            os.close(self._fd)


def make_bell(path: str) -> None:
    """Make a FIFO; where the file system has none whoever waits looks a few times a second."""
    try:
        os.mkfifo(path, 0o600)
    except OSError as error:
        if error.errno not in _NO_FIFO:
            raise


def ring(path: str) -> None:
    """Wake who waits by a FIFO, if there is somebody."""
    with suppress(OSError):  # nobody reads: it is dead, on another host, or has just looked
        bell = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(bell, b".")
        finally:
            os.close(bell)
