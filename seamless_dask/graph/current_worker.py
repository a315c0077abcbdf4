"""What the process that tasks run in offers to them."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hashserver.checksum import Checksum
    from hashserver.results.result import Provenance

    from ..context import Context
    from ..errors import ComputationFailed
    from ..execution.supervisor import Supervisor
    from ..model.options import Options
    from ..model.records import Outcome
    from ..model.transformation import Value


class Worker(Protocol):
    """The process that tasks run in.

    Attributes
    ----------
    context : Context
        Store and database.
    asked : Checksum or None
        The one key that its askers have named: a failure of another one is told with the name of the step.
    runs_here : bool
        It is the process that asks, or one that a client of Dask has sent a task to, and what is to run here
        runs in it. Whoever runs what others ask for would run it without the sandbox.
    """

    context: Context
    asked: Checksum | None
    runs_here: bool

    def share(
        self,
        checksum: Checksum,
        key: Checksum,
        action: Callable[[Supervisor], Value],
        known: Callable[[], Value | None],
        options: Options,
    ) -> Value:
        """Call `action`, or wait for another process that runs the same transformation.

        Parameters
        ----------
        checksum
            Of the transformation.
        key
            Under which it was asked for; the same if it was not deferred.
        known
            Tells, after a wait, whether nothing is left to do.
        options
            How it was asked for.
        """
        ...

    def is_unknown(self, checksum: Checksum) -> bool:
        """Say whether it was looked up a moment ago, in vain."""
        ...

    def record(
        self, checksum: Checksum, outcome: Outcome, provenance: Provenance | None, *, last: bool
    ) -> None:
        """Record what a transformation gave; returns when that survives a power cut.

        Parameters
        ----------
        provenance
            What it was made from.
        last
            Whether it is all that is left to do in this thread.
        """
        ...

    def excuse(self, error: ComputationFailed) -> None:
        """Raise something else if a failure was not the command's own doing and is not to be told."""
        ...

    def tell(self, value: Value, hit: bool) -> None:
        """Let others know what a task gave, and whether it was found instead of computed."""
        ...


class UnscheduledWorker:
    """The part of a `Worker` that is the same wherever no scheduler has given out the task."""

    context: Context
    runs_here = False

    def is_unknown(self, checksum: Checksum) -> bool:
        """Look everything up when it is needed."""
        del checksum
        return False

    def record(
        self, checksum: Checksum, outcome: Outcome, provenance: Provenance | None, *, last: bool
    ) -> None:
        """Record it by itself."""
        del last
        value, record, members, buffers = outcome
        self.context.record(checksum, value, record, members, buffers, provenance)

    def excuse(self, error: ComputationFailed) -> None:
        """Take a failure for what it is: nobody else may take this process for lost."""

    def tell(self, value: Value, hit: bool) -> None:
        """Tell nobody: who asked is told when all is done."""


EXTENSION = "seamless"
"""Name of the `Worker` among the extensions of a Dask worker."""


def current_task() -> str | None:
    """Return the name of the task that a Dask worker runs in this thread; None: there is none."""
    worker = dask_worker()
    return None if worker is None else str(worker.get_current_task())


_task = threading.local()


@contextmanager
def about(key: Checksum) -> Iterator[None]:
    """Have this thread's task be about a transformation: its name need not tell, where Dask has chosen it."""
    before, _task.key = getattr(_task, "key", None), key
    try:
        yield
    finally:
        _task.key = before


def is_about(key: Checksum) -> bool:
    """Whether a transformation is what this thread's task is about, and not something that needs."""
    return getattr(_task, "key", None) == key


def equipped() -> Worker | None:
    """Return what this thread's Dask worker offers to tasks; None: nothing, or there is none."""
    worker = dask_worker()
    found: Worker | None = None if worker is None else worker.extensions.get(EXTENSION)
    return found


def dask_worker() -> Any:
    """Return the Dask worker whose task runs in this thread; several of them may live in one process."""
    module = sys.modules.get("distributed.worker")
    if module is not None:
        # another thread may be importing it at the moment: then this one runs no task
        with suppress(ValueError, AttributeError):
            return module.get_worker()
    return None
