"""The directory through which the processes of one cache share a running computation.

::

    <cache>/jobs/guard            locked for every short step below (flock)
    <cache>/jobs/<key>/lock       locked by whoever runs the computation, for as long as it lives
    <cache>/jobs/<key>/askers/<id>.json   one who waits: options, and what else it wants
    <cache>/jobs/<key>/askers/<id>.done   how it ended for this one
    <cache>/jobs/<key>/askers/<id>.fifo   written to when that is there
    <cache>/jobs/<key>/losses     one line for every runner that was lost
    <cache>/jobs/<key>/cancel     everybody withdraws
    <cache>/jobs/<key>/queued     it waits for a slot among the commands that run on this host
    <cache>/jobs/<key>/nested     locked by what the command itself has asked for and waits for
    <cache>/jobs/<key>/serving    nobody waits, but a step that others wait for is still being run
    <cache>/jobs/<key>/stderr, log, config.json

Who runs is told by the lock, never by a process number, which another process may have by now. Outcomes are
written and the lock is released in one step under the guard, so that an asker without an outcome and a free
lock mean: the runner was lost.
"""

from __future__ import annotations

import errno
import json
import os
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from hashserver.atomic import write_atomic

from ..locks import is_locked, locked, sign, signed, try_lock
from ..private import private_directory
from .bell import Bell, make_bell, ring
from .info import JobInfo
from .request import JobRequest, is_dead, own_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hashserver.checksum import Checksum

    from ..model.outcomes import Outcome

GUARD = "guard"
SERVING, QUEUED, NESTED = "serving", "queued", "nested"
ATTEMPTS = 20
"""How often a step is tried in a directory that others remove."""
BELIEVED = 86400.0
"""Seconds for which another host is believed that it runs a computation, when its lock is not seen."""
YOUNG = 60.0
"""Seconds for which a directory in which nobody waits may be one that another host is just making."""

T = TypeVar("T")


class JobDirectory:
    """One computation of one cache.

    Parameters
    ----------
    cache : str
        The cache directory.
    key : Checksum
        Key of the computation.
    """

    def __init__(self, cache: str, key: Checksum) -> None:
        self.cache, self.key = cache, key
        self.root = os.path.join(cache, "jobs")
        self.path = os.path.join(self.root, key)
        self._askers = os.path.join(self.path, "askers")

    def __repr__(self) -> str:
        return f"JobDirectory({self.path!r})"

    def file(self, name: str) -> str:
        """Return the path of one of its files."""
        return os.path.join(self.path, name)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Do a short step alone."""
        private_directory(self.root)
        with locked(os.path.join(self.root, GUARD)):
            yield

    # -------------------------------------------------- who runs it (all of these under the guard)

    def try_lock(self) -> int | None:
        """Become the one who runs it; None when somebody is already."""
        return self._present(lambda: try_lock(self.file("lock")))

    def _present(self, step: Callable[[], T]) -> T:
        """Take a step in the directory, which is made for it.

        Hosts whose file system shares no locks are not kept apart by the guard: one of them may remove the
        directory, which it takes for over, between the moment that it is made here and the step.
        """
        for attempt in range(ATTEMPTS):
            with suppress(FileExistsError):
                os.makedirs(self._askers, 0o700)
            try:
                return step()
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ESTALE) or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError

    def held(self) -> bool:
        """Whether somebody runs it."""
        return is_locked(self.file("lock"))

    def holder(self) -> int | None:
        """Return the process that runs it."""
        return self.facts().get("pid") if self.held() else None

    def remove_if_over(self) -> None:
        """Remove the directory when nobody runs it and nobody has still to read an outcome."""
        if not self._names() and not self.held() and not self.is_elsewhere():
            self.remove()

    def is_elsewhere(self) -> bool:
        """Whether another host has said not long ago that it runs it: its lock may not be seen here."""
        if self.facts().get("host", os.uname().nodename) == os.uname().nodename:
            return False
        with suppress(FileNotFoundError):
            return time.time() - os.stat(self.file("lock")).st_mtime < BELIEVED
        return False

    def is_new(self) -> bool:
        """Whether another host may run it, or be about to: its locks may not be seen here."""
        if self.is_elsewhere():
            return True
        with suppress(FileNotFoundError):
            made_here = "host" in self.facts()
            return not made_here and time.time() - os.stat(self.path).st_mtime < YOUNG
        return False

    def remove(self) -> None:
        """Remove the directory, but not those who have come since it was looked at (see `_present`)."""
        aside = f"{self.path}.{os.urandom(4).hex()}"
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        askers = os.path.join(aside, "askers")
        with suppress(FileNotFoundError):
            for name in os.listdir(askers):
                if is_dead(name.rpartition(".")[0]):
                    continue
                self._present(partial(os.rename, os.path.join(askers, name), self._file(name)))
        remove(aside)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._askers)
        except FileNotFoundError:
            return []

    # -------------------------------------------------- who waits for it

    def register(self, request: JobRequest) -> str:
        """Add one who waits (under the guard), and return the name that it gets."""
        name = own_name()
        if not request.detached:
            self._present(lambda: make_bell(self._file(f"{name}.fifo")))
        self._present(lambda: write_atomic(self._file(f"{name}.json"), request.to_file(), 0o600))
        return name

    def unregister(self, name: str) -> None:
        """Forget one who waited (under the guard)."""
        for kind in ("json", "done", "fifo"):
            with suppress(FileNotFoundError):
                os.unlink(self._file(f"{name}.{kind}"))

    def waiting(self) -> list[str]:
        """Return the names of those who wait and have no outcome yet."""
        names = set(self._names())
        return sorted(
            name[:-5] for name in names if name.endswith(".json") and f"{name[:-5]}.done" not in names
        )

    def forget_dead(self) -> None:
        """Forget those who died waiting (under the guard): they are no reason to go on.

        What runs is not stopped by the death of those who asked, but it is once somebody stops it who is
        the last one alive. One who never meant to wait counts as before.
        """
        for name in self.waiting():
            request = self.request(name)
            if request is not None and not request.detached and is_dead(name):
                self.unregister(name)

    def request(self, name: str) -> JobRequest | None:
        """Return what one has said; None when it has gone in the meantime."""
        try:
            with open(self._file(f"{name}.json"), "rb") as file:
                return JobRequest.from_file(name, self.key, file.read())
        except FileNotFoundError:
            return None

    def deliver(self, name: str, outcome: Outcome) -> None:
        """Tell one how it ended."""
        with suppress(FileNotFoundError):  # it has gone, with the directory
            write_atomic(self._file(f"{name}.done"), json.dumps(outcome).encode(), 0o600)
        # afterwards: one that is woken looks once, and would sleep on when the outcome came behind the bell
        ring(self._file(f"{name}.fifo"))

    def outcome(self, name: str) -> Outcome | None:
        """Return how it ended for one who waits; None as long as it has not."""
        try:
            with open(self._file(f"{name}.done"), "rb") as file:
                outcome: Outcome = json.load(file)
                return outcome
        except FileNotFoundError:
            return None

    def bell(self, name: str) -> Bell:
        """Return what rings when there is an outcome for `name`."""
        return Bell(self._file(f"{name}.fifo"))

    # -------------------------------------------------- what has become of it

    def running(self) -> bool:
        """Whether somebody runs it (not under the guard: it takes that)."""
        if not os.path.exists(self.path):
            return False
        with self.guard():
            return self.held()

    def cancel(self) -> bool:
        """Withdraw everybody; returns whether it was running."""
        with self.guard():
            if not self.held():
                return False
            with suppress(FileNotFoundError), open(self.file("cancel"), "wb"):
                return True
        return False

    def cancelled(self) -> bool:
        """Whether `seamless-cancel` was called."""
        return os.path.exists(self.file("cancel"))

    def mind_loss(self, how: str) -> None:
        """Note that a runner was lost (under the guard, by one who has just got the lock).

        It was if there are some who still wait. What is started again is not started for the dead.
        """
        if not self.waiting():
            return
        facts = self.facts()
        line = f"process {facts.get('pid', '?')} on {facts.get('host', '?')} "
        if not any(known.startswith(line) for known in self.losses()):
            text = line + how.replace("\n", " ") + "\n"
            self._present(lambda: append(self.file("losses"), text))
        self.forget_dead()

    def losses(self) -> list[str]:
        """Return a line for every runner that was lost."""
        try:
            with open(self.file("losses"), encoding="utf-8") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []

    def describe(self, process: int, label: str | None) -> None:
        """Write down who runs it."""
        from ..model.records import timestamp

        with suppress(FileNotFoundError), open(self.file("lock"), "r+b") as file:
            sign(file.fileno(), pid=process, started=timestamp(), label=label)

    def facts(self) -> dict[str, Any]:
        """Return what `describe` wrote."""
        return signed(self.file("lock"))

    def is_queued(self) -> bool:
        """Whether who runs it waits for a slot on its host."""
        return os.path.exists(self.file(QUEUED))

    def info(self) -> JobInfo | None:
        """Return what people are told of it; None when it is over."""
        with self.guard():
            running, askers = self.held(), len(self.waiting())
        if not running and not askers:
            return None
        facts = self.facts()
        pid, host, started = (facts.get(name) for name in ("pid", "host", "started"))
        state = "lost" if not running else "queued" if self.is_queued() else "running"
        worker = None if pid is None else f"process {pid}"
        return JobInfo(self.key, state, facts.get("label"), worker, host, started, askers, pid)

    def is_left(self) -> bool:
        """Whether it is only what dead processes have left behind (under the guard)."""
        askers = {name.rpartition(".")[0] for name in self._names()}
        return not self.held() and all(is_dead(asker) for asker in askers) and not self.is_new()

    def _file(self, name: str) -> str:
        return os.path.join(self._askers, name)


def all_jobs(cache: str) -> list[JobDirectory]:
    """Return all computations of a cache that have a directory."""
    from hashserver.checksum import Checksum
    from hashserver.errors import InvalidChecksum

    found = []
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(os.path.join(cache, "jobs"))):
            with suppress(InvalidChecksum):
                found.append(JobDirectory(cache, Checksum(name)))
    return found


def clean(cache: str) -> None:
    """Remove what dead processes have left behind."""
    for job in all_jobs(cache):
        with job.guard():
            if job.is_left():
                job.remove()


def waits_for(job: JobDirectory, process: int) -> bool:
    """Say whether who runs a job waits for a process of this host, directly or not (under the guard)."""
    waited_for: dict[int, int] = {}
    for other in all_jobs(job.cache):
        if (holder := other.holder()) is not None:
            askers = {int(name.rsplit("-", 3)[1]) for name in other.waiting()}
            waited_for |= dict.fromkeys(askers - {holder}, holder)
    holder = job.holder()
    for _ in waited_for:
        if holder is None or holder == process:
            break
        holder = waited_for.get(holder)
    return holder == process


def needs(job: JobDirectory, outer: str) -> bool:
    """Say whether a job is `outer`, or waits for it, directly or not, as far as those who wait say so.

    Who asks has registered before it looks: of two who come to wait for each other at the same time the later
    one sees both.
    """
    waiting, seen = [outer], set[str]()
    while waiting:
        key = waiting.pop()
        if key == job.key:
            return True
        if key not in seen:
            seen.add(key)
            other = JobDirectory(job.cache, cast("Checksum", key))
            requests = [other.request(name) for name in other.waiting()]
            waiting += [one.outer for one in requests if one and one.outer and not one.detached]
    return False


def append(path: str, text: str) -> None:
    """Add to the end of a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def remove(path: str) -> None:
    """Remove a directory and all in it, as far as that can be done (`shutil` takes long to import)."""
    for directory, _, names in os.walk(path, topdown=False):
        for name in names:
            with suppress(OSError):
                os.unlink(os.path.join(directory, name))
        with suppress(OSError):
            os.rmdir(directory)
