"""Watching over a function in the thread of its task: nothing ends a thread, only the waiting for it ends."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from seamless_dask.errors import LimitExceeded
from seamless_dask.execution.supervisor import NoSupervisor, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seamless_dask.execution.supervisor import Stop

    from .supervisor import TaskSupervisor

_LOOK = 0.1  # seconds between two looks at those who wait


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
        self._over = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._look, name="seamless-here", daemon=True)

    def __enter__(self) -> ThreadSupervisor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

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

    def _look(self) -> None:
        is_over = False
        while not is_over and self._stop is None:
            is_over = self._over.wait(_LOOK)  # and once more when the function has returned
            self._stop = self._watch.poll(Usage(time.monotonic() - self._began, 0.0, 0))
        if self._stop is not None and self._stop.limit:
            self._watch.fail_all(self._stop)
