"""Tasks of one node that share a large input: it is fetched once, whoever needs it first."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .bash_tasks import SATURATION, cluster
from .measure import GIB, Bench, random_file

TASKS = 10
RESULT = 100_000_000


def main(bench: Bench) -> None:
    """Ten tasks on one node sharing a 1 GiB input: how often it is fetched, and their time against one's."""
    with cluster(bench, bench.server()) as (client, context):
        checksum = context.store.put_file(random_file(bench.directory / "input", GIB))[0]
        rows = [_round(client, context, checksum) for _ in range(max(1, bench.runs // 2))]
        one, ten, fetched = sorted(rows, key=lambda row: row[1] / row[0])[len(rows) // 2]
        detail = (
            f"{ten:.2f} s against {one:.2f} s for one, each with an empty node cache; 2 workers of 1 thread,"
            f" worker-saturation {SATURATION}"
        )
        bench.row("fetches of the input by all workers", fetched, 1, "bytes that left the store / 1 GiB")
        bench.row("ten tasks that share an input of 1 GiB", ten / one, 1.5, detail)


def of_a_function(bench: Bench) -> None:
    """A result of 100 MB as argument of ten calls on one node: how often it is fetched, and their time."""
    from seamless_dask import delayed

    with cluster(bench, bench.server()) as (client, context):
        made = delayed(filled, context=context)(RESULT)
        client.gather(client.compute(made))
        read = delayed(first_of, context=context)

        def calls(number: int) -> list[Any]:
            return [read(made, time.time_ns() + task) for task in range(number)]

        runs = range(max(1, bench.runs // 2) + 1)
        rows = [_times(client, made.result_checksum, calls, RESULT) for _ in runs][1:]  # runners are there
        one, ten, fetched = sorted(rows, key=lambda row: row[1] / row[0])[len(rows) // 2]
        detail = (
            f"{ten:.2f} s against {one:.2f} s for one; 2 workers of 1 thread, worker-saturation {SATURATION}"
        )
        bench.row("fetches of the result by all workers", fetched, 1, "bytes that left the store / 100 MB")
        bench.row("ten calls that take a result of 100 MB", ten / one, 1.5, detail)


def filled(size: int) -> bytes:
    """Return many bytes."""
    return b"\1" * size


def first_of(data: bytes, number: int) -> int:
    """Read little of them."""
    return data[0] + number


def _round(client: Any, context: Any, checksum: str) -> tuple[float, float, float]:
    from seamless_dask import File, bash

    def commands(number: int) -> list[Any]:
        stamp, big = time.time_ns(), {"big": File(checksum=checksum)}
        codes = [f"head -c 16 big | wc -c # {stamp} {task}" for task in range(number)]
        return [bash(code, big, context=context) for code in codes]

    return _times(client, checksum, commands, GIB)


def _times(
    client: Any, checksum: str, described: Callable[[int], list[Any]], size: int
) -> tuple[float, float, float]:
    """Return the seconds of one task and of ten, and how many times the input was fetched for the ten."""
    _empty(client, checksum)
    one = _run(client, described(1))
    _empty(client, checksum)
    before = _fetched(client)
    ten = _run(client, described(TASKS))
    return one, ten, round((_fetched(client) - before) / size, 2)


def _run(client: Any, tfs: list[Any]) -> float:
    from distributed import wait

    tfs[0].__dask_graph__()
    began = time.perf_counter()
    done = wait(client.compute(tfs)).done
    assert all(future.status == "finished" for future in done)
    return time.perf_counter() - began


def _empty(client: Any, checksum: str) -> None:
    """Take the input out of the node cache."""

    def drop(dask_worker: Any) -> None:
        dask_worker.extensions["seamless"].context.node_cache.drop(checksum)

    client.run(drop)


def _fetched(client: Any) -> int:
    """Return how many bytes the workers have taken from the store."""

    def fetched(dask_worker: Any) -> int:
        return int(dask_worker.extensions["seamless"].context.store.fetched)

    return sum(client.run(fetched).values())
