"""What one bash transformation costs on a cluster, against the bare command as a plain Dask task."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from hashserver.checksum import hash_bytes

from .measure import Bench, Server

TASKS = 1000
LIMIT = 3
SATURATION = 1.1

_number = itertools.count()


def main(bench: Bench) -> None:
    """1,000 uncached trivial bash transformations against `subprocess.run` of it as plain Dask tasks."""
    with cluster(bench, bench.server()) as (client, context):
        for isolation in ("none", "auto"):
            rows = [_pair(client, context, isolation) for _ in range(max(2, bench.runs // 2))][1:]
            ours, plain, boxed, built = (statistics.median([row[part] for row in rows]) for part in range(4))
            detail = (
                f"{ours / TASKS * 1e3:.2f} ms against {plain / TASKS * 1e3:.2f} ms a task, isolation found:"
                f" {rows[0].isolation}; 2 workers of 1 thread, worker-saturation {SATURATION}; building and"
                f" storing before that: {built / TASKS * 1e3:.2f} ms each"
            )
            ratio = statistics.median(row.ours / row.plain for row in rows)
            bench.row(f"{TASKS:,} bash transformations, isolation {isolation}", ratio, LIMIT, detail)
        share = statistics.median(row.ours / row.boxed for row in rows)
        detail = f"{boxed / TASKS * 1e3:.2f} ms a task; transformations in it take {share:.2f} × as long"
        ratio = statistics.median(row.boxed / row.plain for row in rows)
        bench.row("the bare command in the same sandbox, plain Dask tasks", ratio, None, detail)


class Pair(NamedTuple):
    """Seconds: of transformations, bare commands, these in a sandbox; of the building of transformations."""

    ours: float
    plain: float
    boxed: float
    built: float
    isolation: str


def _pair(client: Any, context: Any, isolation: str) -> Pair:
    """Run new commands as transformations, and then the same ones bare."""
    from distributed import wait

    from seamless_dask import bash

    numbers = [next(_number) for _ in range(TASKS)]
    began = time.perf_counter()
    tfs = [bash(f"echo {number}", context=context, isolation=isolation) for number in numbers]
    tfs[0].__dask_graph__()
    built = time.perf_counter() - began
    keys = [tf.key for tf in tfs]
    assert not context.database.get_many(keys), "these have been run before"
    ours = _timed(lambda: wait(client.compute(tfs)))
    plain = _timed(lambda: wait(client.map(bare, numbers, pure=False)))
    boxed = _timed(lambda: wait(client.map(sandboxed, numbers, pure=False)))
    known = context.database.get_many(keys)
    for key, number in zip(keys, numbers, strict=True):
        assert known[key].checksum == hash_bytes(f"{number}\n".encode())
    return Pair(ours, plain, boxed, built, context.database.get(keys[0]).record["isolation"])


def _timed(action: Any) -> float:
    began = time.perf_counter()
    done = action()
    assert all(future.status == "finished" for future in done.done)
    return time.perf_counter() - began


def bare(number: int) -> bytes:
    """Run the command and nothing else."""
    return subprocess.run(["bash", "-c", f"echo {number}"], capture_output=True, check=True).stdout


def sandboxed(number: int) -> bytes:
    """Run the command as a transformation's would be isolated, and nothing else."""
    words = [*prefix(), "bash", "-c", f"echo {number}"]
    return subprocess.run(words, capture_output=True, check=True).stdout


@cache
def prefix() -> list[str]:
    """Return the words before a command that isolate it; none where bubblewrap does not work."""
    from distributed import get_worker

    from seamless_dask.execution import isolation
    from seamless_dask.execution.layout import layout, make

    program = isolation.program()
    if program is None:
        return []
    outer = layout("floor", f"{get_worker().local_directory}/floor", 0)
    make(outer, f"{get_worker().local_directory}/floor")
    inner = layout("floor", isolation.INNER, 0)._replace(tmp="/tmp")
    return isolation.sandbox(program, outer, inner, (), os.environ)


@contextmanager
def cluster(bench: Bench, server: Server) -> Iterator[tuple[Any, Any]]:
    """Start a scheduler with our plugin and two workers of one thread; yields a client and a context."""
    import dask
    from distributed import Client, LocalCluster

    from seamless_dask.config import load
    from seamless_dask.context import Context
    from seamless_dask.scheduler import SeamlessScheduler

    environment = bench.environment(server)
    config = load(directory=str(bench.directory), environment=environment)
    with (
        dask.config.set({"distributed.scheduler.worker-saturation": SATURATION}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": ":0"},
            env=environment,
            local_directory=str(bench.directory),
        ) as local,
        Client(local) as client,
        Context(config) as context,
    ):
        client.register_plugin(SeamlessScheduler(config))
        yield client, context
