"""The queue's process: starts a process for each entry, some at a time, and tells what becomes of them.

It has no threads and opens neither store nor database, so that a forked child begins with warm modules and
nothing else of its parent's.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.printable import visible
from hashserver.retry import pauses

from ..console import INTERRUPTED, OK, CommandError, Console
from ..run import compute  # noqa: F401 - so that children need not import it
from ..text import count_text
from .entry import DONE, FAILED, KEPT, perform

if TYPE_CHECKING:
    from seamless_dask.jobs.entries import Failure, QueueEntry
    from seamless_dask.jobs.queue import QueueStore

LOOK = 1.0
"""Seconds after which the queue looks for entries unasked: those of other hosts cannot ring its bell."""
PATIENCE = 10.0
"""Seconds that commands have to end after Ctrl-C."""
_PR_SET_PDEATHSIG = 1


class QueueServer:
    """The queue.

    Parameters
    ----------
    queue_store : QueueStore
        Its files.
    workers : int
        How many entries run at a time.
    console : Console
        Where it is told how things go.
    lock : int
        Descriptor of the lock that makes this process the queue.
    """

    def __init__(self, queue_store: QueueStore, workers: int, console: Console, lock: int) -> None:
        self._queue_store, self._workers, self._console, self._lock = queue_store, workers, console, lock
        self._waiting: dict[str, QueueEntry] = {}
        self._running: dict[int, QueueEntry] = {}
        self._lost: Counter[str] = Counter()
        self._failed = {failure.key: failure for failure in queue_store.failures()}
        self._done = 0
        self._stop: int | None = None
        self._libc = ctypes.CDLL(None)
        self._line = console.line()

    def serve(self) -> int:
        """Run entries until somebody asks for the end; returns the exit status."""
        bell = self._queue_store.open_bell()
        wakeup, wakeup_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        poller = select.poll()
        for fd in (bell, wakeup):
            poller.register(fd, select.POLLIN)
        try:
            return self._serve(poller, bell)
        finally:
            self._line.clear()
            signal.set_wakeup_fd(-1)
            for fd in (bell, wakeup, wakeup_end):
                os.close(fd)

    def _serve(self, poller: select.poll, bell: int) -> int:
        look_again = 0.0
        while self._stop is None:
            if time.monotonic() >= look_again:
                self._admit()
                look_again = time.monotonic() + LOOK
            self._start()
            if self._drained() and self._queue_store.finishing() and self._queue_store.release(self._lock):
                self._told()
                return OK
            self._line.show(self._state())
            for fd, _ in poller.poll(LOOK * 1000):
                with suppress(BlockingIOError):
                    os.read(fd, 1 << 16)
                look_again = 0.0 if fd == bell else look_again
            self._reap()
        return self._end()

    def _on_signal(self, number: int, _: object) -> None:
        if number != signal.SIGCHLD:
            self._stop = number

    def _drained(self) -> bool:
        return not self._waiting and not self._running

    # -------------------------------------------------- entries

    def _admit(self) -> None:
        """Take notice of what has come, and of what was withdrawn."""
        if self._queue_store.is_gone(self._lock):
            raise CommandError(f"{self._queue_store.path} was removed: the queue ends")
        ids = self._queue_store.ids()
        running = {entry.id for entry in self._running.values()}
        for name in set(self._waiting) - set(ids):
            del self._waiting[name]
            if failure := self._queue_store.failure(name):
                self._count_failure(failure)
        for name in ids:
            if name not in self._waiting and name not in running and (entry := self._queue_store.read(name)):
                self._waiting[name] = entry

    def _start(self) -> None:
        """Start what can be started: an entry waits for those whose results it needs."""
        if len(self._running) >= self._workers:
            return
        keys = {entry.key for entry in (*self._waiting.values(), *self._running.values())}
        for entry in sorted(self._waiting.values(), key=_turn):
            if len(self._running) == self._workers:
                break
            if not keys.intersection(entry.upstream) and self._queue_store.has(entry.id):
                del self._waiting[entry.id]
                self._running[self._fork(entry)] = entry

    def _fork(self, entry: QueueEntry) -> int:
        parent = os.getpid()
        sys.stderr.flush()
        if child := os.fork():
            return child
        try:
            self._become_child(entry, parent)
            status = perform(self._queue_store, entry, {key: _why(f) for key, f in self._failed.items()})
        except BaseException:
            import traceback

            sys.stderr.write(visible(traceback.format_exc()))
            status = KEPT + 1
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _become_child(self, entry: QueueEntry, parent: int) -> None:
        """Be a process that ends with the queue, whatever ends that, and writes to the entry's log."""
        self._libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            os._exit(KEPT)
        signal.set_wakeup_fd(-1)
        os.setsid()  # Ctrl-C is for the queue to hear
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.close(self._lock)
        log = os.open(self._queue_store.log(entry.id), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for fd in (1, 2):
            os.dup2(log, fd)
        os.close(log)

    def _reap(self) -> None:
        for pid in list(self._running):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._ended(self._running.pop(pid), os.waitstatus_to_exitcode(status))

    def _ended(self, entry: QueueEntry, status: int) -> None:
        if status == DONE:
            self._succeeded(entry)
        elif status == FAILED and (failure := self._queue_store.failure(entry.id)):
            self._count_failure(failure)
        elif status == KEPT:
            self._waiting[entry.id] = entry
        else:
            self._died(entry, status)

    def _succeeded(self, entry: QueueEntry) -> None:
        self._done += 1
        self._console.detail(f"done: {entry.text}")
        self._queue_store.forget(entry.id)  # it was cancelled when it was as good as done
        if failure := self._failed.pop(entry.key, None):
            self._queue_store.forget(failure.id)
        with suppress(OSError):
            if os.path.getsize(self._queue_store.log(entry.id)) == 0:
                os.unlink(self._queue_store.log(entry.id))

    def _count_failure(self, failure: Failure) -> None:
        if earlier := self._failed.get(failure.key):
            self._queue_store.forget(earlier.id)
        self._failed[failure.key] = failure
        self._line.clear()
        self._console.error(f"failed: {failure.text}: {failure.message}")

    def _died(self, entry: QueueEntry, status: int) -> None:
        """Try again what ended by no fault of its own, as often as lost workers are replaced."""
        self._lost[entry.id] += 1
        if self._lost[entry.id] <= entry.request.options.retries:
            self._waiting[entry.id] = entry
            return
        how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        times = count_text(self._lost[entry.id], "time")
        self._count_failure(self._queue_store.fail(entry, f"its process in the queue {how}, {times}"))

    # -------------------------------------------------- the end

    def _end(self) -> int:
        """End before all is done: Ctrl-C cancels what runs, SIGTERM lets it go on without us."""
        self._line.clear()
        interrupted = self._stop == signal.SIGINT
        self._kill(signal.SIGINT if interrupted else signal.SIGKILL)
        self._stop = None
        for pause in pauses(0.02, seconds=PATIENCE):
            self._reap()
            if not self._running or self._stop is not None:
                break
            time.sleep(pause)
        self._kill(signal.SIGKILL)
        left = len(self._queue_store.ids())
        os.close(self._lock)
        self._told()
        if left:
            self._console.note(f"{count_text(left, 'command')} left: the next seamless-queue carries them on")
        return INTERRUPTED if interrupted else 128 + signal.SIGTERM

    def _kill(self, number: int) -> None:
        for pid in self._running:
            os.kill(pid, number)

    def _told(self) -> None:
        failed = f", {len(self._failed)} failed: seamless-queue-finish reports them" if self._failed else ""
        self._console.note(f"{self._done} done{failed}")

    def _state(self) -> str:
        parts = [f"{len(self._running)} running", f"{len(self._waiting)} waiting", f"{self._done} done"]
        parts += [f"{len(self._failed)} failed"] if self._failed else []
        return ", ".join(parts)


def _turn(entry: QueueEntry) -> tuple[int, str]:
    return -entry.request.options.priority, entry.id


def _why(failure: Failure) -> str:
    return f"{failure.text!r}, which failed: {failure.message}"
