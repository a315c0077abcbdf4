"""Waiting for what becomes of a job, for clients and for commands that ask from within one."""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Any

from ...protocol.jobs import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...jobs.registry import Job
    from .jobserver import Jobserver


def refuse_closing(jobserver: Jobserver) -> None:
    """Send everybody away once the jobserver is being closed: they are to look for the next one."""
    if jobserver.closing:
        raise Refused(503, "the daskserver is being stopped")


async def changed_facts(
    jobserver: Jobserver,
    job: Job,
    asker: str | None,
    after: str,
    seconds: float,
    *,
    brief: bool = False,
    check: Callable[[], None] | None = None,
    interval: float = inf,
) -> dict[str, Any]:
    """Return what there is to say of a job, as soon as its state is another one than the one that is known.

    Parameters
    ----------
    asker
        Whoever asks, if it has a name.
    after
        The state that is known.
    seconds
        The longest wait.
    brief
        As for `Jobserver.facts`.
    check
        Raises when nobody is to wait for the job while it has not ended; called now and then.
    interval
        Seconds after which that is called again though nothing has changed.
    """
    end = _now() + seconds
    while True:
        if check is not None and job.end(asker) is None:
            check()
        if jobserver.state(job, asker) != after or _now() >= end:
            break
        await _change(jobserver, job, min(interval, end - _now()))
    return facts(jobserver, job, asker, brief=brief)


def facts(jobserver: Jobserver, job: Job, asker: str | None, *, brief: bool = False) -> dict[str, Any]:
    """Return what there is to say of a job, and note that whoever asks has been told how it ended."""
    found = jobserver.facts(job, asker, brief=brief)
    if asker is not None and found["outcome"] is not None:
        jobserver.registry.told(asker)
    return found


async def stderr(jobserver: Jobserver, job: Job, start: int, seconds: float) -> bytes:
    """Return what a job has written to its standard error from a place on, as soon as there is something."""
    end = _now() + seconds
    while not (found := _read(job, start)) and not is_over(job) and _now() < end:
        await _change(jobserver, job, end - _now())
    return found


def is_over(job: Job) -> bool:
    """Say whether it writes nothing more."""
    return job.outcome is not None or (job.stream is not None and job.stream.over)


async def _change(jobserver: Jobserver, job: Job, seconds: float) -> None:
    await job.changed(seconds)
    refuse_closing(jobserver)


def _read(job: Job, start: int) -> bytes:
    return job.stream.read(start) if job.stream is not None else b""


def _now() -> float:
    return asyncio.get_running_loop().time()
