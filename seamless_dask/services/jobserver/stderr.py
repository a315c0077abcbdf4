"""What commands write to their standard error, on its way from workers to those who want to see it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ...jobs.registry import Stream

if TYPE_CHECKING:
    from distributed import Scheduler

    from ...jobs.registry import Job
    from ...model.outcomes import Outcome

logger = logging.getLogger(__name__)

PAUSE = 0.1
"""Seconds between two questions to a worker."""


class StderrStreams:
    """Fetches standard error for jobs whose askers want to see it (`Options.direct_print`).

    Parameters
    ----------
    scheduler : Scheduler
        Of Dask.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._pumps: dict[Job, asyncio.Task[None]] = {}

    def follow(self, job: Job) -> None:
        """Begin to fetch what a job writes, if somebody wants to see it, and as soon as it runs."""
        if not any(request.options.direct_print for request in job.waiting.values()):
            return
        job.stream = job.stream or Stream()
        pump = self._pumps.get(job)
        # done: it has ended in this round of the loop, and is taken away in the next
        if job.started is not None and job.name is not None and (pump is None or pump.done()):
            job.stream.seen = 0
            task = self._pumps[job] = asyncio.create_task(self._pump(job, job.stream, job.name))
            task.add_done_callback(lambda ended: self._forget(job, ended))

    async def finish(self, job: Job, outcome: Outcome) -> None:
        """Fetch what is left of a job that has ended."""
        if job.stream is None:
            return
        pump = self._pumps.get(job)
        if pump is not None:
            await asyncio.wait([pump], timeout=2)
            pump.cancel()
        text = outcome.get("stderr", "").encode()
        if not job.stream.over and job.stream.seen < len(text):
            job.stream.add(text[job.stream.seen :])
        self.end(job)

    def again(self, job: Job) -> None:
        """Get ready for another run of a job that has ended for some."""
        if job.stream is not None:
            job.stream.over = False
            self.follow(job)

    def end(self, job: Job) -> None:
        """Say that nothing more comes."""
        if pump := self._pumps.get(job):
            pump.cancel()
        if job.stream is not None:
            job.stream.over = True
            job.notify()

    def _forget(self, job: Job, pump: asyncio.Task[None]) -> None:
        if self._pumps.get(job) is pump:
            del self._pumps[job]

    async def close(self) -> None:
        """Stop fetching."""
        pumps = list(self._pumps.values())
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    def _worker_of(self, name: str) -> str | None:
        task = self._scheduler.tasks.get(name)
        return task.processing_on.address if task is not None and task.processing_on else None

    async def _pump(self, job: Job, stream: Stream, name: str) -> None:
        address = None
        while True:
            now = self._worker_of(name) or address
            if now is None:
                return
            if address not in (None, now):  # it was lost, and the command begins anew elsewhere
                stream.seen = 0
            address = now
            try:
                answer = await self._scheduler.rpc(address).seamless_stderr(key=name, start=stream.seen)
            except Exception as error:  # it is gone, or has no plugin
                logger.debug("standard error of %s not fetched: %s", name, error)
                return
            if answer["data"]:
                stream.add(answer["data"])
                job.notify()
            elif answer["over"] and self._worker_of(name) is None:
                # A worker that has been given a task and has not begun it has nothing more either: who took
                # its word for the end would show nothing of a command that is about to start.
                stream.over = True
                job.notify()
                return
            else:
                await asyncio.sleep(PAUSE)
