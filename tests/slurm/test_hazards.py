"""Parts of a cluster die, or lose sight of each other, while something runs that has half a result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .conftest import Lab
from .service import CONNECTION, Service

ENVIRONMENT = {"SEAMLESS_ISOLATION": "none"}
"""Commands see the directory of their gate."""


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Iterator[Service]:
    service = Service(lab, "0:2", "--ssh-option", "ServerAliveInterval=1")
    service.start(**ENVIRONMENT)
    service.connect()
    yield service
    service.close()
    lab.laptop.join("10.79.0.2")


class Gate:
    """Commands that begin, and go on when they may.

    Each has written half of its result when it begins to wait.
    """

    def __init__(self, service: Service, name: str) -> None:
        self.service, self.name = service, name
        self.directory = service.lab.common / name
        self.directory.mkdir()
        (service.project / f"{name}.txt").write_text(f"{name}\nb\na\n")
        self.commands: list[subprocess.Popen[str]] = []

    def words(self, result: str, *options: str) -> list[str]:
        """The command line that makes a result."""
        code = (
            f"mkdir {result}; sort {self.name}.txt > {result}/first;"
            ' echo "$SLURM_JOB_ID $HOSTNAME $$" >> $GATE/begun;'
            " until test -e $GATE/open; do sleep 0.05; done;"
            f" wc -l < {self.name}.txt > {result}/second; touch $GATE/over"
        )
        given = ["--metavar", f"GATE={self.directory}", "--capture", result, *options]
        return ["seamless-run", "-g2", *given, code]

    def begin(self, result: str, *options: str) -> subprocess.Popen[str]:
        """Start one on the laptop."""
        self.commands.append(self.service.begin(*self.words(result, *options)))
        return self.commands[-1]

    def begun(self, number: int = 1) -> list[str]:
        """Wait until commands have begun so many times; job, host and process of the last one."""
        path = self.directory / "begun"

        def lines() -> list[str]:
            return path.read_text().splitlines() if path.exists() else []

        self.service.lab.wait_until(lambda: len(lines()) >= number, f"{number} beginnings of {self.name}")
        assert len(lines()) == number
        return lines()[-1].split()

    def open(self) -> None:
        (self.directory / "open").touch()

    def check(self, result: str) -> None:
        """Every byte is there."""
        directory = self.service.project / result
        assert {path.name for path in directory.iterdir()} - {".CHECKSUM", ".INDEX"} == {"first", "second"}
        assert (directory / "first").read_text() == "".join(sorted([f"{self.name}\n", "b\n", "a\n"]))
        assert (directory / "second").read_text() == "3\n"


def succeed(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a command; what it has said."""
    _, said = process.communicate(timeout=90)
    assert process.returncode == 0, said
    return said


def fail(process: subprocess.Popen[str], status: int) -> str:
    _, said = process.communicate(timeout=90)
    assert process.returncode == status, said
    return said


@pytest.fixture
def gate(cluster: Service, request: pytest.FixtureRequest) -> Iterator[Gate]:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    cluster.clear()
    found = Gate(cluster, name)
    yield found
    found.open()
    for process in found.commands:
        process.communicate(timeout=60)
        cluster.laptop.started.remove(process)
    cluster.lab.wait_until(lambda: not cluster.jobs(), "the end of what runs")


def kill(service: Service, pid: int | str) -> None:
    """``kill -9`` of a process that one of the hosts has numbered."""
    service.login.run(["kill", "-9", str(pid)])


def node_of(service: Service, name: str) -> Any:
    return next(node for node in service.lab.nodes if node.name == name)


def cancel_job(service: Service, job: str, node: str) -> None:
    service.lab.scancel(job)


def kill_worker(service: Service, job: str, node: str) -> None:
    """The worker dies, and the nanny that looks after it is there."""
    (worker,) = node_of(service, node).processes("multiprocessing.spawn")
    os.kill(worker, signal.SIGKILL)


def kill_job(service: Service, job: str, node: str) -> None:
    """All processes of the worker die."""
    for pid in node_of(service, node).processes(f"{os.path.dirname(service.lab.python)}/"):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("end", [cancel_job, kill_worker, kill_job])
def test_lost_worker(end: Callable[[Service, str, str], None], gate: Gate, cluster: Service) -> None:
    before, lost = cluster.results(), len(cluster.status()["lost_workers"])
    process = gate.begin("out")
    job, node, _ = gate.begun()
    end(cluster, job, node)
    gate.begun(2)
    assert cluster.results() == before
    gate.open()
    succeed(process)
    gate.check("out")
    assert cluster.results() == before + 1
    assert len(cluster.status()["lost_workers"]) == lost + 1


def test_worker_is_lost_more_often_than_was_allowed(gate: Gate, cluster: Service) -> None:
    before = cluster.results()
    process = gate.begin("out", "--retries", "0")
    job, node, _ = gate.begun()
    kill_job(cluster, job, node)
    said = fail(process, 1)
    assert "was given up after one attempt" in said
    assert node_of(cluster, node).address in said
    assert cluster.results() == before
    assert not (cluster.project / "out").exists()
    gate.open()
    succeed(gate.begin("out"))
    gate.check("out")


def test_killed_command(gate: Gate, cluster: Service) -> None:
    before = cluster.results()
    process = gate.begin("out")
    kill(cluster, gate.begun()[2])
    assert "SIGKILL" in fail(process, 137)
    assert cluster.results() == before
    assert not (cluster.project / "out").exists()
    gate.open()
    succeed(gate.begin("out"))
    gate.check("out")


def test_killed_client(gate: Gate, cluster: Service) -> None:
    """The job does not notice; the same line joins it."""
    process = gate.begin("out")
    gate.begun()
    for pid in cluster.laptop.processes("bin/seamless-run "):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    again = gate.begin("out")
    cluster.lab.wait_until(lambda: any(job["askers"] == 2 for job in cluster.jobs()), "the second asker")
    gate.open()
    succeed(again)
    gate.begun()
    gate.check("out")


def test_killed_hashserver(gate: Gate, cluster: Service) -> None:
    process = gate.begin("out")
    gate.begun()
    kill(cluster, cluster.status()["hashserver"]["pid"])
    gate.open()
    succeed(process)
    gate.begun()
    gate.check("out")
    cluster.lab.wait_until(lambda: cluster.status()["hashserver"]["running"])
    assert any("hashserver ended by signal SIGKILL" in told for told in cluster.status()["problems"])


def test_killed_controller(gate: Gate, cluster: Service) -> None:
    """What runs goes on; what needs another job waits, says so, and gets one later."""
    process = gate.begin("out")
    _, node, _ = gate.begun()
    cluster.lab.kill_controller()
    other = next(name for name in ("n1", "n2") if name != node)
    waiting = gate.begin("elsewhere", "--node", other)
    cluster.lab.wait_until(
        lambda: any("slurm does not answer" in told for told in cluster.status()["problems"])
    )
    gate.open()
    succeed(process)
    gate.check("out")
    cluster.lab.start_controller()
    succeed(waiting)
    gate.check("elsewhere")
    assert gate.begun(2)[1] == other
    assert not any("does not answer" in told for told in cluster.status()["problems"])


def test_killed_scheduler(gate: Gate, cluster: Service) -> None:
    """What is known stays known, what was running or waiting is done, who waits is served."""
    known = ["seamless-run", "--json", "-g2", "--capture", "known.txt", f"tac {gate.name}.txt > known.txt"]
    assert not json.loads(cluster.run(*known).stdout)["cached"]
    process = gate.begin("out")
    for name in ("one", "two", "three"):
        succeed(gate.begin(name, "--detach"))
    gate.begun(2)
    before = cluster.results()
    kill(cluster, json.loads(cluster.login.file(CONNECTION).read_text())["pid"])
    cluster.lab.wait_until(lambda: not cluster.login.processes("seamless_dask"))
    assert any("daskserver died" in problem for problem in cluster.status()["problems"])
    cluster.start(**ENVIRONMENT)
    gate.begun(4)
    assert cluster.results() == before
    (cluster.project / "known.txt").unlink()
    assert json.loads(cluster.run(*known).stdout)["cached"]
    assert (cluster.project / "known.txt").read_text() == f"a\nb\n{gate.name}\n"
    gate.open()
    succeed(process)
    cluster.sh("seamless-download one two three")
    for name in ("out", "one", "two", "three"):
        gate.check(name)
    gate.begun(6)
    assert cluster.results() == before + 4


def test_laptop_loses_its_network_and_comes_back_elsewhere(gate: Gate, cluster: Service) -> None:
    """The cut lasts until the tunnel is known to be broken and the job is over: seconds, not a minute.

    A longer one is no other case: the connection is as dead, and made anew in the same way.
    """
    laptop = cluster.laptop
    process = gate.begin("out")
    gate.begun()
    laptop.cut()
    cluster.lab.wait_until(
        lambda: "trying again" in laptop.run(["seamless-daskserver", "status"], check=False).stdout
    )
    said = fail(cluster.begin(*gate.words("out")), 1)
    assert "127.0.0.1" in said or "localhost" in said
    gate.open()
    cluster.lab.wait_until((gate.directory / "over").exists)
    laptop.join("10.79.0.78")
    succeed(process)
    gate.begun()
    gate.check("out")
