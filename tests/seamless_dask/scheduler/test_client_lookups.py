"""What a client has found to be known, and what the gate makes of that."""

from __future__ import annotations

from typing import Any

import pytest
from dask._task_spec import Task
from distributed import Client, LocalCluster, wait

from seamless_dask import bash
from seamless_dask.context import Context
from seamless_dask.errors import SeamlessError
from seamless_dask.graph import task
from seamless_dask.graph.handles import of as handle_of
from seamless_dask.scheduler import SeamlessScheduler

from .conftest import name_of


def test_what_the_client_knows_is_complete_with_no_worker_connected(desk: Any, tmp_path: Any) -> None:
    """The scheduler's own database does not know it."""
    config = desk.lab.context.config._replace(database=str(tmp_path / "other.db"))
    with Context(config) as context:
        step = bash("cat x", {"x": bash("echo x", context=context)}, context=context)
        value = desk.lab.file(b"known\n")
        context.database.put(step.key, *value)
        assert desk.client.compute(step).result(60).value == value
    assert set(desk.scheduler.tasks) <= {name_of(step)}


def test_what_is_known_by_now_counts_more(desk: Any) -> None:
    step = desk.bash("echo x")
    desk.know(step, b"before\n")
    graph = dict(step.__dask_graph__())
    desk.lab.context.database.contest(step.key)
    known = desk.know(step, b"now\n")
    assert desk.client.get(graph, name_of(step)).checksum == known


def test_a_waiting_step_of_another_client_goes_on_when_what_it_needs_is_known(desk: Any) -> None:
    first = desk.bash("echo x")
    second = desk.bash("cat 0", first)
    [waiting] = desk.submit(second)
    desk.await_state(second, "waiting")
    desk.know(first)
    again = desk.client.compute(second)  # in its graph `first` is a value
    desk.await_state(second, "no-worker", "queued")
    desk.await_workers(1)
    assert waiting.result(60) == again.result(60)
    assert again.result().read_bytes() == b"known\n"


def test_a_contested_result_that_the_client_knew_is_retried(desk: Any) -> None:
    desk.await_workers(1)
    first = desk.bash(f"echo x; {desk.lab.counted()}")
    second = desk.bash(f"cat 0; {desk.lab.counted()}", first)
    assert desk.client.compute(second).result(60).read_bytes() == b"x\n"
    desk.lab.wait_until(lambda: not desk.scheduler.tasks)
    future = desk.client.compute(second)
    wait(future)
    assert desk.lab.ran() == ["ran"] * 2
    desk.lab.context.database.contest(second.checksum)
    desk.client.retry([future])
    assert future.result(60).read_bytes() == b"x\n"
    assert desk.lab.ran() == ["ran"] * 3


def test_what_a_client_of_another_version_knows_is_refused(desk: Any) -> None:
    step = desk.bash("echo x")
    foreign = Task(name_of(step), task.known, 99, str(step.key), "{}", handle_of(*desk.lab.file(b"x\n")))
    with pytest.raises(SeamlessError, match="protocol 99 of seamless-dask"):
        desk.client.get({name_of(step): foreign}, name_of(step))


def test_a_client_that_has_no_database_asks_that_of_its_scheduler(
    lab: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {"store": str(tmp_path / "store"), "database": str(tmp_path / "theirs.db")}
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(SeamlessScheduler(theirs))
        plugin = cluster.scheduler.plugins["seamless"]
        step = bash("cat x", {"x": bash("echo x")})
        value = lab.file(b"x\n")
        plugin.context.database.put(step.key, *value)
        monkeypatch.setattr(plugin.lookups, "_ask", lambda keys: {})
        assert client.compute(step).result(60).value == value
