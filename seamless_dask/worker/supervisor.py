"""Watching over a command on behalf of the scheduler's clients."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from distributed import Reschedule

from seamless_dask.execution.limits import over_limits
from seamless_dask.execution.supervisor import Stop, Usage
from seamless_dask.model.options import Options

from . import internals, slot
from .printed import PrintedText
from .scheduler_rpc import SchedulerRequest, Unanswered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from distributed import Worker

    from .nested.gateway import Gateway
    from .nested.sockets import Gateways

TOPIC = "seamless"
CLOSING_GRACE = 20.0
"""Seconds that a command may go on for when the scheduler is gone: what it gives is recorded."""

RELEASED = Stop("nobody waits for it any more")
CLOSING = Stop("its worker is closing")


class TaskSupervisor:
    """Watches one command of one task; see `seamless_dask.execution.supervisor.Supervisor`.

    Parameters
    ----------
    worker : Worker
        Of Dask.
    key : str
        The task, by its name in Dask.
    checksum : str
        The transformation that is run.
    askers : callable
        Returns who asks for it now, with their options; nobody: it is made on the way to something else.
    stderr : str or None
        Where its standard error is shown.
    gateways : Gateways
        How it can ask for computations itself.
    given : Options or None
        How the task was asked for; None: it is for something else, and this is made on the way to that.
    """

    def __init__(
        self,
        worker: Worker,
        key: str,
        checksum: str,
        askers: Callable[[], Mapping[str, Options]],
        stderr: str | None,
        gateways: Gateways,
        given: Options | None,
    ) -> None:
        self.key, self.checksum, self.stderr = key, checksum, stderr
        self._worker, self._askers = worker, askers
        self._failed: set[str] = set()
        self._usage = Usage(0.0, 0.0, 0)
        self._closing_since: float | None = None
        self._printed = PrintedText(worker, key, stderr) if stderr is not None else None
        self._gateways, self._given = gateways, given or Options()
        self._gateway: Gateway | None = None
        action = "remaking" if given is None else "started"
        self._beginning = {"action": action, "key": key, "worker": worker.address}
        self._word: SchedulerRequest | None = SchedulerRequest(
            worker, "log_event", {"topic": TOPIC, "msg": self._beginning}
        )

    def poll(self, usage: Usage) -> Stop | None:
        """Say whether the command must end."""
        if self._printed is not None:
            self._printed.pass_on()
        if (stop := self.look(usage)) is not None:
            return stop
        if self._gateway is not None and self._gateway.waiting:
            slot.step_aside()  # what it waits for may need this very thread
        else:
            slot.come_back()
        return None

    def look(self, usage: Usage) -> Stop | None:
        """Say the same without a thought for the thread: one that is none of a worker's may ask."""
        self._usage = usage
        if stop := self.abandoned():
            return stop
        stop, over = over_limits(self._askers(), usage)
        self._fail(over)
        return stop

    def fail_all(self, reason: str) -> None:
        """Have none of those who ask wait any longer for what cannot be ended."""
        self._fail(dict.fromkeys(self._askers(), str(reason)))  # a `Stop` could not be sent

    def _fail(self, over: Mapping[str, str]) -> None:
        for name in over.keys() - self._failed:
            self._failed.add(name)
            event = {"action": "asker-failed", "key": self.key, "asker": name, "message": over[name]}
            self._worker.log_event(TOPIC, event)

    def abandoned(self) -> Stop | None:
        """Say whether nobody can be given the result any more."""
        if internals.is_closing(self._worker):
            self._closing_since = self._closing_since or time.monotonic()
            is_over = time.monotonic() - self._closing_since > CLOSING_GRACE
            return CLOSING if is_over or internals.has_scheduler(self._worker) else None
        return None if internals.is_wanted(self._worker, self.key) else RELEASED

    def gateway(self, control: str, inner: str) -> dict[str, str]:
        """Let the command ask for computations."""
        self.close()
        with suppress(OSError):  # not every file system has sockets
            self._gateway = self._gateways.open(self.key, self.checksum, self._given, control, inner)
        return self._gateway.variables if self._gateway is not None else {}

    def finish(self) -> None:
        """Tell the last of what the command has written."""
        if self._printed is not None:
            self._printed.finish()

    def close(self) -> None:
        """Let the command ask no more: it has ended."""
        slot.settle()
        if self._gateway is not None:
            self._gateways.end(self._gateway)
            self._gateway = None

    def handed(self) -> tuple[str, ...]:
        """Leave it to the options: arguments have come with the task, which is one for all who ask."""
        return ()

    def scratch(self) -> bool:
        """Say whether all who ask agree that the bytes need not be kept."""
        return all(asker.scratch for asker in self._askers().values())

    def facts(self) -> dict[str, Any]:
        """Return what a page shows of it."""
        wall, _, memory = self._usage
        size = 0
        if self.stderr is not None and os.path.exists(self.stderr):
            size = os.path.getsize(self.stderr)
        return {
            "key": self.key,
            "checksum": self.checksum,
            "wall": round(wall, 3),
            "memory": memory,
            "stderr_size": size,
        }

    def begin(self) -> None:
        """Return when the scheduler knows that the command begins, which may kill this worker at once.

        The question was sent before the inputs were placed, so that nobody waits long for the answer.
        """
        word, self._word = self._word, None
        if word is None:
            return
        try:
            word.wait(lambda: self.abandoned() is None)
        except Unanswered:
            if self.abandoned() or not internals.has_scheduler(self._worker):
                raise Reschedule from None
            self._worker.log_event(TOPIC, self._beginning)
