"""Workers and the jobserver tell each other of a job, also when one talk ends as the next is to begin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from hashserver.checksum import Checksum
from seamless_dask.jobs.registry import Job
from seamless_dask.jobs.request import JobRequest
from seamless_dask.model.options import Options
from seamless_dask.services.jobserver.stderr import StderrStreams
from seamless_dask.services.jobserver.worker_updates import WorkerUpdates

KEY = Checksum("0" * 64)
TASK = SimpleNamespace(
    processing_on=SimpleNamespace(address="worker"), who_wants=(), waiters=(), state="processing"
)


def scheduler(**handlers: Any) -> Any:
    return SimpleNamespace(tasks={"task": TASK}, rpc=lambda address: SimpleNamespace(**handlers))


def job() -> Job:
    made = Job(KEY, fresh=False)
    made.name, made.started = "task", 1.0
    return made


async def soon(act: Callable[..., object], *arguments: Any) -> None:
    """Have `act` called when this task has ended, and before those are called who are to hear of that."""
    loop = asyncio.get_running_loop()
    loop.call_soon(loop.call_soon, act, *arguments)
    await asyncio.sleep(0)


def test_one_who_comes_when_the_worker_has_just_answered_is_told_of() -> None:
    told: list[list[str]] = []
    asked = job()

    def ask(name: str) -> None:
        asked.requests[name] = JobRequest(KEY, asker=name)
        updates.tell(asked)

    async def seamless_askers(key: str, askers: dict[str, str]) -> None:
        told.append(list(askers))
        if len(told) == 1:
            await soon(ask, "second")

    updates = WorkerUpdates(scheduler(seamless_askers=seamless_askers))

    async def both() -> None:
        ask("first")
        while updates._talks:
            await asyncio.gather(*updates._talks.values())

    asyncio.run(both())
    assert told == [["first"], ["first", "second"]]


def test_what_a_job_writes_that_begins_anew_as_its_worker_is_lost_is_fetched() -> None:
    starts: list[int] = []
    shown = job()
    shown.requests["me"] = JobRequest(KEY, Options(direct_print=True), asker="me")

    async def seamless_stderr(key: str, start: int) -> None:
        starts.append(start)
        if len(starts) == 1:
            await soon(streams.follow, shown)
        raise OSError("it is gone")

    streams = StderrStreams(scheduler(seamless_stderr=seamless_stderr))

    async def both() -> None:
        streams.follow(shown)
        while streams._pumps:
            await asyncio.gather(*streams._pumps.values())

    asyncio.run(both())
    assert starts == [0, 0]
