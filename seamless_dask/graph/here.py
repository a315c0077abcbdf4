"""Computing in the process and thread that ask: ``run="here"``."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from hashserver.checksum import Checksum

from ..errors import Cancelled, LimitExceeded
from ..execution.limits import exceeded
from ..execution.supervisor import Usage
from ..jobs.directory import JobDirectory
from ..jobs.request import JobRequest
from ..jobs.supervisor import JobSupervisor, join
from ..model import outcomes
from ..model.options import Options
from .current_worker import UnscheduledWorker
from .perform import compute

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..context import Context
    from ..execution.supervisor import Supervisor
    from ..model.transformation import Value

_LOOK = 0.1  # seconds between two looks at those who wait

_turns: WeakValueDictionary[Checksum, threading.RLock] = WeakValueDictionary()
_turns_guard = threading.Lock()


def compute_here(context: Context, key: Checksum, options: Options) -> Value:
    """Return the result of a function, called in this thread if it is not known and nobody else runs it.

    Raises
    ------
    LimitExceeded, Cancelled
        After the function has returned and its result was recorded: nothing ends a thread.
    """
    return compute(_Here(context, key), key, options)


class _Here(UnscheduledWorker):
    """What a computation has in the process that asks for it."""

    runs_here = True

    def __init__(self, context: Context, asked: Checksum) -> None:
        self.context = context
        self.asked: Checksum | None = asked

    def share(
        self,
        checksum: Checksum,
        key: Checksum,
        action: Callable[[Supervisor], Value],
        known: Callable[[], Value | None],
        options: Options,
    ) -> Value:
        """Run what was asked for under the lock of its job, and what else it needs as anybody asks for it."""
        if options.run != "here":
            from ..executors.embedded import Embedded

            return Embedded(self.context, kept=True).run(JobRequest(checksum, options))
        # To a job its holder is a process: the second thread would take itself for the one it waits for.
        with _turn(checksum):
            return self._alone(JobDirectory(self.context.cache, checksum), action, known, options)

    def _alone(
        self,
        job: JobDirectory,
        action: Callable[[Supervisor], Value],
        known: Callable[[], Value | None],
        options: Options,
    ) -> Value:
        watches: list[_Watch] = []

        def watched(supervisor: JobSupervisor) -> Value:
            if (value := known()) is not None:
                return value
            with _Watch(supervisor) as watch:
                watches.append(watch)
                return action(supervisor)

        value = join(job, _Asker(job, options), False, watched)
        for watch in watches:
            watch.judge(options)
        return value


def _turn(checksum: Checksum) -> threading.RLock:
    with _turns_guard:
        turn = _turns.get(checksum)
        if turn is None:
            turn = _turns[checksum] = threading.RLock()
        return turn


class _Asker(JobSupervisor):
    """One who asks in this process, and does not go away while it waits."""

    def __init__(self, job: JobDirectory, options: Options) -> None:
        super().__init__(job, None)
        self._options = options

    def as_request(self, key: Checksum, final: bool) -> JobRequest:
        """Return what is wanted, by which another process may go on, should this one end."""
        del final
        return JobRequest(key, self._options._replace(run="process"))

    def abandoned(self) -> None:
        """Say that somebody waits."""


class _Watch:
    """Ends the waiting of those whose limits are exceeded, and of all who were cancelled."""

    def __init__(self, supervisor: JobSupervisor) -> None:
        self._supervisor = supervisor
        self._over = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._look, name="seamless-here", daemon=True)
        self.wall, self.cancelled = 0.0, False

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.wall = time.monotonic() - self._began
        self.cancelled = self._supervisor.job.cancelled()

    def judge(self, options: Options) -> None:
        """Raise what the one who asked here is to be told."""
        if self.cancelled:
            raise Cancelled("it was cancelled; the function went on to its end, and its result is recorded")
        if reason := exceeded(options, Usage(self.wall, 0.0, 0)):
            raise LimitExceeded(f"{reason}; it went on to its end, and its result is recorded", 1)

    def _look(self) -> None:
        while not self._over.wait(_LOOK):
            with suppress(OSError):
                self._tell()

    def _tell(self) -> None:
        supervisor, usage = self._supervisor, Usage(time.monotonic() - self._began, 0.0, 0)
        for name, request in supervisor.requests().items():
            if reason := exceeded(request.options, usage):
                supervisor.fail(name, reason)
            elif supervisor.job.cancelled():
                with supervisor.job.guard():
                    if supervisor.job.request(name) is not None:
                        supervisor.job.deliver(name, outcomes.failure(Cancelled("it was cancelled")))
