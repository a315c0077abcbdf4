"""What the scheduler's second look-up saves: a first step was edited, and gives what it gave before."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from distributed.diagnostics.plugin import SchedulerPlugin

from hashserver.checksum import Checksum, hash_bytes
from hashserver.results.database import Database, Put
from seamless_dask.graph import collection
from seamless_dask.graph.names import dask_key
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import Deferred, Description, ResultSpec, Value

from .bash_tasks import cluster
from .measure import Bench
from .scheduler import Graph

STEPS, UNKNOWN = 1000, 200
SECONDS = 600.0
"""How long a step takes, as far as the scheduler knows."""
OPTIONS = Options(isolation="none")
SHAPES: dict[str, tuple[Callable[[int], int], float]] = {
    "chain": (lambda index: index - 1, 0.7),
    "wide": (lambda _: 0, 0.4),
}
"""Which step each one reads, by their numbers, and the limit on the ratio."""

_number = itertools.count()


class Pipeline(NamedTuple):
    """A graph, and what is asked for."""

    graph: Graph
    keys: list[str]


class Taken(NamedTuple):
    """Seconds, tasks that workers were given, and the most workers that an adaptive cluster would ask for."""

    seconds: float
    dispatches: float
    workers: float


def main(bench: Bench) -> None:
    """1,000 known steps behind an edited one, and 200 that have to run, against look-ups by workers only."""
    directory = bench.fresh("server")
    server = bench.server_at(directory)
    with Database(directory / "seamless.db") as database, cluster(bench, server) as (client, context):
        for shape, (reads, limit) in SHAPES.items():

            def pair(steps: int, known: bool, reads: Callable[[int], int] = reads) -> list[Taken]:
                made = [_pipeline(context, database if known else None, reads, steps) for _ in range(2)]
                return [_taken(client, one, here) for one, here in zip(made, (True, False), strict=True)]

            here, there, ratio = _medians(bench, lambda: pair(STEPS, known=True))
            detail = f"{here.seconds:.2f} s against {there.seconds:.2f} s, 2 workers of 1 thread"
            bench.row(f"{shape}: {STEPS:,} known steps", ratio, limit, detail)
            bench.row(f"{shape}: dispatches", here.dispatches, 1, f"against {there.dispatches:.0f}", "")
            bench.row(f"{shape}: workers asked for", here.workers, 1, f"against {there.workers:.0f}", "")
            here, there, ratio = _medians(bench, lambda: pair(UNKNOWN, known=False))
            detail = f"{here.seconds:.2f} s against {there.seconds:.2f} s"
            bench.row(f"{shape}: {UNKNOWN} steps that have to run", ratio, 1.2, detail)


def _medians(bench: Bench, pair: Callable[[], list[Taken]]) -> tuple[Taken, Taken, float]:
    """Return what was taken with the scheduler's look-up and without, and the ratio of seconds."""
    pairs = [pair() for _ in range(bench.runs + 1)][1:]
    here, there = (
        Taken(*(statistics.median(figures) for figures in zip(*column, strict=True)))
        for column in zip(*pairs, strict=True)
    )
    return here, there, statistics.median(a.seconds / b.seconds for a, b in pairs)


def _pipeline(context: Any, known_to: Database | None, reads: Callable[[int], int], steps: int) -> Pipeline:
    """Store a first step that is new, and others; a database may know what they give for what it gives."""
    salt = next(_number)
    codes = [f"printf x; true {salt}", *(f"cat 0; echo {salt} {index}" for index in range(1, steps + 1))]
    values = [Value("file", hash_bytes(b"x"))]
    described: list[Description] = []
    known = []
    for index, code in enumerate(codes):
        inputs: dict[str, Any] = {"0": Deferred(described[reads(index)].key, None)} if index else {}
        described.append(Description("bash", hash_bytes(code.encode()), ResultSpec(stdout=True), inputs))
        if index:
            resolved = described[index].resolve({inputs["0"]: values[reads(index)]})
            values.append(Value("file", hash_bytes(f"{salt} {index}".encode())))
            known.append(Put(hash_bytes(resolved.canonical()), *values[index]))
    context.store.put_many([*(code.encode() for code in codes), *(one.canonical() for one in described)])
    if known_to is not None:
        known_to.put_many(known)
    return _graph(described)


def _graph(described: list[Description]) -> Pipeline:
    names: dict[Checksum, str] = {one.key: dask_key(one.key, "step") for one in described}
    graph: Graph = {}
    for one in described:
        upstream: dict[Checksum, Value | str] = {key: names[key] for key in one.upstream}
        graph[names[one.key]] = collection.task_of(one.key, one, OPTIONS, upstream, names[one.key])
    needed = {key for one in described for key in one.upstream}
    return Pipeline(graph, [name for key, name in names.items() if key not in needed])


def _taken(client: Any, pipeline: Pipeline, by_scheduler: bool) -> Taken:
    """Compute a pipeline; without the scheduler's look-up as if the store had not answered it."""
    scheduler = client.cluster.scheduler
    lookups = scheduler.plugins["seamless"].cutoff.lookups
    lookups._idle_until[lookups._reading] = 0.0 if by_scheduler else math.inf
    if (steps := scheduler.task_prefixes.get("step-tf")) is not None:
        steps.duration_average = SECONDS
    watch = _Watch(scheduler)
    scheduler.add_plugin(watch, name="watch")
    began = time.perf_counter()
    client.get(pipeline.graph, pipeline.keys)
    seconds = time.perf_counter() - began
    scheduler.remove_plugin("watch")
    while scheduler.tasks:
        time.sleep(0.02)
    return Taken(seconds, watch.dispatches, watch.workers)


class _Watch(SchedulerPlugin):
    """Counts what a scheduler does."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.dispatches = self.workers = 0
        self._seen = 0.0

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        """Hear of a task's new state."""
        self.dispatches += finish == "processing"
        if time.monotonic() - self._seen > 0.02:
            self.workers = max(self.workers, self.scheduler.adaptive_target())
            self._seen = time.monotonic()
