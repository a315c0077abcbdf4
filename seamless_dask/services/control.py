"""One daskserver as a process: started, found, stopped, from outside."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ..config import private_directory
from ..errors import SeamlessError, UsageError
from ..locks import is_locked, locked, try_lock
from . import connection, settings
from .connection import Connection
from .hashserver_child import READY as HASHSERVER_READY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .settings import Settings

LOCK, STARTING = "lock", "start.lock"
LOG = "logs/daskserver.log"
START_LIMIT, STOP_LIMIT, KILL_LIMIT = 90.0, 60.0, 10.0
LONGEST_LOG = 16 << 20
"""Bytes; a longer one is put aside when the daskserver starts."""


class DaskserverFailed(SeamlessError):
    """It did not start, or does not stop; the message says what to look at."""


class Found(NamedTuple):
    """What there is of a daskserver.

    Attributes
    ----------
    alive
        Its process is there.
    connection
        What the connection file says; None while it starts, and after it was stopped.
    """

    alive: bool
    connection: Connection | None

    @property
    def died(self) -> bool:
        """Whether it ended without leave: one that is stopped takes its connection file along."""
        return not self.alive and self.connection is not None


def private_place(cache: str, name: str) -> str:
    """Return the directory of a daskserver, made so that nobody else can enter it.

    Raises
    ------
    UsageError
        If it belongs to another user, or the name makes no directory.
    """
    if not name or name.startswith(".") or "/" in name or not name.isprintable():
        raise UsageError(f"--name {name!r}: a plain word, please")
    directory = connection.directory_of(cache, name)
    for path in (cache, os.path.dirname(directory), directory, os.path.join(directory, "logs")):
        private_directory(path)
        status = os.stat(path)
        if status.st_uid != os.geteuid():
            raise UsageError(f"{path} belongs to another user; SEAMLESS_CACHE names another place")
        if path != cache and status.st_mode & 0o077:
            os.chmod(path, 0o700)
    return directory


def find(directory: str) -> Found:
    """Return what there is of the daskserver of a directory.

    Raises
    ------
    UsageError
        If it was started on another host, where this one cannot see it.
    """
    alive = is_locked(os.path.join(directory, LOCK))
    try:
        facts = connection.read(os.path.join(directory, connection.FILE))
    except UsageError:
        return Found(alive, None)
    if not facts.is_here:
        path = os.path.join(directory, connection.FILE)
        raise UsageError(
            f"the daskserver {facts.name!r} runs on {facts.host}: go there,"
            f" or remove {path} if that host is gone"
        )
    return Found(alive, facts if not alive or facts.pid == _holder(directory) else None)


@contextmanager
def held(path: str) -> Iterator[None]:
    """Hold the lock that says which process is the daskserver, until this process is gone.

    Raises
    ------
    UsageError
        If another one does.
    """
    fd = try_lock(path)
    if fd is None:
        raise UsageError("another daskserver of this name is running already")
    os.ftruncate(fd, 0)
    os.write(fd, json.dumps({"pid": os.getpid()}).encode())
    yield  # never closed: when the lock is free, nothing is left of the process


def _holder(directory: str) -> int | None:
    """Return the process that holds the lock."""
    try:
        with open(os.path.join(directory, LOCK), "rb") as file:
            document: dict[str, Any] = json.load(file)
        return int(document["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def start(told: Settings) -> tuple[Connection, bool]:
    """Start a daskserver, detached from the terminal, unless it is running.

    Returns
    -------
    Connection, bool
        Where it is, and whether it is a new one.

    Raises
    ------
    DaskserverFailed
        With its last words.
    """
    with locked(told.file(STARTING)):
        found = find(told.directory)
        if found.alive:
            return found.connection or _until_ready(told, None), False
        settings.write(told)
        with suppress(FileNotFoundError):
            os.unlink(told.file(connection.FILE))
        return _until_ready(told, _spawn(told)), True


def foreground(told: Settings) -> None:
    """Become the daskserver, with its log on standard error.

    Raises
    ------
    UsageError
        If it is running already.
    """
    with locked(told.file(STARTING)):
        if find(told.directory).alive:
            raise UsageError(f"the daskserver {told.name!r} is running already: seamless-daskserver stop")
        settings.write(told)
    os.execv(sys.executable, _command(told))  # noqa: S606 - our own interpreter


def _command(told: Settings) -> list[str]:
    return [sys.executable, "-P", "-m", "seamless_dask.services.daskserver", told.directory]


def _spawn(told: Settings) -> int:
    """Start the process: own session, root directory, output to the log."""
    import subprocess

    path = told.file(LOG)
    with suppress(FileNotFoundError):
        if os.stat(path).st_size > LONGEST_LOG:
            os.replace(path, path + ".1")
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            _command(told),
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


def _until_ready(told: Settings, child: int | None) -> Connection:
    limit = time.monotonic() + START_LIMIT
    while time.monotonic() < limit:
        with suppress(UsageError):
            facts = connection.read(told.file(connection.FILE))
            if child is None or facts.pid == child:
                return facts
        if _ended(told, child):
            from .hashserver_child import last_line

            words = last_line(told.file(LOG)).removeprefix("seamless-daskserver: ")
            raise DaskserverFailed(f"the daskserver did not start: {words}")
        time.sleep(0.01)
    if child is not None:
        os.kill(child, signal.SIGTERM)
    raise DaskserverFailed(f"the daskserver was not ready within {START_LIMIT:.0f} s; see {told.file(LOG)}")


def _ended(told: Settings, child: int | None) -> bool:
    if child is None:
        return not is_locked(told.file(LOCK))
    return os.waitpid(child, os.WNOHANG)[0] == child


def stop(directory: str) -> bool:
    """Stop a daskserver and all that belongs to it; return whether there was one.

    Raises
    ------
    DaskserverFailed
        If something may be left; the message says what.
    """
    with locked(os.path.join(directory, STARTING)):
        found = find(directory)
        if found.alive:
            _end(directory)
        _clean_up(directory)
    return found.alive or found.died


def _end(directory: str) -> None:
    pid = _holder(directory)
    if pid is None:
        raise DaskserverFailed(f"cannot tell which process holds {os.path.join(directory, LOCK)}: kill it")
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not is_locked(os.path.join(directory, LOCK)):  # gone meanwhile: the number may be another's
            return
        for number, limit in ((signal.SIGTERM, STOP_LIMIT), (signal.SIGKILL, KILL_LIMIT)):
            signal.pidfd_send_signal(fd, number)
            if select.select([fd], [], [], limit)[0]:
                return
    finally:
        os.close(fd)
    raise DaskserverFailed(f"process {pid} of the daskserver cannot be killed: see whether its disk answers")


def _clean_up(directory: str) -> None:
    """Remove what a daskserver that was killed has left; one that ended by itself has left nothing."""
    import asyncio
    import shutil

    from .clusters import cancel_leftovers

    _wait_for_hashserver(os.path.join(directory, HASHSERVER_READY))
    for name in (connection.FILE, HASHSERVER_READY):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
    shutil.rmtree(os.path.join(directory, "dask-scratch-space"), ignore_errors=True)
    if problem := asyncio.run(cancel_leftovers(directory)):
        raise DaskserverFailed(problem)


def _wait_for_hashserver(ready: str) -> None:
    """Wait for the end of a hashserver whose daskserver is gone: the system has told it."""
    from ..config import is_hashserver

    try:
        with open(ready, "rb") as file:
            pid = int(json.load(file)["pid"])
        fd = os.pidfd_open(pid)
    except (OSError, ValueError, KeyError, TypeError):
        return
    try:
        if is_hashserver(pid) and not select.select([fd], [], [], KILL_LIMIT)[0]:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    finally:
        os.close(fd)
