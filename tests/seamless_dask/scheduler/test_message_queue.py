"""What clients say is acted upon in the order in which they said it, though look-ups take time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from distributed import Client, Variable, fire_and_forget, wait


def name_of(transformation: Any) -> str:
    return str(transformation.__dask_keys__()[0])


def test_a_release_does_not_overtake_its_graph(desk: Any) -> None:
    step = desk.bash("echo x")
    with desk.slow_database():
        futures = desk.submit(step)
        desk.lab.wait_until(lambda: desk.asked)
        for future in futures:
            future.release()
        desk.client.sync(desk.client.scheduler_comm.comm.write, [])  # what was said before has been sent
    desk.lab.wait_until(lambda: not desk.plugin.gate.order.queues)
    assert not desk.scheduler.tasks


def test_what_is_fired_and_forgotten_runs_when_its_client_has_left(desk: Any) -> None:
    desk.await_workers(1)
    step = desk.bash(f"echo x; {desk.lab.counted()}")
    with desk.slow_database():
        with Client(desk.cluster.scheduler_address, set_as_default=False) as client:
            fire_and_forget(desk.submit(step, client=client))
        desk.lab.wait_until(lambda: len(desk.plugin.gate.order.queues.get(client.id, ())) >= 3)
    desk.lab.wait_until(desk.lab.ran)
    desk.lab.wait_until(lambda: not desk.scheduler.tasks)
    assert client.id not in desk.scheduler.clients


def test_a_client_that_leaves_takes_along_what_it_asked_for(desk: Any) -> None:
    step = desk.bash("echo x")
    with desk.slow_database():
        with Client(desk.cluster.scheduler_address, set_as_default=False) as client:
            futures = desk.submit(step, client=client)
            desk.lab.wait_until(lambda: desk.asked)
        assert client.id in desk.scheduler.clients
    desk.lab.wait_until(lambda: client.id not in desk.scheduler.clients)
    assert not desk.scheduler.tasks
    del futures


def test_what_has_not_passed_yet_may_be_published(desk: Any) -> None:
    step = desk.bash("echo x")
    known = desk.know(step)
    with ThreadPoolExecutor() as threads:
        with desk.slow_database():
            [future] = desk.submit(step)
            desk.lab.wait_until(lambda: desk.asked)
            acts = [
                threads.submit(desk.client.publish_dataset, future, name="found"),
                threads.submit(Variable("found").set, future),
            ]
            desk.lab.wait_until(lambda: len(desk.plugin.gate.order.queues[desk.client.id]) == 2)
        for act in acts:
            act.result(60)
    assert future.result(60).checksum == known
    wanted_by = {cs.client_key for cs in desk.scheduler.tasks[name_of(step)].who_wants}
    assert wanted_by == {desk.client.id, "variable-found", "published-found"}


def test_a_restart_forgets_what_still_waits_for_a_look_up(desk: Any) -> None:
    step = desk.bash("echo x")
    with desk.slow_database():
        desk.submit(step)
        desk.lab.wait_until(lambda: desk.asked)
        desk.client.restart(wait_for_workers=False)
    desk.lab.wait_until(lambda: not desk.plugin.gate.order.queues)
    assert not desk.scheduler.tasks
    known = desk.know(step)
    assert desk.submit(step)[0].result(60).checksum == known


def test_a_scheduler_is_not_idle_while_it_looks_up(desk: Any) -> None:
    step = desk.bash("echo x")
    with desk.slow_database():
        futures = desk.submit(step)
        desk.lab.wait_until(lambda: desk.asked)
        desk.call(desk.scheduler.check_idle)
        assert desk.call(desk.scheduler.check_idle) is None
    desk.await_state(step, "no-worker", "queued")
    assert desk.scheduler._active_graph_updates == 0
    del futures


def test_what_a_client_wants_again_is_not_released_later(desk: Any) -> None:
    step, other = desk.bash("echo x"), desk.bash("echo y")
    known = desk.know(step)
    desk.know(other)
    [future] = desk.submit(step)
    wait(future)
    variable = Variable("kept", client=desk.client)
    variable.set(future)
    with desk.slow_database():
        futures = desk.submit(other)
        desk.lab.wait_until(lambda: len(desk.asked) == 2)
        future.release()
        desk.lab.wait_until(lambda: len(desk.plugin.gate.order.queues[desk.client.id]) == 2)
        again = variable.get()
    wait(futures)
    variable.delete()
    desk.lab.wait_until(lambda: not desk.plugin.gate.order.queues)
    wanted_by = desk.scheduler.tasks[name_of(step)].who_wants
    desk.lab.wait_until(lambda: [cs.client_key for cs in wanted_by] == [desk.client.id])
    assert again.result(60).checksum == known


def test_a_client_that_comes_again_in_mid_look_up_has_left_nothing_behind(desk: Any) -> None:
    held, step = desk.bash("echo held"), desk.bash("echo x")
    known = desk.know(held)
    with Client(desk.cluster.scheduler_address, set_as_default=False) as client:
        futures = desk.submit(held, client=client)
        wait(futures)
        with desk.slow_database():
            futures += desk.submit(step, client=client)
            desk.lab.wait_until(lambda: len(desk.asked) == 2)
            before = desk.scheduler.clients[client.id]
            client.scheduler_comm.comm.abort()
            desk.lab.wait_until(lambda: desk.scheduler.clients.get(client.id, before) is not before)
            desk.call(desk.plugin.gate.order.restart)  # which revives nothing that was dropped
        desk.lab.wait_until(lambda: not desk.plugin.gate.order.queues)
        assert client.id in desk.scheduler.clients
        assert not desk.scheduler.tasks
        assert desk.submit(held, client=client)[0].result(60).checksum == known


def test_graphs_that_overlap_are_one(desk: Any) -> None:
    first = [desk.bash(f"echo {number}") for number in range(12)]
    second = [desk.bash(f"cat 0; {desk.lab.counted(f'ran{number}')}", tf) for number, tf in enumerate(first)]
    for step in (*first[::2], *second[::3]):
        desk.know(step)
    with Client(desk.cluster.scheduler_address, set_as_default=False) as other:
        with desk.slow_database():
            one = desk.submit(*second[:8])
            two = desk.submit(*second[4:], *first[2:6], client=other)
            desk.lab.wait_until(lambda: len(desk.plugin.gate.order.queues) == 2)
        desk.await_workers(2)
        desk.client.gather(one)
        other.gather(two)
        assert sorted(desk.lab.ran()) == sorted(f"ran{number}" for number in range(12) if number % 3)
