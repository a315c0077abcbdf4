"""What the gate costs, and what it saves: against plain Dask on the same cluster processes."""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hashserver.checksum import Checksum, hash_bytes
from hashserver.results.database import Database, Put
from seamless_dask.graph import collection
from seamless_dask.graph.names import dask_key
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import Deferred, Description, ResultSpec

from .measure import Bench, timed

TASKS = 10_000
SATURATION = "inf"
SETTINGS = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": SATURATION,
    "PYTHONPATH": str(Path(__file__).parents[1]),  # for the functions of this module
}
NOTE = f"2 processes of 1 thread, worker-saturation {SATURATION}"

Graph = dict[str, Any]


@contextmanager
def cluster(
    bench: Bench, env: dict[str, str], preload: bool, workers: int = 2, name: str = "cluster"
) -> Iterator[Any]:
    """A scheduler and workers as processes of their own, and a stock client."""
    from distributed import Client

    directory = bench.fresh(name)
    address = directory / "scheduler.json"
    dask = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--scheduler-file",
        address,
        "--no-dashboard",
    ]
    dask += [
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        *(["--preload", "seamless_dask.scheduler"] if preload else []),
    ]
    worker = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        "--scheduler-file",
        address,
        "--no-dashboard",
    ]
    worker += ["--nthreads", "1", "--no-nanny", "--local-directory", directory]
    env = os.environ | SETTINGS | env
    with (directory / "log").open("w") as log:
        processes = [
            subprocess.Popen(list(map(str, words)), env=env, stdout=log, stderr=log, cwd=directory)
            for words in [dask, *[worker] * workers]
        ]
        try:
            while not address.exists() or not address.stat().st_size:
                if processes[0].poll() is not None:
                    raise SystemExit((directory / "log").read_text())
                time.sleep(0.02)
            with Client(scheduler_file=str(address)) as client:
                client.wait_for_workers(workers, timeout=60) if workers else None
                yield client
        finally:
            for process in reversed(processes):
                process.kill()
                process.wait()


def noop() -> None:
    """Do nothing."""


def nothing(argument: object) -> None:
    """Do nothing with an argument."""


def plain(number: int = TASKS) -> Graph:
    """No-ops that have nothing to do with each other."""
    from dask._task_spec import Task

    stem = os.urandom(4).hex()
    return {f"noop-{stem}-{index}": Task(f"noop-{stem}-{index}", noop) for index in range(number)}


def key_of(number: int, stem: bytes) -> Checksum:
    return Checksum(hashlib.sha256(b"%s %d" % (stem, number)).hexdigest())


def transformations(keys: list[Checksum], upstream: Callable[[int], list[int]] = lambda _: []) -> Graph:
    """Transformations with keys of one's choice; ``upstream(i)`` says which ones the i-th waits for."""
    code = hash_bytes(b"true")
    graph: Graph = {}
    names = [dask_key(key, "true") for key in keys]
    for index, (key, name) in enumerate(zip(keys, names, strict=True)):
        others = upstream(index)
        inputs = {f"{other}": Deferred(keys[other], None) for other in others}
        description = Description("bash", code, ResultSpec(stdout=True), inputs)
        graph[name] = collection.task_of(
            key, description, Options(), {keys[other]: names[other] for other in others}, name
        )
    return graph


def gathered(client: Any, graph: Graph, keys: list[str] | None = None) -> float:
    """Return the seconds from a graph to its gathered results, once the scheduler has let earlier ones go."""
    while client.run_on_scheduler(count_tasks):
        time.sleep(0.02)
    start = time.perf_counter()
    client.get(graph, list(graph) if keys is None else keys)
    return time.perf_counter() - start


def hits(bench: Bench) -> None:
    """10,000 known transformations through a stock client, from graph to gathered results."""
    directory = bench.fresh("server")
    server = bench.server_at(directory)
    stem = os.urandom(4)
    keys = [key_of(index, stem) for index in range(TASKS)]
    with Database(directory / "seamless.db") as database:
        database.put_many([Put(key, "file", key) for key in keys])
    graph = transformations(keys)
    with cluster(bench, server.environment, preload=True) as client:
        gathered(client, plain(100))

        def ours() -> float:
            return gathered(client, graph)

        a, b, ratio = bench.pairs(ours, lambda: gathered(client, plain()))
        detail = f"{a * 1e3:.0f} ms against {b * 1e3:.0f} ms for no-ops, {NOTE}"
        bench.row(f"{TASKS:,} hits", ratio, 0.25, detail)
        there = plain()
        in_memory(bench, client, lambda each: each.get(there, list(there), sync=False), b)


def in_memory(bench: Bench, client: Any, submit: Callable[[Any], Any], no_ops: float) -> None:
    """State what Dask alone takes for futures of what is in memory: nothing is run, looked up or decided."""
    from distributed import Client, wait

    wait(kept := submit(client))
    with Client(client.scheduler.address, set_as_default=False) as second:
        seconds = [timed(lambda: second.gather(submit(second))) for _ in range(bench.runs + 1)][1:]
    median = statistics.median(seconds)
    detail = f"{median * 1e3:.0f} ms for {len(kept):,} tasks, by plain Dask"
    bench.row("the same of what is in memory already", median / no_ops, None, detail)


def gate(bench: Bench) -> None:
    """The gate on 10,000 misses: CPU time of the scheduler, against what 10,000 no-ops take of it."""
    server = bench.server_at(bench.fresh("server"))

    def cpu_of(client: Any, action: Callable[[], object]) -> float:
        before = client.run_on_scheduler(time.process_time)
        action()
        return float(client.run_on_scheduler(time.process_time)) - before

    def submission(preload: bool) -> float:
        """Without workers nothing runs: what is left is taking the graph in, and letting it go again."""
        keys = [key_of(index, os.urandom(4)) for index in range(TASKS)]
        graph = transformations(keys)
        with cluster(bench, server.environment, preload, workers=0) as client:

            def action() -> None:
                futures = client.get(graph, list(graph), sync=False)
                while client.run_on_scheduler(count_tasks) < TASKS:
                    time.sleep(0.02)
                del futures

            return cpu_of(client, action)

    def floor() -> float:
        with cluster(bench, server.environment, preload=False) as client:
            gathered(client, plain(100))
            return cpu_of(client, lambda: gathered(client, plain()))

    def ours() -> float:
        return max(submission(preload=True) - submission(preload=False), 0.0)

    bench.ratio(f"gate on {TASKS:,} misses", ours, floor, 0.2, f"scheduler's CPU for no-ops, {NOTE}")


def count_tasks(dask_scheduler: Any = None) -> int:
    """Return how many tasks a scheduler has."""
    return len(dask_scheduler.tasks)


def sinks(bench: Bench) -> None:
    """A chain and a tree of 10,000 whose last one is known, against executing no-ops in that shape."""
    from dask._task_spec import Task, TaskRef

    directory = bench.fresh("server")
    server = bench.server_at(directory)
    shapes: dict[str, Callable[[int], list[int]]] = {
        "chain": lambda index: [index - 1] if index else [],
        "tree": lambda index: [child for child in (2 * index + 1, 2 * index + 2) if child < TASKS],
    }

    def shaped(upstream: Callable[[int], list[int]], sink: int) -> float:
        stem = os.urandom(4).hex()
        names = [f"noop-{stem}-{index}" for index in range(TASKS)]
        graph = {
            names[index]: Task(names[index], take, *(TaskRef(names[other]) for other in upstream(index)))
            for index in range(TASKS)
        }
        return gathered(client, graph, [names[sink]])

    with cluster(bench, server.environment, preload=True) as client:
        gathered(client, plain(100))
        for shape, upstream in shapes.items():
            stem = os.urandom(4)
            keys = [key_of(index, stem) for index in range(TASKS)]
            sink = TASKS - 1 if shape == "chain" else 0
            with Database(directory / "seamless.db") as database:
                database.put_many([Put(keys[sink], "file", keys[sink])])
            graph = transformations(keys, upstream)
            name = dask_key(keys[sink], "true")
            bench.ratio(
                f"{shape} of {TASKS:,}, sink known",
                lambda graph=graph, name=name: gathered(client, graph, [name]),  # type: ignore[misc]
                lambda upstream=upstream, sink=sink: shaped(upstream, sink),  # type: ignore[misc]
                0.05,
                f"executing it, {NOTE}",
            )


def take(*_: object) -> None:
    """Do nothing with what others have given."""
