"""Which worker may have a task, and what of its own it keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler


def restrict_workers(
    scheduler: Scheduler, concerned: Callable[[Any], bool], usable: Callable[[Any, set[Any]], set[Any]]
) -> None:
    """Have ``usable(ts, workers)`` choose among the workers for tasks that are ``concerned``.

    `valid_workers` is asked for every task that is not root-ish, when one is stolen and when a worker comes;
    both methods are looked up on the instance.
    """
    valid, rootish = scheduler.valid_workers, scheduler.is_rootish

    def valid_workers(ts: Any) -> set[Any] | None:
        found: set[Any] | None = valid(ts)
        if not concerned(ts):
            return found
        if found is not None and ts.loose_restrictions and not usable(ts, found):
            # Dask would have any worker take the task in the place of those that it had rather go to
            ts.worker_restrictions = ts.host_restrictions = ts.resource_restrictions = found = None
            ts.loose_restrictions = False
        return usable(ts, set(scheduler.running) if found is None else found)

    scheduler.valid_workers = valid_workers  # type: ignore[method-assign]
    scheduler.is_rootish = lambda ts: not concerned(ts) and rootish(ts)  # type: ignore[method-assign]


def allowed_workers(scheduler: Scheduler, ts: Any) -> set[str]:
    """Return the addresses of the workers that Dask itself would give a task."""
    found = None if ts.loose_restrictions else type(scheduler).valid_workers(scheduler, ts)
    return set(scheduler.workers) if found is None else {ws.address for ws in found}


def is_pinned(ts: Any) -> bool:
    """Whether only workers or hosts that are named may have a task."""
    return bool(ts.worker_restrictions or ts.host_restrictions) and not ts.loose_restrictions


def restore_workers(scheduler: Any) -> None:
    """Take `restrict_workers` back."""
    for name in ("valid_workers", "is_rootish"):
        scheduler.__dict__.pop(name, None)


def finds_no_slot(scheduler: Scheduler, ts: Any, equipped: Container[str]) -> bool:
    """Whether Dask would queue a task if there were only these workers.

    It does so with root-ish ones where saturation is limited and nobody is in ``idle_task_count``.
    """
    if math.isinf(scheduler.WORKER_SATURATION) or not type(scheduler).is_rootish(scheduler, ts):
        return False
    return not any(ws.address in equipped for ws in scheduler.idle_task_count)


def dispatch_to(scheduler: Scheduler, worker: str, stimulus_id: str) -> None:
    """Give a worker what waits for one, as Dask does when one has come."""
    ws = scheduler.workers[worker]
    scheduler.transitions(scheduler.bulk_schedule_unrunnable_after_adding_worker(ws), stimulus_id)
    scheduler.stimulus_queue_slots_maybe_opened(stimulus_id=stimulus_id)
