"""Asking the scheduler from the thread of a task."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as Late
from typing import TYPE_CHECKING, Any

from seamless_dask.errors import SeamlessError

from . import internals

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Worker

LOOK = 0.1
"""Seconds after which it is looked whether an answer is still wanted."""


class Unanswered(SeamlessError):
    """The scheduler cannot be reached."""


class SchedulerRequest:
    """A question to the scheduler that is under way.

    Parameters
    ----------
    worker : Worker
        Of Dask.
    operation, arguments
        Name of one of the scheduler's handlers, and what it takes.
    """

    def __init__(self, worker: Worker, operation: str, arguments: dict[str, Any]) -> None:
        self._operation = operation
        self._future = asyncio.run_coroutine_threadsafe(
            _asked(worker, operation, arguments), internals.event_loop(worker)
        )

    def is_answered(self) -> bool:
        """Say whether `wait` would return, or raise, at once."""
        return self._future.done()

    def wait(self, wanted: Callable[[], bool] | None = None) -> dict[str, Any]:
        """Wait for the answer.

        Parameters
        ----------
        wanted
            Asked now and then; when it says no the wait ends.

        Returns
        -------
        dict
            The answer; empty where there is none, or no such handler, of which the scheduler logs a warning.

        Raises
        ------
        Unanswered
            When there is no answer.
        """
        while True:
            try:
                answer: dict[str, Any] = self._future.result(LOOK)
            except Late:
                if self._future.done() or (wanted is not None and not wanted()):
                    self._future.cancel()
                    raise Unanswered(f"{self._operation}: no answer in time") from None
                continue
            except (OSError, RuntimeError, CancelledError) as error:  # a lost connection, a closing worker
                raise Unanswered(f"{self._operation}: {error}") from error
            return answer


def ask(
    worker: Worker, operation: str, arguments: dict[str, Any], wanted: Callable[[], bool] | None = None
) -> dict[str, Any]:
    """Ask the scheduler and wait for its answer; see `SchedulerRequest`."""
    return SchedulerRequest(worker, operation, arguments).wait(wanted)


async def _asked(worker: Worker, operation: str, arguments: dict[str, Any]) -> Any:
    found = await internals.call_scheduler(worker, operation, arguments)
    return {} if found is None else found
