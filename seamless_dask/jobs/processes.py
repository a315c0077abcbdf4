"""The processes that run computations on this host: one for each, or kept for the next one.

One that is kept was started by this process, and has what its surroundings were then: environment, limits,
processors, niceness. While they are the same it is given computations, one at a time, each with its lock.
When this process has ended it does so too, having done what it does.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from hashserver.atomic import write_atomic
from hashserver.retry import pauses
from hashserver.system_text import each, from_system

from .. import daemon

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..context import Context
    from .directory import JobDirectory
    from .request import JobRequest

_LIMITS = sorted({number for name, number in vars(resource).items() if name.startswith("RLIMIT_")})
_idle: dict[Hashable, list[KeptProcess]] = {}
_kept: WeakSet[KeptProcess] = WeakSet()
_guard = threading.Lock()


class KeptProcess:
    """A process that runs computations as long as it is given some.

    Parameters
    ----------
    process
        It.
    control
        The socket by which it is given them.
    surroundings
        What this process had when it was started.
    """

    def __init__(self, process: daemon.Daemon, control: socket.socket, surroundings: Hashable) -> None:
        self._process, self.control, self._surroundings = process, control, surroundings
        self.pid = process.pid

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def give(self, job: JobDirectory, lock: int) -> bool:
        """Give it a computation with its lock; false: it has ended."""
        if self.poll() is None:
            with suppress(ConnectionError):
                message = json.dumps([job.cache, job.key]).encode() + b"\n"
                # In one piece: what is sent with a descriptor is not divided. Should it end before it has
                # read that, the lock goes with the socket: who asks sees that nobody runs the job, and has
                # it run anew.
                return socket.send_fds(self.control, [message], [lock]) == len(message)
        return False

    def release(self, *, idle: bool) -> None:
        """Need it no more; unless it is idle it ends when it has done what it does."""
        if idle and self.poll() is None:
            with _guard:
                kept = _idle.setdefault(self._surroundings, [])
                if len(kept) < _most():
                    kept.append(self)
                    return
        self.control.close()


def start(
    context: Context, job: JobDirectory, request: JobRequest, lock: int, *, bounded: bool, kept: bool
) -> daemon.Daemon | KeptProcess:
    """Have a process run a computation, and return it.

    It gets the lock, so that there is no moment in which nobody holds it.

    Parameters
    ----------
    context
        Store and database.
    job, request, lock
        Of the computation.
    bounded
        It waits until this host has a slot for one more command.
    kept
        One that has done others may do it, and it may do others afterwards.
    """
    config = each(context.config._asdict(), from_system)
    document = {"config": config, "asker": request.to_file().decode(), "bounded": bounded}
    # readable by us alone: it may have what opens a store
    write_atomic(job.file("request.json"), json.dumps(document).encode(), 0o600)
    child = _start_kept(job, lock) if kept else _start(job, lock)
    job.describe(child.pid, request.options.label)
    return child


def _start(job: JobDirectory, *descriptors: int) -> daemon.Daemon:
    words = daemon.command("seamless_dask.worker.local", job.cache, job.key, *map(str, descriptors))
    return daemon.spawn(words, job.file("log"), keep=descriptors)


def _start_kept(job: JobDirectory, lock: int) -> KeptProcess:
    surroundings = _surroundings()
    while found := _taken(surroundings):
        if found.give(job, lock):
            return found
        found.release(idle=False)
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            started = KeptProcess(_start(job, lock, theirs.fileno()), ours, surroundings)
    except BaseException:
        ours.close()
        raise
    _kept.add(started)
    return started


def _taken(surroundings: Hashable) -> KeptProcess | None:
    """Return one that is idle; what this process had before, it hardly ever has again."""
    with _guard:
        others = [kept for key in list(_idle) if key != surroundings for kept in _idle.pop(key)]
        idle = _idle.get(surroundings)
        found = idle.pop() if idle else None
    for kept in others:
        kept.release(idle=False)
    return found


def dismiss(seconds: float = 0.0) -> None:
    """Let those end that are idle, and wait for that for some time."""
    with _guard:
        idle = [kept for some in _idle.values() for kept in some]
        _idle.clear()
    for process in idle:
        process.release(idle=False)
    for pause in pauses(0.005, 0.05, seconds=seconds):
        if all(process.poll() is not None for process in idle):
            break
        time.sleep(pause)


def _most() -> int:
    """Return how many are worth to be kept: no more run at a time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _surroundings() -> Hashable:
    """Return what a process inherits that computations may notice."""
    limits = tuple(map(resource.getrlimit, _LIMITS))
    affinity = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
    return tuple(os.environ.items()), limits, affinity, os.getpriority(os.PRIO_PROCESS, 0)


def _forget() -> None:
    """Leave the processes to the one that has started them: this one is a fork of it."""
    global _guard
    _guard = threading.Lock()
    _idle.clear()
    for kept in list(_kept):
        kept.control.close()


os.register_at_fork(after_in_child=_forget)
