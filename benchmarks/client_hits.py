"""What is known, asked for by `seamless_dask.Client.map`, against no-ops by plain `Client.map`."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hashserver.checksum import Checksum, hash_bytes
from hashserver.results.database import Database, Put

from .measure import MIB, Bench
from .scheduler import NOTE, TASKS, cluster, count_tasks, gathered, nothing, plain

MANY = 100_000
LIMIT = 0.05


def increment(x: int) -> int:
    """Return the next number."""
    return x + 1


def main(bench: Bench) -> None:
    """10,000 hits by `map` of our client, from arguments to gathered values; memory after 100,000."""
    from seamless_dask import Client, direct
    from seamless_dask.graph import handles

    directory = bench.fresh("server")
    server = bench.server_at(directory)
    environment = bench.environment(server)
    os.environ.update(environment)  # of this process, which asks without naming a context
    function = direct(nothing)
    with cluster(bench, environment, preload=True) as stock, Client(stock.scheduler.address) as client:
        _know(function, handles.default_context(), directory / "seamless.db", range(MANY), lambda _: b"null")
        gathered(stock, plain(100))

        def settle() -> None:
            """Wait until what was asked for before has been let go everywhere."""
            while stock.run_on_scheduler(count_tasks):
                time.sleep(0.02)
            for each in (stock, client):
                each.sync(_turn)

        def ours() -> float:
            settle()
            began = time.perf_counter()
            values = client.gather(client.map(function, range(TASKS)))
            seconds = time.perf_counter() - began
            assert values == [None] * TASKS
            return seconds

        def theirs() -> float:
            settle()
            began = time.perf_counter()
            stock.gather(stock.map(nothing, range(TASKS), pure=False))
            return time.perf_counter() - began

        pairs = [(ours(), theirs()) for _ in range(bench.runs + 1)][1:]
        a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        detail = f"{a * 1e3:.0f} ms against {b * 1e3:.0f} ms for no-ops, database and store by HTTP, {NOTE}"
        bench.row(f"{TASKS:,} hits by map of our client", ratio, LIMIT, detail)
        _distinct(bench, client, handles.default_context(), directory / "seamless.db", b)
        _memory(bench, stock, client, function)


def _distinct(bench: Bench, client: Any, context: Any, database: Path, no_ops: float) -> None:
    """State the same where each call has another value, which is read from a file of its own."""
    from seamless_dask import direct

    function = direct(increment)
    _know(function, context, database, range(TASKS), lambda number: b"%d" % (number + 1))
    began = time.perf_counter()
    assert client.gather(client.map(function, range(TASKS))) == list(range(1, TASKS + 1))
    seconds = time.perf_counter() - began
    bench.row(f"{TASKS:,} hits, all values distinct", seconds / no_ops, None, f"{seconds * 1e3:.0f} ms, once")


def _memory(bench: Bench, stock: Any, client: Any, function: Any) -> None:
    """State what client and scheduler hold while 100,000 hits are there, and afterwards."""

    def resident() -> tuple[float, float]:
        return _resident() / MIB, stock.run_on_scheduler(_resident) / MIB

    before = resident()
    futures = client.map(function, range(MANY))
    values = client.gather(futures)
    during, number = resident(), stock.run_on_scheduler(count_tasks)
    del futures, values
    client.sync(_turn)
    after = resident()
    detail = (
        f"client {before[0]:.0f} MiB before, {during[0]:.0f} with futures and values, {after[0]:.0f} after;"
        f" scheduler {before[1]:.0f}, {during[1]:.0f}, {after[1]:.0f}, tasks in it {number};"
        f" futures left in the client {len(client.futures)}"
    )
    bench.row(f"{MANY:,} hits, what the client gains", during[0] - before[0], None, detail, "MiB")


async def _turn() -> None:
    """Let the client's event loop do what was asked of it before."""


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _know(function: Any, context: Any, database: Path, numbers: range, value: Callable[[int], bytes]) -> None:
    """Record results of calls as if they had been computed."""
    names = function.keys(numbers)
    buffers = list(map(value, numbers))
    context.store.put_many(buffers)
    puts = [
        Put(Checksum(name[-64:]), "json/1", hash_bytes(data))
        for name, data in zip(names, buffers, strict=True)
    ]
    with Database(database) as opened:
        opened.put_many(puts)
