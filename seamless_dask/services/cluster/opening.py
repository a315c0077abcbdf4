"""Workers for a scheduler: processes of this host or jobs of a batch system, as many as there is work for."""

from __future__ import annotations

import json
import logging
import os
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from dask.utils import parse_bytes

from hashserver.errors import ServiceUnavailable

from ...errors import UsageError
from . import batch, launchers
from .autoscaler import ANY, Autoscaler
from .jobscript import Files, call
from .launchers import Launcher
from .load import Base
from .worker_pool import CLOSE_LIMIT, leftovers

if TYPE_CHECKING:
    from distributed import Scheduler

logger = logging.getLogger(__name__)

KINDS = ("local", *batch.SYSTEMS)
JOURNAL = "jobs.json"
MOST_JOBS = 100
"""Unless somebody says how many there may be."""


class Workers(NamedTuple):
    """Which workers are wanted. What is None comes from Dask's configuration (``jobqueue.yaml``)."""

    kind: str = "local"
    name: str = "default"
    """Name of the daskserver."""
    minimum: int = 0
    maximum: int | None = None
    threads: int | None = None
    memory: int | None = None
    """Bytes a worker."""
    queues: tuple[str, ...] = ()
    """Those that tasks may ask for, the default first; none: any that the batch system knows."""
    resources: tuple[tuple[str, float], ...] = ()
    """Further Dask resources that each worker announces."""


@asynccontextmanager
async def open_cluster(
    scheduler: Scheduler,
    workers: Workers,
    files: Files,
    directory: str,
    tell: Callable[[str, str], None] = lambda name, how: None,
) -> AsyncIterator[Autoscaler]:
    """Keep as many workers of a scheduler as there is work for.

    Leaving ends them all. That never raises and takes some `CLOSE_LIMIT` seconds at most; what may be left
    is told in the log.

    Parameters
    ----------
    scheduler
        Of this process, and running.
    workers
        Which workers are wanted.
    files
        What they need to be let in.
    directory
        The daskserver's own, which nobody else can enter.
    tell
        Gets the name of a worker that was lost, and how its job ended.

    Raises
    ------
    UsageError
        There can be no such workers.
    """
    launcher = _launcher(scheduler, workers, files, directory)
    if problem := await cancel_leftovers(directory):
        logger.warning("%s", problem)
    limits = workers.minimum, _maximum(workers)
    autoscaler = Autoscaler(scheduler, launcher, workers.name, limits, os.path.join(directory, JOURNAL), tell)
    await autoscaler.start()
    try:
        yield autoscaler
    finally:
        await autoscaler.close()


def _launcher(scheduler: Scheduler, workers: Workers, files: Files, directory: str) -> Launcher:
    queue = workers.queues[0] if workers.queues else None
    if workers.kind == "local":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        share = workers.memory or memory // _maximum(workers)
        base = Base(workers.threads or 1, share, queue, workers.resources)
        return launchers.LocalLauncher(scheduler, base, workers.queues, files, directory)
    options = launchers.job_base(workers.kind, workers.threads, workers.memory)
    if queue:
        options["queue"] = queue
    processes = options["processes"]
    queue = queue or batch.setting(workers.kind, "queue")
    base = Base(
        options["cores"] // processes, parse_bytes(options["memory"]) // processes, queue, workers.resources
    )
    launcher = launchers.JobLauncher(
        scheduler, workers.kind, options, base, workers.queues, files, directory, workers.name
    )
    launcher.make(ANY, "check")  # says now what is wrong with the configuration
    return launcher


def _maximum(workers: Workers) -> int:
    if workers.maximum is not None:
        return max(workers.maximum, workers.minimum)
    return max(os.cpu_count() or 1 if workers.kind == "local" else MOST_JOBS, workers.minimum)


async def cancel_leftovers(directory: str) -> str | None:
    """Cancel the jobs that a killed daskserver has left; return what to do when they may still be there."""
    path = os.path.join(directory, JOURNAL)
    try:
        with open(path, encoding="ascii") as file:
            document = json.load(file)
        command, jobs = _cancel_command(document["kind"]), leftovers(path)
    except (OSError, ValueError, KeyError, TypeError, UsageError):
        return None
    for job in jobs:
        try:
            await call([*shlex.split(command), job], limit=CLOSE_LIMIT)
        except RuntimeError:
            continue  # it is over
        except ServiceUnavailable as error:
            return f"{error}; jobs may be left, later: {command} {' '.join(jobs)}"
    os.unlink(path)  # numbers of jobs are used again some day
    return None


def _cancel_command(kind: str) -> str:
    if kind not in batch.SYSTEMS:
        raise UsageError(f"no batch system {kind!r}")
    return str(batch.job_class(kind).cancel_command)  # type: ignore[attr-defined]
