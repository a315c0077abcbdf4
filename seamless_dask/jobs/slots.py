"""As many commands at a time on one host as it has processors, whoever has asked for them.

::

    <cache>/places/<host>/<number>   a processor: locked by a process that runs a command
    <cache>/places/<host>/turn       locked by the one of those who wait that looks for a free slot

A process has a slot by a lock, which goes with it however it ends. A command that waits for computations it
has asked for itself takes none meanwhile: what it waits for may need this very one.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..errors import Cancelled
from ..locks import is_locked, lock_now, try_lock
from ..private import private_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..execution.supervisor import Stop

OUTER = "SEAMLESS_OUTER"
"""Tells a command the file that says, by shared locks, that it waits for what it has asked for itself."""
LOOK, ASK = 0.01, 0.2
"""Seconds between two looks for a free slot, and between two questions whether it is needed still."""


class Slot:
    """The slot of this process, which its main thread has while it runs a command.

    Parameters
    ----------
    cache : str or None
        Those who use this cache share the slots; None: this process needs none.
    """

    def __init__(self, cache: str | None) -> None:
        self._directory, self._files = "", list[str]()
        if cache is not None:
            self._directory = private_directory(os.path.join(cache, "places", os.uname().nodename))
            self._files = [self._file(str(number)) for number in sorted(os.sched_getaffinity(0))]
        self._lock: int | None = None
        self._held = False
        self._outer: str | None = None

    @contextmanager
    def held(self, abandoned: Callable[[], Stop | None], mark: str) -> Iterator[None]:
        """Have a slot for some time, having waited for it.

        Parameters
        ----------
        abandoned
            Says why it is not needed any more.
        mark
            A file that is there as long as it is waited for.

        Raises
        ------
        Cancelled
            It is not needed any more.
        """
        self._wait(abandoned, mark)
        self._held = True
        try:
            yield
        finally:
            self._held, self._outer = False, None
            self._release()

    @contextmanager
    def given_up(self, abandoned: Callable[[], Stop | None], mark: str) -> Iterator[None]:
        """Have none for some time, and wait for one afterwards if there was one before."""
        held, self._held = self._held, False
        self._release()
        try:
            yield
        finally:
            self._held = held
        if held:
            self._wait(abandoned, mark)

    def offer(self, path: str) -> dict[str, str]:
        """Return the variables by which a command says that it waits; `path` is the file for that."""
        if not self._files:
            return {}
        self._outer = path
        _make(path)
        return {OUTER: path}

    def follow(self, waits: bool) -> None:
        """Give the slot to others while the command waits for what it has asked for, then take a free one.

        The command cannot be halted until there is one: for a moment there may be more of them than slots.
        """
        if self._held and (waits or (self._outer is not None and is_locked(self._outer))):
            self._release()
        elif self._held:
            self._take()

    def _wait(self, abandoned: Callable[[], Stop | None], mark: str) -> None:
        if not self._files:
            return
        turn = os.open(self._file("turn"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if lock_now(turn) and self._take():
                return
            _make(mark)
            with _asking(abandoned):
                fcntl.flock(turn, fcntl.LOCK_EX)  # in the order of their coming
            while not self._take():
                if stop := abandoned():
                    raise Cancelled(str(stop))
                time.sleep(LOOK)
        finally:
            os.close(turn)
            with suppress(OSError):
                os.unlink(mark)

    def _take(self) -> bool:
        """Take a free slot; false: there is none."""
        for path in self._files:
            if self._lock is None:
                self._lock = try_lock(path)
        return self._lock is not None

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _file(self, name: str) -> str:
        return os.path.join(self._directory, name)


@contextmanager
def waiting() -> Iterator[None]:
    """Let the command that this process belongs to, if there is one, give up its slot for some time."""
    path, lock = os.environ.get(OUTER), None
    if path is not None:
        with suppress(OSError):  # it is no command of this host
            lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_SH)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


@contextmanager
def _asking(abandoned: Callable[[], Stop | None]) -> Iterator[None]:
    """Raise `Cancelled` out of the wait of the main thread for a lock, when that is needed no more.

    Python goes on waiting after a signal whose handler raises nothing. One that comes when the lock has just
    been got does no harm: whoever has opened the file closes it. One that comes before the timer is stopped
    below would leave it going, to raise in the middle of whatever comes next: it is stopped first.
    """

    def ask(*_: object) -> None:
        if stop := abandoned():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Cancelled(str(stop))

    before = signal.signal(signal.SIGALRM, ask)
    signal.setitimer(signal.ITIMER_REAL, ASK, ASK)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _make(path: str) -> None:
    with suppress(OSError):  # somebody has removed the directory
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
