"""Parts of a cluster die, or lose sight of each other, while something runs that has half a result."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hashserver.checksum import hash_bytes

from .gate import Gate, end
from .lab.host import wait_until
from .lab.laboratory import Lab
from .service import CONNECTION, Service, halfway

ENVIRONMENT = {"SEAMLESS_ISOLATION": "none"}
"""Commands see the directory of their gate."""
ALIVE = ("--ssh-option", "ServerAliveInterval=1")
SIZE = 200 << 20
"""Bytes of a large result."""
SERVER = "hashserver_process"
IMPATIENT = """
import seamless_dask.context
seamless_dask.context.RESTART_SECONDS = 5.0
"""
"""Have commands not wait a minute for a hashserver before they say that it is away."""
ABSENCE = 60.0
"""Seconds without a network."""


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Iterator[Service]:
    service = Service(lab, "0:2")
    service.start(**ENVIRONMENT)
    service.connect(*ALIVE)
    yield service
    for host, address in ((lab.laptop, "10.79.0.2"), (lab.traveller, "10.79.1.2")):
        host.join(address)
    service.close()


@pytest.fixture
def gate(cluster: Service, request: pytest.FixtureRequest) -> Iterator[Gate]:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    cluster.clear()
    found = Gate(cluster, name)
    yield found
    found.close()
    wait_until(lambda: not cluster.jobs(), "the end of what runs")


class Journey:
    """A traveller asks for a result, and loses the network until it is over and long after."""

    def __init__(self, cluster: Service) -> None:
        self.service = cluster.on(cluster.lab.traveller)
        self.service.connect(*ALIVE)
        self.gate = Gate(self.service, "journey")
        self.process = self.gate.begin("out")
        self.gate.begun()
        self.service.laptop.cut()
        self.left = time.monotonic()
        wait_until(lambda: lost(self.service), "the loss")
        self.gate.open()
        self.gate.over()
        wait_until(lambda: not cluster.jobs(), "the result on record")


@pytest.fixture(scope="module")
def journey(cluster: Service) -> Iterator[Journey]:
    """It lasts while other tests run, most of them."""
    found = Journey(cluster)
    yield found
    found.service.laptop.join()
    found.gate.close()


def begin_impatient(service: Service, *words: str) -> subprocess.Popen[str]:
    """Start a command on the laptop that gives up soon."""
    place = "/tmp/impatient"
    directory = service.laptop.file(place)
    directory.mkdir(exist_ok=True)
    (directory / "sitecustomize.py").write_text(IMPATIENT)
    return service.begin("env", f"PYTHONPATH={place}", *words)


def lost(service: Service) -> bool:
    """Whether the laptop knows that it has lost the network."""
    told = service.laptop.run(["seamless-daskserver", "status"], check=False)
    return "trying again" in told.stdout


def kill(service: Service, pid: int | str) -> None:
    """``kill -9`` of a process that one of the hosts has numbered."""
    service.login.run(["kill", "-9", str(pid)])


def node_of(service: Service, name: str) -> Any:
    return next(node for node in service.lab.nodes if node.name == name)


def cancel_job(service: Service, job: str, node: str) -> None:
    service.lab.scancel(job)


def kill_worker(service: Service, job: str, node: str) -> None:
    """The worker dies, and the nanny that looks after it is there."""
    (worker,) = node_of(service, node).of_job(job, "multiprocessing.spawn")
    os.kill(worker, signal.SIGKILL)


def kill_job(service: Service, job: str, node: str) -> None:
    """All processes of the worker die."""
    for pid in node_of(service, node).of_job(job, f"{os.path.dirname(service.lab.python)}/"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_laptop_loses_its_network(journey: Journey, cluster: Service) -> None:
    assert journey.process.poll() is None
    said = end(begin_impatient(journey.service, *journey.gate.words("out")), 1)
    assert "127.0.0.1" in said.splitlines()[-1]
    assert not (journey.service.project / "out").exists()


@pytest.mark.parametrize("death", [cancel_job, kill_worker, kill_job])
def test_lost_worker(death: Callable[[Service, str, str], None], gate: Gate, cluster: Service) -> None:
    before, lost = cluster.results(), len(cluster.status()["lost_workers"])
    process = gate.begin("out")
    job, node, _ = gate.begun()
    death(cluster, job, node)
    gate.begun(2)
    assert cluster.results() == before
    gate.open()
    end(process)
    gate.check("out")
    assert cluster.results() == before + 1
    assert len(cluster.status()["lost_workers"]) == lost + 1


def test_worker_is_lost_while_its_large_result_travels(gate: Gate, cluster: Service) -> None:
    before, checksum = cluster.results(), hash_bytes(gate.large(SIZE))
    process = gate.begin("out", "-nd", size=SIZE)
    job, node, _ = gate.begun()
    gate.open()
    with halfway(cluster.login, SERVER, SIZE):
        gate.shut()
        kill_job(cluster, job, node)
    gate.begun(2)
    wait_until(lambda: not cluster.login.half_written(SERVER), "the end of what was half written")
    assert not cluster.stored(checksum).exists()
    assert cluster.results() == before
    gate.open()
    end(process)
    assert cluster.stored(checksum).read_bytes() == gate.large(SIZE)
    assert cluster.results() == before + 1


def test_worker_is_lost_more_often_than_was_allowed(gate: Gate, cluster: Service) -> None:
    before = cluster.results()
    process = gate.begin("out", "--retries", "0")
    job, node, _ = gate.begun()
    kill_job(cluster, job, node)
    said = end(process, 1)
    assert "was given up after one attempt" in said
    assert node_of(cluster, node).address in said
    assert cluster.results() == before
    assert not (cluster.project / "out").exists()
    gate.open()
    end(gate.begin("out"))
    gate.check("out")


def test_killed_command(gate: Gate, cluster: Service) -> None:
    before = cluster.results()
    process = gate.begin("out")
    kill(cluster, gate.begun()[2])
    assert "SIGKILL" in end(process, 137)
    assert cluster.results() == before
    assert not (cluster.project / "out").exists()
    gate.open()
    end(gate.begin("out"))
    gate.check("out")


def test_killed_client(gate: Gate, cluster: Service) -> None:
    """The job does not notice; the same line joins it."""
    process = gate.begin("out")
    gate.begun()
    for pid in cluster.laptop.processes("bin/seamless-run "):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    again = gate.begin("out")
    wait_until(lambda: any(job["askers"] == 2 for job in cluster.jobs()), "the second asker")
    gate.open()
    end(again)
    gate.begun()
    gate.check("out")


def test_killed_hashserver(gate: Gate, cluster: Service) -> None:
    """In mid-run, and again while it receives the result."""
    checksum = hash_bytes(gate.large(SIZE))
    process = gate.begin("out", "-nd", size=SIZE)
    gate.begun()
    kill(cluster, cluster.status()["hashserver"]["pid"])
    wait_until(lambda: cluster.status()["hashserver"]["running"])
    gate.open()
    with halfway(cluster.login, SERVER, SIZE) as server:
        os.kill(server, signal.SIGKILL)
        assert not cluster.stored(checksum).exists()
    end(process)
    gate.begun()
    assert cluster.stored(checksum).read_bytes() == gate.large(SIZE)
    assert any("hashserver ended by signal SIGKILL" in told for told in cluster.status()["problems"])


def test_download_is_broken_off(gate: Gate, cluster: Service) -> None:
    """Its process is killed; the network is lost, and comes back under another address."""
    laptop = cluster.laptop
    gate.open()
    end(gate.begin("out", "-nd", size=SIZE))
    gate.shut()
    process = gate.begin("elsewhere")
    gate.begun(2)
    before = laptop.file(CONNECTION).read_text()

    def partial() -> set[str]:
        whole = {"first", "second", ".CHECKSUM", ".INDEX"}  # each file of a directory comes by itself
        return {path.name for path in (cluster.project / "out").iterdir()} - whole

    killed = cluster.begin("seamless-download", "out")
    with halfway(laptop, "bin/seamless-download", SIZE) as download:
        os.kill(download, signal.SIGKILL)
    killed.communicate()
    assert not partial()
    broken = begin_impatient(cluster, "seamless-download", "out")
    with halfway(laptop, "bin/seamless-download", SIZE):
        laptop.cut()
    said = end(broken, 1)
    assert "127.0.0.1" in said.splitlines()[-1]
    assert not partial()
    laptop.join("10.79.0.78")
    gate.open()
    end(process)
    gate.check("elsewhere")
    cluster.sh("seamless-download out")
    gate.check("out", SIZE)
    gate.begun(2)
    assert laptop.file(CONNECTION).read_text() == before


def test_laptop_sleeps(gate: Gate, cluster: Service) -> None:
    """All that runs on it stands still; meanwhile the job ends, and the other end drops the connection."""
    process = gate.begin("out")
    gate.begun()
    asleep = cluster.laptop.processes("seamless") + cluster.laptop.processes("ssh")
    for pid in asleep:
        os.kill(pid, signal.SIGSTOP)
    for pid in cluster.login.processes("sshd: root"):
        os.kill(pid, signal.SIGKILL)
    gate.open()
    gate.over()
    for pid in asleep:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    while process.poll() is None:  # nsenter stops itself at some time after it has seen its child stopped
        process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
    end(process)
    gate.begun()
    gate.check("out")


def test_killed_controller(gate: Gate, cluster: Service) -> None:
    """What runs goes on; what needs another job waits, says so, and gets one later."""
    process = gate.begin("out")
    gate.begun()
    used = cluster.lab.jobs("%N")
    cluster.lab.kill_controller()
    other = next(node.name for node in cluster.lab.nodes if node.name not in used)
    waiting = gate.begin("elsewhere", "--node", other)
    wait_until(lambda: any("slurm does not answer" in told for told in cluster.status()["problems"]))
    gate.open()
    end(process)
    gate.check("out")
    cluster.lab.start_controller()
    end(waiting)
    gate.check("elsewhere")
    assert gate.begun(2)[1] == other
    assert not any("does not answer" in told for told in cluster.status()["problems"])


def test_killed_scheduler(gate: Gate, cluster: Service) -> None:
    """What is known stays known, what was running or waiting is done, who waits is served."""
    known = ["seamless-run", "--json", "-g2", "--capture", "known.txt", f"tac {gate.name}.txt > known.txt"]
    assert not json.loads(cluster.run(*known).stdout)["cached"]
    process = gate.begin("out")
    for name in ("one", "two", "three"):
        end(gate.begin(name, "--detach"))
    gate.begun(2)
    before = cluster.results()
    kill(cluster, json.loads(cluster.login.file(CONNECTION).read_text())["pid"])
    wait_until(lambda: not cluster.login.processes("seamless_dask"))
    assert any("daskserver died" in problem for problem in cluster.status()["problems"])
    cluster.start(**ENVIRONMENT)
    gate.begun(4)
    assert cluster.results() == before
    (cluster.project / "known.txt").unlink()
    assert json.loads(cluster.run(*known).stdout)["cached"]
    assert (cluster.project / "known.txt").read_text() == f"a\nb\n{gate.name}\n"
    gate.open()
    end(process)
    cluster.sh("seamless-download one two three")
    for name in ("out", "one", "two", "three"):
        gate.check(name)
    gate.begun(6)
    assert cluster.results() == before + 4


def test_laptop_was_away_for_a_minute_and_comes_back_elsewhere(journey: Journey, cluster: Service) -> None:
    wait_until(lambda: time.monotonic() - journey.left > ABSENCE, "the end of the journey", 2 * ABSENCE)
    assert journey.process.poll() is None
    journey.service.laptop.join("10.79.1.78")
    end(journey.process)
    journey.gate.begun()
    journey.gate.check("out")
