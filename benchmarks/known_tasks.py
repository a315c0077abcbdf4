"""What 10,000 known transformations cost as a person asks for them, against no-ops by plain `Client.map`.

A stock client's share is nearly all Dask's own: an expression for each collection, which `Delayed` has too.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from hashserver.results.database import Database, Put

from .measure import Bench
from .scheduler import NOTE, TASKS, cluster, count_tasks, gathered, nothing, plain


def main(bench: Bench) -> None:
    """10,000 known commands from `bash(…)` to gathered results, by our client and by a stock one."""
    from dask import delayed

    from seamless_dask import Client, bash

    directory = bench.fresh("server")
    server = bench.server_at(directory)
    environment = bench.environment(server)
    os.environ.update(environment)  # of this process, which asks without naming a context
    codes = [f"echo {number}" for number in range(TASKS)]
    with Database(directory / "seamless.db") as database:
        database.put_many([Put(key, "file", key) for key in (bash(code).key for code in codes)])
    with cluster(bench, environment, preload=True) as client, Client(client.scheduler.address) as ours:
        gathered(client, plain(100))
        work = {
            "known transformations": lambda: ours.gather(ours.compute([bash(code) for code in codes])),
            "by a stock client": lambda: client.gather(client.compute([bash(code) for code in codes])),
            "no-ops": lambda: client.gather(client.map(nothing, range(TASKS), pure=False)),
            "Delayed": lambda: client.gather(client.compute([delayed(nothing)(code) for code in codes])),
        }
        work["by a stock client"]()  # which stores them, as whoever has computed them did
        rows = [{name: timed(client, action) for name, action in work.items()} for _ in range(bench.runs)]
        plainly = statistics.median(row["no-ops"].wall for row in rows)
        for name, limit in (("known transformations", 0.3), ("by a stock client", 0.3), ("Delayed", None)):
            ratio = statistics.median(row[name].wall / row["no-ops"].wall for row in rows)
            wall, own, scheduler = (
                statistics.median(column) for column in zip(*(row[name] for row in rows), strict=True)
            )
            detail = (
                f"{wall * 1e3:.0f} ms against {plainly * 1e3:.0f} ms for no-ops by map, {NOTE}; CPU of client"
            )
            bench.row(
                f"{TASKS:,} {name}", ratio, limit, f"{detail} {own:.2f} s, of scheduler {scheduler:.2f} s"
            )


class Seconds(NamedTuple):
    """Seconds that passed, and those that client and scheduler have computed."""

    wall: float
    client: float
    scheduler: float


def timed(client: Any, action: Callable[[], object]) -> Seconds:
    """Measure an action, once the scheduler has let earlier tasks go."""
    while client.run_on_scheduler(count_tasks):
        time.sleep(0.02)
    scheduler = client.run_on_scheduler(time.process_time)
    own, began = time.process_time(), time.perf_counter()
    action()
    wall, own = time.perf_counter() - began, time.process_time() - own
    return Seconds(wall, own, client.run_on_scheduler(time.process_time) - scheduler)
