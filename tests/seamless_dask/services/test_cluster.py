"""Workers come with the work, in the shapes that it needs, and go again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, Scheduler
from distributed.core import Status

from seamless_dask.services.cluster import worker_pool
from seamless_dask.services.cluster.jobscript import Files
from seamless_dask.services.cluster.opening import Autoscaler, Workers, open_cluster

QUICK = {
    "distributed.adaptive.interval": "50 ms",
    "seamless.worker-idle-timeout": "100 ms",
    "distributed.deploy.lost-worker-timeout": "1 s",
    "distributed.worker.http.routes": [],
}


@asynccontextmanager
async def scaler_of(directory: Path, workers: Workers) -> AsyncIterator[tuple[Autoscaler, Client]]:
    options = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    async with (
        Scheduler(**options) as scheduler,
        open_cluster(scheduler, workers, Files(), str(directory)) as scaler,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        yield scaler, client


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with dask.config.set(QUICK):
        asyncio.run(test())


async def until(happened: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not happened():
            await asyncio.sleep(0.02)


def test_from_nothing_and_back(tmp_path: Path) -> None:
    async def test() -> None:
        async with scaler_of(tmp_path, Workers(threads=1)) as (scaler, client):
            assert scaler.facts()["workers"] == []
            future = client.submit(os.getpid)
            assert await future != os.getpid()
            future.release()
            await until(lambda: not scaler.scheduler.workers and not scaler.members)
            assert await client.submit(os.getpid, pure=False) != os.getpid()

    run(test)


def test_minimum_stays(tmp_path: Path) -> None:
    async def test() -> None:
        async with scaler_of(tmp_path, Workers(minimum=1, maximum=1)) as (scaler, client):
            await client.wait_for_workers(1)
            (member,) = scaler.members.values()
            # five times as long as it takes an idle one to be closed
            await until(lambda: member.idle_since and time.monotonic() - member.idle_since > 0.5)
            assert list(scaler.members.values()) == [member]

    run(test)


def test_task_gets_a_worker_of_its_shape(tmp_path: Path) -> None:
    async def test() -> None:
        workers = Workers(threads=1, queues=("short", "long"), maximum=2)
        async with scaler_of(tmp_path, workers) as (scaler, client):
            resources = {"seamless:queue:long": 1, "seamless:cpus": os.cpu_count() or 1}
            assert await client.submit(os.getenv, "SEAMLESS_WORKER_QUEUE", resources=resources) == "long"
            (worker,) = scaler.facts()["workers"]
            assert worker["shape"] == (
                f"cpus={os.cpu_count()} queue=long" if os.cpu_count() != 1 else "queue=long"
            )

    run(test)


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ({"seamless:queue:nightly": 1}, "no queue 'nightly'; there is short"),
        ({"seamless:cpus": 10_000}, "cpus=10000 is more than this host has"),
        ({"seamless:node:elsewhere": 1}, "no worker is on elsewhere"),
        ({"GPU": 1}, "no worker has a GPU"),
        ({"licence": 2}, "no worker has licence=2"),
    ],
)
def test_impossible_task_is_told(resources: dict[str, float], told: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with scaler_of(tmp_path, Workers(threads=1, queues=("short",))) as (scaler, client):
            future = client.submit(os.getpid, resources=resources)
            await until(scaler.notes)
            assert told in scaler.notes()[0]
            assert await client.submit(os.getppid, pure=False) == os.getpid()  # the rest goes on
            future.release()
            await until(lambda: scaler.notes() == [])

    run(test)


def test_resource_that_all_workers_have(tmp_path: Path) -> None:
    async def test() -> None:
        async with scaler_of(tmp_path, Workers(threads=1, resources=(("licence", 2.0),))) as (
            scaler,
            client,
        ):
            assert await client.submit(os.getppid, resources={"licence": 2}) == os.getpid()
            assert scaler.notes() == []

    run(test)


def test_maximum_is_shared_by_all_shapes(tmp_path: Path) -> None:
    async def test() -> None:
        async with scaler_of(tmp_path, Workers(threads=1, queues=("short", "long"), maximum=1)) as (
            scaler,
            client,
        ):
            seen: set[int] = set()
            for queue in ("short", "long", "short"):
                await client.submit(os.getpid, resources={f"seamless:queue:{queue}": 1}, pure=False)
                seen.add(len(scaler.scheduler.workers))
            assert seen == {1}

    run(test)


def test_the_minimum_makes_room_for_another_shape(tmp_path: Path) -> None:
    async def test() -> None:
        workers = Workers(threads=1, queues=("short", "long"), minimum=1, maximum=1)
        async with scaler_of(tmp_path, workers) as (scaler, client):
            await client.wait_for_workers(1)
            future = client.submit(os.getenv, "SEAMLESS_WORKER_QUEUE", resources={"seamless:queue:long": 1})
            assert await future == "long"
            future.release()
            await until(lambda: [worker["shape"] for worker in scaler.facts()["workers"]] == ["any"])

    run(test)


def test_a_local_worker_that_dies_unseen_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "FIRST_PAUSE", 0.0)

    async def test() -> None:
        async with scaler_of(tmp_path, Workers(minimum=1, maximum=1)) as (scaler, client):
            await until(lambda: [member.state for member in scaler.members.values()] == ["waiting"])
            ((first, member),) = scaler.members.items()
            await member.process.close()  # it has been there, between two looks of the scaler
            await scaler.adapt()
            assert f"worker {first} ended before it could be used" in scaler.notes()[0]
            await until(lambda: not scaler.members)
            await scaler.adapt()
            assert await client.submit(os.getppid) == os.getpid()
            await scaler.adapt()
            assert scaler.notes() == []

    with dask.config.set({"distributed.adaptive.interval": "1 hour"}):
        asyncio.run(test())


def test_a_local_worker_that_a_client_retires_is_replaced_without_a_word(tmp_path: Path) -> None:
    async def test() -> None:
        async with scaler_of(tmp_path, Workers(minimum=1, maximum=1)) as (scaler, client):
            await client.wait_for_workers(1)
            await scaler.adapt()
            ((first, member),) = scaler.members.items()
            assert member.state == "running"
            await client.retire_workers(names=[first])
            await until(lambda: member.process.status is Status.closed)
            await scaler.adapt()
            assert scaler.notes() == []
            await until(lambda: first not in scaler.members)
            await scaler.adapt()
            assert await client.submit(os.getppid) == os.getpid()

    with dask.config.set({"distributed.adaptive.interval": "1 hour"}):
        asyncio.run(test())


def test_unknown_size_of_jobs_is_a_usage_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with scaler_of(tmp_path, Workers(kind="slurm")):
            pass

    with pytest.raises(Exception, match="how large is a job"):
        run(test)
