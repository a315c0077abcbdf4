"""Calls of a decorated function that a stock client maps, and what the plugin costs those who use it not."""

from __future__ import annotations

import os
import time
from typing import Any

from hashserver.checksum import Checksum
from hashserver.results.database import Database, Put
from seamless_dask.decorators import direct

from .measure import Bench
from .scheduler import NOTE, TASKS, cluster, count_tasks, in_memory


def named(x: int, run: str) -> int:
    """Return a number; no two runs of the benchmark have a call in common."""
    return x + len(run)


def nothing(x: int, run: str) -> None:
    """Do nothing."""


def mapped(client: Any, function: Any, run: str) -> float:
    """Return the seconds from arguments to gathered values, once the scheduler has let earlier ones go."""
    while client.run_on_scheduler(count_tasks):
        time.sleep(0.02)
    start = time.perf_counter()
    client.gather(client.map(function, range(TASKS), run=run))
    return time.perf_counter() - start


def hits(bench: Bench) -> None:
    """10,000 known calls that a stock client maps, no worker connected, from arguments to gathered values."""
    directory = bench.fresh("server")
    server = bench.server_at(directory)
    os.environ |= server.environment
    run, function = os.urandom(4).hex(), direct(named)
    from seamless_dask.graph.handles import default_context

    store = default_context().store
    results = store.put_many([str(x + len(run)).encode() for x in range(TASKS)])
    keys = [Checksum(key[-64:]) for key in function.keys(range(TASKS), run=run)]
    with Database(directory / "seamless.db") as database:
        database.put_many([Put(key, "json/1", result) for key, result in zip(keys, results, strict=True)])
    with (
        cluster(bench, server.environment, preload=True, workers=0) as client,
        cluster(bench, {}, preload=False) as plain,
    ):
        assert client.submit(function, 0, run=run).result() == len(run)

        def ours() -> float:
            return mapped(client, function, run)

        def floor() -> float:
            return mapped(plain, nothing, os.urandom(4).hex())

        floor()
        a, b, ratio = bench.pairs(ours, floor)
        detail = f"{a * 1e3:.0f} ms against {b * 1e3:.0f} ms for map of no-ops, {NOTE}"
        bench.row(f"{TASKS:,} map hits, stock client", ratio, 0.2, detail)
        in_memory(bench, plain, lambda client: client.map(nothing, range(TASKS), run=run), b)


def ordinary(bench: Bench) -> None:
    """10,000 ordinary calls with the plugin on the scheduler, against those without."""
    server = bench.server_at(bench.fresh("server"))
    with (
        cluster(bench, server.environment, preload=True) as equipped,
        cluster(bench, {}, preload=False) as plain,
    ):

        def of(client: Any) -> float:
            return mapped(client, nothing, os.urandom(4).hex())

        for client in (equipped, plain):
            of(client)
        bench.ratio(
            f"ordinary map of {TASKS:,}",
            lambda: of(equipped),
            lambda: of(plain),
            1.03,
            f"without plugin, {NOTE}",
        )
