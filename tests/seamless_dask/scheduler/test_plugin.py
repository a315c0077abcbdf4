"""How the plugin comes to a scheduler, what it tells there, and how it steps aside."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from seamless_dask.api import bash
from seamless_dask.graph import handles
from seamless_dask.scheduler import SeamlessScheduler
from seamless_dask.worker.data_locations import DataLocations


def name_of(transformation: Any) -> str:
    return str(transformation.__dask_keys__()[0])


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """Nothing of ours is on it yet."""
    with LocalCluster(n_workers=0, threads_per_worker=1, processes=False, dashboard_address=":0") as found:
        yield found


@pytest.fixture
def known(lab: Any) -> Any:
    """A transformation with its result on record."""
    transformation = bash("echo x", context=lab.context, isolation="none")
    transformation.__dask_graph__()
    lab.context.database.put(transformation.key, *lab.file(b"known\n"))
    return transformation


def read_in_a_task(handle: handles.File) -> bytes:
    return handle.read_bytes()


# ------------------------------------------------------------------------ how it comes


def test_it_is_preloaded(lab: Any, known: Any, tmp_path: Path) -> None:
    """As in ``dask scheduler --preload seamless_dask.scheduler``, configured by its environment."""
    file = tmp_path / "scheduler.json"
    words = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--scheduler-file", str(file)]
    words += ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([*words, "--preload", "seamless_dask.scheduler"], stdout=log, stderr=log)
    try:
        lab.wait_until(lambda: (file.exists() and file.stat().st_size) or process.poll() is not None)
        with Client(scheduler_file=str(file)) as client:
            assert client.compute(known).result(60).read_bytes() == b"known\n"
    finally:
        process.terminate()
        process.wait(60)
    assert (tmp_path / "log").read_text().count("Traceback") == 0


def test_a_client_adds_it_to_a_scheduler_that_is_at_work(lab: Any, cluster: LocalCluster, known: Any) -> None:
    with Client(cluster) as client:
        future = client.compute(known)  # there it waits for a worker
        lab.wait_until(lambda: name_of(known) in cluster.scheduler.tasks)
        client.register_plugin(SeamlessScheduler())
        again = client.compute(known)
        assert [found.result(60).read_bytes() for found in (future, again)] == [b"known\n"] * 2


def test_adding_it_twice_is_adding_it_once(cluster: LocalCluster) -> None:
    with Client(cluster) as client:
        client.register_plugin(SeamlessScheduler())
        first = cluster.scheduler.plugins["seamless"]
        client.register_plugin(SeamlessScheduler())
        assert cluster.scheduler.plugins["seamless"] is first


def test_of_two_that_are_added_at_once_one_takes_part(
    lab: Any, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.scale(1)
    lab.wait_until(lambda: cluster.scheduler.workers)  # whose answer a plugin waits for while it starts
    took_part: list[SeamlessScheduler] = []
    take_part = SeamlessScheduler._take_part

    def noted(plugin: SeamlessScheduler) -> None:
        took_part.append(plugin)
        take_part(plugin)

    monkeypatch.setattr(SeamlessScheduler, "_take_part", noted)
    register = cluster.scheduler.register_scheduler_plugin

    async def both() -> None:
        await asyncio.gather(*[register(SeamlessScheduler(), idempotent=True) for _ in range(2)])

    cluster.sync(both)
    assert took_part == [cluster.scheduler.plugins["seamless"]]


def test_it_takes_its_configuration_along(lab: Any, cluster: LocalCluster, tmp_path: Path) -> None:
    database = str(tmp_path / "other.db")
    with Client(cluster) as client:
        client.register_plugin(SeamlessScheduler({"database": database}))
        plugin = cluster.scheduler.plugins["seamless"]
        assert plugin.context.config.database == database
        found = client.sync(client.scheduler.seamless_places)
        assert DataLocations.from_json(found).database == database


def test_it_leaves_nothing_behind(cluster: LocalCluster) -> None:
    scheduler = cluster.scheduler
    before = dict(scheduler.stream_handlers), dict(scheduler.handlers), set(vars(scheduler))
    with Client(cluster) as client:
        client.register_plugin(SeamlessScheduler())
        assert scheduler.stream_handlers != before[0]
        cluster.sync(scheduler.plugins["seamless"].close)
        assert dict(scheduler.stream_handlers) == before[0]
        assert set(vars(scheduler)) == before[2]
        handlers = {name: handler for name, handler in scheduler.handlers.items() if name in before[1]}
        assert handlers == before[1]


def test_workers_that_come_before_and_after_are_equipped(lab: Any, cluster: LocalCluster) -> None:
    with Client(cluster) as client:
        cluster.scale(1)
        client.wait_for_workers(1, timeout=60)
        client.register_plugin(SeamlessScheduler())
        cluster.scale(2)
        client.wait_for_workers(2, timeout=60)
        steps = [bash(f"echo {number}", context=lab.context, isolation="none") for number in range(4)]
        found = client.gather(client.compute(steps))
        assert [handle.read_bytes() for handle in found] == [b"%d\n" % number for number in range(4)]


# ------------------------------------------------------------------------ aside


def test_it_steps_aside_and_results_are_right(
    lab: Any,
    cluster: LocalCluster,
    known: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("distributed.Scheduler.gather", lambda self, graph: None)
    scheduler = cluster.scheduler
    before = dict(scheduler.stream_handlers)
    with Client(cluster) as client:
        client.register_plugin(SeamlessScheduler())
        plugin = scheduler.plugins["seamless"]
        assert plugin.stepped_aside == "gather takes other arguments"
        assert dict(scheduler.stream_handlers) == before
        cluster.scale(1)
        second = bash(f"cat 0; {lab.counted()}", {"0": known}, context=lab.context, isolation="none")
        again = bash(f"cat 0; {lab.counted('again')}", {"0": second}, context=lab.context, isolation="none")
        assert client.compute(known).result(60).read_bytes() == b"known\n"
        assert client.compute(again).result(60).read_bytes() == b"known\n"
        assert client.submit(read_in_a_task, client.compute(known)).result(60) == b"known\n"
        assert lab.ran() == ["ran", "again"]
        json.dumps(plugin.statistics.snapshot())
    warnings = [
        record for record in caplog.records if "results are looked up by the workers" in record.message
    ]
    assert [record.levelno for record in warnings] == [logging.WARNING]


def test_a_database_that_cannot_be_had_means_misses(
    lab: Any, cluster: LocalCluster, known: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(cluster) as client:
        # nothing listens on port 1
        places = DataLocations.of(lab.context.config)
        client.register_plugin(SeamlessScheduler({"database": "http://127.0.0.1:1"}, places, timeout=1.0))
        cluster.scale(1)
        steps = [bash(f"echo {number}", context=lab.context, isolation="none") for number in range(3)]
        found = client.gather(client.compute([known, *steps]))
        assert [handle.read_bytes() for handle in found] == [b"known\n", b"0\n", b"1\n", b"2\n"]
        assert cluster.scheduler.plugins["seamless"].lookups.trouble
    told = [record for record in caplog.records if "result database" in record.message]
    assert len(told) == 1
