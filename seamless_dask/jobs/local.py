"""Asking for a computation: start it or join it, wait, withdraw.

The computation runs in a process of its own (`seamless_dask.worker.local`), in a session of its own, so that
a closed terminal or a killed asker does not end it: the result is recorded all the same. All who ask for one
key share it; see `.directory` for how they find each other.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from .directory import QUEUED, JobDirectory, all_jobs
from .info import JobInfo
from .local_request import LocalRequest
from .request import is_dead

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashserver.checksum import Checksum

    from ..context import Context
    from ..model.options import Options
    from ..model.transformation import Value


def submit(context: Context, key: Checksum, options: Options | None = None, **wishes: bool) -> LocalRequest:
    """Join or start a computation without waiting; `wishes` are those of `LocalRequest`."""
    return LocalRequest(context, key, options, **wishes).start()


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

    Parameters and errors are those of `LocalRequest` and `LocalRequest.wait`.
    """
    request = LocalRequest(context, key, options, **wishes)
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


def jobs(context: Context) -> list[JobInfo]:
    """Return what runs in this cache, and what has lost its process while somebody waits."""
    return [info for job in all_jobs(context.config.cache) if (info := _info(job))]


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


def _info(job: JobDirectory) -> JobInfo | None:
    with job.guard():
        running, askers = job.held(), len(job.waiting())
    if not running and not askers:
        return None
    facts = job.facts()
    pid, host, started = (facts.get(name) for name in ("pid", "host", "started"))
    state = "lost" if not running else "queued" if os.path.exists(job.file(QUEUED)) else "running"
    worker = None if pid is None else f"process {pid}"
    return JobInfo(job.key, state, facts.get("label"), worker, host, started, askers, pid)
