"""What is assumed of Dask is tried, and what does not hold is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from distributed import LocalCluster, Scheduler
from distributed import scheduler as dask_scheduler

from seamless_dask.scheduler.dask import assumptions, self_test


@pytest.fixture(scope="module")
def scheduler() -> Iterator[Scheduler]:
    with LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster:
        yield cluster.scheduler


def test_this_release_is_as_assumed(scheduler: Scheduler) -> None:
    before = kept(scheduler)
    self_test.self_test(scheduler)
    assert kept(scheduler) == before
    assert not scheduler.tasks


def kept(scheduler: Scheduler) -> dict[str, int]:
    """What a scheduler has, other than the counters of its clock, which goes on."""
    numbers = (int, float)
    return {name: id(value) for name, value in vars(scheduler).items() if not isinstance(value, numbers)}


def refuses(scheduler: Scheduler) -> str:
    with pytest.raises(assumptions.NotAsAssumed) as caught:
        self_test.self_test(scheduler)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "update_graph",
        "client_desires_keys",
        "remove_client",
        "gather",
        "add_replica",
        "_add_to_memory",
        "retire_workers",
        "validate_waiting",
    ],
)
def test_a_method_that_takes_other_arguments_is_noticed(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(dask_scheduler.Scheduler, name, lambda self, graph: None)
    assert refuses(scheduler) == f"{name} takes other arguments"


def test_a_method_that_is_gone_is_noticed(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(dask_scheduler.SchedulerState, "valid_workers")
    assert "valid_workers" in refuses(scheduler)


def test_messages_of_clients_that_have_other_names_are_noticed(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(scheduler.stream_handlers, "update-graph")
    assert refuses(scheduler) == "clients say other things"


def test_graphs_that_are_materialised_otherwise_are_noticed(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        dask_scheduler, "_materialize_graph", lambda expr, validate: ({"b": 1}, {"priority": {}})
    )
    assert refuses(scheduler) == "graphs are materialised otherwise"


def test_a_function_that_is_gone_is_noticed(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(dask_scheduler, "_materialize_graph")
    assert "_materialize_graph" in refuses(scheduler)


def complete_silently(
    self: Any,
    ts: Any,
    ws: Any,
    recommendations: Any,
    client_msgs: Any,
    type: Any,  # noqa: A002 - as Dask has it
    typename: Any,
) -> None:
    """Another way to complete a task, of which nobody is told."""
    self.add_replica(ts, ws)
    ts.state = "memory"


def test_tasks_that_are_completed_otherwise_are_noticed(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_scheduler.SchedulerState, "_add_to_memory", complete_silently)
    assert refuses(scheduler) == "completing a task has other effects"


def test_transitions_that_go_otherwise_are_noticed(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = dict(dask_scheduler.SchedulerState._TRANSITIONS_TABLE)
    del table["erred", "released"]
    monkeypatch.setattr(dask_scheduler.SchedulerState, "_TRANSITIONS_TABLE", table)
    assert "states" in refuses(scheduler)


def test_a_holder_that_counts_as_a_worker_is_noticed(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_test, "make_holder", lambda state: None)
    assert "states" in refuses(scheduler)
