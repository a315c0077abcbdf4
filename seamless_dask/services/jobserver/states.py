"""Where jobs stand: what the scheduler and its workers know of their tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Scheduler
    from distributed.scheduler import TaskState

    from ...jobs.registry import Job

HELD = ("queued", "no-worker", "released")
"""States of tasks that the scheduler keeps to itself."""


def state(scheduler: Scheduler, job: Job) -> str:
    """Return what a job that is not over is doing."""
    task = scheduler.tasks.get(job.name) if job.name is not None else None
    if task is None:
        return "looking up"
    if task.state == "waiting":
        return "waiting"
    if job.started is not None and task.state not in HELD:
        return "running"
    return "retrying" if job.losses else "queued"


def positions(scheduler: Scheduler) -> dict[str, int]:
    """Return the places of tasks that no worker has room for, by their names; the next one is the first."""
    held = sorted((*scheduler.queued, *scheduler.unrunnable), key=_rank)
    return {str(task.key): place for place, task in enumerate(held, 1)}


def position(scheduler: Scheduler, job: Job) -> int | None:
    """Return the place of one job among them."""
    task = scheduler.tasks.get(job.name) if job.name is not None else None
    if task is None or task.state not in ("queued", "no-worker"):
        return None
    held = (*scheduler.queued, *scheduler.unrunnable)
    return 1 + sum(_rank(other) < _rank(task) for other in held)


def why(scheduler: Scheduler, job: Job, explain: Callable[[TaskState], str | None]) -> str | None:
    """Return what keeps a job from getting a worker, where that is known."""
    task = scheduler.tasks.get(job.name) if job.name is not None else None
    return explain(task) if task is not None and task.state in ("queued", "no-worker") else None


def _rank(task: TaskState) -> tuple[float, ...]:
    return task.priority or ()


def stderr_size(scheduler: Scheduler, job: Job) -> int | None:
    """Return how many bytes a command has written to its standard error, as its worker said last."""
    if job.stream is not None:
        return job.stream.size
    task = scheduler.tasks.get(job.name) if job.name is not None else None
    if task is None or task.processing_on is None:
        return None
    running = task.processing_on.metrics.get("seamless", {}).get("running", ())
    return next((one["stderr_size"] for one in running if one["key"] == job.name), None)
