"""The queue's files: what waits to be run, who runs it, what has failed.

::

    <cache>/queue/guard               locked for every short step below (flock)
    <cache>/queue/lock                locked by the running queue, which says in it who it is
    <cache>/queue/bell                a FIFO, written to when there is something new
    <cache>/queue/finish              the queue is to end when nothing is left
    <cache>/queue/entries/<id>.json   what waits or runs, in the order of its coming
    <cache>/queue/failed/<id>.json    what has failed and was not yet reported
    <cache>/queue/logs/<id>.log       what commands and we have said of it

An entry stays where it is until its results are delivered, so that whoever dies in between, the next queue
carries on. A queue lets go of its lock under the guard and only when no entry is left, so that none comes in
behind its back.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from hashserver.atomic import write_atomic
from hashserver.errors import InvalidChecksum

from ..errors import SeamlessError, UsageError
from ..locks import is_locked, locked, sign, signed, try_lock
from ..private import private_directory
from .bell import make_bell, ring
from .entries import Failure, QueueEntry

if TYPE_CHECKING:
    from collections.abc import Iterator


CANCELLED = "it was cancelled"
STRANGE = "it was written by another version of seamless-dask: submit it again"


class NoQueue(SeamlessError):
    """Nobody would run what is submitted."""


class QueueStore:
    """The queue of one cache.

    Parameters
    ----------
    cache : str
        The cache directory.
    """

    def __init__(self, cache: str) -> None:
        self.path = os.path.join(cache, "queue")

    def __repr__(self) -> str:
        return f"QueueStore({self.path!r})"

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Do a short step alone."""
        private_directory(self.path)
        with locked(os.path.join(self.path, "guard")):
            yield

    # -------------------------------------------------- who serves it

    def queue(self) -> dict[str, Any] | None:
        """Return what the running queue says of itself (``pid``, ``host``, ``workers``); None without one."""
        if not os.path.isdir(self.path):
            return None
        with self.guard():
            return self._queue()

    def _queue(self) -> dict[str, Any] | None:
        lock = os.path.join(self.path, "lock")
        return signed(lock) if is_locked(lock) else None

    def take(self, workers: int) -> int | None:
        """Become the queue; returns the descriptor of the lock, None when there is one already."""
        with self.guard():
            for name in ("entries", "failed", "logs"):
                private_directory(os.path.join(self.path, name))
            lock = try_lock(os.path.join(self.path, "lock"))
            if lock is None:
                return None
            sign(lock, workers=workers)
            for name in ("finish", "bell"):  # the bell may be that of another host
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.path, name))
            make_bell(os.path.join(self.path, "bell"))
            self._remove_logs()
            return lock

    def is_gone(self, lock: int) -> bool:
        """Whether the lock is no more that of this queue: somebody has removed the cache."""
        try:
            return not os.path.samestat(os.fstat(lock), os.stat(os.path.join(self.path, "lock")))
        except FileNotFoundError:
            return True

    def release(self, lock: int) -> bool:
        """Stop being the queue, unless there are entries left; returns whether it was done."""
        with self.guard():
            if self.ids():
                return False
            os.close(lock)
            return True

    def finish(self) -> None:
        """Ask the queue to end when nothing is left."""
        write_atomic(os.path.join(self.path, "finish"), b"")
        self.ring()

    def go_on(self) -> None:
        """Take back what `finish` asked for."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path, "finish"))

    def finishing(self) -> bool:
        """Whether somebody has asked for the end."""
        return os.path.exists(os.path.join(self.path, "finish"))

    def open_bell(self) -> int:
        """Return the reading end of the bell."""
        try:
            # both ends are ours, so that it does not end with each one who rings
            return os.open(os.path.join(self.path, "bell"), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:  # this file system has none: one that never rings
            return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        """Tell the queue that there is something new; one on another host looks by itself now and then."""
        ring(os.path.join(self.path, "bell"))

    # -------------------------------------------------- entries

    def require_queue(self) -> None:
        """Raise `NoQueue` when nobody would run an entry."""
        if self.queue() is None:
            raise self._no_queue()

    def add(self, entry: QueueEntry) -> str:
        """Submit an entry and return its id; raises `NoQueue`."""
        with self.guard():
            if self._queue() is None:
                raise self._no_queue()
            name = f"{time.time_ns():020}-{os.getpid()}"
            write_atomic(self._file("entries", name), entry._replace(id=name).to_file(), 0o600)
        self.ring()
        return name

    def _no_queue(self) -> NoQueue:
        left = len(self.ids())
        more = f" ({left} submitted before still wait in it)" if left else ""
        return NoQueue(f"no queue is running{more}: start one by seamless-queue --workers N -d")

    def ids(self) -> list[str]:
        """Return the ids of all entries, those that came first in front."""
        return self._names("entries")

    def read(self, name: str) -> QueueEntry | None:
        """Return an entry; None when it is gone."""
        try:
            with open(self._file("entries", name), "rb") as file:
                return QueueEntry.from_file(file.read())
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, UsageError, InvalidChecksum):
            self._fail(Failure(name, "", f"entry {name}", STRANGE, None, self.log(name)))
            return None

    def has(self, name: str) -> bool:
        """Whether an entry is still there."""
        return os.path.exists(self._file("entries", name))

    def remove(self, name: str) -> None:
        """Remove an entry: it is done, or not wanted any more."""
        with suppress(FileNotFoundError):
            os.unlink(self._file("entries", name))

    def cancel(self, key: str) -> list[QueueEntry]:
        """Let the entries of a transformation fail, and return them.

        One that runs already is for the caller to stop.
        """
        found = [entry for name in self.ids() if (entry := self.read(name)) and entry.key == key]
        for entry in found:
            self.fail(entry, CANCELLED)
        self.ring()
        return found

    def facts(self) -> dict[str, Any] | None:
        """Return what there is to say of the queue; None when there is none, and nothing is left of one."""
        queue, entries, failed = self.queue(), len(self.ids()), len(self._names("failed"))
        if queue is None and not entries and not failed:
            return None
        return {"running": queue, "entries": entries, "failed": failed}

    # -------------------------------------------------- failures

    def fail(self, entry: QueueEntry, message: str, exit_status: int | None = None) -> Failure:
        """Put an entry among the failed ones."""
        return self._fail(Failure(entry.id, entry.key, entry.text, message, exit_status, self.log(entry.id)))

    def _fail(self, failure: Failure) -> Failure:
        write_atomic(self._file("failed", failure.id), json.dumps(failure).encode(), 0o600)
        self.remove(failure.id)
        return failure

    def failures(self) -> list[Failure]:
        """Return what has failed and was not yet reported."""
        found = []
        for name in self._names("failed"):
            with suppress(FileNotFoundError), open(self._file("failed", name), "rb") as file:
                try:
                    found.append(Failure(*json.load(file)))
                except (ValueError, TypeError):
                    found.append(Failure(name, "", f"entry {name}", STRANGE, None, self.log(name)))
        return found

    def failure(self, name: str) -> Failure | None:
        """Return how an entry failed; None when it has not."""
        return next((failure for failure in self.failures() if failure.id == name), None)

    def forget(self, name: str) -> None:
        """Forget a failure, which was reported or made good; its log stays until the next queue starts."""
        with suppress(FileNotFoundError):
            os.unlink(self._file("failed", name))

    def log(self, name: str) -> str:
        """Return the path of an entry's log."""
        return os.path.join(self.path, "logs", f"{name}.log")

    def _remove_logs(self) -> None:
        kept = {*self.ids(), *self._names("failed")}
        for name in os.listdir(os.path.join(self.path, "logs")):
            if name.removesuffix(".log") not in kept:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.path, "logs", name))

    def _file(self, kind: str, name: str) -> str:
        return os.path.join(self.path, kind, f"{name}.json")

    def _names(self, kind: str) -> list[str]:
        try:
            names = os.listdir(os.path.join(self.path, kind))
        except FileNotFoundError:
            return []
        return sorted(name[:-5] for name in names if name.endswith(".json") and not name.startswith("."))
