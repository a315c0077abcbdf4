"""Whatever Dask does with a task that no worker holds, it finds a state that it might have made itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from distributed import Client, fire_and_forget, wait

from tests.seamless_dask.scheduler.conftest import Desk, name_of


def checksum_of(handle: Any) -> str:
    return str(handle.checksum)


def heartbeats(desk: Desk) -> None:
    """Have each worker say that it is alive and how it spends its time; one that is not understood closes."""

    async def beat(dask_worker: Any) -> str:
        await dask_worker.heartbeat()
        return str(dask_worker.status.name)

    assert set(desk.client.run(beat).values()) == {"running"}


@pytest.fixture
def validating(desk: Desk) -> Desk:
    """Dask checks itself after each transition."""
    desk.scheduler.validate = True
    return desk


# ------------------------------------------------------------------------ as if it had run


def test_a_known_result_is_retried_and_no_worker_dies_of_it(validating: Desk) -> None:
    desk = validating
    desk.await_workers(2)
    step = desk.bash(f"echo x; {desk.lab.counted()}")
    known = desk.know(step)
    [future] = desk.submit(step)
    wait(future)
    for _ in range(3):
        desk.client.retry([future])
        assert future.result(60).checksum == known
        heartbeats(desk)
    assert len(desk.scheduler.workers) == 2
    assert desk.lab.ran() == []


def test_a_known_result_is_retried_with_no_worker_connected(validating: Desk) -> None:
    desk = validating
    step = desk.bash("echo x")
    known = desk.know(step)
    [future] = desk.submit(step)
    wait(future)
    desk.client.retry([future])
    assert future.result(60).checksum == known


def test_a_contested_result_is_retried_and_what_it_needs_is_found(validating: Desk) -> None:
    """Its task came without what it needs, of which one is known and one is not."""
    desk = validating
    desk.await_workers(1)
    first, second = desk.bash("echo first"), desk.bash(f"echo second; {desk.lab.counted()}")
    step = desk.bash("cat 0 1", first, second)
    [future] = desk.submit(step)
    assert future.result(60).read_bytes() == b"first\nsecond\n"
    assert step.checksum is not None
    future.release()
    desk.lab.wait_until(lambda: not desk.scheduler.tasks)
    [future] = desk.submit(step)
    wait(future)
    assert set(desk.scheduler.tasks) == {name_of(step)}
    desk.lab.context.database.contest(step.checksum)
    desk.lab.context.database.contest(second.key)
    desk.client.retry([future])
    assert future.result(60).read_bytes() == b"first\nsecond\n"
    assert desk.lab.ran() == ["ran", "ran"]


def test_what_is_known_belongs_to_a_span_and_to_a_computation(desk: Desk) -> None:
    step = desk.bash("echo x")
    desk.know(step)
    futures = desk.submit(step)
    wait(futures)
    group = desk.scheduler.tasks[name_of(step)].group
    spans: Any = desk.scheduler.extensions["spans"]
    assert group in spans.spans[group.span_id].groups
    assert group in desk.scheduler.computations[-1].groups
    assert group.states["memory"] == 1


def test_a_copy_lost_with_its_worker_is_looked_up_not_run(validating: Desk) -> None:
    desk = validating
    desk.await_workers(1)
    step = desk.bash(f"echo x; {desk.lab.counted()}")
    [future] = desk.submit(step)
    found = future.result(60)
    [address] = desk.scheduler.workers
    desk.cluster.sync(desk.scheduler.remove_worker, address, stimulus_id="test")
    assert future.result(60) == found
    assert list(desk.client.who_has(future)[future.key]) == [desk.scheduler.address]
    assert desk.lab.ran() == ["ran"]


def test_what_nobody_waits_for_is_let_go(desk: Desk) -> None:
    step = desk.bash("echo x")
    desk.know(step)
    [future] = desk.submit(step)
    fire_and_forget(future)
    future.release()
    desk.lab.wait_until(lambda: not desk.scheduler.tasks)
    assert not desk.plugin.holder.worker.has_what


def test_a_data_set_of_known_results_outlives_its_client(validating: Desk) -> None:
    desk = validating
    step = desk.bash("echo x")
    known = desk.know(step)
    with Client(desk.cluster.scheduler_address, set_as_default=False) as other:
        [future] = desk.submit(step, client=other)
        other.publish_dataset(step=future)
    assert desk.state(step) == "memory"
    assert desk.submit(step)[0].result(60).checksum == known
    desk.client.unpublish_dataset("step")
    desk.lab.wait_until(lambda: not desk.scheduler.tasks)


def test_a_restart_leaves_nothing(validating: Desk) -> None:
    desk = validating
    step = desk.bash("echo x")
    known = desk.know(step)
    futures = desk.submit(step)
    wait(futures)
    desk.client.restart(wait_for_workers=False)
    desk.lab.wait_until(lambda: futures[0].cancelled())
    assert not desk.scheduler.tasks
    assert not desk.plugin.holder.worker.has_what
    assert desk.submit(step)[0].result(60).checksum == known


# ------------------------------------------------------------------------ workers that go


def test_a_worker_is_retired_whose_results_another_one_has_too(validating: Desk) -> None:
    desk = validating
    desk.await_workers(2)
    [future] = desk.submit(desk.bash("echo x"))
    found = future.result(60)
    desk.client.replicate([future])
    first, second = desk.scheduler.workers
    assert list(desk.client.retire_workers([first])) == [first]
    desk.client.amm.run_once()
    assert list(desk.client.who_has(future)[future.key]) == [second]
    assert future.result(60) == found
    assert list(desk.client.retire_workers([second])) == [second]
    assert future.result(60) == found


def test_all_workers_that_have_a_result_are_retired_at_once(validating: Desk) -> None:
    desk = validating
    desk.await_workers(2)
    [future] = desk.submit(desk.bash("echo x"))
    found = future.result(60)
    desk.client.replicate([future])
    workers = list(desk.scheduler.workers)
    assert set(desk.client.retire_workers(workers)) == set(workers)
    desk.client.amm.run_once()
    assert future.result(60) == found


def test_the_memory_manager_goes_on_while_workers_are_asked_whether_they_can_go(validating: Desk) -> None:
    """What an adaptive cluster asks for again and again."""
    desk = validating
    desk.await_workers(2)
    futures = desk.submit(*[desk.bash(f"echo {number}") for number in range(6)])
    wait(futures)
    desk.client.replicate(futures[:3])
    for _ in range(3):
        desk.call(desk.scheduler.workers_to_close)
        desk.client.amm.run_once()
    assert len({future.result(60).checksum for future in futures}) == 6


def test_a_worker_at_the_end_of_its_life_leaves_its_results(validating: Desk) -> None:
    desk = validating
    desk.await_workers(1)
    [future] = desk.submit(desk.bash("echo x"))
    found = future.result(60)

    async def end(dask_worker: Any) -> None:
        # as at the end of `--lifetime`
        asyncio.get_running_loop().create_task(dask_worker.close_gracefully(reason="worker-lifetime-reached"))

    desk.client.run(end)
    desk.lab.wait_until(lambda: not desk.scheduler.workers)
    assert future.result(60) == found


def test_an_adaptive_cluster_shrinks_to_nothing_while_results_are_held(validating: Desk) -> None:
    desk = validating
    desk.cluster.adapt(minimum=0, maximum=2, interval="20 ms", wait_count=1)
    futures = desk.submit(*[desk.bash(f"echo {number}") for number in range(4)])
    wait(futures, timeout=60)
    desk.lab.wait_until(lambda: not desk.scheduler.workers)
    assert len({future.result(60).checksum for future in futures}) == 4


def test_a_result_that_comes_while_its_worker_is_retired_is_kept(validating: Desk) -> None:
    desk = validating
    desk.await_workers(1)
    gate = desk.lab.gate()
    [future] = desk.submit(desk.bash(f"{gate.command}; echo x; {desk.lab.counted()}"))
    gate.wait()
    [ws] = desk.scheduler.workers.values()

    def closing() -> None:
        from distributed.core import Status

        desk.scheduler.handle_worker_status_change(Status.closing_gracefully, ws, "test")

    desk.call(closing)
    gate.open()
    assert future.result(60).read_bytes() == b"x\n"
    desk.lab.wait_until(lambda: list(desk.client.who_has(future)[future.key]) == [desk.scheduler.address])
