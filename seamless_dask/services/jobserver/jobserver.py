"""The plain HTTP way in to a scheduler: whoever posts the key of a transformation is told how it ended.

Jobs go to the scheduler through a client of Dask's own in its process, so that everything that happens to a
graph happens to theirs. Who asks is known by the name that it gave itself. It may go away and come back: only
when it withdraws it does not count any more, and when nobody is left the client lets go of the task, which
stops it unless others want it too.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from ...errors import Cancelled, LimitExceeded
from ...jobs.journal import Journal, is_nested
from ...jobs.registry import Job, JobRegistry, state_of
from ...model import outcomes
from . import states
from .lifecycle import JobLifecycle
from .stderr import StderrStreams
from .worker_updates import WorkerUpdates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from distributed import Scheduler
    from distributed.scheduler import TaskState

    from ...context import Context
    from ...jobs.request import JobRequest

logger = logging.getLogger(__name__)


class Jobserver:
    """Drives the jobs that were posted.

    Parameters
    ----------
    scheduler
        Of Dask.
    context
        Where documents and results are.
    journal
        Of those who ask; it belongs to this object.
    """

    def __init__(self, scheduler: Scheduler, context: Context, journal: Journal) -> None:
        self.scheduler = scheduler
        self.registry = JobRegistry(journal)
        self._updates = WorkerUpdates(scheduler)
        self.streams = StderrStreams(scheduler)
        self._lifecycle = JobLifecycle(scheduler, context, self.registry, self.streams)
        self.closing = False
        self.why: Callable[[TaskState], str | None] = lambda task: None
        """Says what keeps a task that waits for a worker from getting one."""

    # ------------------------------------------------------------------ what clients ask for

    def post(self, requests: Iterable[JobRequest]) -> list[Job]:
        """Start or join jobs; one who has asked already is given the same job again."""
        requests = list(requests)
        self.registry.refuse_strangers(requests)
        placed = [(one, *self.registry.place(one)) for one in requests]
        self.registry.journal.add([one for one, job, _ in placed if one.asker not in job.ends])
        fresh = [job for _, job, new in placed if new]
        for job in fresh:
            job.driver = asyncio.create_task(self._lifecycle.drive(job))
        for job in {id(job): job for _, job, new in placed if not new and job.outcome is None}.values():
            self._tell_worker(job)
            self.streams.follow(job)
        return [job for _, job, _ in placed]

    def withdraw(self, job: Job, asker: str) -> None:
        """Let one ask no more; nobody else being left the job is stopped."""
        self.registry.leave(job, [asker])
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

    def state(self, job: Job, asker: str | None = None) -> str:
        """Return what a job is doing, or how it ended for one who asks."""
        outcome = job.end(asker)
        return states.state(self.scheduler, job) if outcome is None else state_of(outcome)

    def facts(self, job: Job, asker: str | None = None, *, brief: bool = False) -> dict[str, Any]:
        """Return what there is to say of a job; `brief`: without what takes longer the more of them wait."""
        return job.facts(asker) | {
            "state": self.state(job, asker),
            "position": None if brief else states.position(self.scheduler, job),
            "why": states.why(self.scheduler, job, self.why),
            "stderr_size": states.stderr_size(self.scheduler, job),
        }

    def facts_of_all(self) -> list[dict[str, Any]]:
        """Return what there is to say of all jobs."""
        places = states.positions(self.scheduler)
        found = [
            self.facts(job, brief=True) | {"position": places.get(job.name or "")}
            for job in self.registry.all()
        ]
        for facts in found:
            if facts["outcome"] is not None:  # what all of them have written would be too much at once
                facts["outcome"] = {**facts["outcome"], "stderr": ""}
        return found

    def resume(self) -> None:
        """Go on with what the journal says."""
        again = []
        for request, outcome in self.registry.journal.load():
            if is_nested(request.asker) and not request.detached:
                self.registry.journal.remove([request.asker])  # who asked is started again itself
            elif outcome is None:
                again.append(request)
            else:
                self.registry.recall(request, outcome)
        if again:
            logger.info("%d of those who asked before the restart are still waiting", len(again))
            self.post(again)

    async def close(self) -> None:
        """Stop driving; the journal keeps who waits."""
        if self.closing:
            return
        self.closing = True
        for job in self.registry.all():
            job.notify()
        drivers = [job.driver for job in self.registry.active.values() if job.driver is not None]
        for driver in drivers:
            driver.cancel()
        await asyncio.gather(*drivers, return_exceptions=True)
        await self.streams.close()
        await self._updates.close()
        await self._lifecycle.close()
        self.registry.journal.close()

    # ------------------------------------------------------------------ what the scheduler tells

    def changed(self, job: Job, start: str, finish: str) -> None:
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
        job = self.registry.by_name.get(event.get("key", ""))
        if job is None:
            return
        if event.get("action") == "started":
            self.registry.begin(job)
            self._tell_worker(job)
            self.streams.follow(job)
        elif event.get("action") == "asker-failed" and event.get("asker") in job.waiting:
            error = LimitExceeded(str(event.get("message")), 1)
            self.registry.end_for(job, event["asker"], outcomes.failure(error))
            self._tell_worker(job)

    def _tell_worker(self, job: Job) -> None:
        if job.started is not None:
            self._updates.tell(job)

    def _stop(self, job: Job) -> None:
        if job.driver is not None:
            job.driver.cancel()
        self.streams.end(job)
        self.registry.end(job, {}, outcomes.failure(Cancelled("it was cancelled")))
