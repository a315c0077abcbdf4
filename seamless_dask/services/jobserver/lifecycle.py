"""From a job that was posted to its end."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import TYPE_CHECKING

from distributed import CancelledError

from hashserver.errors import AuthenticationFailed, ServiceUnavailable
from hashserver.retry import pauses

from ...errors import LimitExceeded, WorkerLost
from ...graph import collection
from ...graph.names import label_in
from ...model import outcomes
from ...model.transformation import Value
from ...model.values import missing
from . import submission
from .ownclient import OwnClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from distributed import Scheduler

    from ...context import Context
    from ...graph.collection import Graph
    from ...jobs.registry import Job, JobRegistry
    from .stderr import StderrStreams

    T = TypeVar("T")

logger = logging.getLogger(__name__)

LIMIT = outcomes.failure(LimitExceeded(""))["error"]
THREADS = 4
"""How many jobs are looked up at once."""
PATIENCE = 120.0
"""Seconds for which a store or database may be away before a job fails for it."""
SUBMISSIONS = 5
"""How often a job is given to the scheduler again that Dask has dropped without a reason of ours."""


class JobLifecycle:
    """Gives jobs to the scheduler and sees them to their end.

    Parameters
    ----------
    scheduler : Scheduler
        Of Dask.
    context : Context
        Where documents and results are.
    registry : JobRegistry
        Is told what becomes of them.
    streams : StderrStreams
        What they write to their standard error.
    """

    def __init__(
        self, scheduler: Scheduler, context: Context, registry: JobRegistry, streams: StderrStreams
    ) -> None:
        self._context, self._registry, self._streams = context, registry, streams
        self._client = OwnClient(scheduler)
        self._threads = ThreadPoolExecutor(THREADS, "seamless-jobserver")

    async def close(self) -> None:
        """Let go of the scheduler."""
        await self._client.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def drive(self, job: Job) -> None:
        """See a job to its end, which is not that of those who come too late for it."""
        while True:
            try:
                outcome = outcomes.success(value := await self._result(job))
            except Exception as error:
                value, outcome = None, self._failure(job, error)
            await self._streams.finish(job, outcome)
            ends = {} if value is None else await self._bytes(job, value)
            # nobody can come between this and the end
            late = _unlimited(job) if outcome.get("error") == LIMIT else set()
            if not late:
                break
            for asker in job.waiting.keys() - late:
                self._registry.end_for(job, asker, outcome)
            job.started = None
            self._streams.again(job)
        self._registry.end(job, ends, outcome)

    async def _result(self, job: Job) -> Value:
        job.options = job.agreed()
        built = await self._patiently(lambda: collection.build(self._context, job.key, job.options))
        if isinstance(built, Value):
            return built
        return await self._compute(job, built)

    async def _compute(self, job: Job, graph: Graph) -> Value:
        """Have a graph computed, again if Dask drops it."""
        for pause in pauses(0.2, inf, times=SUBMISSIONS):
            future = submission.send(await self._client.connected(), [graph])[graph.key]
            self._registry.name(job, graph.key, future, label_in(graph.key))
            try:
                value: Value = (await future).value
                return value
            except CancelledError as error:
                logger.warning("Dask dropped %s (%s)", graph.key, error)
                job.losses += 1
                await asyncio.sleep(pause)
            finally:
                self._registry.name(job, None, None)
                future.release()
        raise WorkerLost(f"{job.key} was given up: Dask has dropped it {SUBMISSIONS} times")

    async def _bytes(self, job: Job, value: Value) -> dict[str, outcomes.Outcome]:
        """See to the bytes for those who want them; returns how it ended for whom it did not go well."""
        ends: dict[str, outcomes.Outcome] = {}
        seen: set[str] = set()
        while new := _wanting(job) - seen:
            seen |= new
            try:
                if await self._patiently(lambda: missing(self._context.store, [value])):
                    await self._compute(job, submission.restoring(value))
            except Exception as error:
                ends |= dict.fromkeys(seen, self._failure(job, error))
        return ends

    def _failure(self, job: Job, error: Exception) -> outcomes.Outcome:
        outcome = outcomes.failure(error)
        return outcome | {"worker": job.worker, "node": job.node} if job.worker else outcome

    async def _patiently(self, action: Callable[[], T]) -> T:
        """Call `action` in a thread; while a service does not answer it is tried again."""
        loop, waits = asyncio.get_running_loop(), pauses(0.1, 5.0, seconds=PATIENCE)
        while True:
            try:
                return await loop.run_in_executor(self._threads, action)
            except AuthenticationFailed:
                raise
            except ServiceUnavailable:
                if not (pause := next(waits)):
                    raise
            await asyncio.sleep(pause)


def _unlimited(job: Job) -> set[str]:
    """Return those who set no limit: they came when the command had been stopped for those of others."""
    return {
        name
        for name, request in job.waiting.items()
        if request.options.time_limit is None and request.options.memory is None
    }


def _wanting(job: Job) -> set[str]:
    """Return those who want bytes that may not have been kept."""
    return {
        name
        for name, request in job.waiting.items()
        if request.need_bytes or (job.options.scratch and not request.options.scratch)
    }
