"""The process of a daskserver on this host: started, and ended whatever state it is in."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from hashserver.retry import pauses

from .. import connection, daemon
from ..connection import LOCK
from ..daemon import DaemonFailed
from ..errors import UsageError
from ..locks import is_locked, sign, signed, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..connection import ConnectionFile
    from .daskserver.settings import DaskserverSettings

LOG = "logs/daskserver.log"
START_LIMIT, STOP_LIMIT, KILL_LIMIT = 90.0, 60.0, 10.0
HANDOVER = 20.0
"""Seconds that one in a job waits for the end of the one before, which may be on its way out elsewhere."""
PROBED = 1.0
"""Seconds for which the lock may seem held because others look whether it is."""


@contextmanager
def held(path: str, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock that says which process is the daskserver, until this process is gone.

    Raises
    ------
    UsageError
        If another one does, for longer than `patience` seconds.
    """
    for pause in pauses(0.2, seconds=patience):
        if (fd := _try_lock(path)) is not None:
            break
        time.sleep(pause)
    else:
        raise UsageError("another daskserver of this name is running already")
    sign(fd)
    yield  # never closed: when the lock is free, nothing is left of the process


def _try_lock(path: str) -> int | None:
    try:
        return try_lock(path)
    except OSError as error:  # some network file systems know no locks
        raise UsageError(
            f"cannot lock {path}: {error.strerror}; SEAMLESS_CACHE names a place on another file system"
        ) from None


def holder(directory: str) -> int | None:
    """Return the process of this host that holds the lock."""
    facts = signed(os.path.join(directory, LOCK))
    try:
        return int(facts["pid"]) if facts["host"] == os.uname().nodename else None
    except (ValueError, KeyError, TypeError):
        return None


def _open(pid: int | None, directory: str) -> int | None:
    """Return a descriptor of a process, if it is the one of a directory."""
    try:
        fd = os.pidfd_open(pid or 0)
    except OSError:
        return None
    if _is_of(pid or 0, directory):
        return fd
    os.close(fd)
    return None


def _is_of(pid: int, directory: str) -> bool:
    """Whether a process is the one of a directory: the number may be another's by now."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").split(b"\0")
        ours = any(word.startswith(b"seamless_dask.services.") for word in words)
        return ours and os.path.samefile(words[-1], directory)
    except OSError:
        return False


def command(told: DaskserverSettings) -> list[str]:
    """Return the command line of the process."""
    return daemon.command("seamless_dask.services.daskserver", told.directory)


def start(told: DaskserverSettings) -> ConnectionFile:
    """Start the process and wait for its connection file; raises `DaemonFailed`."""

    def serves(pid: int) -> ConnectionFile | None:
        facts = _facts(told)
        return facts if facts and facts.pid == pid else None

    return daemon.start("the daskserver", command(told), told.file(LOG), serves, START_LIMIT)


def join(told: DaskserverSettings) -> ConnectionFile:
    """Wait for the connection file of a process that somebody else has started; raises `DaemonFailed`."""
    return daemon.wait(
        "the daskserver",
        told.file(LOG),
        lambda: _facts(told),
        lambda: not is_locked(told.file(LOCK)),
        START_LIMIT,
    )


def _facts(told: DaskserverSettings) -> ConnectionFile | None:
    with suppress(UsageError):
        return connection.read(told.file(connection.FILE))
    return None


def end(directory: str) -> None:
    """End the process that holds the lock.

    Raises
    ------
    DaemonFailed
        It stays.
    """
    pid, lock = holder(directory), os.path.join(directory, LOCK)
    fd = _open(pid, directory)
    if fd is None:
        if is_locked(lock):
            raise DaemonFailed(f"cannot tell which process holds {lock}: end it, on whatever host it is")
        return
    try:
        for number, limit in ((signal.SIGTERM, STOP_LIMIT), (signal.SIGKILL, KILL_LIMIT)):
            signal.pidfd_send_signal(fd, number)
            if select.select([fd], [], [], limit)[0]:
                return
    finally:
        os.close(fd)
    raise DaemonFailed(f"process {pid} of the daskserver cannot be killed: see whether its disk answers")
