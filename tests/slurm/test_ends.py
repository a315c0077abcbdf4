"""How the batch system ended a job is told: that of a worker, and that of a daskserver.

SLURM takes up to half a minute to see that a job's time is over: what takes long begins together.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from .lab.laboratory import Lab
from .sharing import PIPES, Cluster


class Ending(NamedTuple):
    """What is coming to its end."""

    cluster: Cluster
    job: str
    """A daskserver's, out of time."""
    command: subprocess.Popen[str]
    """On a worker that is out of time."""
    stop: subprocess.Popen[str]
    """Of a daskserver that hangs."""


@pytest.fixture(scope="module")
def ending(lab: Lab) -> Iterator[Ending]:
    cluster = Cluster(lab)
    try:
        words = ["seamless-daskserver", "start", "--name", "near", "--cluster", "slurm", "--workers", "0:2"]
        cluster.login.run(words, env={"SEAMLESS_ISOLATION": "none"})
        command, worker = begin(cluster, "late")
        cluster.start()
        for job in (cluster.job(), worker):
            cluster.login.run(["scontrol", "update", f"jobid={job}", "EndTime=now"])
        late = cluster.job()
        cluster.start("--name", "stuck")
        os.kill(cluster.process("stuck"), signal.SIGSTOP)
        stop = cluster.login.popen(["seamless-daskserver", "stop", "--name", "stuck"], **PIPES)
        yield Ending(cluster, late, command, stop)
    finally:
        cluster.close()
        lab.clean()


def begin(cluster: Cluster, name: str) -> tuple[subprocess.Popen[str], str]:
    """Start a command that does not end, and wait until it runs; also the job of the worker."""
    mark = cluster.lab.common / name
    line = f"echo $SLURM_JOB_ID > {mark}.new; mv {mark}.new {mark}; sleep 3599"
    process = cluster.begin("--retries", "0", line, daskserver="near")
    cluster.lab.wait_until(mark.exists, f"the beginning of {name}")
    return process, mark.read_text().strip()


def failed(process: subprocess.Popen[str]) -> str:
    """Wait for a command that fails; the last line that it says."""
    _, said = process.communicate(timeout=90)
    assert process.returncode == 1, said
    return said.splitlines()[-1]


def test_a_worker_whose_job_was_cancelled(ending: Ending) -> None:
    command, job = begin(ending.cluster, "cancelled")
    ending.cluster.lab.scancel(job)
    said = failed(command)
    assert "was given up after one attempt" in said
    assert f"job {job} was cancelled (CANCELLED)" in said
    assert f"job {job} was cancelled" in ending.cluster("status", "--name", "near", status=1)


def test_a_daskserver_that_does_not_answer_is_stopped_with_its_job(ending: Ending) -> None:
    assert ending.stop.wait(90) == 0, ending.stop.communicate()
    assert "no daskserver is running" in ending.cluster("status", "--name", "stuck", status=1)
    assert not ending.cluster.lab.jobs("%j").count("seamless-daskserver-stuck")


def test_a_worker_whose_job_ran_out_of_time(ending: Ending) -> None:
    said = failed(ending.command)
    assert "ran out of time (TIMEOUT)" in said


def test_a_daskserver_whose_job_ran_out_of_time(ending: Ending) -> None:
    cluster, lab = ending.cluster, ending.cluster.lab
    lab.wait_until(lambda: ending.job not in lab.jobs(), "the end of the job")
    said = cluster("status", status=1)
    assert (
        f"the daskserver ended, job {ending.job} ran out of time (TIMEOUT): seamless-daskserver start" in said
    )
    cluster.start()
    assert cluster.job() != ending.job
