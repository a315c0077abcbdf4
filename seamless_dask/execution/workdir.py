"""The directory of one run: made fresh, removed afterwards, and at the next start if we could not."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import re
import threading
from functools import cache
from posixpath import basename, join
from typing import TYPE_CHECKING

from seamless_dask.errors import UsageError
from seamless_dask.locks import birth

from .layout import Freshness, emptied, layout, make, remove_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

_NAME = re.compile(r"seamless-([0-9a-f]{8})-([0-9]+)-([0-9]+)-[0-9a-f]{8}")


class RunDirectory:
    """A context manager: makes the directory, and removes it whatever the command left in it.

    Parameters
    ----------
    depth : int
        How many levels the working directory lies below the root of the inputs.

    Attributes
    ----------
    is_deserted : bool
        Set when no process can be left that knows of it: where it is empty as well it serves the next run.
    """

    def __init__(self, depth: int = 0) -> None:
        parent = usable_temporary_directory()
        sweep(parent)
        self._pool = _pool
        ready = self._pool.take(parent) if self._pool and depth == 0 else None
        self._is_made = ready is not None
        self.path = ready or join(parent, _new_name())
        self.name = basename(self.path)
        self.layout = layout(self.name, self.path, depth)
        self.is_deserted = False

    def __enter__(self) -> Self:
        if not self._is_made:
            make(self.layout, self.path)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is None:
            remove_run(self.path)
        elif not (self.is_deserted and self._pool.take_back(self.path)):
            self._pool.remove(self.path, os.path.dirname(self.path))


class RunDirectoryPool:
    """Makes and removes run directories in a thread of its own, and keeps those that can serve again.

    On many file systems making and removing are little work and a long wait for the disk.
    """

    BACKLOG = 64
    """Directories that may wait to be removed; who leaves one more removes it himself."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[str], None], str]] = queue.SimpleQueue()
        self._is_leaving = False
        self._fresh: dict[str, Freshness] = {}
        self._ready: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="seamless-run-directories", daemon=True)
        self._thread.start()

    def take(self, parent: str) -> str | None:
        """Return a fresh directory, if one is ready."""
        try:
            path = self._ready.get_nowait()
        except queue.Empty:
            return None
        if path.rpartition("/")[0] == parent:
            return path
        self.remove(path, parent)
        return None

    def take_back(self, path: str) -> bool:
        """Keep a directory for the next run, if it is as fresh as before."""
        fresh = self._fresh.get(path)
        if fresh is None or self._is_leaving or not emptied(path, fresh):
            return False
        self._ready.put(path)
        if self._is_leaving:  # perhaps it did not see this one any more
            self._leave("")
        return True

    def remove(self, path: str, parent: str) -> None:
        """Remove a directory before long, and have the next one made in `parent`."""
        self._fresh.pop(path, None)
        if self._jobs.qsize() < self.BACKLOG and not self._is_leaving:
            self._jobs.put((remove_run, path))
            self._jobs.put((self._prepare, parent))
        else:
            remove_run(path)

    def finish(self) -> None:
        """Leave; return when nothing is left of what was made or is to be removed."""
        self._is_leaving = True
        self._jobs.put((self._leave, ""))
        self._thread.join()
        while not self._jobs.empty():  # somebody had not yet seen that it leaves
            act, path = self._jobs.get()
            if act is remove_run:
                remove_run(path)
        self._leave("")

    def _prepare(self, parent: str) -> None:
        if self._ready.empty():
            path = join(parent, _new_name())
            make(layout("", path, 0), path)
            self._fresh[path] = Freshness.of(path)
            self._ready.put(path)

    def _leave(self, _: str) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                remove_run(self._ready.get_nowait())

    def _work(self) -> None:
        act: Callable[[str], None] | None = None
        while act != self._leave:
            act, path = self._jobs.get()
            with contextlib.suppress(OSError):  # whoever needs a directory meets the fault himself
                act(path)


_pool: RunDirectoryPool | None = None
_users = 0
_users_lock = threading.Lock()


def open_pool() -> None:
    """Have the run directories of this process made and removed in the background."""
    global _pool, _users
    with _users_lock:
        _users += 1
        _pool = _pool or RunDirectoryPool()


def close_pool() -> None:
    """Do without it, unless others use it too; returns when nothing is left to be removed."""
    global _pool, _users
    with _users_lock:
        _users -= 1
        leaving = None if _users else _pool
        _pool = _pool if _users else None
    if leaving is not None:
        leaving.finish()


def _new_name() -> str:
    return f"{_prefix(os.getpid())}-{os.urandom(4).hex()}"


@cache
def _prefix(process: int) -> str:
    return f"seamless-{_host()}-{process}-{birth(process)}"


def temporary_directory() -> str:
    """Return where run directories go, as an absolute path without links."""
    return os.path.realpath(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - made with mode 0700


def usable_temporary_directory() -> str:
    """Return where run directories go.

    Raises
    ------
    UsageError
        When nothing can be made there: at the next attempt it would be no better.
    """
    named, path, host = os.environ.get("TMPDIR"), temporary_directory(), os.uname().nodename
    subject = f"TMPDIR names {path}" if named else path
    if named and not os.path.isabs(named):
        raise UsageError(
            f"TMPDIR is {named}, no absolute path: set it to a directory of {host}, or not at all"
        )
    if not os.path.isdir(path):
        raise UsageError(f"{subject}, which is no directory on {host}: make it, or set TMPDIR to another one")
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"{subject}, which cannot be written on {host}: set TMPDIR to another directory")
    return path


@cache
def sweep(parent: str) -> None:
    """Remove what runs have left whose owner was killed, processes included; once a process."""
    from .process import kill_strays

    with contextlib.suppress(OSError):
        for name in os.listdir(parent):
            match = _NAME.fullmatch(name)
            if match is None or match[1] != _host() or birth(int(match[2])) == int(match[3]):
                continue
            path = join(parent, name)
            with contextlib.suppress(OSError):
                if os.lstat(path).st_uid == os.geteuid():
                    kill_strays(name, path)
                    remove_run(path)


@cache
def _host() -> str:
    # a directory may be shared by hosts, and by containers of one host: a pid means something in one of them
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        namespace = 0
    return hashlib.sha256(f"{os.uname().nodename} {namespace}".encode()).hexdigest()[:8]
