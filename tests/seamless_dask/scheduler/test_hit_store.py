"""What is in memory without a worker: held by the scheduler, and like all else to Dask."""

from __future__ import annotations

import urllib.request
from collections.abc import Sized
from pathlib import Path
from typing import Any

import pytest
from distributed import wait

from seamless_dask.errors import ComputationFailed


def name_of(transformation: Any) -> str:
    return str(transformation.__dask_keys__()[0])


def checksum_of(handle: Any) -> str:
    return str(handle.checksum)


def test_a_value_is_copied_to_workers_as_others_are(desk: Any) -> None:
    desk.await_workers(2)
    step = desk.bash("echo x")
    known = desk.know(step)
    [future] = desk.submit(step)
    wait(future)
    desk.client.replicate([future])
    assert set(desk.client.who_has(future)[future.key]) == set(desk.scheduler.workers)
    desk.client.amm.run_once()
    desk.lab.wait_until(lambda: len(desk.client.who_has(future)[future.key]) == 1)
    assert future.result().checksum == known
    assert desk.client.submit(checksum_of, future).result(60) == known


def test_a_copy_that_is_lost_with_its_worker_is_found_again(desk: Any) -> None:
    desk.await_workers(1)
    step = desk.bash(f"echo x; {desk.lab.counted()}")
    known = desk.know(step)
    [future] = desk.submit(step)
    wait(future)
    desk.client.replicate([future])
    [address] = desk.scheduler.workers
    desk.cluster.scale(0)
    desk.lab.wait_until(lambda: address not in desk.scheduler.workers)
    desk.await_workers(1)
    assert future.result(60).checksum == known
    assert desk.lab.ran() == []


PAGES = (
    "status",
    "individual-task-stream",
    "individual-memory-by-key",
    "individual-workers",
    "graph",
    "groups",
)


def test_the_dashboard_shows_it(desk: Any) -> None:
    step = desk.bash("echo x")
    desk.know(step)
    futures = desk.submit(step)
    wait(futures)
    address = f"http://localhost:{desk.scheduler.http_server.port}"
    for path in (*PAGES, f"info/task/{name_of(step)}.html", "info/main/workers.html", "json/counts.json"):
        with urllib.request.urlopen(f"{address}/{path}", timeout=60) as answer:
            assert answer.status == 200


def test_nothing_is_kept_of_what_nobody_wants(desk: Any) -> None:
    steps = [desk.bash(f"echo {number}") for number in range(5)]
    for step in steps:
        desk.know(step)
    futures = desk.submit(*steps)
    wait(futures)
    for future in futures:
        future.release()
    desk.lab.wait_until(lambda: not desk.scheduler.tasks)
    assert not desk.plugin.holder.values
    assert not desk.plugin.holder.worker.has_what


def memories(desk: Any) -> dict[str, int]:
    """What the parts of the plugin keep: how much of it."""
    plugin = desk.plugin
    gate, cutoff = plugin.gate, plugin.cutoff
    parts = (
        plugin,
        gate,
        gate.order,
        cutoff,
        cutoff.lookups,
        cutoff.claims,
        plugin.recovery,
        plugin.statistics,
    )
    found = {f"{type(part).__name__}.{name}": value for part in parts for name, value in vars(part).items()}
    return {name: len(value) for name, value in found.items() if isinstance(value, Sized) and len(value)}


def test_nothing_is_kept_of_what_ran_failed_or_was_cancelled(desk: Any) -> None:
    desk.await_workers(1)
    desk.submit(desk.bash("echo warm"))[0].result(60)
    desk.lab.wait_until(lambda: not desk.scheduler.tasks)
    before = memories(desk)
    gate = desk.lab.gate()
    first = desk.bash("echo x")
    cancelled = desk.submit(desk.bash(gate.command))
    process = gate.wait()
    desk.client.cancel(cancelled)
    desk.lab.wait_until(lambda: not desk.lab.is_alive(process))
    futures = desk.submit(desk.bash("cat 0", first), desk.bash("exit 3"))
    with pytest.raises(ComputationFailed):
        futures[1].result(60)
    futures[0].result(60)
    for future in (*futures, *cancelled):
        future.release()
    desk.lab.wait_until(lambda: not desk.scheduler.tasks)
    assert memories(desk) == before | {"Statistics._failures": 1}


def test_thousands_of_hits_leave_nothing_behind(desk: Any) -> None:
    before = memories(desk)
    value = desk.lab.file(b"known")
    # the database is not what this is about
    desk.plugin.lookups._ask = lambda keys: {key: (key, value) for key in keys}
    [task] = dict(desk.bash("echo x").__dask_graph__()).values()
    numbers = [f"{number:064x}" for number in range(3000)]
    graph = {f"echo-tf-{number}": task.substitute({}, key=f"echo-tf-{number}") for number in numbers}
    futures = desk.client.get(graph, list(graph), sync=False)
    wait(futures, timeout=60)
    assert len(desk.plugin.holder.values) == len(desk.scheduler.tasks) == 3000
    futures.clear()
    desk.lab.wait_until(lambda: not desk.scheduler.tasks)
    assert memories(desk) == before
    assert not desk.plugin.holder.worker.has_what
    assert desk.plugin.holder.worker.nbytes == 0


# ------------------------------------------------------------------------ workers that go


def test_an_idle_worker_can_go_while_clients_hold_what_it_made(desk: Any) -> None:
    desk.await_workers(1)
    [future] = desk.submit(desk.bash(f"echo x; {desk.lab.counted()}"))
    found = future.result(60)
    [address] = desk.scheduler.workers
    assert desk.call(desk.scheduler.workers_to_close) == [address]
    assert desk.call(desk.scheduler.adaptive_target) == 0
    assert list(desk.client.who_has(future)[future.key]) == [desk.scheduler.address]
    desk.cluster.scale(0)
    desk.lab.wait_until(lambda: not desk.scheduler.workers)
    assert future.result(60) == found
    desk.await_workers(1)
    assert desk.client.submit(checksum_of, future).result(60) == found.checksum
    assert desk.lab.ran() == ["ran"]


@pytest.mark.parametrize("how", ["names", "workers", "by a client"])
def test_the_last_worker_is_retired_and_what_it_made_is_kept(desk: Any, how: str) -> None:
    desk.await_workers(1)
    [future] = desk.submit(desk.bash("echo x"))
    found = future.result(60)
    desk.client.replicate(future)
    [ws] = desk.scheduler.workers.values()
    if how == "by a client":
        desk.client.retire_workers([ws.address])
    else:
        who = {"names": [ws.name]} if how == "names" else {"workers": [ws.address]}
        desk.cluster.sync(desk.scheduler.retire_workers, **who)
    desk.lab.wait_until(lambda: not desk.scheduler.workers)
    assert future.result(60) == found


def test_what_others_wait_for_is_left_where_it_is(desk: Any) -> None:
    """They are going to run there, beside the bytes."""
    desk.await_workers(1)
    first = desk.bash("echo x")
    second = desk.bash("cat 0; sleep 0", first, resources={"unobtainium": 1})
    futures = desk.submit(first, second)
    futures[0].result(60)
    desk.call(desk.scheduler.workers_to_close)
    assert list(desk.client.who_has(futures[0])[name_of(first)]) == list(desk.scheduler.workers)


# ------------------------------------------------------------------------ what else may be asked of Dask


def test_what_clients_may_ask_is_answered(desk: Any, tmp_path: Path) -> None:
    desk.await_workers(2)
    steps = [desk.bash(f"echo {number}") for number in range(5)]
    for step in steps[1:]:
        desk.know(step)
    client, futures = desk.client, desk.submit(*steps)
    wait(futures, timeout=60)
    client.rebalance()
    client.rebalance(futures)
    assert sum(client.nbytes(summary=False).values()) > 0
    assert set(client.has_what()) == set(client.scheduler_info()["workers"]) == set(desk.scheduler.workers)
    assert set(client.who_has()) == set(map(name_of, steps))
    for ask in (client.processing, client.call_stack, client.profile, client.get_task_stream, client.ncores):
        ask()
    assert client.story(futures[0].key)
    client.dump_cluster_state(str(tmp_path / "dump"))
    client.amm.run_once()
    client.retry(futures)
    assert len(client.gather(futures)) == len(client.gather(futures, direct=True)) == 5
    client.cancel(futures)
    desk.lab.wait_until(lambda: not desk.scheduler.tasks)
    client.restart(wait_for_workers=False)
