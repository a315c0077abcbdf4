"""How much work there is, and for which workers: read off the scheduler, which lives in the same process."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import dask.config
from dask.utils import parse_timedelta

from ...model.requirements import CPUS, GPU, MEMORY, NODE, QUEUE
from .batch import Shape

if TYPE_CHECKING:
    from distributed import Scheduler
    from distributed.scheduler import TaskState

MANY = 5000
"""Tasks that are looked at one by one; the rest is taken to be like them."""


class Base(NamedTuple):
    """What every worker has."""

    threads: int
    memory: int
    queue: str | None = None
    resources: tuple[tuple[str, float], ...] = ()


class Load:
    """Work for workers of one shape."""

    def __init__(self) -> None:
        self.threads = 0.0
        """Threads that could be busy at once."""
        self.seconds = 0.0
        """Thread seconds that the work takes, as far as one can tell."""

    def add(self, threads: float, seconds: float) -> None:
        """Count work that keeps so many threads busy for so long."""
        self.threads += threads
        self.seconds += threads * seconds

    def workers(self, each: int, target: float) -> int:
        """Return how many workers of `each` threads would have done the work in `target` seconds."""
        busy = min(self.threads, math.ceil(self.seconds / target)) if self.seconds else self.threads
        return math.ceil(busy / each)


def shape_of(restrictions: Mapping[str, float] | None, base: Base) -> Shape:
    """Return which worker a task needs that asks for Dask resources."""
    wanted = dict(restrictions or {})
    for name, amount in base.resources:
        if wanted.get(name, 0) <= amount:
            wanted.pop(name, None)
    cpus, memory, gpus = (wanted.pop(name, 0) for name in (CPUS, MEMORY, GPU))
    queue, node = (_named(wanted, prefix) for prefix in (QUEUE, NODE))
    return Shape(
        cpus=math.ceil(cpus) if cpus > base.threads else 0,
        memory=math.ceil(memory) if memory > base.memory else 0,
        gpus=math.ceil(gpus),
        queue=queue if queue != base.queue else None,
        node=node,
        extra=tuple(sorted(wanted.items())),
    )


def _named(wanted: dict[str, float], prefix: str) -> str | None:
    for name in wanted:
        if name.startswith(prefix):
            del wanted[name]
            return name.removeprefix(prefix)
    return None


def threads_of(shape: Shape, base: Base) -> int:
    """Return the number of threads of a worker process of a shape."""
    return shape.cpus or (1 if shape.memory else base.threads)


def loads(
    scheduler: Scheduler, base: Base, shape_of_worker: Callable[[str], Shape | None]
) -> dict[Shape, Load]:
    """Return the work there is, for each shape: what waits for a worker and what is on workers of ours.

    Parameters
    ----------
    scheduler
        The scheduler.
    base
        What every worker has.
    shape_of_worker
        From a worker's name to its shape; None: it is not ours.
    """
    unknown = parse_timedelta(dask.config.get("distributed.scheduler.unknown-task-duration"))
    found: dict[Shape, Load] = {}

    def add(tasks: Iterable[TaskState], number: int, shape: Shape | None = None) -> None:
        for task in itertools.islice(tasks, MANY):
            wanted = shape_of(task.resource_restrictions, base)
            load = found.setdefault(wanted if shape is None else shape, Load())
            load.add(_threads(task, wanted, base) * max(1, number / MANY), _duration(task, unknown))

    add(scheduler.unrunnable, len(scheduler.unrunnable))
    add(scheduler.queued, len(scheduler.queued))
    for worker in scheduler.workers.values():
        shape = shape_of_worker(str(worker.name))
        if shape is not None:
            add(worker.processing, len(worker.processing), shape)
    return found


def _threads(task: TaskState, shape: Shape, base: Base) -> float:
    if shape.memory or shape.gpus:
        return threads_of(shape, base)  # the whole worker
    return max(1.0, (task.resource_restrictions or {}).get(CPUS, 1.0))


def _duration(task: TaskState, unknown: float) -> float:
    # A negative average says that there is none, or that what runs takes far longer than it.
    average: float = task.prefix.duration_average
    if average >= 0:
        return average
    longest: float = task.prefix.max_exec_time
    return 2 * longest if longest > 0 else unknown
