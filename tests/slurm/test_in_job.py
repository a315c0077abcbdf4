"""A daskserver that runs in a job itself, on a cluster whose login node and nodes share a directory."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from .lab.laboratory import Lab
from .sharing import CONNECTION, PIPES, Cluster


@pytest.fixture
def cluster(slurm: Lab) -> Iterator[Cluster]:
    found = Cluster(slurm)
    yield found
    found.close()


def test_services_run_in_a_job_and_carry_on_in_the_next(cluster: Cluster) -> None:
    said = cluster.start("--job-time-limit", "20m", "--job-memory", "1GiB", "--job-queue", "long")
    first = cluster.connection()
    assert f"export SEAMLESS_DASKSERVER={cluster.directory}/connection.json" in said
    assert cluster.lab.jobs("%P %l %m %j") == ["long 20:00 1G seamless-daskserver-default"]
    assert cluster.login.processes("seamless_dask") == []
    assert f"{cluster.node().address}:" in first["jobserver"]
    made = cluster.run("hostname; date +%N")
    assert list(cluster.cache.glob("buffers/??/*"))
    assert made.split()[0] in {node.name for node in cluster.lab.nodes}
    assert f"job         {cluster.job()} runs on {first['host']}" in cluster("status")
    assert "is running already" in cluster.start()
    token = (cluster.directory / "token").read_bytes()
    cluster("stop")
    assert not cluster.login.file(CONNECTION).exists()
    assert "no daskserver is running" in cluster("status", status=1)
    cluster.lab.wait_until(lambda: not cluster.lab.jobs())
    cluster.start()
    assert (cluster.directory / "token").read_bytes() == token
    assert cluster.run("hostname; date +%N") == made
    laptop = cluster.lab.laptop
    laptop.run(["seamless-daskserver", "connect", "login"])
    known = ["seamless-run", "--json", "hostname; date +%N"]
    answer = laptop.run(known, env={"SEAMLESS_DASKSERVER": CONNECTION}).stdout
    assert json.loads(answer)["cached"]
    laptop.run(["seamless-daskserver", "stop"])


def test_a_killed_one_is_told_with_what_to_do(cluster: Cluster) -> None:
    cluster.start()
    job = cluster.job()
    os.kill(cluster.process(), signal.SIGKILL)
    cluster.lab.wait_until(lambda: not cluster.lab.jobs())
    assert f"job {job} ended (FAILED): seamless-daskserver start --in-job" in cluster("status", status=1)


def test_a_job_that_waits_is_seen_and_can_be_stopped(cluster: Cluster) -> None:
    cluster.login.run(["scontrol", "update", "partitionname=long", "state=down"])
    try:
        words = ["seamless-daskserver", "start", "--in-job", "--cluster", "slurm", "--job-queue", "long"]
        waiting = cluster.login.popen(words, **PIPES)
        cluster.lab.wait_until(lambda: "waits in the queue (PartitionDown)" in cluster("status", status=1))
        cluster("stop")
        _, said = waiting.communicate(timeout=60)
        assert waiting.returncode == 1
        assert "waits in the queue (PartitionDown)" in said
        assert "was cancelled" in said.splitlines()[-1]
        assert cluster.lab.jobs() == []
    finally:
        cluster.login.run(["scontrol", "update", "partitionname=long", "state=up"])


def test_why_it_did_not_start_is_told(cluster: Cluster) -> None:
    cluster.configure("/no/such/python")
    last = cluster.start(status=1).splitlines()[-1]
    assert "the daskserver did not start" in last
    assert "/no/such/python: No such file or directory" in last
    assert "the job was not taken: sbatch: error: " in cluster.start("--job-queue", "nightly", status=2)
    assert cluster.lab.jobs() == []


def test_a_directory_that_is_not_shared_is_told(cluster: Cluster) -> None:
    environment = {"SEAMLESS_CACHE": "/root/own"}
    words = ["seamless-daskserver", "start", "--in-job", "--cluster", "slurm"]
    done = cluster.login.run(words, check=False, env=environment)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "shared" in line]
    assert "/root/own/daskserver/default: is that directory shared with the nodes?" in line
    cluster.login.run(["seamless-daskserver", "stop"], env=environment)


def test_a_store_that_is_not_shared_is_told(cluster: Cluster) -> None:
    last = cluster.start("--store", "/root/own", status=1).splitlines()[-1]
    assert "/root/own is another directory on n" in last
    assert not any(node.file("/root/own").exists() for node in cluster.lab.nodes)
