"""The plain HTTP way in to a scheduler: whoever posts the key of a transformation is told how it ended.

Jobs go to the scheduler through a client of Dask's own in its process, so that everything that happens to a
graph happens to theirs. Who asks is known by the name that it gave itself. It may go away and come back: only
when it withdraws it does not count any more, and when nobody is left the client lets go of the task, which
stops it unless others want it too.
"""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from distributed import CancelledError, Client, SchedulerPlugin

from hashserver.errors import AuthenticationFailed, ServiceUnavailable

from .. import collection, outcomes
from ..errors import Cancelled, LimitExceeded, WorkerLost
from ..transformation import Value
from ..values import missing
from . import jobroutes, submission
from .askers import Messenger
from .board import Board, Job
from .journal import FILE, Asked, Journal
from .nested import Nested, is_nested
from .stream import Streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from distributed import Scheduler

    from ..collection import Graph
    from ..context import Context

    T = TypeVar("T")

logger = logging.getLogger(__name__)

THREADS = 4
"""How many jobs are looked up at once."""
PATIENCE = 120.0
"""Seconds for which a store or database may be away before a job fails for it."""
SUBMISSIONS = 5
"""How often a job is given to the scheduler again that Dask has dropped without a reason of ours."""


async def install(scheduler: Scheduler, plugin: Any, directory: str | None) -> Jobserver:
    """Start the jobserver of a running scheduler, on its HTTP server; whoever asked before is remembered.

    Parameters
    ----------
    plugin
        Our scheduler plugin; its `context` is where documents and results are.
    directory
        Where the journal lies; None keeps it in memory.
    """
    journal = Journal(None if directory is None else os.path.join(directory, FILE))
    connect: Any = Client
    client = await connect(
        scheduler.address, asynchronous=True, security=scheduler.security, name="seamless-jobserver"
    )
    jobserver = Jobserver(scheduler, client, plugin.context, journal)
    scheduler.add_plugin(Watch(jobserver), idempotent=True, name=Watch.name)
    jobroutes.install(scheduler, jobserver)
    jobserver.nested.install(scheduler)
    jobserver.resume()
    return jobserver


class Jobserver:
    """Drives the jobs that were posted.

    Parameters
    ----------
    scheduler, client
        Of Dask; the client belongs to this object.
    context
        Where documents and results are.
    journal
        Of those who ask; it belongs to this object.
    """

    def __init__(self, scheduler: Scheduler, client: Any, context: Context, journal: Journal) -> None:
        self.scheduler, self._client, self._context = scheduler, client, context
        self.board = Board(journal)
        self.messenger = Messenger(scheduler, client.id)
        self.streams = Streams(scheduler)
        self.nested = Nested(self)
        self._threads = ThreadPoolExecutor(THREADS, "seamless-jobserver")
        self.closing = False

    # ------------------------------------------------------------------ what clients ask for

    def post(self, asked: Iterable[Asked]) -> list[Job]:
        """Start or join jobs; one who has asked already is given the same job again."""
        placed = [(one, *self.board.place(one)) for one in asked]
        self.board.journal.add([one for one, job, _ in placed if one.asker not in job.ends])
        fresh = [job for _, job, new in placed if new]
        for job in fresh:
            job.driver = asyncio.create_task(self._drive(job))
        for job in {id(job): job for _, job, new in placed if not new and job.outcome is None}.values():
            self._tell_worker(job)
            self.streams.follow(job)
        return [job for _, job, _ in placed]

    def withdraw(self, job: Job, asker: str) -> None:
        """Let one ask no more; nobody else being left the job is stopped."""
        self.board.leave(job, [asker])
        if job.outcome is None and not job.waiting:
            self._stop(job)
        else:
            self._tell_worker(job)

    def cancel(self, job: Job) -> bool:
        """Let everybody ask no more; returns whether it was under way."""
        if job.outcome is not None:
            return False
        self._stop(job)
        return True

    def state(self, job: Job) -> str:
        """Return what a job that is not over is doing."""
        task = self.scheduler.tasks.get(job.name) if job.name is not None else None
        if task is None:
            return "looking up"
        if task.state in ("queued", "no-worker", "released"):
            return "retrying" if job.losses else "queued"
        return "waiting" if task.state == "waiting" else "running" if job.started else "queued"

    def resume(self) -> None:
        """Go on with what the journal says."""
        again = []
        for asked, outcome in self.board.journal.load():
            if is_nested(asked.asker) and not asked.detached:
                self.board.journal.remove([asked.asker])  # who asked is started again itself
            elif outcome is None:
                again.append(asked)
            else:
                self.board.recall(asked, outcome)
        if again:
            logger.info("%d of those who asked before the restart are still waiting", len(again))
            self.post(again)

    async def close(self) -> None:
        """Stop driving; the journal keeps who waits."""
        if self.closing:
            return
        self.closing = True
        for job in self.board.all():
            job.notify()
        drivers = [job.driver for job in self.board.active.values() if job.driver is not None]
        for driver in drivers:
            driver.cancel()
        await asyncio.gather(*drivers, return_exceptions=True)
        await self.streams.close()
        await self.messenger.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._client.close(), 5)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.board.journal.close()

    # ------------------------------------------------------------------ what the scheduler tells

    def moved(self, job: Job, start: str, finish: str) -> None:
        """Note that the task of a job has changed its state."""
        if start == "processing" and finish in ("released", "waiting", "queued", "no-worker"):
            job.losses += 1
            job.started = None
        task = self.scheduler.tasks.get(job.name or "")
        if task is not None and task.processing_on is not None:
            job.worker, job.node = str(task.processing_on.name), task.processing_on.host
        job.notify()

    def told(self, event: dict[str, Any]) -> None:
        """Take note of what a worker says of one of our tasks."""
        job = self.board.by_name.get(event.get("key", ""))
        if job is None:
            return
        if event.get("action") == "started":
            self.board.begin(job)
            self._tell_worker(job)
            self.streams.follow(job)
        elif event.get("action") == "asker-failed" and event.get("asker") in job.waiting:
            error = LimitExceeded(str(event.get("message")), 1)
            self.board.end_for(job, event["asker"], outcomes.failure(error))
            self._tell_worker(job)

    def _tell_worker(self, job: Job) -> None:
        if job.started is not None:
            self.messenger.tell(job)

    # ------------------------------------------------------------------ one job

    async def _drive(self, job: Job) -> None:
        """See a job to its end."""
        try:
            value = await self._result(job)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            outcome, ends = self._failure(job, error), {}
        else:
            ends = await self._bytes(job, value)
            outcome = outcomes.success(value)
        await self.streams.finish(job, outcome)
        self.board.end(job, ends, outcome)

    async def _result(self, job: Job) -> Value:
        job.options = job.agreed()
        built = await self._patiently(lambda: collection.build(self._context, job.key, job.options))
        if isinstance(built, Value):
            return built
        return await self._compute(job, built)

    async def _compute(self, job: Job, graph: Graph) -> Value:
        """Have a graph computed, again if Dask drops it."""
        for attempt in range(SUBMISSIONS):
            future = submission.send(self._client, [graph])[graph.key]
            self.board.name(job, graph.key, future)
            try:
                value: Value = (await future).value
                return value
            except CancelledError as error:
                logger.warning("Dask dropped %s (%s)", graph.key, error)
                job.losses += 1
                await asyncio.sleep(0.2 * 2**attempt)
            finally:
                self.board.name(job, None, None)
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

    def _stop(self, job: Job) -> None:
        if job.driver is not None:
            job.driver.cancel()
        self.streams.end(job)
        self.board.end(job, {}, outcomes.failure(Cancelled("it was cancelled")))

    async def _patiently(self, action: Callable[[], T]) -> T:
        """Call `action` in a thread; while a service does not answer it is tried again."""
        loop, pause = asyncio.get_running_loop(), 0.1
        end = loop.time() + PATIENCE
        while True:
            try:
                return await loop.run_in_executor(self._threads, action)
            except AuthenticationFailed:
                raise
            except ServiceUnavailable:
                if loop.time() > end:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)


def _wanting(job: Job) -> set[str]:
    """Return those who want bytes that may not have been kept."""
    return {
        name
        for name, asked in job.waiting.items()
        if asked.need_bytes or (job.options.scratch and not asked.options.scratch)
    }


class Watch(SchedulerPlugin):
    """Tells the jobserver what becomes of its tasks."""

    name = "seamless-jobserver"
    idempotent = True

    def __init__(self, jobserver: Jobserver) -> None:
        self._jobserver = jobserver

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        """Pass on what happens to a task of ours."""
        if start == "processing":
            self._jobserver.nested.left(key)
        job = self._jobserver.board.by_name.get(key)
        if job is not None:
            self._jobserver.moved(job, start, finish)

    def log_event(self, topic: str, msg: Any) -> None:
        """Pass on what workers say of tasks of ours."""
        if topic == "seamless" and isinstance(msg, dict):
            self._jobserver.told(msg)

    async def before_close(self) -> None:
        """Stop driving before the tasks go."""
        await self._jobserver.close()
