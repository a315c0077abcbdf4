"""Workers that cannot run transformations, or whose systems are at fault, do not spoil the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import cloudpickle
import pytest

from seamless_dask.errors import WorkerLost
from seamless_dask.options import Options

# workers do not have this module
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def options(retries: int) -> Options:
    return Options(isolation="none", retries=retries)


# ------------------------------------------------------------------------ faults of a system


def break_disk(dask_worker: Any) -> None:
    """From now on nothing runs on this worker, as on a full disk."""
    from seamless_dask import execution
    from seamless_dask import task as tasks

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    tasks.FIRST_PAUSE = 0.0
    execution.run_bash = full  # type: ignore[assignment]


def test_a_full_disk_on_one_worker_is_got_round(own_farm: Any) -> None:
    first, _ = own_farm.scheduler.workers
    own_farm.client.run(break_disk, workers=[first])
    futures = own_farm.submit_all([own_farm.store(f"echo {number}") for number in range(20)])
    done = own_farm.client.gather(futures)
    assert [own_farm.lab.bytes(handle.value) for handle in done] == [b"%d\n" % number for number in range(20)]


def test_full_disks_everywhere_are_an_error_that_names_them(own_farm: Any) -> None:
    own_farm.client.run(break_disk)
    with pytest.raises(WorkerLost) as caught:
        own_farm.run(own_farm.store("echo x"), options(retries=1))
    text = str(caught.value)
    assert "given up after 2 attempts" in text
    assert all(address in text for address in own_farm.scheduler.workers)
    assert text.count("No space left on device") >= 2


# ------------------------------------------------------------------------ workers that cannot


def unequip(dask_worker: Any) -> None:

    dask_worker.extensions.pop("seamless")
    event = {"action": "unequipped", "worker": dask_worker.address, "message": "nothing is installed"}
    dask_worker.log_event("seamless", event)


def equip(dask_worker: Any) -> None:
    dask_worker.log_event("seamless", {"action": "equipped", "worker": dask_worker.address})


def test_an_unequipped_worker_gets_tasks_of_others_only(own_farm: Any) -> None:
    first, second = own_farm.scheduler.workers
    own_farm.client.run(unequip, workers=[first])
    own_farm.lab.wait_until(lambda: own_farm.plugin.recovery.unequipped)
    futures = own_farm.submit_all([own_farm.store(f"echo {number}") for number in range(30)])
    own_farm.client.gather(futures)
    holders = {ws.address for future in futures for ws in own_farm.scheduler.tasks[future.key].who_has}
    assert holders == {second}
    assert own_farm.client.submit(int, 7, workers=[first], key="theirs").result(60) == 7


def test_without_an_equipped_worker_tasks_wait_and_say_why(own_farm: Any) -> None:
    own_farm.client.run(unequip)
    own_farm.lab.wait_until(lambda: len(own_farm.plugin.recovery.unequipped) == 2)
    future = own_farm.submit(own_farm.store("echo x"))
    why = own_farm.lab.wait_until(lambda: own_farm.plugin.recovery.why_no_worker(future.key))
    assert "nothing is installed" in why
    assert own_farm.state(future.key) == "no-worker"
    assert own_farm.client.submit(int, 7, key="theirs").result(60) == 7
    events = [event for _, event in own_farm.client.get_events("seamless")]
    assert any(event["action"] == "worker-excluded" for event in events)
    own_farm.cluster.scale(3)
    assert own_farm.lab.bytes(future.result(60).value) == b"x\n"


def test_what_is_assigned_to_a_worker_that_turns_out_unequipped_goes_elsewhere(own_farm: Any) -> None:
    first, second = own_farm.scheduler.workers
    pipe = own_farm.lab.directory / "pipe"
    os.mkfifo(pipe)
    threads = [own_farm.client.submit(pipe.read_text, pure=False, workers=[first]) for _ in range(2)]
    futures = own_farm.submit_all([own_farm.store(f"echo {number}") for number in range(10)])
    waiting = {"processing", "memory"}
    own_farm.lab.wait_until(lambda: all(own_farm.state(future.key) in waiting for future in futures))
    own_farm.client.run(unequip, workers=[first])
    own_farm.client.gather(futures)
    assert {ws.address for future in futures for ws in own_farm.scheduler.tasks[future.key].who_has} == {
        second
    }
    pipe.write_text("")
    own_farm.client.gather(threads)


BARE = """
import sys

class Nowhere:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("seamless_dask", "hashserver"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Nowhere())
from distributed.cli.dask_worker import main
main()
"""


def test_a_worker_without_the_package_lives_and_works_for_others(own_farm: Any) -> None:
    """The mere message of a task of ours would be the end of it."""
    words = [sys.executable, "-c", BARE, own_farm.cluster.scheduler_address, "--no-nanny", "--name", "bare"]
    bare = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        [address] = own_farm.lab.wait_until(lambda: list(own_farm.plugin.recovery.unequipped))
        futures = own_farm.submit_all([own_farm.store(f"echo {number}") for number in range(30)])
        own_farm.client.gather(futures)
        assert "no usable seamless-dask" in own_farm.plugin.recovery.unequipped[address]
        assert own_farm.client.submit(int, 7, workers=[address], key="theirs").result(60) == 7
    finally:
        bare.kill()
        bare.wait()


def test_tasks_queue_while_a_worker_has_not_said_yet_that_it_is_equipped(own_farm: Any) -> None:
    """The others are not to get all of them for that."""
    own_farm.scheduler.WORKER_SATURATION = 1.0
    first, second = own_farm.scheduler.workers
    own_farm.plugin.recovery.equipped.discard(first)
    pipe = own_farm.lab.directory / "pipe"
    os.mkfifo(pipe)
    keys = [own_farm.store(f"read -r _ < {pipe}; echo {number}") for number in range(20)]
    futures = own_farm.submit_all(keys)
    states = {"processing": 2, "queued": 18}
    own_farm.lab.wait_until(lambda: own_farm.states(futures) == states)
    assert len(own_farm.scheduler.workers[second].processing) == 2
    own_farm.client.run(equip, workers=[first])
    own_farm.lab.wait_until(lambda: own_farm.states(futures) == {"processing": 4, "queued": 16})
    own_farm.client.cancel(futures)
