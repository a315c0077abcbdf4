"""Workers are told who asks for what they run: limits hold for the one who set them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ...model.options import Options
from .ownclient import PREFIX

if TYPE_CHECKING:
    from distributed import Scheduler

    from ...jobs.registry import Job

logger = logging.getLogger(__name__)

OTHERS = "others"
"""Stands for all who want a task and have not asked here: they set no limits."""


class WorkerUpdates:
    """Tells workers about the askers of jobs, the last word last.

    Parameters
    ----------
    scheduler : Scheduler
        Of Dask.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._talks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()

    def tell(self, job: Job) -> None:
        """Tell the worker that runs a job who asks for it now."""
        name = job.name
        if name is None:
            return
        if name in self._talks:
            self._again.add(name)
            return
        self._talks[name] = asyncio.create_task(self._talk(name, job))

    async def close(self) -> None:
        """Stop telling."""
        for task in list(self._talks.values()):
            task.cancel()
        await asyncio.gather(*self._talks.values(), return_exceptions=True)

    async def _talk(self, name: str, job: Job) -> None:
        self._again.add(name)
        try:
            while name in self._again:
                self._again.remove(name)
                await self._say(name, job)
        finally:
            # In the same step as the last look: what was told between that and a callback of this task would
            # be left to a talk that has ended, and a limit that has just come would never hold.
            self._again.discard(name)
            del self._talks[name]

    async def _say(self, name: str, job: Job) -> None:
        task = self._scheduler.tasks.get(name)
        if task is None or task.processing_on is None:
            return
        try:
            worker = self._scheduler.rpc(task.processing_on.address)
            await worker.seamless_askers(key=name, askers=self._askers(name, job))
        except Exception as error:  # it is gone, or has no plugin: the options of the task hold
            logger.debug("askers of %s not told: %s", name, error)

    def _askers(self, name: str, job: Job) -> dict[str, str]:
        found = {
            asker: request.options._replace(scratch=not request.keeps).to_json()
            for asker, request in job.waiting.items()
        }
        task = self._scheduler.tasks[name]
        wanted = any(not client.client_key.startswith(PREFIX) for client in task.who_wants or ())
        return found | ({OTHERS: Options().to_json()} if wanted or task.waiters else {})
