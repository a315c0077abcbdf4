"""Many transformations by a client of Dask: what they cost, what they leave behind, what others notice."""

from __future__ import annotations

import gc
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

from .known_tasks import timed
from .measure import Bench, Server
from .scheduler import NOTE, TASKS, cluster, count_tasks, gathered, nothing, plain

VERY_MANY = 100_000

_numbers = count()


def increment(number: int) -> int:
    """Do the work of one task."""
    return number + 1


def bare(number: int) -> bytes:
    """Run a command and nothing else."""
    return subprocess.run(["bash", "-c", f"echo {number}"], capture_output=True, check=True).stdout


def misses(bench: Bench) -> None:
    """10,000 misses from call to value, commands without sandbox and `x + 1`, against plain tasks."""
    server = bench.server_at(bench.fresh("server"))
    with _stage(bench, server) as (client, context):
        rows = (
            ("commands without sandbox", partial(_commands, context), bare, 2),
            ("x + 1 in runners", partial(_calls, context, "process"), increment, 1.6),
            ("x + 1 in the workers' threads", partial(_calls, context, "here"), increment, 1.3),
        )
        for what, described, function, limit in rows:
            gathered(client, plain(100))
            client.gather(client.compute(described(_fresh(10))))  # so that runners are there
            pairs = [_pair(client, described, function) for _ in range(bench.runs)]
            ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
            detail = f"{ours / TASKS * 1e3:.2f} ms against {theirs / TASKS * 1e3:.2f} ms a task, {NOTE}"
            ratio = statistics.median(one / other for one, other in pairs)
            bench.row(f"{TASKS:,} misses, {what}", ratio, limit, detail)


def memory(bench: Bench) -> None:
    """What a scheduler has after 10,000 misses that were finished and released, against plain tasks."""
    server = bench.server_at(bench.fresh("server"))
    found = {}
    for preload in (True, False):
        with _stage(bench, server, preload) as (client, context):
            gathered(client, plain(100))
            if preload:
                client.gather(client.compute(_calls(context, "here", _fresh(TASKS))))
            else:
                client.gather(client.map(increment, _fresh(TASKS), pure=False))
            _settle(client)
            found[preload] = client.run_on_scheduler(resident)
    detail = f"{found[True] >> 20} MiB against {found[False] >> 20} MiB, {NOTE}"
    bench.row(f"memory of a scheduler after {TASKS:,}", found[True] / found[False], 1.2, detail)


def bystanders(bench: Bench) -> None:
    """10,000 no-ops by plain `Client.map` where the plugin is, against where it is not."""
    server = bench.server_at(bench.fresh("server"))
    work = {True: list[float](), False: list[float]()}
    with _stage(bench, server) as (ours, _), _stage(bench, server, preload=False) as (theirs, _):
        for _ in range(bench.runs + 1):
            for preload, client in ((True, ours), (False, theirs)):
                seconds = timed(client, partial(_mapped, client, nothing, range(TASKS)))
                work[preload].append(seconds.client + seconds.scheduler)
    ratio = statistics.median(one / other for one, other in list(zip(*work.values(), strict=True))[1:])
    bench.row(f"{TASKS:,} plain tasks with the plugin", ratio, 1.03, f"CPU of client and scheduler, {NOTE}")


def very_many(bench: Bench) -> None:
    """What 100,000 misses, and then the same as hits, leave behind in client, scheduler and workers."""
    server = bench.server_at(bench.fresh("server"))
    with _stage(bench, server) as (client, context):
        client.gather(client.compute(_calls(context, "here", _fresh(TASKS))))
        numbers = _fresh(VERY_MANY)
        for what in ("misses", "hits"):
            before = _memory(client)
            client.gather(client.compute(_calls(context, "here", numbers)))
            _settle(client)
            left = client.run_on_scheduler(_left)
            for place, size in _memory(client).items():
                grown = (size - before[place]) / (1 << 20)
                bench.row(
                    f"{VERY_MANY:,} {what}: {place} grows by", grown, None, f"to {size >> 20} MiB", "MiB"
                )
            bench.row(f"{VERY_MANY:,} {what}: left in the scheduler", left, 0, "tasks and values held")


def _fresh(number: int) -> list[int]:
    """Return numbers that nothing has been computed of."""
    return [next(_numbers) for _ in range(number)]


def _calls(context: Any, run: str, numbers: list[int]) -> list[Any]:
    from seamless_dask import delayed

    return list(map(delayed(increment, context=context, run=run), numbers))


def _commands(context: Any, numbers: list[int]) -> list[Any]:
    from seamless_dask import bash

    return [bash(f"echo {number}", context=context, isolation="none") for number in numbers]


def _pair(client: Any, described: Callable[[list[int]], list[Any]], function: Any) -> tuple[float, float]:
    numbers = _fresh(TASKS)
    ours = timed(client, lambda: client.gather(client.compute(described(numbers)))).wall
    return ours, timed(client, partial(_mapped, client, function, numbers)).wall


def _mapped(client: Any, function: Any, numbers: Any) -> None:
    client.gather(client.map(function, numbers, pure=False))


@contextmanager
def _stage(bench: Bench, server: Server, preload: bool = True) -> Iterator[tuple[Any, Any]]:
    """A cluster, and a context that shares its server."""
    from seamless_dask.config import load
    from seamless_dask.context import Context

    environment = bench.environment(server)
    with (
        cluster(bench, environment, preload, name=f"cluster-{preload}") as client,
        Context(load(directory=str(bench.directory), environment=environment)) as context,
    ):
        yield client, context


def resident(dask_worker: Any = None, dask_scheduler: Any = None) -> int:
    """Return how many bytes a process has."""
    del dask_worker, dask_scheduler
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))


def _left(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks) + len(dask_scheduler.plugins["seamless"].holder.values)


def _memory(client: Any) -> dict[str, int]:
    found = {"the client": resident(), "the scheduler": client.run_on_scheduler(resident)}
    workers = client.run(resident).values()
    return found | {f"worker {number}": size for number, size in enumerate(workers)}


def _settle(client: Any) -> None:
    while client.run_on_scheduler(count_tasks):
        time.sleep(0.02)
