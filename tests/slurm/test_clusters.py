"""Workers as SLURM jobs, on nodes that share no directory with the scheduler."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DRIVER = """
import asyncio, json, os, socket, subprocess, sys, time
import dask
from distributed import Client, Scheduler
from seamless_dask.client.security import security_of
from seamless_dask.services.daskserver import credentials
from seamless_dask.services.cluster.opening import Workers, open_cluster
from seamless_dask.services.cluster.jobscript import Files

dask.config.set({
    "distributed.adaptive.interval": "200 ms", "seamless.worker-idle-timeout": "1 s",
    "jobqueue.slurm": {"cores": 1, "memory": "512 MiB", "interface": "eth0"},
})

def tell(*words):
    print(*words, flush=True)

async def hear():
    return (await asyncio.to_thread(sys.stdin.readline)).strip()

def environment():
    return {name: os.environ.get(name) for name in os.environ if name.startswith("SEAMLESS_")}

async def main():
    os.makedirs("/root/server", 0o700, exist_ok=True)
    made = credentials.make("/root/server", ["10.78.0.1"])
    files = Files(made.token_file, made.ca_file, made.ca_file, made.cert_file, made.key_file)
    security = security_of(made)
    options = {"host": "10.78.0.1", "port": 0, "protocol": "tls", "dashboard": False}
    scheduler = await Scheduler(**options, dashboard_address="127.0.0.1:0", security=security)
    async with open_cluster(scheduler, Workers(kind="slurm", **WORKERS), files, "/root/server") as autoscaler:
        async with Client(scheduler.address, security=security, asynchronous=True) as client:
            async def until(happened):
                async with asyncio.timeout(60):
                    while not happened():
                        await asyncio.sleep(0.05)
            await test(autoscaler, client, until)
    await scheduler.close()
    tell("closed")

if __name__ == "__main__":
    asyncio.run(main())
"""


class Driver:
    """A scheduler and its autoscaler on the login node."""

    def __init__(self, slurm: Any, test: str, config: str = "", **workers: Any) -> None:
        code = DRIVER.replace("**WORKERS", f"**{workers!r}")
        lines = "\n".join(f"    {line}" for line in test.strip().splitlines())
        code = code.replace(
            "\nif __name__", f"\n{config}\nasync def test(autoscaler, client, until):\n{lines}\n\nif __name__"
        )
        slurm.login.file("/root/driver.py").write_text(code)
        self._process = slurm.login.popen(
            ["bash", "-c", f"exec {slurm.python} driver.py 2> driver.log"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"SEAMLESS_STORE": "/on/the/login/node"},
        )
        self.log = slurm.login.file("/root/driver.log")

    def hear(self) -> str:
        line = self._process.stdout.readline().strip()
        assert line, self.log.read_text()
        return str(line)

    def tell(self, word: str = "go on") -> None:
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()


@pytest.fixture
def drive(slurm: Any) -> Iterator[Any]:
    yield lambda *words, **options: Driver(slurm, *words, **options)
    with contextlib.suppress(FileNotFoundError):
        slurm.login.file("/root/server/jobs.json").unlink()


def private_directories(slurm: Any) -> list[Path]:
    return [path for node in slurm.nodes for path in node.file("/tmp").glob("seamless-worker-*")]


ONE = """
tell(await client.submit(socket.gethostname, pure=False))
tell(json.dumps(await client.submit(environment, pure=False)))
await hear()
"""

TWICE = """
tell(await client.submit(socket.gethostname, pure=False))
await until(lambda: not autoscaler.members)
tell("idle")
await hear()
tell(await client.submit(socket.gethostname, pure=False))
"""
LONG = """
def stay(job):
    time.sleep(3600 if os.environ["SLURM_JOB_ID"] == job else 0)

await until(lambda: autoscaler.scheduler.workers)
future = client.submit(stay, autoscaler.facts()["workers"][0]["job"])
await until(lambda: any(worker.processing for worker in autoscaler.scheduler.workers.values()))
tell("running")
await future
tell("done")
"""


def test_credentials_travel_with_the_job(slurm: Any, drive: Any) -> None:
    driver = drive(ONE, minimum=1, maximum=1)
    name = driver.hear()
    node = next(node for node in slurm.nodes if node.name == name)
    assert "/on/the/login/node" not in driver.hear()
    (directory,) = private_directories(slurm)
    assert directory.stat().st_mode & 0o777 == 0o700
    secrets = {
        line
        for path in ("token", "tls/key.pem")
        for line in slurm.login.file(f"/root/server/{path}").read_text().replace(" ", "\n").split("\n")
        if len(line) > 20 and "PRIVATE" not in line
    }
    assert len(secrets) >= 3
    seen = "".join(node.file("/tmp/seamless-root/logs").joinpath(log.name).read_text()
                   for log in node.file("/tmp/seamless-root/logs").iterdir())  # fmt: skip
    for host in (slurm.login, node):
        seen += host.sh("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2> /dev/null | tr '\\0' '\\n' || true")
    seen += driver.log.read_text()
    assert "seamless-worker-" in seen
    assert not [secret for secret in secrets if secret in seen]
    driver.tell()
    assert driver.hear() == "closed"
    slurm.wait_until(lambda: not slurm.jobs())
    slurm.wait_until(lambda: not private_directories(slurm))
    assert list(slurm.login.file("/root/server").glob("*.sh")) == []


def test_worker_offers_nothing_without_credentials(slurm: Any, drive: Any) -> None:
    driver = drive(ONE, minimum=1, maximum=1)
    name = driver.hear()
    driver.hear()
    node = next(node for node in slurm.nodes if node.name == name)
    listening = [line.split()[3] for line in node.sh("ss -Htln").splitlines()]
    outside = [address for address in listening if address.startswith(node.address)]
    assert outside  # the worker's and the nanny's, for TLS
    for address in outside:
        plain = slurm.login.run(["curl", "-sS", "--max-time", "5", f"http://{address}/health"], check=False)
        assert plain.returncode in (52, 56), plain.stdout  # it hangs up
        strange = slurm.login.run(["curl", "-sSk", "--max-time", "5", f"https://{address}/"], check=False)
        # no certificate, no answer: curl meets the alert, or finds the connection closed
        assert (strange.returncode in (35, 52, 55, 56), strange.stdout) == (True, ""), strange.stderr
    driver.tell()
    assert driver.hear() == "closed"


def test_from_nothing_and_back(slurm: Any, drive: Any) -> None:
    driver = drive(TWICE, maximum=1)
    assert driver.hear() in {"n1", "n2", "n3"}
    assert driver.hear() == "idle"
    slurm.wait_until(lambda: not slurm.jobs())
    driver.tell()
    assert driver.hear() in {"n1", "n2", "n3"}
    assert driver.hear() == "closed"


def test_cancelled_job_is_replaced_when_there_is_work(slurm: Any, drive: Any) -> None:
    driver = drive(LONG, minimum=1, maximum=1)
    assert driver.hear() == "running"
    (first,) = slurm.jobs()
    (directory,) = private_directories(slurm)
    slurm.scancel(first)
    slurm.wait_until(lambda: not directory.exists())
    assert driver.hear() == "done"
    assert driver.hear() == "closed"
    slurm.wait_until(lambda: not slurm.jobs())


PATIENT = 'dask.config.set({"seamless.worker-idle-timeout": "60 s"})'


def test_tasks_get_jobs_of_their_shapes(slurm: Any, drive: Any) -> None:
    wanted = [
        {"seamless:queue:long": 1},
        {"seamless:node:n2": 1},
        {"GPU": 1},
        {"seamless:cpus": 3},
        {"seamless:memory": 2**30},
    ]
    driver = drive(
        f"""
futures = [client.submit(socket.gethostname, resources=each, pure=False) for each in {wanted}]
tell(" ".join([await future for future in futures]))
await hear()
""",
        PATIENT,
    )
    names = driver.hear().split()
    assert (names[1], names[2]) == ("n2", "n3")
    assert {tuple(job.replace("/gpu", ":gpu").split(",")) for job in slurm.jobs("%P,%C,%m,%n,%b")} == {
        ("long", "1", "512M", "", "N/A"),
        ("short", "1", "512M", "n2", "N/A"),
        ("short", "1", "512M", "", "gres:gpu:1"),
        ("short", "3", "512M", "", "N/A"),
        ("short", "1", "2G", "", "N/A"),
    }
    driver.tell()
    assert driver.hear() == "closed"


def test_impossible_tasks_are_told(slurm: Any, drive: Any) -> None:
    wanted = [{"seamless:cpus": 64}, {"seamless:queue:nightly": 1}, {"licence": 1}]
    driver = drive(f"""
futures = [client.submit(os.getpid, resources=each, pure=False) for each in {wanted}]
await until(lambda: len(autoscaler.notes()) == len(futures))
for note in sorted(autoscaler.notes()):
    tell(note)
tell(await client.submit(socket.gethostname, pure=False))
""")
    assert driver.hear().startswith("no node fits a job for cpus=64: slurm says PartitionConfig")
    told = "no worker could be started for queue=nightly: sbatch: error: "
    assert driver.hear().startswith(told)
    assert driver.hear().startswith("tasks wait for ever: no worker has licence=1")
    assert driver.hear() in {"n1", "n2", "n3"}
    assert driver.hear() == "closed"
    slurm.wait_until(lambda: not slurm.jobs())


def test_job_that_ends_before_its_worker_comes_is_told(slurm: Any, drive: Any) -> None:
    driver = drive(
        """
future = client.submit(os.getpid)
await until(autoscaler.notes)
tell(autoscaler.notes()[0])
""",
        'dask.config.set({"jobqueue.slurm.python": "/no/such/python"})',
    )
    assert re.search(r"job \d+ ended (\(FAILED\) )?before its worker came", driver.hear())
    assert driver.hear() == "closed"


def test_controller_dies(slurm: Any, drive: Any) -> None:
    """Closing tells what may be left, and the next start cancels it."""
    driver = drive(ONE, minimum=1, maximum=1)
    driver.hear()
    driver.hear()
    (job,) = slurm.jobs()
    slurm.kill_controller()
    driver.tell()
    assert driver.hear() == "closed"
    assert f"jobs may be left; look later, and: scancel {job}" in driver.log.read_text()
    slurm.start_controller()
    slurm.wait_for_nodes()
    # the worker ended with its scheduler, but a job that had not begun would still be there
    waiting = slurm.login.sh("sbatch --parsable --hold -D /tmp -o /dev/null --wrap true").strip()
    slurm.login.file("/root/server/jobs.json").write_text(json.dumps({"kind": "slurm", "jobs": [waiting]}))
    again = drive("tell(len(autoscaler.members))")
    assert again.hear() == "0"
    assert slurm.jobs() == []
    assert again.hear() == "closed"
