"""What the end of a worker, a command, a server or a disk costs: one try of what was running, and no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, fire_and_forget

from hashserver.errors import ServiceUnavailable
from seamless_dask import File, api
from seamless_dask.errors import ComputationFailed, WorkerLost
from seamless_dask.worker.data_locations import DataLocations
from seamless_dask.worker.plugin import Equipment

from .conftest import Cluster, mixed_in, wait_until

SCHEDULER = "from distributed.cli.dask_scheduler import main; main()"
WORKER = "from distributed.cli.dask_worker import main; main()"


def is_gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_a_killed_worker_costs_one_try_of_what_it_ran(own_cluster: Any, gate: Any) -> None:
    tf = own_cluster.bash(f"{gate.code}; echo survived")
    future = own_cluster.client.compute(tf)
    first = gate.wait()
    os.kill(own_cluster.pid_of(own_cluster.where(tf)), signal.SIGKILL)
    gate.wait(times=2)
    wait_until(lambda: is_gone(first))
    gate.open()
    assert own_cluster.text(future.result().value) == "survived\n"
    assert own_cluster.context.database.failures(tf.key) == []


def slow_down(cluster: Any) -> None:
    """Word that a command begins takes a while from now on."""

    def be_slow() -> None:
        import asyncio

        from seamless_dask.worker import internals

        call = internals.call_scheduler

        async def slowly(worker: Any, operation: str, arguments: Any) -> Any:
            if operation == "log_event":
                await asyncio.sleep(0.3)
            return await call(worker, operation, arguments)

        internals.call_scheduler = slowly

    cluster.client.run(be_slow)


def test_a_command_that_kills_its_worker_at_once_is_given_up(own_cluster: Any, tmp_path: Path) -> None:
    slow_down(own_cluster)
    log = tmp_path / "log"
    tf = own_cluster.bash(f"echo ran >> {log}; kill -9 $PPID", retries=0)  # its parent is the worker
    with pytest.raises(WorkerLost, match=r"given up after one attempt: .*killed"):
        own_cluster.client.compute(tf).result()
    assert log.read_text() == "ran\n"


def test_so_is_one_that_does_it_on_the_way_to_another(own_cluster: Any) -> None:
    log = own_cluster.directory / "log"
    value = own_cluster.run(own_cluster.bash(f"echo ran >> {log}; [ $(wc -l < {log}) = 1 ] || kill -9 $PPID"))
    own_cluster.context.store.delete(value.checksum)
    slow_down(own_cluster)
    tf = own_cluster.bash("cat x", {"x": File(checksum=value.checksum)}, retries=0)
    with pytest.raises(WorkerLost, match="given up after one attempt"):
        own_cluster.client.compute(tf).result()
    assert log.read_text() == "ran\n" * 2


@pytest.mark.parametrize("isolation", ["none", "bubblewrap"])
def test_commands_die_with_a_worker_that_is_killed(
    own_cluster: Any, processes: list[subprocess.Popen[Any]], isolation: str
) -> None:
    seconds = f"7{os.getpid()}{isolation == 'none':d}"
    with mixed_in(own_cluster.environment):
        start(processes, WORKER, own_cluster.local.scheduler_address, "--no-nanny", "--no-dashboard",
              "--resources", "alone=1", "--local-directory", str(own_cluster.directory))  # fmt: skip
    code = f"setsid sleep {seconds} & (sleep {seconds}; true) & env -i sleep {seconds} & sleep {seconds}"
    tf = own_cluster.bash(code, retries=0, isolation=isolation, resources={"alone": 1})

    def sleepers() -> list[int]:
        found = subprocess.run(["pgrep", "-xf", f"sleep {seconds}"], capture_output=True, text=True)
        return [int(word) for word in found.stdout.split()]

    own_cluster.client.wait_for_workers(3)
    future = own_cluster.client.compute(tf)
    wait_until(lambda: len(sleepers()) == 4)
    processes[0].kill()
    wait_until(lambda: not sleepers())
    with pytest.raises(WorkerLost):
        future.result()


def test_a_worker_that_closes_kills_its_command(own_cluster: Any, gate: Any) -> None:
    tf = own_cluster.bash(f"{gate.code}; echo moved")
    future = own_cluster.client.compute(tf)
    first = gate.wait()
    own_cluster.client.retire_workers([own_cluster.where(tf)])
    gate.wait(times=2)
    wait_until(lambda: is_gone(first))
    gate.open()
    assert own_cluster.text(future.result().value) == "moved\n"


def test_a_command_that_somebody_killed_has_failed(cluster: Any, gate: Any) -> None:
    def be_quick() -> None:
        from seamless_dask.worker import services

        services.FATE = 0.1

    cluster.client.run(be_quick)
    tf = cluster.bash(f"{gate.code}; echo # killed")
    future = cluster.client.compute(tf)
    os.kill(gate.wait(), signal.SIGKILL)
    with pytest.raises(ComputationFailed, match=r"killed by SIGKILL: out of memory\?") as caught:
        future.result()
    assert caught.value.exit_status == 137
    assert len(gate.pids()) == 1


def test_a_result_waits_for_a_hashserver_that_comes_back(own_cluster: Any, gate: Any) -> None:
    tf = own_cluster.bash(f"{gate.code}; echo patient")
    future = own_cluster.client.compute(tf)
    gate.wait()
    own_cluster.hashserver.kill()
    gate.open()
    own_cluster.hashserver.start()
    assert own_cluster.text(future.result().value) == "patient\n"
    assert own_cluster.context.database.get(tf.key).checksum == future.result().checksum


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system without room; only root can make one."""
    place = tmp_path / "full"
    place.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", place]).returncode
    ):
        pytest.skip("only root may mount a file system")
    (place / "filling").write_bytes(b"x" * 4096)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_what_finds_a_full_disk_goes_to_another_worker(own_cluster: Any, full_disk: Path, gate: Any) -> None:
    first, second = own_cluster.client.scheduler_info()["workers"]
    busy = own_cluster.bash(f"{gate.code}; echo busy")
    future = own_cluster.client.compute(busy, workers=[second])
    gate.wait()

    def fill(place: str) -> None:
        os.environ["TMPDIR"] = place

    own_cluster.client.run(fill, str(full_disk), workers=[first])
    moved = own_cluster.client.compute(own_cluster.bash("echo found room"))
    wait_until(lambda: own_cluster.events("lost"))
    gate.open()
    assert own_cluster.text(moved.result().value) == "found room\n"
    assert own_cluster.text(future.result().value) == "busy\n"
    [event] = own_cluster.events("lost")
    assert "no room left" in event["how"]


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[Any]]]:
    started: list[subprocess.Popen[Any]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def start(processes: list[subprocess.Popen[Any]], code: str, *words: str) -> None:
    command = [sys.executable, "-c", code, *words]
    processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))


def test_a_command_outlives_the_scheduler_and_its_result_is_recorded(
    own_cluster: Any, gate: Any, tmp_path: Path, processes: list[subprocess.Popen[Any]]
) -> None:
    ready = tmp_path / "scheduler.json"
    start(processes, SCHEDULER, "--scheduler-file", str(ready), "--port", "0", "--no-dashboard",
          "--dashboard-address", ":0", "--host", "127.0.0.1")  # fmt: skip
    wait_until(lambda: ready.exists() and ready.read_text())
    environment = {
        "SEAMLESS_TOKEN_FILE": own_cluster.hashserver.token_file,
        "SEAMLESS_ISOLATION": "none",
    }
    with mixed_in(environment):
        start(processes, WORKER, "--scheduler-file", str(ready),
              "--no-nanny", "--no-dashboard", "--local-directory", str(tmp_path))  # fmt: skip
    tf = api.bash(f"{gate.code}; echo outlived", context=own_cluster.context)
    with Client(scheduler_file=str(ready)) as client:
        client.wait_for_workers(1)
        client.register_plugin(Equipment(DataLocations.of(own_cluster.config)))
        fire_and_forget(client.compute(tf))
        gate.wait()
    processes[0].kill()
    gate.open()
    wait_until(lambda: own_cluster.context.database.get(tf.key))
    processes[1].wait(60)


CANCELLED_IN_MID_CLOSE = """
import asyncio
from distributed import Scheduler, Worker, WorkerPlugin
from seamless_dask.worker.internals import let_go_at_exit

class Slow(WorkerPlugin):
    async def teardown(self, worker):
        await asyncio.Event().wait()

async def main():
    scheduler = await Scheduler(port=0, dashboard_address=":0", host="127.0.0.1")
    worker = await Worker(scheduler.address, plugins=[Slow()])
    kept = asyncio.create_task(let_go_at_exit(worker)), asyncio.create_task(worker.close())
    while worker.status.name != "closing":
        await asyncio.sleep(0)

asyncio.run(main())
"""


def test_a_process_ends_whose_worker_was_closing_already(tmp_path: Path) -> None:
    """As when a worker is told to end at the moment at which its scheduler goes."""
    done = subprocess.run([sys.executable, "-c", CANCELLED_IN_MID_CLOSE], cwd=tmp_path, timeout=100,
                          stderr=subprocess.DEVNULL)  # fmt: skip
    assert done.returncode == 0


def test_a_worker_without_this_package_is_told_and_does_other_work(
    own_cluster: Cluster, processes: list[subprocess.Popen[Any]]
) -> None:
    code = f"import sys; sys.modules['seamless_dask'] = None; {WORKER}"
    address = own_cluster.local.scheduler_address
    start(processes, code, address, "--no-nanny", "--no-dashboard", "--name", "bare",
          "--local-directory", str(own_cluster.directory))  # fmt: skip
    [event] = wait_until(lambda: own_cluster.events("unequipped"))
    assert "it has no usable seamless-dask" in event["message"]
    assert own_cluster.client.submit(sum, [1, 2], workers=["bare"]).result() == 3
    tfs = [own_cluster.bash(f"echo {number} # by others") for number in range(10)]
    values = [future.result().value for future in own_cluster.client.compute(tfs)]
    assert [own_cluster.text(value) for value in values] == [f"{number}\n" for number in range(10)]


def test_a_hashserver_that_stays_away_is_told(own_cluster: Any) -> None:
    tf = own_cluster.bash("echo nowhere", retries=0)
    api.flush(own_cluster.context)
    future = own_cluster.client.compute(tf)
    future.result()
    own_cluster.hashserver.kill()
    other = own_cluster.bash("echo nowhere else", retries=0)
    with pytest.raises(ServiceUnavailable, match="no connection to http"):
        other.__dask_graph__()


def children(process: int) -> dict[int, str]:
    """Return the command lines of a process's children, remains of dead ones included."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == process:
                line = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(stat.parent.name)] = line.decode()
        except (OSError, ValueError):
            continue
    return found


def test_a_watcher_that_was_killed_is_replaced(own_cluster: Any) -> None:
    own_cluster.run(own_cluster.bash("echo equipped"))
    worker = own_cluster.pid_of(next(iter(own_cluster.client.scheduler_info()["workers"])))

    def watchers() -> set[int]:
        return {pid for pid, line in children(worker).items() if "reaper" in line}

    [before] = watchers()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: before not in children(worker) and watchers())
    assert len(watchers()) == 1


def test_a_function_on_a_worker_that_closes_starts_nothing_more(own_cluster: Any, tmp_path: Path) -> None:
    begun, log = tmp_path / "begun", tmp_path / "log"

    def function() -> None:
        import time

        from distributed import get_worker

        from seamless_dask import bash

        worker = get_worker()
        begun.touch()
        while worker.status.name == "running":
            time.sleep(0.01)
        try:
            for number in range(3):
                bash(f"echo ran; # {number}").compute(scheduler="sync")
                log.write_text("ran")
        except BaseException as error:
            log.write_text(type(error).__name__)

    future = own_cluster.client.submit(function, retries=0)
    wait_until(begun.exists)
    [address] = [worker for worker, tasks in own_cluster.client.processing().items() if tasks]

    async def close(address: str, dask_scheduler: Any) -> None:
        dask_scheduler.close_worker(address)

    own_cluster.client.run_on_scheduler(close, address=address)
    wait_until(lambda: log.exists() and log.read_text())
    assert log.read_text() == "Reschedule"
    future.release()
    assert not list(Path(own_cluster.environment["SEAMLESS_CACHE"]).glob("jobs/*"))
