"""Recording what tasks of one worker have computed: many results in one request.

A result is recorded before Dask hears of it, with its bytes, so that whoever reads a handle finds them, and
a worker that is killed has its tasks run again. That takes a wait for the disk, which is as long for many as
for one: what comes while a request is under way goes together in the next one. Nothing waits for company.

A task that waits for it gives its thread to the next one, if there is one, and if the thread keeps no runner,
which would end with it. It is `long-running` to Dask meanwhile, so it counts as assigned to this worker and
not as finished: the worker's end, whatever its cause, leads to another run of it, which finds the result
if it came to be recorded. A worker that closes waits for them as for those that run (`DaskWorker.close`).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from hashserver.durability import Together
from hashserver.errors import HashserverError, InvalidRequest, Irreproducible
from hashserver.results.result import Put
from seamless_dask.model.transformation import Value

from . import slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from seamless_dask.context import Context

MOST = 32
"""Tasks that may wait without holding a thread of the worker: each has one of its own all the same."""
_PORTION, _RECORD = 4 << 20, 64 << 10
"""Bytes of results that go in one request, and how many of them a record may have."""


class NewResult(NamedTuple):
    """A result, and its small buffers, which are not stored yet."""

    put: Put
    buffers: Sequence[bytes] = ()


class Recorder:
    """One for a worker; threads of tasks call it.

    Parameters
    ----------
    context : Context
        Where to.
    is_busy : callable
        Tells whether other tasks wait for a thread.
    """

    def __init__(self, context: Context, is_busy: Callable[[], bool]) -> None:
        self._context, self._is_busy = context, is_busy
        self._record_together: Together[NewResult, HashserverError | None] = Together(self._record_all)
        self._places = threading.BoundedSemaphore(MOST)

    def record(self, result: NewResult, last: bool) -> None:
        """Return when a result is recorded; errors as of `Context.record`.

        Parameters
        ----------
        last
            Whether it is all that is left to do in this thread.
        """
        may_leave = last and self._places.acquire(blocking=False)
        try:
            if may_leave and self._is_busy():
                slot.step_aside()
            error = self._record_together(result)
        finally:
            if may_leave:
                self._places.release()
        if error is not None:
            raise error

    def _record_all(self, results: Sequence[NewResult]) -> list[HashserverError | None]:
        """Record results, and return of each the error that it alone has met.

        Raises
        ------
        ServiceUnavailable
            All of them are to be recorded again, whatever has become of them.
        """
        errors: dict[int, HashserverError | None] = {}
        for portion in _portions(results):
            errors |= self._record_portion(portion)
        return [errors[number] for number in range(len(results))]

    def _record_portion(self, portion: dict[int, NewResult]) -> dict[int, HashserverError | None]:
        if len(portion) > 1:
            try:
                buffers = [data for result in portion.values() for data in result.buffers]
                conflicts = self._context.record_many([one.put for one in portion.values()], buffers)
            except InvalidRequest:
                pass  # by one of them, for which the others are not to blame
            else:
                told = {error.transformation: error for error in conflicts}
                return {number: told.get(result.put.tf) for number, result in portion.items()}
        return {number: self._error_of(result) for number, result in portion.items()}

    def _error_of(self, result: NewResult) -> HashserverError | None:
        tf, kind, checksum, record, members, provenance = result.put
        try:
            self._context.record(tf, Value(kind, checksum), record or {}, members, result.buffers, provenance)
        except (InvalidRequest, Irreproducible) as error:
            return error
        return None


def _portions(results: Sequence[NewResult]) -> Iterator[dict[int, NewResult]]:
    """Divide results into requests of a moderate size, none with two of one transformation."""
    portion: dict[int, NewResult] = {}
    names: set[str] = set()
    size = 0
    for number, result in enumerate(results):
        if size > _PORTION or result.put.tf in names:
            yield portion
            portion, names, size = {}, set(), 0
        portion[number] = result
        names.add(result.put.tf)
        size += sum(map(len, result.buffers)) + _RECORD
    if portion:
        yield portion
