"""Trying, when a scheduler starts, what is assumed of it; where something fails the plugin steps aside."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from dask._task_spec import Alias, Task, TaskRef
from distributed.protocol.serialize import (
    deserialize,
)

from .assumptions import NotAsAssumed, dask_scheduler, must
from .graphs import _ReadyGraph, packed, reading_objects, substituted
from .memory import make_holder, send_values, to_memory
from .transitions import INTERCEPTED, give_up, intercept

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler


def self_test(scheduler: Scheduler) -> None:
    """Try what the rest of this module takes for granted, without a trace on the scheduler.

    Raises
    ------
    NotAsAssumed
        It says what does not hold.
    """
    for check in (_check_methods, _check_graphs, _check_states):
        try:
            check(scheduler)
        except NotAsAssumed:
            raise
        except Exception as error:
            raise NotAsAssumed(f"{check.__name__.removeprefix('_check_')}: {error!r}") from error


def _check_methods(scheduler: Scheduler) -> None:
    takes = {
        "update_graph": ("client", "expr_ser", "keys"),
        "client_desires_keys": ("keys", "client"),
        "_client_releases_keys": ("keys", "cs", "recommendations"),
        "client_releases_keys": ("keys", "client"),
        "remove_client": ("client", "stimulus_id"),
        "gather": ("keys", "serializers"),
        "add_replica": ("ts", "ws"),
        "remove_replica": ("ts", "ws"),
        "valid_workers": ("ts",),
        "is_rootish": ("ts",),
        "validate_waiting": ("key",),
        "stimulus_queue_slots_maybe_opened": ("stimulus_id",),
        "retire_workers": ("workers", "names"),
        "request_remove_replicas": ("addr", "keys", "stimulus_id"),
        "bulk_schedule_unrunnable_after_adding_worker": ("ws",),
        "_add_to_memory": ("ts", "ws", "recommendations", "client_msgs", "type", "typename"),
        "_task_to_msg": ("ts",),
    }
    for name, arguments in takes.items():
        found = inspect.signature(getattr(scheduler, name)).parameters
        must(set(arguments) <= set(found), f"{name} takes other arguments")
    names = {"update-graph", "close-client", "client-desires-keys", "client-releases-keys"}
    must(names <= set(scheduler.stream_handlers), "clients say other things")
    must("gather" in scheduler.handlers, "results go by another way")
    must(isinstance(scheduler._active_graph_updates, int), "graph updates are not counted")
    counted = ("idle_task_count", "WORKER_SATURATION", "running", "unrunnable", "queued")
    must(all(hasattr(scheduler, name) for name in counted), "workers and queues are counted otherwise")
    must(set(scheduler._TRANSITIONS_TABLE) >= INTERCEPTED, "tasks go other ways between states")


def _check_graphs(scheduler: Scheduler) -> None:
    del scheduler
    node = Task("b", str, 1)
    graph, annotations = dask_scheduler._materialize_graph(
        _ReadyGraph({"b": node}, {"priority": {"b": 1}}), validate=False
    )
    must(graph["b"] is node and annotations["priority"] == {"b": 1}, "graphs are materialised otherwise")
    marker = _ReadyGraph({}, {})
    message = packed(marker)
    must(deserialize(message.header, message.frames) is marker, "graphs are unpacked otherwise")
    inlined = substituted(Task("c", str, TaskRef("a")), {"a": 5})
    must(not inlined.dependencies and inlined() == "5", "a value cannot be put into a task")
    alias = substituted(Alias("d", "a"), {"a": 5})
    must(not alias.dependencies and alias() == 5, "a value cannot be put into an alias")
    for reader in (Task("c", _listed, TaskRef("a")), Alias("d", "a")):
        read = reading_objects(reader, ["a"])
        must(read.dependencies == {"a"} and read({"a": 5}) in (5, [5]), "a task cannot read by another one")


def _check_states(scheduler: Scheduler) -> None:
    """Have tasks go all the ways on a scheduler's state that belongs to nobody."""
    rehearsal = _Rehearsal()
    holder = make_holder(rehearsal.state)
    must(holder.address not in scheduler.workers, "the holder counts as a worker")
    for start in ("released", "waiting", "queued", "no-worker"):
        intercept(
            rehearsal.state, start, "memory", lambda ts, *_: to_memory(rehearsal.state, holder, ts, "value")
        )
    rehearsal.make("known")
    rehearsal.go({"known": "memory"})
    must(rehearsal.tasks["known"].who_has == {holder}, "a value cannot be held without a worker")
    rehearsal.make("reader", "known")
    send_values(rehearsal.state, holder, {"known": 5}, lambda key: key == "known")
    message = rehearsal.state._task_to_msg(rehearsal.tasks["reader"])
    must(message["who_has"] == message["nbytes"] == {}, "workers are told otherwise of what a task needs")
    must(message["run_spec"].data() == [5], "a value cannot be sent with a task")
    rehearsal.let_go("reader")
    rehearsal.make("a")
    rehearsal.make("b", "a")
    rehearsal.make("c", "b")
    rehearsal.go({"c": "waiting"})
    must(rehearsal.states("a", "b", "c") == ["no-worker", "waiting", "waiting"], "tasks wait otherwise")
    told = rehearsal.go({"a": "memory"})
    must(rehearsal.states("a", "b") == ["memory", "no-worker"], "completing a task has other effects")
    must(told == [("key-in-memory", "a")], "clients are told otherwise of what is complete")
    give_up(rehearsal.tasks["b"], ValueError())
    rehearsal.go({"b": "released"})
    rehearsal.go({"b": "erred"})
    must(rehearsal.states("b", "c") == ["erred", "erred"], "giving a task up has other effects")
    told = [message for message in rehearsal.go({"b": "memory"}) if message[1] == "b"]
    must(rehearsal.states("b", "c") == ["memory", "no-worker"], "completing what failed has other effects")
    must(told == [("task-retried", "b"), ("key-in-memory", "b")], "clients are told otherwise of retries")
    rehearsal.let_go("known", "a", "b", "c")
    must(not rehearsal.tasks and not holder.has_what, "what nobody wants is not forgotten")


def _listed(*values: Any) -> list[Any]:
    return list(values)


class _Rehearsal:
    """The state of a scheduler that nobody uses; one client, no worker."""

    def __init__(self) -> None:
        from distributed.collections import HeapSet

        # with a dictionary of its own, as a scheduler has
        kind: Any = type("State", (dask_scheduler.SchedulerState,), {"address": "tcp://127.0.0.1:1"})
        self.client = dask_scheduler.ClientState("client")
        self.state: Any = kind(
            aliases={},
            clients={"client": self.client},
            workers={},
            host_info={},
            resources={},
            tasks={},
            unrunnable={},
            queued=HeapSet(key=lambda ts: ts.priority),
            validate=False,
        )
        self.tasks: dict[Any, Any] = self.state.tasks

    def make(self, name: str, *needed: str) -> None:
        """Make a task that waits for a worker that is nowhere."""
        node = Task(name, _listed, *map(TaskRef, needed))
        ts = self.state.new_task(name, node, "released")
        ts.worker_restrictions = {"nobody"}
        for other in needed:
            ts.add_dependency(self.tasks[other])
        ts.priority, ts.who_wants = (0, 0, 0), {self.client}
        self.client.wants_what.add(ts)

    def states(self, *names: str) -> list[str]:
        return [self.tasks[name].state for name in names]

    def go(self, recommendations: dict[Any, Any]) -> list[tuple[str, str]]:
        """Make transitions; returns what the client is told of which task."""
        told: dict[str, list[dict[str, Any]]] = {}
        self.state._transitions(recommendations, told, {}, "seamless-rehearsal")
        return [(message["op"], message["key"]) for message in told.get("client", ())]

    def let_go(self, *names: str) -> None:
        recommendations: dict[Any, Any] = {}
        self.state._client_releases_keys(names, self.client, recommendations)
        self.go(recommendations)
