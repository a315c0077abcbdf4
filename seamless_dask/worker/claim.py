"""Being the only one that runs a transformation, among tasks of different names."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from distributed import Reschedule

from . import internals, slot
from .scheduler_rpc import LOOK, Unanswered, ask

if TYPE_CHECKING:
    from distributed import Worker

    from hashserver.checksum import Checksum
    from seamless_dask.model.transformation import Value

_without_claims: WeakSet[Worker] = WeakSet()


def begin(worker: Worker) -> None:
    """Expect that the scheduler of a worker knows claims."""
    _without_claims.discard(worker)


class Claim:
    """The claim of one task on one transformation.

    Parameters
    ----------
    worker : Worker
        Of Dask.
    task : str
        The task, by its name in Dask.
    checksum, key : Checksum
        Of the transformation, and under which it was asked for.
    """

    def __init__(self, worker: Worker, task: str, checksum: Checksum, key: Checksum) -> None:
        self._worker, self._task = worker, task
        self._facts = {"checksum": str(checksum), "key": str(key)}
        self._held = False

    def wait(self) -> None:
        """Return when it has been granted, or when another one that had it has ended.

        A scheduler without our plugin knows no claims: two may run it then, and agree. The thread is given to
        other tasks while it waits.

        Raises
        ------
        Reschedule
            When nobody waits for the task any more.
        """
        request = {**self._facts, "worker": self._worker.address, "task": self._task}
        status = "wait"
        while status == "wait" and self._worker not in _without_claims:
            try:
                answer = ask(self._worker, "seamless_claim", request, self._go_on)
            except Unanswered:
                # It may be granted all the same, behind our back: the scheduler takes it back when it hears
                # that the task, or this worker, has left.
                if not self._wanted():
                    raise Reschedule from None
                return
            if not answer:
                _without_claims.add(self._worker)
            status = answer.get("status", "")
        self._held = status == "yours"

    def rejoin(self) -> None:
        """Take a thread of the worker again, before something runs.

        Raises
        ------
        Reschedule
            When nobody waits for the task any more.
        """
        while not slot.come_back(LOOK):
            if not self._wanted():
                slot.settle()
                raise Reschedule

    def release(self, value: Value | None) -> None:
        """Let go of it, and tell what came of it."""
        if self._held:
            answer = None if value is None else list(value)
            with suppress(Unanswered):
                facts = {**self._facts, "worker": self._worker.address, "value": answer}
                ask(self._worker, "seamless_release", facts, lambda: internals.has_scheduler(self._worker))

    def _go_on(self) -> bool:
        slot.step_aside()
        return self._wanted()

    def _wanted(self) -> bool:
        return internals.is_wanted(self._worker, self._task) and not internals.is_closing(self._worker)
