"""Asking for a computation: start it or join it, wait, withdraw.

The computation runs in a process of its own (`seamless_dask.worker.local`), in a session of its own, so that
a closed terminal or a killed asker does not end it: the result is recorded all the same. All who ask for one
key share it; see `.directory` for how they find each other.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from .directory import QUEUED, JobDirectory, all_jobs, is_dead
from .request import JobRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashserver.checksum import Checksum

    from ..context import Context
    from ..model.options import Options
    from ..model.transformation import Value


class LocalJobInfo(NamedTuple):
    """A computation of this cache, as `jobs` tells it.

    `state` is ``queued`` (for a place on its host), ``running``, ``lost`` (its runner is dead and somebody
    waits) or ``over``; `askers` counts those who wait.
    """

    key: str
    state: str
    label: str | None
    host: str | None
    pid: int | None
    started: str | None
    askers: int
    directory: str


def submit(context: Context, key: Checksum, options: Options | None = None, **wishes: bool) -> JobRequest:
    """Join or start a computation without waiting; `wishes` are those of `JobRequest`."""
    return JobRequest(context, key, options, **wishes).start()


def run(
    context: Context,
    key: Checksum,
    options: Options | None = None,
    *,
    on_stderr: Callable[[bytes], None] | None = None,
    tick: Callable[[], None] | None = None,
    **wishes: bool,
) -> Value:
    """Join or start a computation, and wait for it; being interrupted (Ctrl-C) withdraws.

    Parameters and errors are those of `JobRequest` and `JobRequest.wait`.
    """
    request = JobRequest(context, key, options, **wishes)
    try:
        return request.start().wait(on_stderr, tick)
    except KeyboardInterrupt:
        request.withdraw()
        raise


def cancel(context: Context, key: Checksum) -> bool:
    """Withdraw everybody from a computation; returns whether it was running."""
    job = JobDirectory(context.cache, key)
    with job.guard():
        if not job.held():
            return False
        with suppress(FileNotFoundError), open(job.file("cancel"), "wb"):
            return True
    return False


def jobs(context: Context) -> list[LocalJobInfo]:
    """Return what is running in this cache, and what waits to be started again."""
    return [_info(job) for job in all_jobs(context.config.cache)]


def clean(context: Context) -> int:
    """Remove what dead processes have left behind, and return how many computations it was."""
    removed = 0
    for job in all_jobs(context.config.cache):
        with job.guard():
            if not job.held() and all(is_dead(name) for name in _present(job)) and not job.is_new():
                job.remove()
                removed += 1
    return removed


def _present(job: JobDirectory) -> list[str]:
    """Return the names of all askers that have files, whether told how it ended or not."""
    with suppress(FileNotFoundError):
        return sorted({name.rpartition(".")[0] for name in os.listdir(job.file("askers"))})
    return []


def _info(job: JobDirectory) -> LocalJobInfo:
    with job.guard():
        running, waiting = job.held(), job.waiting()
    facts: dict[str, Any] = job.facts()
    state = "running" if running else "lost" if waiting else "over"
    if running and os.path.exists(job.file(QUEUED)):
        state = "queued"
    return LocalJobInfo(
        job.key,
        state,
        facts.get("label"),
        facts.get("host"),
        facts.get("pid"),
        facts.get("started"),
        len(waiting),
        job.path,
    )
