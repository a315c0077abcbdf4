"""A batch system that fails, hangs or talks nonsense; programs of its names stand in for one."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Nanny, Scheduler

from hashserver.errors import ServiceUnavailable
from seamless_dask.services.cluster import batch, jobscript, worker_pool
from seamless_dask.services.cluster.batch import JobState
from seamless_dask.services.cluster.jobscript import Files
from seamless_dask.services.cluster.opening import Autoscaler, Workers, open_cluster

CONFIGURATION = {
    "distributed.adaptive.interval": "1 hour",  # the tests say when
    "distributed.worker.http.routes": [],
    "jobqueue.slurm.cores": 1,
    "jobqueue.slurm.memory": "512 MiB",
}
SUBMITS = 'echo "Submitted batch job $$"'
ASKED = "for job in $(echo $* | sed 's/.*--jobs //; s/,/ /g'); do echo $job {}; done"
"""squeue that says the same about all jobs."""


class Slurm:
    """Its commands: what each does, and what it was called with."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir()
        self.does(sbatch=SUBMITS, squeue="true", scancel="true")

    def does(self, **programs: str) -> None:
        for name, text in programs.items():
            path = self.directory / name
            line = f'#!/bin/sh\ncd {self.directory}\necho "{name} $*" >> calls\n{text}\n'
            path.with_suffix(".new").write_text(line)
            path.with_suffix(".new").chmod(0o755)
            path.with_suffix(".new").rename(path)

    def calls(self, name: str) -> list[str]:
        path = self.directory / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.startswith(f"{name} ")]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    found = Slurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{found.directory}:{os.environ['PATH']}")
    return found


@asynccontextmanager
async def scaler_of(directory: Path, **workers: Any) -> AsyncIterator[Autoscaler]:
    options = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    wanted = Workers(kind="slurm", **workers)
    async with (
        Scheduler(**options) as scheduler,
        open_cluster(scheduler, wanted, Files(), str(directory)) as scaler,
    ):
        yield scaler


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with dask.config.set(CONFIGURATION):
        asyncio.run(test())


async def until(happened: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not happened():
            await asyncio.sleep(0.01)


def states(scaler: Autoscaler) -> list[str]:
    return sorted(member.state for member in scaler.members.values())


@pytest.mark.parametrize(
    ("sbatch", "told"),
    [
        (
            "echo 'sbatch: error: no account' >&2; exit 1",
            "no worker could be started for any: sbatch: error: no acc",
        ),
        ("echo hello", "no worker could be started for any: Could not parse job id"),
        ("exit 9", "exit status 9"),
        ("exec sleep 1000", "slurm does not answer: sbatch did not answer within"),
    ],
)
def test_a_submission_that_fails_is_told_and_not_repeated_at_once(
    sbatch: str, told: str, slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobscript.call, "__kwdefaults__", {"shell": False, "limit": 0.5})

    async def test() -> None:
        slurm.does(sbatch=sbatch)
        async with scaler_of(tmp_path, minimum=1, maximum=1) as scaler:
            await until(scaler.notes)
            assert told in scaler.notes()[0]
            for _ in range(3):
                await scaler.adapt()
            assert len(slurm.calls("sbatch")) == 1
        assert not list(tmp_path.glob("*.sh"))

    run(test)


def test_jobs_that_die_at_once_are_tried_one_at_a_time(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "FIRST_PAUSE", 0.0)

    async def test() -> None:
        async with scaler_of(tmp_path, minimum=3, maximum=3) as scaler:
            await until(lambda: states(scaler) == ["waiting"] * 3)
            slurm.does(squeue=ASKED.format("FAILED NonZeroExitCode"))
            await scaler.adapt()
            assert "ended (FAILED) before its worker came" in scaler.notes()[0]
            for attempts in (4, 5):
                await until(
                    lambda n=attempts: len(slurm.calls("sbatch")) == n and "starting" not in states(scaler)
                )
                assert len(scaler.members) == 1
                await scaler.adapt()

    run(test)


@pytest.mark.parametrize("squeue", ["echo 'slurm is being upgraded, call 4711'", "echo 1 ok", "exit 3"])
def test_nonsense_from_the_queue_ends_no_job(squeue: str, slurm: Slurm, tmp_path: Path) -> None:
    async def test() -> None:
        async with scaler_of(tmp_path, minimum=1, maximum=1) as scaler:
            await until(lambda: states(scaler) == ["waiting"])
            slurm.does(squeue=squeue)
            with pytest.raises(ServiceUnavailable):
                await scaler.adapt()
            assert states(scaler) == ["waiting"]
            assert json.loads((tmp_path / "jobs.json").read_text())["jobs"]
        assert slurm.calls("scancel")

    run(test)


def test_a_job_that_waits_shows_why(slurm: Slurm, tmp_path: Path) -> None:
    async def test() -> None:
        async with scaler_of(tmp_path, minimum=1, maximum=1) as scaler:
            await until(lambda: states(scaler) == ["waiting"])
            slurm.does(squeue=ASKED.format("PENDING ReqNodeNotAvail, May be reserved for other job"))
            await scaler.adapt()
            (worker,) = scaler.facts()["workers"]
            assert worker["reason"].startswith("ReqNodeNotAvail")

    run(test)


def test_the_worker_of_a_job_that_was_given_up_is_closed(slurm: Slurm, tmp_path: Path) -> None:
    async def test() -> None:
        async with scaler_of(tmp_path, maximum=1) as scaler:
            options = {"nthreads": 1, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
            name = "default-0123abcd-7"
            async with Nanny(scaler.scheduler.address, name=name, local_directory=str(tmp_path), **options):
                await until(lambda: scaler.scheduler.workers)
                await scaler.adapt()
                await until(lambda: not scaler.scheduler.workers)

    run(test)


def test_leftovers_stay_on_record_until_they_can_be_cancelled(slurm: Slurm, tmp_path: Path) -> None:
    journal = tmp_path / "jobs.json"
    journal.write_text(json.dumps({"kind": "slurm", "jobs": ["77"]}))

    async def test(jobs: int) -> None:
        async with scaler_of(tmp_path, minimum=1, maximum=1) as scaler:
            await until(lambda: states(scaler) == ["waiting"])
            assert len(json.loads(journal.read_text())["jobs"]) == jobs

    slurm.does(scancel="echo 'scancel: error: Unable to contact slurm controller' >&2; exit 1")
    run(lambda: test(2))
    slurm.does(scancel="true")
    run(lambda: test(1))
    assert "scancel 77" in slurm.calls("scancel")


def test_a_full_disk_is_told(slurm: Slurm, tmp_path: Path) -> None:
    async def test() -> None:
        async with scaler_of(tmp_path, minimum=1, maximum=1) as scaler:
            (tmp_path / "jobs.json").unlink(missing_ok=True)
            (tmp_path / "jobs.json").mkdir()
            (tmp_path / "jobs.json" / "x").touch()
            await until(scaler.notes)
            assert "cannot write" in scaler.notes()[0]
            assert scaler.members

    run(test)


def test_a_job_that_the_queue_has_forgotten_is_looked_up_in_the_accounts(slurm: Slurm) -> None:
    slurm.does(sacct="echo 'CANCELLED by 0'")
    found = asyncio.run(batch.recorded_end("slurm", "12"))
    assert found is not None
    assert found.told("12") == "job 12 was cancelled (CANCELLED)"
    slurm.does(sacct="echo 'accounting is off' >&2; exit 1")
    assert asyncio.run(batch.recorded_end("slurm", "12")) is None


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (JobState("TIMEOUT"), "job 3 ran out of time (TIMEOUT)"),
        (JobState("COMPLETING", "TimeLimit"), "job 3 ran out of time (TIMEOUT)"),
        (JobState("OUT_OF_MEMORY"), "job 3 took more memory than it had asked for (OUT_OF_MEMORY)"),
        (JobState("COMPLETING", "None"), "job 3 is over"),
        (JobState("FAILED", "NonZeroExitCode"), "job 3 ended (FAILED)"),
    ],
)
def test_the_end_of_a_job_in_words(state: JobState, told: str) -> None:
    assert state.told("3") == told
