"""One daskserver, as a process of this host or in a job: started, found, stopped, from outside."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from hashserver.ready_file import read_ready

from ... import connection
from ...connection import LOCK, STARTING, ConnectionFile
from ...daemon import DaemonFailed
from ...errors import UsageError
from ...locks import is_locked, locked
from ...private import private_directory
from .. import process
from . import in_job, settings
from .hashserver_process import READY as HASHSERVER_READY

if TYPE_CHECKING:
    from collections.abc import Callable

    from .settings import DaskserverSettings


class DaskserverState(NamedTuple):
    """What there is of a daskserver.

    Attributes
    ----------
    alive
        Its process is there, or the job that it runs in or is to run in.
    connection
        What the connection file says; None while it starts, and after it was stopped.
    job
        How its job is, in words; None: it is not in one.
    """

    alive: bool
    connection: ConnectionFile | None
    job: str | None = None

    @property
    def died(self) -> bool:
        """Whether it ended without leave: one that is stopped takes its connection file or its job along."""
        return not self.alive and (self.connection is not None or self.job is not None)


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
    return directory


def find(directory: str) -> DaskserverState:
    """Return what there is of the daskserver of a directory.

    Raises
    ------
    UsageError
        If it was started on another host, where this one cannot see it.
    """
    try:
        facts = connection.read(os.path.join(directory, connection.FILE))
    except UsageError:
        facts = None
    if (job := in_job.read(directory)) is not None:
        found = in_job.look(job)
        return DaskserverState(found.alive, facts, found.text)
    alive = is_locked(os.path.join(directory, LOCK))
    if facts is None:
        return DaskserverState(alive, None)
    if not facts.is_here:
        path = os.path.join(directory, connection.FILE)
        raise UsageError(
            f"the daskserver {facts.name!r} runs on {facts.host}: go there,"
            f" or remove {path} if that host is gone"
        )
    return DaskserverState(alive, facts if not alive or facts.pid == process.holder(directory) else None)


def start(told: DaskserverSettings, tell: Callable[[str], None]) -> tuple[ConnectionFile, bool]:
    """Start a daskserver, detached from the terminal or in a job, unless it is running.

    Parameters
    ----------
    told
        What it is started with.
    tell
        Gets what somebody who waits for a job should know.

    Returns
    -------
    Connection, bool
        Where it is, and whether it is a new one.

    Raises
    ------
    DaemonFailed, JobFailed
        With its last words.
    """
    with locked(told.file(STARTING)):
        fresh = not find(told.directory).alive
        if fresh:
            _clear(told)
        job = _submit(told) if fresh and told.in_job else in_job.read(told.directory)
        if job is None:
            return (process.start(told), True) if fresh else (process.join(told), False)
    # a job may wait for days: meanwhile others may look at it, or stop it
    return in_job.until_ready(job, tell), fresh


def _submit(told: DaskserverSettings) -> in_job.EnclosingJob:
    from .in_job_script import submit

    return submit(told)


def _clear(told: DaskserverSettings) -> None:
    """Put down what the next one is told, and remove what the last one has left."""
    settings.write(told)
    with suppress(FileNotFoundError):
        os.unlink(told.file(connection.FILE))
    _wait_for_hashserver(told.file(HASHSERVER_READY))  # its port is the next one's
    in_job.forget(told.directory)


def foreground(told: DaskserverSettings) -> None:
    """Become the daskserver, with its log on standard error.

    Raises
    ------
    UsageError
        If it is running already.
    """
    with locked(told.file(STARTING)):
        if find(told.directory).alive:
            raise UsageError(f"the daskserver {told.name!r} is running already: seamless-daskserver stop")
        _clear(told)
    words = process.command(told)
    os.execv(words[0], words)  # noqa: S606 - our own interpreter


def stop(directory: str) -> bool:
    """Stop a daskserver and all that belongs to it; return whether there was one.

    Raises
    ------
    DaemonFailed, JobFailed
        If something may be left; the message says what.
    """
    with locked(os.path.join(directory, STARTING)):
        found = find(directory)
        job = in_job.read(directory)
        if job is not None:
            in_job.stop(job)
        elif found.alive:
            process.end(directory)
        _clean_up(directory)
    return found.alive or found.died


def _clean_up(directory: str) -> None:
    """Remove what a daskserver that was killed has left; one that ended by itself has left nothing."""
    import asyncio
    import shutil

    from ..cluster.opening import cancel_leftovers

    _wait_for_hashserver(os.path.join(directory, HASHSERVER_READY))
    for name in (connection.FILE, HASHSERVER_READY):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
    in_job.forget(directory)
    for folder in ("dask-scratch-space", "remote"):  # workers' files; what a connection by ssh has copied
        shutil.rmtree(os.path.join(directory, folder), ignore_errors=True)
    if problem := asyncio.run(cancel_leftovers(directory)):
        raise DaemonFailed(problem)


def _wait_for_hashserver(ready: str) -> None:
    """Wait for the end of a hashserver whose daskserver is gone: the system has told it."""
    from ...config import is_hashserver

    found = read_ready(ready)
    if found is None or not found.is_here:
        return
    try:
        fd = os.pidfd_open(found.pid)
    except OSError:
        return
    try:
        if is_hashserver(found.pid) and not select.select([fd], [], [], process.KILL_LIMIT)[0]:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    finally:
        os.close(fd)
