"""What is known is complete before Dask sees it; what is not goes on as it came."""

from __future__ import annotations

import pickle
from typing import Any

import dask
import pytest
from dask._task_spec import Task, TaskRef
from distributed import Client, as_completed, get_client, wait

from hashserver.checksum import Checksum
from seamless_dask.errors import ComputationFailed
from seamless_dask.graph import handles


def name_of(transformation: Any) -> str:
    return str(transformation.__dask_keys__()[0])


def increment(number: int) -> int:
    return number + 1


def checksum_of(handle: Any) -> str:
    return str(handle.checksum)


def get_in_a_task(pickled: bytes, key: str) -> str:
    return checksum_of(get_client().get(pickle.loads(pickled), key))


@pytest.fixture
def other(desk: Any) -> Any:
    """A second client."""
    with Client(desk.cluster.scheduler_address, set_as_default=False) as client:
        yield client


# ------------------------------------------------------------------------ hits


def test_hits_are_complete_with_no_worker_connected(desk: Any) -> None:
    steps = [desk.bash(f"echo {number}") for number in range(20)]
    known = [desk.know(step, b"%d" % number) for number, step in enumerate(steps)]
    found = desk.client.gather(desk.submit(*steps))
    assert [handle.checksum for handle in found] == known
    assert [handle.read_bytes() for handle in found] == [b"%d" % number for number in range(20)]
    assert desk.asked == [20]


def test_what_only_a_hit_needs_never_comes_into_being(desk: Any) -> None:
    step = desk.bash("echo x")
    for number in range(10):
        step = desk.bash(f"cat 0; echo {number}", step)
    known = desk.know(step)
    [future] = desk.submit(step)
    assert future.result().checksum == known
    assert set(desk.scheduler.tasks) == {name_of(step)}
    assert desk.asked == [1]
    assert desk.plugin.statistics.pruned == 10


def test_a_hit_that_others_need_is_sent_with_them(desk: Any) -> None:
    """The scheduler's state is what Dask makes it; no worker fetches from the scheduler."""
    first = desk.bash("echo x")
    second = desk.bash("cat 0; echo y", first)
    desk.know(first)
    futures = desk.submit(second)
    desk.await_state(second, "no-worker", "queued")
    assert desk.state(first) == "memory"
    [needed] = desk.scheduler.tasks[name_of(second)].dependencies
    assert needed is desk.scheduler.tasks[name_of(first)]
    desk.await_workers(1)
    assert futures[0].result(60).read_bytes() == b"known\ny\n"
    [worker] = desk.cluster.workers.values()
    assert name_of(first) not in {key for key, *_ in worker.state.story(name_of(first))}
    assert desk.state(first) == "released"


def test_a_collection_is_computed_by_a_stock_client(desk: Any) -> None:
    step = desk.bash("echo x")
    known = desk.know(step)
    assert [handle.checksum for handle in dask.compute(step, step)] == [known, known]
    assert desk.client.compute(step).result().checksum == known
    assert desk.client.persist(step).compute().checksum == known


def test_a_directory_is_handed_over_without_being_looked_into(desk: Any) -> None:
    first = desk.bash("mkdir d; echo x > d/a", results="d")
    second = desk.bash("cat 0/a", first)
    value = Checksum("f" * 64)  # it is nowhere
    desk.lab.context.database.put(first.key, "directory", value)
    futures = desk.submit(second)
    desk.await_state(second, "no-worker", "queued")
    [found] = desk.client.gather(desk.submit(first))
    assert isinstance(found, handles.Directory)
    assert found.checksum == value
    del futures


def test_hits_make_no_cluster_grow(desk: Any) -> None:
    steps = [desk.bash(f"echo {number}") for number in range(5)]
    for step in steps:
        desk.know(step)
    futures = desk.submit(*steps)
    wait(futures)
    assert desk.call(desk.scheduler.adaptive_target) == 0
    missing = desk.bash("echo missing")
    futures += desk.submit(missing)
    desk.await_state(missing, "no-worker", "queued")
    assert desk.call(desk.scheduler.adaptive_target) == 1
    del futures


def test_one_that_is_to_run_whatever_is_known_is_not_looked_up(desk: Any) -> None:
    step = desk.bash("echo x", fresh=True)
    desk.know(step)
    futures = desk.submit(step)
    desk.await_state(step, "no-worker", "queued")
    assert desk.asked == []
    del futures


# ------------------------------------------------------------------------ several who ask


def test_one_key_asked_for_by_two_clients_is_one_task(desk: Any, other: Client) -> None:
    step = desk.bash(f"echo x; {desk.lab.counted()}")
    futures = [*desk.submit(step), *desk.submit(step, client=other)]
    desk.await_state(step, "no-worker", "queued")
    desk.lab.wait_until(lambda: len(desk.scheduler.tasks[name_of(step)].who_wants) == 2)
    desk.await_workers(1)
    assert len({future.result(60).checksum for future in futures}) == 1
    assert desk.lab.ran() == ["ran"]


def test_many_submits_share_look_ups(desk: Any) -> None:
    steps = [desk.bash(f"echo {number}") for number in range(100)]
    for step in steps:
        desk.know(step)
    with desk.slow_database():
        futures = desk.submit(steps[0])
        desk.lab.wait_until(lambda: desk.asked)
        futures += [desk.submit(step)[0] for step in steps[1:]]
        desk.lab.wait_until(lambda: len(desk.plugin.gate.order.queues[desk.client.id]) == 100)
    wait(futures, timeout=60)
    assert len(desk.asked) <= 4
    assert sum(desk.asked) == 100


def test_clients_do_not_wait_for_each_other(desk: Any, other: Client) -> None:
    missing, known = desk.bash("echo missing"), desk.bash("echo x")
    desk.know(known)
    futures = desk.submit(known)
    desk.client.gather(futures)
    with desk.slow_database():
        futures += desk.submit(missing, client=other)
        desk.lab.wait_until(lambda: len(desk.asked) == 2)
        assert desk.submit(known)[0].result(60)  # in memory: nobody need be asked
    del futures


# ------------------------------------------------------------------------ late hits


def test_one_that_has_no_worker_is_completed_when_its_result_has_appeared(desk: Any, other: Client) -> None:
    step = desk.bash("echo x")
    futures = desk.submit(step)
    desk.await_state(step, "no-worker", "queued")
    known = desk.know(step)
    futures += desk.submit(step, client=other)
    assert [future.result(60).checksum for future in futures] == [known, known]
    assert desk.plugin.statistics.late_hits == 1


def test_one_that_waits_for_others_is_completed_too_and_they_are_let_go(desk: Any, other: Client) -> None:
    first = desk.bash("echo x")
    second = desk.bash("cat 0", first)
    futures = desk.submit(second)
    desk.await_state(second, "waiting")
    known = desk.know(second)
    futures += desk.submit(second, client=other)
    assert [future.result(60).checksum for future in futures] == [known, known]
    desk.await_state(first, "released", None)
    assert desk.call(desk.scheduler.adaptive_target) == 0


def test_what_others_wait_for_is_completed_and_they_go_on(desk: Any, other: Client) -> None:
    first = desk.bash("echo x")
    second = desk.bash("cat 0", first)
    futures = desk.submit(second)
    desk.await_state(second, "waiting")
    desk.know(first)
    futures += desk.submit(second, client=other)
    desk.await_state(second, "no-worker", "queued")
    desk.await_workers(1)
    assert [future.result(60).read_bytes() for future in futures] == [b"known\n", b"known\n"]


def test_one_in_dasks_queue_is_completed(desk: Any, other: Client) -> None:
    desk.await_workers(1)
    gate = desk.lab.gate()
    steps = [desk.bash(f"{gate.command}; echo {number}") for number in range(5)]
    futures = desk.submit(*steps)
    gate.wait()
    queued = [step for step in steps if desk.state(step) == "queued"]
    known = desk.know(queued[-1])
    assert desk.submit(queued[-1], client=other)[0].result(60).checksum == known
    assert desk.state(queued[0]) == "queued"
    for future in futures:
        future.cancel()


def test_a_failed_one_is_completed_for_all_who_asked(desk: Any, other: Client) -> None:
    desk.await_workers(1)
    first = desk.bash("false")
    second = desk.bash("cat 0", first)
    futures = desk.submit(first, second)
    with pytest.raises(ComputationFailed):
        futures[1].result(60)
    known = desk.know(first)
    assert desk.submit(first, client=other)[0].result(60).checksum == known
    desk.lab.wait_until(lambda: futures[1].status == "finished")  # what failed because of it goes on
    assert futures[0].result(60).checksum == known
    assert futures[1].result(60).read_bytes() == b"known\n"


def test_what_failed_for_two_reasons_stays_failed_without_one_of_them(desk: Any, other: Client) -> None:
    desk.await_workers(1)
    first, second = desk.bash("false"), desk.bash("exit 3")
    both = desk.bash("cat 0 1", first, second)
    futures = desk.submit(first, second, both)
    wait(futures)
    desk.know(first)
    [late] = desk.submit(first, client=other)
    late.result(60)
    assert [desk.state(step) for step in (first, second, both)] == ["memory", "erred", "erred"]
    desk.know(second)
    desk.submit(second, client=other)[0].result(60)
    assert futures[2].result(60).read_bytes() == b"known\nknown\n"


def test_a_failure_is_no_result(desk: Any, other: Client) -> None:
    desk.await_workers(1)
    step = desk.bash(f"test -e {desk.lab.directory}/ok")
    futures = desk.submit(step)
    with pytest.raises(ComputationFailed):
        futures[0].result(60)
    (desk.lab.directory / "ok").touch()
    assert desk.submit(step, client=other)[0].result(60)


# ------------------------------------------------------------------------ among other tasks


def test_other_tasks_go_on_as_they_are(desk: Any) -> None:
    desk.await_workers(1)
    step = desk.bash("echo x")
    known = desk.know(step)
    graph: dict[str, Any] = dict(step.__dask_graph__())
    graph["a"] = Task("a", increment, 1)
    graph["b"] = Task("b", checksum_of, TaskRef(name_of(step)))
    graph["c"] = Task("c", lambda *found: found, TaskRef("a"), TaskRef("b"), TaskRef(name_of(step)))
    number, checksum, handle = desk.client.get(graph, "c")
    assert (number, checksum, handle.checksum) == (2, known, known)


def test_a_graph_without_transformations_asks_nobody(desk: Any) -> None:
    desk.await_workers(1)
    assert desk.client.submit(increment, 1).result(60) == 2
    assert desk.client.gather(desk.client.map(increment, range(5))) == [1, 2, 3, 4, 5]
    assert desk.asked == []


def test_a_graph_without_transformations_goes_to_dask_as_it_came(desk: Any) -> None:
    passed = []
    update_graph = desk.plugin.gate._update_graph
    arrived = desk.scheduler.stream_handlers["update-graph"]

    async def spying(**arguments: Any) -> None:
        passed.append(arguments)
        await update_graph(**arguments)

    async def arriving(**arguments: Any) -> None:
        passed.append(arguments)
        await arrived(**arguments)

    desk.plugin.gate._update_graph = spying
    desk.scheduler.stream_handlers["update-graph"] = arriving
    desk.await_workers(1)
    assert desk.client.submit(increment, 1).result(60) == 2
    came, went = passed
    assert came.keys() == went.keys()
    assert all(came[name] is went[name] for name in came)


def test_what_is_not_ours_is_not_changed_among_ours(desk: Any) -> None:
    step = desk.bash("echo x")
    desk.know(step)
    key = name_of(step)
    graph: dict[str, Any] = dict(step.__dask_graph__())
    graph["a"] = Task("a", increment, 1)
    graph["b"] = Task("b", checksum_of, TaskRef(key))
    future = desk.client.get(graph, ["a", "b"], sync=False)
    desk.lab.wait_until(lambda: desk.state(step) == "memory")
    tasks = desk.scheduler.tasks
    assert {name: tasks[name].run_spec for name in "ab"} == {name: graph[name] for name in "ab"}
    assert tasks["b"].dependencies == {tasks[key]}
    del future


def test_scattered_data_that_another_client_submits_can_be_made_again(desk: Any, other: Client) -> None:
    desk.await_workers(1)
    future = desk.client.submit(increment, 1, key="x")
    scattered = other.scatter({"y": 5})
    later = desk.client.submit(increment, 4, key="y")
    assert later.result(60) == 5
    desk.lab.wait_until(lambda: desk.scheduler.tasks["y"].run_spec is not None)
    del future, scattered


def test_another_way_to_make_the_same_is_told(desk: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Of a task of others, beside one of ours."""
    step = desk.bash("echo x")
    desk.know(step)
    key = name_of(step)
    graph = {**dict(step.__dask_graph__()), "b": Task("b", checksum_of, TaskRef(key))}
    first = desk.client.get(graph, ["b"], sync=False)
    desk.lab.wait_until(lambda: "b" in desk.scheduler.tasks)
    second = desk.client.get(
        {**graph, "a": Task("a", int), "b": Task("b", increment, TaskRef("a"))}, ["b", key], sync=False
    )
    desk.lab.wait_until(lambda: "Detected different `run_spec`" in caplog.text)
    del first, second


def test_what_a_future_holds_goes_into_later_graphs(desk: Any) -> None:
    desk.await_workers(1)
    step = desk.bash("echo x")
    known = desk.know(step)
    [future] = desk.submit(step)
    scattered = desk.client.scatter(5)
    assert desk.client.submit(checksum_of, future).result(60) == known
    assert desk.client.submit(lambda *found: found, future, scattered).result(60)[1] == 5
    persisted = desk.client.persist(desk.bash("cat 0; echo y", step))
    assert persisted.compute().read_bytes() == b"known\ny\n"


def test_ways_to_wait_and_to_gather(desk: Any) -> None:
    steps = [desk.bash(f"echo {number}") for number in range(5)]
    known = {desk.know(step, name_of(step).encode()) for step in steps}
    futures = desk.submit(*steps)
    assert {future.result().checksum for future in as_completed(futures)} == known
    assert {handle.checksum for handle in desk.client.gather(futures, direct=True)} == known
    holders = desk.client.who_has(futures)
    assert {holder for found in holders.values() for holder in found} == {desk.scheduler.address}


def test_hits_and_others_are_gathered_at_once(desk: Any) -> None:
    desk.await_workers(1)
    step, missing = desk.bash("echo x"), desk.bash("echo y")
    known = desk.know(step)
    one, two, three = desk.client.gather([*desk.submit(step, missing), desk.client.submit(increment, 1)])
    assert (one.checksum, two.read_bytes(), three) == (known, b"y\n", 2)


def test_a_task_asks_for_a_hit(desk: Any) -> None:
    desk.await_workers(1)
    step = desk.bash("echo x")
    known = desk.know(step)
    pickled = pickle.dumps(dict(step.__dask_graph__()))
    assert desk.client.submit(get_in_a_task, pickled, name_of(step)).result(60) == known


def test_annotations_and_priorities_reach_what_is_not_known(desk: Any) -> None:
    first, second = desk.bash("echo x"), desk.bash("echo y", cpus=4, priority=7)
    desk.know(first)
    with dask.annotate(retries=3):
        futures = desk.client.compute([first, second])
    desk.await_state(second, "no-worker")
    ts = desk.scheduler.tasks[name_of(second)]
    assert (ts.resource_restrictions, ts.priority[0], ts.retries) == ({"seamless:cpus": 4}, -7, 3)
    del futures
