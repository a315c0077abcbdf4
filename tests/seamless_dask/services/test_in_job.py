"""The job that a daskserver runs in: what is submitted, and what is known of it. With SLURM: tests/slurm."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import dask
import dask_jobqueue  # noqa: F401 - its defaults must be there before a test changes some
import pytest

from hashserver.errors import ServiceUnavailable
from seamless_dask.errors import UsageError
from seamless_dask.services.cluster import batch
from seamless_dask.services.daskserver import in_job, in_job_script, settings
from seamless_dask.services.daskserver.in_job import EnclosingJob
from seamless_dask.services.daskserver.settings import DaskserverSettings


@pytest.fixture
def told(tmp_path: Path) -> DaskserverSettings:
    directory = tmp_path / "a place"
    (directory / "logs").mkdir(parents=True)
    return DaskserverSettings(
        str(directory), "default", str(tmp_path), "/s", "/d", cluster="slurm", in_job=True,
        job_queue="services", job_memory=3 << 30, job_time_limit=36 * 3600 + 30,
    )  # fmt: skip


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    path = tmp_path / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    if str(path.parent) not in os.environ["PATH"]:
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")


@pytest.mark.parametrize("system", batch.SYSTEMS)
def test_each_batch_system_is_told_in_its_words(system: str, told: DaskserverSettings) -> None:
    told = told._replace(cluster=system)
    if system == "htcondor":
        with pytest.raises(UsageError, match="neither queues nor time limits"):
            in_job_script.batch_job(told, EnclosingJob(told.directory, system, "w"))
        told = told._replace(job_time_limit=None, job_queue=None)
    configuration = {
        "jobqueue.htcondor.disk": "1 GB",
        "jobqueue.oar.memory-per-core-property-name": "memcore",
        f"jobqueue.{system}.job-script-prologue": ["module load python"],
    }
    with dask.config.set(configuration):
        script = in_job_script.batch_job(told, EnclosingJob(told.directory, system, "w")).job_script()
    words = {
        "slurm": ["-p services", "--cpus-per-task=2", "--mem=3G", "-t 36:01:00", "--output=/dev/null"],
        "pbs": ["-q services", "select=1:ncpus=2:mem=", "walltime=36:01:00"],
        "lsf": ["-q services", "-n 2", "-W 36:01"],
        "oar": ["-q services", "/nodes=1/core=2,walltime=36:01:00"],
        "sge": ["-q services", "h_rt=36:01:00"],
        "htcondor": ["MY.DaskWorkerCores = 2"],
    }[system]
    assert [word for word in words if word not in script] == []
    assert "module load python" in script
    assert "exec /bin/bash" in script
    assert f"{told.directory}/job-w.sh" in script
    assert "dask_worker" not in script


def test_a_size_that_the_configuration_gives_workers_is_not_the_daskserver_s(
    told: DaskserverSettings,
) -> None:
    with dask.config.set({"jobqueue.slurm.job-mem": "500G", "jobqueue.slurm.job-cpu": 64}):
        script = in_job_script.batch_job(told, EnclosingJob(told.directory, "slurm", "w")).job_script()
    assert "--mem=3072M" in script
    assert "--cpus-per-task=2" in script


def test_what_the_job_runs_says_when_it_begins_and_how_it_ends(
    told: DaskserverSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, "my python", 'echo "$@"; env; exit 7')
    job = EnclosingJob(told.directory, "slurm", "w")
    with dask.config.set({"jobqueue.slurm.python": str(tmp_path / "bin" / "my python")}):
        in_job_script._write_script(told, job)
    environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "12", "SEAMLESS_STORE": "/there"}
    done = subprocess.run(["bash", job.script], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert Path(job.marks).read_text() == f"began {os.uname().nodename} 12\nended 7\n"
    log = Path(told.directory, "logs", "daskserver.log").read_text()
    assert f"-P -m seamless_dask.services.daskserver {told.directory}\n" in log
    assert "SEAMLESS_STORE" not in log
    assert "SLURM_JOB_ID" not in log  # sbatch there would take such variables for its own
    assert os.stat(job.script).st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("sbatch", "error"),
    [
        ("echo 'sbatch: error: no account' >&2; exit 1", UsageError),
        ("echo hello", UsageError),
        ("echo 'sbatch: error: Unable to contact slurm controller' >&2; exit 1", ServiceUnavailable),
    ],
)
def test_a_job_that_is_not_taken_leaves_nothing(
    sbatch: str,
    error: type[Exception],
    told: DaskserverSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program(tmp_path, monkeypatch, "sbatch", sbatch)
    with pytest.raises(error) as caught:
        in_job_script.submit(told)
    assert "\n" not in str(caught.value)
    assert [path.name for path in Path(told.directory).iterdir()] == ["logs"]


def test_a_start_that_was_killed_during_the_submission_is_no_job_until_that_begins(
    told: DaskserverSettings,
) -> None:
    job = EnclosingJob(told.directory, "slurm", "w")
    in_job.write(job)
    assert in_job.read(told.directory) == job
    assert not in_job.look(job).alive
    Path(job.marks).write_text("began n1 12\n")
    assert in_job.read(told.directory) == job._replace(number="12")


@pytest.mark.parametrize(
    ("queue", "alive", "text"),
    [
        ("echo '12 PENDING Priority'", True, "job 12 waits in the queue (Priority)"),
        ("echo '12 RUNNING None'", True, "job 12 has been submitted"),
        ("echo '12 TIMEOUT TimeLimit'", False, "job 12 ran out of time (TIMEOUT)"),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", False, "job 12 is over"),
        ("echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1", True, "Unable to contact"),
    ],
)
def test_how_a_job_is(
    queue: str,
    alive: bool,
    text: str,
    told: DaskserverSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program(tmp_path, monkeypatch, "squeue", queue)
    program(tmp_path, monkeypatch, "sacct", "exit 1")
    found = in_job.look(EnclosingJob(told.directory, "slurm", "w", "12"))
    assert (found.alive, text in found.text) == (alive, True), found


def test_where_the_batch_system_cannot_be_asked_the_job_itself_tells(told: DaskserverSettings) -> None:
    job = EnclosingJob(told.directory, "pbs", "w", "12.server")
    assert in_job.look(job).alive
    Path(job.marks).write_text("began n1 12\n")
    assert in_job.look(job).text == "job 12.server runs on n1"
    Path(job.marks).write_text("began n1 12\nended 0\n")
    assert not in_job.look(job).alive


def test_dask_s_configuration_travels() -> None:
    with dask.config.set({"jobqueue.slurm.account": "mine"}):
        travels = settings.own_dask()
    with dask.config.set({"jobqueue.slurm.account": "theirs"}):
        settings.use_dask(travels)
        assert dask.config.get("jobqueue.slurm.account") == "mine"


def test_what_dask_s_configuration_says_of_places_stays_with_the_asker() -> None:
    said = {"store": "/mine", "token-file": "/token", "worker-cache": "/c", "isolation": "none"}
    with dask.config.set({"seamless": said}):
        assert "/token" not in str(dask.config.deserialize(settings.own_dask()))
        settings.forget_places()
        assert dask.config.get("seamless") == {"worker-cache": "/c", "isolation": "none"}


def test_variables_of_dask_s_about_places_do_not_reach_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seamless_dask.services.daskserver import __main__ as program

    monkeypatch.setenv("SEAMLESS_CACHE", "/before")
    monkeypatch.setenv("DASK_SEAMLESS__STORE", "/mine")
    monkeypatch.setenv("DASK_SEAMLESS__STORAGE_OPTIONS__X", "1")
    monkeypatch.setenv("DASK_SEAMLESS__WORKER_CACHE", "/c")
    told = settings.DaskserverSettings(str(tmp_path), "default", str(tmp_path), "/s", "/db")
    program._forget_environment(told)
    assert {name for name in os.environ if name.startswith("DASK_SEAMLESS__")} == {
        "DASK_SEAMLESS__WORKER_CACHE"
    }
