"""Workers whose time is up: a queue's walltime, ``--lifetime``.

https://github.com/dask/dask-jobqueue/issues/122: the first workers reach the end of their jobs, and the whole
computation fails with ``KilledWorker``. https://github.com/dask/dask-jobqueue/pull/481 tells to give workers
a ``--lifetime`` below the walltime, so that they hand over what they have and others take their place.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from distributed import Client, LocalCluster, wait

from seamless_dask import bash
from seamless_dask.scheduler import SeamlessScheduler

from ..seamless_dask.conftest import lab

__all__ = ["lab"]

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def client() -> Iterator[Client]:
    """Of a scheduler without workers."""
    options: dict[str, Any] = {"n_workers": 0, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**options, protocol="tcp://") as cluster, Client(cluster) as made:
        made.register_plugin(SeamlessScheduler())
        yield made


@pytest.fixture
def start(client: Client, lab: Any) -> Iterator[Start]:
    """Starts workers by Dask's own command; what still runs in the end is ended."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "distributed.cli.dask_worker", client.cluster.scheduler_address]
        words += ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
        words += ["--local-directory", f"{lab.directory}/space"]
        quiet = subprocess.DEVNULL
        started.append(subprocess.Popen([*words, *options], stdout=quiet, stderr=quiet))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(60)


def test_what_a_worker_made_outlives_it(client: Client, start: Start, lab: Any) -> None:
    steps = [
        bash(f"{lab.counted()}; echo {number}", context=lab.context, isolation="none") for number in range(3)
    ]
    worker = start("--lifetime", "2s")
    futures = client.compute(steps)
    worker.wait(60)
    if any(future.status != "finished" for future in futures):  # a busy machine: its time was too short
        start()
    wait(futures, timeout=60)
    assert [future.result(60).read_bytes() for future in futures] == [b"0\n", b"1\n", b"2\n"]


def test_what_runs_when_the_time_is_up_is_done_by_the_next(client: Client, start: Start, lab: Any) -> None:
    gate = lab.gate()
    step = bash(f"{gate.command}; echo done", context=lab.context, isolation="none")
    last = bash("cat 0", {"0": step}, context=lab.context, isolation="none")
    future = client.compute(last)
    worker = start("--lifetime", "2s", "--name", "first")
    process = gate.wait()
    worker.wait(60)
    lab.wait_until(lambda: not lab.is_alive(process))
    start("--name", "second")
    gate.wait()
    gate.open()
    assert future.result(60).read_bytes() == b"done\n"
