"""A worker hears of those who ask for what it runs, of the last one too."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from hashserver.checksum import Checksum
from seamless_dask.jobs.registry import Job
from seamless_dask.jobs.request import JobRequest
from seamless_dask.services.jobserver.worker_updates import WorkerUpdates

KEY = Checksum("0" * 64)


def test_one_who_comes_when_the_worker_has_just_answered_is_told_of() -> None:
    told: list[list[str]] = []
    job = Job(KEY, fresh=False)
    job.name = "task"

    def ask(name: str) -> None:
        job.askers[name] = JobRequest(KEY, asker=name)
        updates.tell(job)

    async def seamless_askers(key: str, askers: dict[str, str]) -> None:
        told.append(list(askers))
        if len(told) == 1:
            # runs when the first talk has ended, and before those are called who are to hear of that
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, ask, "second")
            await asyncio.sleep(0)

    task = SimpleNamespace(processing_on=SimpleNamespace(address="worker"), who_wants=(), waiters=())
    scheduler: Any = SimpleNamespace(
        tasks={"task": task}, rpc=lambda address: SimpleNamespace(seamless_askers=seamless_askers)
    )
    updates = WorkerUpdates(scheduler)

    async def both() -> None:
        ask("first")
        while updates._talks:
            await asyncio.gather(*updates._talks.values())

    asyncio.run(both())
    assert told == [["first"], ["first", "second"]]
