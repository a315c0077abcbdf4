"""Workers that cannot run transformations, or whose systems are at fault, do not spoil the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cloudpickle
import pytest
from distributed import Client, LocalCluster
from distributed.worker_state_machine import RemoveReplicasEvent

from seamless_dask import File
from seamless_dask.context import Context
from seamless_dask.errors import NoRoomThere, WorkerLost
from seamless_dask.graph import collection, handles
from seamless_dask.model.options import Options

PROCESSES = False

# workers do not have this module
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def options(retries: int) -> Options:
    return Options(isolation="none", retries=retries)


# ------------------------------------------------------------------------ faults of a system


def break_disk(dask_worker: Any) -> None:
    """From now on nothing runs on this worker, as on a full disk."""
    from seamless_dask import execution
    from seamless_dask.graph import perform

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    perform.FIRST_PAUSE = 0.0
    execution.run = full  # type: ignore[assignment]


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


def test_full_disks_everywhere_are_tried_once_each_on_two_workers(own_farm: Any) -> None:
    own_farm.client.run(break_disk)
    with pytest.raises(NoRoomThere) as caught:
        own_farm.run(own_farm.store("echo x"), options(retries=5))
    text = str(caught.value)
    assert "given up after 2 attempts" in text
    assert text.count("No space left on device") == 2
    assert all(address in text for address in own_farm.scheduler.workers)


def test_the_only_worker_with_a_full_disk_is_tried_once(own_farm: Any) -> None:
    first, _ = own_farm.scheduler.workers
    own_farm.client.run(break_disk, workers=[first])
    graph = collection.build(own_farm.lab.context, own_farm.store("echo x"), options(retries=5))
    assert isinstance(graph, collection.Graph)
    future = own_farm.client.get(graph.tasks, graph.key, sync=False, workers=[first])
    with pytest.raises(NoRoomThere) as caught:
        future.result(60)
    text = str(caught.value)
    assert "given up after one attempt" in text
    assert text.count("No space left on device") == 1
    assert "\n" not in text


def test_a_worker_that_can_come_is_waited_for(own_farm: Any) -> None:
    own_farm.cluster.scale(1)
    own_farm.lab.wait_until(lambda: len(own_farm.scheduler.workers) == 1)
    own_farm.client.run(break_disk)
    own_farm.plugin.recovery.expects_more = lambda: True
    future = own_farm.submit(own_farm.store("echo x"))
    own_farm.lab.wait_until(lambda: {ts.key for ts in own_farm.scheduler.unrunnable} == {future.key})
    own_farm.cluster.scale(2)
    assert own_farm.lab.bytes(future.result(60).value) == b"x\n"


def test_not_by_a_task_that_may_go_nowhere_else(own_farm: Any) -> None:
    first, _ = own_farm.scheduler.workers
    own_farm.client.run(break_disk, workers=[first])
    own_farm.plugin.recovery.expects_more = lambda: True
    graph = collection.build(own_farm.lab.context, own_farm.store("echo x"), options(retries=5))
    assert isinstance(graph, collection.Graph)
    future = own_farm.client.get(graph.tasks, graph.key, sync=False, workers=[first])
    with pytest.raises(NoRoomThere, match="given up after one attempt"):
        future.result(60)


# ------------------------------------------------------------------------ workers that cannot


async def unequip(dask_worker: Any) -> None:
    await dask_worker.plugins["seamless"].teardown(dask_worker)
    event = {"action": "unequipped", "worker": dask_worker.address, "message": "nothing is installed"}
    dask_worker.log_event("seamless", event)


def equip(dask_worker: Any) -> None:
    dask_worker.log_event("seamless", {"action": "equipped", "worker": dask_worker.address})


def test_an_unequipped_worker_gets_tasks_of_others_only(quick_farm: Any) -> None:
    first, second = quick_farm.scheduler.workers
    quick_farm.client.run(unequip, workers=[first])
    quick_farm.lab.wait_until(lambda: quick_farm.plugin.recovery.unequipped)
    futures = quick_farm.submit_all([quick_farm.store(f"echo {number}") for number in range(30)])
    quick_farm.client.gather(futures)
    holders = {ws.address for future in futures for ws in quick_farm.scheduler.tasks[future.key].who_has}
    assert holders == {second}
    assert quick_farm.client.submit(int, 7, workers=[first], key="theirs").result(60) == 7


def test_without_an_equipped_worker_tasks_wait_and_say_why(quick_farm: Any) -> None:
    quick_farm.client.run(unequip)
    quick_farm.lab.wait_until(lambda: len(quick_farm.plugin.recovery.unequipped) == 2)
    future = quick_farm.submit(quick_farm.store("echo x"))
    why = quick_farm.lab.wait_until(lambda: quick_farm.plugin.recovery.why_no_worker(future.key))
    assert "nothing is installed" in why
    assert quick_farm.state(future.key) == "no-worker"
    assert quick_farm.client.submit(int, 7, key="theirs").result(60) == 7
    events = [event for _, event in quick_farm.client.get_events("seamless")]
    assert any(event["action"] == "worker-excluded" for event in events)
    quick_farm.cluster.scale(3)
    assert quick_farm.lab.bytes(future.result(60).value) == b"x\n"


def test_what_is_assigned_to_a_worker_that_turns_out_unequipped_goes_elsewhere(quick_farm: Any) -> None:
    first, second = quick_farm.scheduler.workers
    pipe = quick_farm.lab.directory / "pipe"
    os.mkfifo(pipe)
    threads = [quick_farm.client.submit(pipe.read_text, pure=False, workers=[first]) for _ in range(2)]
    futures = quick_farm.submit_all([quick_farm.store(f"echo {number}") for number in range(10)])
    waiting = {"processing", "memory"}
    quick_farm.lab.wait_until(lambda: all(quick_farm.state(future.key) in waiting for future in futures))
    quick_farm.client.run(unequip, workers=[first])
    quick_farm.client.gather(futures)
    assert {ws.address for future in futures for ws in quick_farm.scheduler.tasks[future.key].who_has} == {
        second
    }
    pipe.write_text("")
    quick_farm.client.gather(threads)


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


@contextmanager
def without_package(cluster: LocalCluster) -> Iterator[str]:
    """Have a worker that lacks this package beside those of a cluster; its address."""
    from ..conftest import wait_until  # here, since that worker imports this file

    words = [sys.executable, "-c", BARE, cluster.scheduler_address, "--no-nanny", "--name", "bare"]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        [address] = wait_until(lambda: list(cluster.scheduler.plugins["seamless"].recovery.unequipped))
        yield address
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def shared_bare(shared: tuple[LocalCluster, Client, Context]) -> Iterator[str]:
    with without_package(shared[0]) as address:
        yield address


@pytest.fixture
def bare(farm: Any, shared_bare: str) -> Iterator[str]:
    """The address of a worker that lacks this package, beside two that have it."""
    yield shared_bare
    # it is there yet, and works
    assert farm.client.submit(int, 7, workers=[shared_bare], pure=False).result(60) == 7


def test_a_worker_without_the_package_lives_and_works_for_others(farm: Any, bare: str) -> None:
    """The mere message of a task of ours would be the end of it."""
    futures = farm.submit_all([farm.store(f"echo {number}") for number in range(30)])
    farm.client.gather(futures)
    assert "no usable seamless-dask" in farm.plugin.recovery.unequipped[bare]


def test_a_worker_without_the_package_gets_no_tasks_that_read_our_results(farm: Any, bare: str) -> None:
    ran = farm.submit(farm.store("echo x"))
    ran.result(60)
    readers = [farm.client.submit(str, ran, pure=False) for _ in range(20)]
    assert all(farm.client.gather(readers))
    assert bare not in {address for found in farm.client.who_has(readers).values() for address in found}


class Holder:
    def __init__(self, value: object) -> None:
        self.value = value


@pytest.mark.parametrize("wrap", [lambda one: [one], lambda one: {"x": (one, 1)}, Holder])
def test_a_worker_without_the_package_gets_no_tasks_with_handles_inside_their_arguments(
    farm: Any, bare: str, wrap: Any
) -> None:
    """Their message would be the end of it."""
    value = wrap(handles.of("file", "a" * 64))
    readers = [farm.client.submit(id, value, pure=False) for _ in range(20)]
    farm.client.gather(readers)
    assert bare not in {address for found in farm.client.who_has(readers).values() for address in found}
    pinned = farm.client.submit(id, value, pure=False, workers=[bare])
    why = farm.lab.wait_until(lambda: farm.plugin.recovery.why_no_worker(pinned.key))
    assert "no usable seamless-dask" in why
    pinned.cancel()
    assert bare in farm.scheduler.workers


@pytest.mark.filterwarnings("always")
def test_what_is_pinned_to_a_worker_without_the_package_says_why_it_waits(
    farm: Any, bare: str, recwarn: pytest.WarningsRecorder
) -> None:
    key = farm.store("echo x")
    graph = collection.build(farm.lab.context, key, options(0))
    assert isinstance(graph, collection.Graph)
    future = farm.client.get(graph.tasks, graph.key, sync=False, workers=[bare])
    why = farm.lab.wait_until(lambda: farm.plugin.recovery.why_no_worker(future.key))
    assert f"no worker that may have it can run transformations, or read their results ({bare}: " in why
    told = f"{future.key} waits: {why}"
    farm.lab.wait_until(lambda: told in [str(one.message) for one in recwarn])
    future.cancel()
    ran = farm.submit(farm.store("echo y"))
    ran.result(60)
    reader = farm.client.submit(str, ran, workers=[bare])
    farm.lab.wait_until(lambda: f"{reader.key} waits: {why}" in [str(one.message) for one in recwarn])
    reader.cancel()


def a_file() -> File:
    return File(checksum="a" * 64)


def read(value: Any) -> Any:
    return str(value[0].checksum)


def is_file() -> bool:
    return isinstance(7, File)


def addresses(farm: Any, futures: list[Any]) -> set[str]:
    """Those of all workers that hold something."""
    return {address for found in farm.client.who_has(futures).values() for address in found}


def test_what_holds_handles_is_copied_to_all_workers(farm: Any, bare: str) -> None:
    """Dask would try for ever to copy what one of them cannot unpickle."""
    [data] = farm.client.scatter([[a_file()]], hash=False, broadcast=True)
    ran = farm.submit(farm.store("echo x"))
    found = ran.result(60)
    farm.client.replicate([ran])
    for future in (data, ran):
        farm.lab.wait_until(lambda future=future: addresses(farm, [future]) == set(farm.scheduler.workers))
    equipped = list(farm.plugin.recovery.equipped)
    farm.client.run(forget, [data.key, ran.key], workers=equipped)
    farm.lab.wait_until(lambda: addresses(farm, [data, ran]) == {bare})
    assert farm.client.gather([data, ran]) == [[a_file()], found]


def forget(keys: list[str], dask_worker: Any) -> None:
    dask_worker.handle_stimulus(RemoveReplicasEvent(keys=keys, stimulus_id="test"))


def test_what_holds_handles_is_moved_to_a_worker_without_the_package(quick_farm: Any) -> None:
    with without_package(quick_farm.cluster) as bare:
        data = quick_farm.client.scatter([[a_file(), number] for number in range(20)])
        quick_farm.client.rebalance()
        assert bare in addresses(quick_farm, data)
        quick_farm.client.retire_workers(list(quick_farm.plugin.recovery.equipped))
        assert addresses(quick_farm, data) == {bare}
        assert quick_farm.client.gather(data) == [[a_file(), number] for number in range(20)]


def test_data_sets_with_handles_are_read_by_whoever_has_the_package(farm: Any, bare: str) -> None:
    [future] = farm.client.scatter([[a_file()]], hash=False, workers=[bare])
    farm.client.publish_dataset(value=[a_file()], future=future)
    assert farm.client.get_dataset("value") == [a_file()]
    assert farm.client.get_dataset("future").result(60) == [a_file()]


def test_what_reads_a_handle_out_of_sight_runs_where_that_can_be(farm: Any, bare: str) -> None:
    data = farm.client.scatter([[a_file(), number] for number in range(10)], workers=[bare])
    readers = [farm.client.submit(read, one, pure=False) for one in data]
    assert farm.client.gather(readers) == ["a" * 64] * 10
    assert bare not in addresses(farm, readers)


def test_where_that_can_be_nowhere_it_fails_and_says_why(farm: Any, bare: str) -> None:
    equipped = list(farm.plugin.recovery.equipped)
    [data] = farm.client.scatter([[a_file(), 7]], hash=False, workers=equipped)
    assert farm.client.submit(len, data, workers=[bare]).result(60) == 2
    reader = farm.client.submit(read, data, workers=[bare])
    with pytest.raises(ModuleNotFoundError, match=r"cannot be used on this worker: .* install seamless-dask"):
        reader.result(60)


@pytest.mark.parametrize("mentioned", [lambda: is_file, lambda: a_file, lambda: a_file().read_text])
def test_a_function_that_mentions_the_package_costs_nobody_a_worker(
    farm: Any, bare: str, mentioned: Any
) -> None:
    pinned = farm.client.submit(mentioned(), workers=[bare], pure=False)
    with pytest.raises(ModuleNotFoundError, match="cannot be used on this worker"):
        pinned.result(60)
    assert bare in farm.scheduler.workers


@pytest.mark.parametrize("read", [lambda ran: (str, ran), lambda ran: (id, [a_file()])])
def test_a_worker_without_the_package_that_is_only_preferred_is_passed_over(
    farm: Any, bare: str, read: Any
) -> None:
    ran = farm.submit(farm.store("echo x"))
    reader = farm.client.submit(*read(ran), workers=[bare], allow_other_workers=True, pure=False)
    reader.result(60)
    assert bare not in addresses(farm, [reader])


def test_where_no_worker_has_the_package_a_preference_changes_nothing(quick_farm: Any) -> None:
    """Dask gives such a task to anybody; it came back at once, for ever."""
    quick_farm.client.run(unequip)
    quick_farm.lab.wait_until(lambda: len(quick_farm.plugin.recovery.unequipped) == 2)
    first, _ = quick_farm.scheduler.workers
    reader = quick_farm.client.submit(id, [a_file()], workers=[first], allow_other_workers=True)
    assert quick_farm.lab.wait_until(lambda: quick_farm.plugin.recovery.why_no_worker(reader.key))
    quick_farm.client.run(equip)
    reader.result(60)


def test_a_task_of_ours_that_comes_to_a_worker_without_the_package_goes_elsewhere(
    farm: Any, bare: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it was given away before the worker had said so."""
    retries, scheduler = farm.plugin.recovery, farm.scheduler
    given: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(retries, "is_misled", lambda ts: given.append(ts.processing_on.address))
        patched.setattr(scheduler, "valid_workers", lambda _: {scheduler.workers[bare]})
        future = farm.submit(farm.store("echo x"))
        farm.lab.wait_until(lambda: given)
    assert farm.lab.bytes(future.result(60).value) == b"x\n"
    assert set(given) == {bare}


def test_tasks_queue_while_a_worker_has_not_said_yet_that_it_is_equipped(quick_farm: Any) -> None:
    """The others are not to get all of them for that."""
    quick_farm.scheduler.WORKER_SATURATION = 1.0
    first, second = quick_farm.scheduler.workers
    quick_farm.plugin.recovery.equipped.discard(first)
    pipe = quick_farm.lab.directory / "pipe"
    os.mkfifo(pipe)
    keys = [quick_farm.store(f"read -r _ < {pipe}; echo {number}") for number in range(20)]
    futures = quick_farm.submit_all(keys)
    states = {"processing": 2, "queued": 18}
    quick_farm.lab.wait_until(lambda: quick_farm.states(futures) == states)
    assert len(quick_farm.scheduler.workers[second].processing) == 2
    quick_farm.client.run(equip, workers=[first])
    quick_farm.lab.wait_until(lambda: quick_farm.states(futures) == {"processing": 4, "queued": 16})
    quick_farm.client.cancel(futures)
