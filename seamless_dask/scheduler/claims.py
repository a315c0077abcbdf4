"""Which transformation is running where, by the checksum it has once its references are resolved.

The same computation can be under way under several names: asked for directly, as a step of a pipeline, made
again inside another task because its bytes are gone. Dask knows only names. Here each checksum has at most
one holder: a task that a worker has been given, or a worker's claim.

Nobody waits for what may never start: a task that is assigned and has not begun gives way to a claim. Its
worker may be short of the very resources that the one who claims has.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..model.transformation import Value

PATIENCE = 30.0
"""Seconds after which a claim that cannot be had yet is answered with ``wait``."""


class ClaimRecord(NamedTuple):
    """What a worker runs under a name other than its task's."""

    checksum: str
    key: str
    worker: str
    task: str | None

    def is_of(self, task: str) -> bool:
        """Whether it is this task in which it happens."""
        if self.task is not None:
            return self.task == task
        # under the checksum itself only what is made again is claimed, which happens in another task
        return self.key != self.checksum and task.endswith(f"-tf-{self.key}")


class Claims:
    """One for a scheduler; its methods run in the scheduler's event loop.

    Parameters
    ----------
    is_there
        Whether a worker, by its address, is there and still has a task.
    has_begun
        Whether a task has begun on its worker.
    withdraw
        Called with a task that has not begun and is to give way.
    ended
        Called with a checksum that nobody runs any more, and what came of it, if that is known.
    """

    def __init__(
        self,
        is_there: Callable[[str, str | None], bool],
        has_begun: Callable[[str], bool],
        withdraw: Callable[[str], None],
        ended: Callable[[str, Value | None], None],
    ) -> None:
        self._is_there, self._has_begun = is_there, has_begun
        self._withdraw, self._ended = withdraw, ended
        self._tasks: dict[str, str] = {}
        self._claims: dict[str, ClaimRecord] = {}
        self._waiting: dict[str, list[asyncio.Future[Value | None]]] = {}
        self._wanted: dict[str, str] = {}

    def holder(self, checksum: str, task: str) -> str | None:
        """Return who else runs a transformation, as text for people; None: nobody."""
        other = self._tasks.get(checksum)
        if other is not None and other != task:
            return other
        claim = self._claims.get(checksum)
        if claim is not None and not claim.is_of(task):
            return f"a task on {claim.worker}"
        return None

    def wanted_by(self, task: str) -> str | None:
        """Return the transformation that a task claims and has not got yet."""
        return self._wanted.get(task)

    def begin(self, checksum: str, task: str) -> None:
        """Note that a worker has been given a task."""
        self._tasks.setdefault(checksum, task)

    def end(self, checksum: str, task: str, value: Value | None) -> None:
        """Note that the task has left its worker, and what it gave."""
        if self._tasks.get(checksum) == task:
            del self._tasks[checksum]
            self._wake(checksum, value)

    async def claim(self, checksum: str, key: str, worker: str, task: str | None = None) -> dict[str, Any]:
        """Answer a worker that is about to run a transformation.

        Parameters
        ----------
        checksum
            Of the transformation.
        key
            Under which it is asked for; the same for one that is made again.
        worker
            Address of the worker.
        task
            Dask key of the task in which it happens, where the worker says so.

        Returns
        -------
        dict
            ``status`` is ``yours``: run it, then release it. ``known``: another one has just ended, with
            ``value``. ``wait``: ask again.
        """
        claim = ClaimRecord(checksum, key, worker, task)
        if task is not None:
            self._wanted[task] = checksum
        try:
            async with asyncio.timeout(PATIENCE):
                # Again after each end: of several who are woken by the same one, the first takes it before
                # the others have their turn, and a task may have been given to a worker meanwhile.
                while not self._take(checksum, claim):
                    if (value := await self._next_end(checksum)) is not None:
                        return {"status": "known", "value": list(value)}
        except TimeoutError:
            return {"status": "wait"}
        finally:
            self._wanted.pop(task or "", None)
        return {"status": "yours"}

    async def release(
        self, checksum: str, key: str, value: list[str] | None = None, worker: str | None = None
    ) -> None:
        """Take a claim back; `value` is what came of it, if the worker says so.

        It may be another worker's by now, where the task was taken from the one that lets go.
        """
        claim = self._claims.get(checksum)
        if claim is not None and claim.key == key and worker in (None, claim.worker):
            del self._claims[checksum]
            self._wake(checksum, None if value is None else _value(value))

    def worker_left(self, worker: str) -> None:
        """Take back the claims of a worker that is gone."""
        self._take_back(lambda claim: claim.worker == worker)

    def task_left(self, task: str) -> None:
        """Take back what a task has claimed that its worker has no more."""
        if self._claims:
            self._take_back(lambda claim: claim.task == task)

    def _take_back(self, concerns: Callable[[ClaimRecord], bool]) -> None:
        for checksum in [name for name, claim in self._claims.items() if concerns(claim)]:
            del self._claims[checksum]
            self._wake(checksum, None)

    def close(self) -> None:
        """Let those go who wait."""
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()

    def _take(self, checksum: str, claim: ClaimRecord) -> bool:
        """Give a claim, unless another one runs the transformation."""
        task = self._tasks.get(checksum)
        if task is not None and not claim.is_of(task) and self._has_begun(task):
            return False
        if checksum in self._claims:
            return False
        # The worker may have left, or lost the task, while its request was on the way or waited:
        # `worker_left` and `task_left` have been, and nobody would ever take the claim back.
        if self._is_there(claim.worker, claim.task):
            self._claims[checksum] = claim
            if task is not None and not claim.is_of(task):
                self._withdraw(task)
        return True

    async def _next_end(self, checksum: str) -> Value | None:
        future = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(checksum, [])
        waiting.append(future)
        try:
            found: Value | None = await future
            return found
        finally:
            waiting.remove(future)
            if not waiting and self._waiting.get(checksum) is waiting:
                del self._waiting[checksum]

    def _wake(self, checksum: str, value: Value | None) -> None:
        """Tell all who wait: those of other workers first, since they hold threads."""
        for future in self._waiting.get(checksum, ()):
            if not future.done():
                future.set_result(value)
        self._ended(checksum, value)


def _value(pair: list[str]) -> Value:
    from hashserver.checksum import Checksum

    from ..model.transformation import Value

    return Value(pair[0], Checksum(pair[1]))
