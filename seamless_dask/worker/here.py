"""Watching over a function in the thread of its task: nothing ends a thread, only the waiting for it ends."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from seamless_dask.errors import LimitExceeded
from seamless_dask.execution.supervisor import NoSupervisor, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seamless_dask.execution.supervisor import Stop

    from .supervisor import TaskSupervisor

_LOOK = 0.1  # seconds between two looks at those who wait
_IDLE = 20  # looks at nothing, after which the thread ends


class ThreadSupervisor(NoSupervisor):
    """Lets a function run to its end in the thread of its task, and ends the waiting for it.

    Parameters
    ----------
    watch : TaskSupervisor
        Of the task: asked from a thread of its own, since the task's is taken.
    """

    def __init__(self, watch: TaskSupervisor) -> None:
        self._watch = watch
        self._stop: Stop | None = None
        self._is_over = False
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def __enter__(self) -> ThreadSupervisor:
        _looking.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        _looking.remove(self)
        self.look()  # once more when the function has returned
        with self._lock:  # whoever looks at all of them may have begun before it was removed
            self._is_over = True

    def judge(self) -> None:
        """Raise what whoever waits for the task is to be told, after its result was recorded."""
        if self._stop is not None and self._stop.limit:
            raise LimitExceeded(f"{self._stop}; it went on to its end, and its result is recorded", 1)

    def begin(self) -> None:
        """Return when the scheduler knows that it begins."""
        self._watch.begin()
        self._began = time.monotonic()

    def handed(self) -> Sequence[str]:
        """Leave it to the options."""
        return self._watch.handed()

    def scratch(self) -> bool:
        """Say whether all who ask agree that the bytes need not be kept."""
        return self._watch.scratch()

    def look(self) -> None:
        """See whether somebody is to wait no longer."""
        with self._lock:
            if self._stop is None and not self._is_over:
                self._stop = self._watch.look(Usage(time.monotonic() - self._began, 0.0, 0))
                if self._stop is not None and self._stop.limit:
                    self._watch.fail_all(self._stop)


class _Looking:
    """One thread for all functions that run in threads of this process; most are over before it looks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: set[ThreadSupervisor] = set()
        self._is_working = False

    def add(self, supervisor: ThreadSupervisor) -> None:
        """Look at one now and then."""
        with self._lock:
            self._watched.add(supervisor)
            if not self._is_working:
                self._is_working = True
                threading.Thread(target=self._work, name="seamless-here", daemon=True).start()

    def remove(self, supervisor: ThreadSupervisor) -> None:
        """Look at it no more."""
        with self._lock:
            self._watched.remove(supervisor)

    def _work(self) -> None:
        idle = 0
        while idle < _IDLE:
            time.sleep(_LOOK)
            with self._lock:
                watched = list(self._watched)
                idle = 0 if watched else idle + 1
                self._is_working = idle < _IDLE
            for supervisor in watched:
                with suppress(Exception):  # a worker that closes meanwhile is no reason to leave the others
                    supervisor.look()


_looking = _Looking()
