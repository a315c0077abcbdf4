"""The process of a daskserver on this host: started, and ended whatever state it is in."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from hashserver.system_text import interpreter

from .. import connection
from ..connection import LOCK
from ..errors import SeamlessError, UsageError
from ..locks import is_locked, try_lock
from . import logfile

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


class DaskserverFailed(SeamlessError):
    """It did not start, or does not stop; the message says what to look at."""


@contextmanager
def held(path: str, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock that says which process is the daskserver, until this process is gone.

    Raises
    ------
    UsageError
        If another one does, for longer than `patience` seconds.
    """
    end = time.monotonic() + patience
    while (fd := _try_lock(path)) is None:
        if time.monotonic() > end:
            raise UsageError("another daskserver of this name is running already")
        time.sleep(0.2)
    os.ftruncate(fd, 0)
    os.write(fd, json.dumps({"pid": os.getpid(), "host": os.uname().nodename}).encode())
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
    try:
        with open(os.path.join(directory, LOCK), "rb") as file:
            document: dict[str, Any] = json.load(file)
        return int(document["pid"]) if document["host"] == os.uname().nodename else None
    except (OSError, ValueError, KeyError, TypeError):
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
    return [*interpreter(), "-P", "-m", "seamless_dask.services.daskserver", told.directory]


def spawn(told: DaskserverSettings) -> int:
    """Start the process: own session, root directory, output to the log; return its number."""
    import subprocess

    log = logfile.begin(told.file(LOG))
    try:
        process = subprocess.Popen(
            command(told),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(log)
    process.returncode = 0  # it outlives this command: no complaint about that
    return process.pid


def until_ready(told: DaskserverSettings, child: int | None) -> ConnectionFile:
    """Wait for the connection file of a process that this one has started, or another one has (None).

    Raises
    ------
    DaskserverFailed
        With its last words.
    """
    limit = time.monotonic() + START_LIMIT
    while time.monotonic() < limit:
        with suppress(UsageError):
            facts = connection.read(told.file(connection.FILE))
            if child is None or facts.pid == child:
                return facts
        if _ended(told, child):
            words = logfile.last_line(told.file(LOG)).removeprefix("seamless-daskserver: ")
            raise DaskserverFailed(f"the daskserver did not start: {words}")
        time.sleep(0.01)
    if child is not None:
        os.kill(child, signal.SIGTERM)
    raise DaskserverFailed(f"the daskserver was not ready within {START_LIMIT:.0f} s; see {told.file(LOG)}")


def _ended(told: DaskserverSettings, child: int | None) -> bool:
    if child is None:
        return not is_locked(told.file(LOCK))
    return os.waitpid(child, os.WNOHANG)[0] == child


def end(directory: str) -> None:
    """End the process that holds the lock.

    Raises
    ------
    DaskserverFailed
        It stays.
    """
    pid, lock = holder(directory), os.path.join(directory, LOCK)
    fd = _open(pid, directory)
    if fd is None:
        if is_locked(lock):
            raise DaskserverFailed(f"cannot tell which process holds {lock}: end it, on whatever host it is")
        return
    try:
        for number, limit in ((signal.SIGTERM, STOP_LIMIT), (signal.SIGKILL, KILL_LIMIT)):
            signal.pidfd_send_signal(fd, number)
            if select.select([fd], [], [], limit)[0]:
                return
    finally:
        os.close(fd)
    raise DaskserverFailed(f"process {pid} of the daskserver cannot be killed: see whether its disk answers")
