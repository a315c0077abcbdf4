"""Everything of Dask's scheduler that is not public API, each with what is assumed of it.

`self_test` tries the assumptions when a scheduler starts; where one does not hold the plugin steps aside.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from contextlib import contextmanager
from itertools import islice
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple

from dask._task_spec import Alias, DataNode, Task, TaskRef
from distributed import scheduler as _scheduler
from distributed.core import Status
from distributed.protocol.pickle import dumps
from distributed.protocol.serialize import (
    Serialized,
    ToPickle,
    deserialize,
    register_serialization_family,
    serialize,
    to_serialize,
)
from distributed.utils import offload

from hashserver.checksum import Checksum
from hashserver.errors import HashserverError

from ..graph import task
from ..graph.handles import Handle
from ..model.transformation import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed.scheduler import Scheduler, WorkerState

dask_scheduler: Any = _scheduler

log = logging.getLogger("distributed.scheduler.seamless")

Go = Callable[[], Any]
"""Calls what Dask itself would have done."""
Interceptor = Callable[[Any, str, dict[str, Any], Go], Any]
"""Called with task, stimulus, the transition's details and `Go`; returns what a transition returns."""

NOTHING: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = ({}, {}, {})
INTERCEPTED = {
    ("waiting", "processing"),
    ("waiting", "queued"),
    ("queued", "processing"),
    ("no-worker", "processing"),
    ("processing", "erred"),
    ("processing", "released"),
    ("erred", "released"),
}
"""Transitions of Dask's own that are asked for here."""
SMALL = 20_000
"""A graph of fewer bytes than this is unpacked in the event loop."""


class NotAsAssumed(Exception):
    """An assumption about Dask does not hold."""


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


def _must(holds: object, what: str) -> None:
    if not holds:
        raise NotAsAssumed(what)


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
        "replicate": ("keys", "workers"),
        "request_remove_replicas": ("addr", "keys", "stimulus_id"),
        "bulk_schedule_unrunnable_after_adding_worker": ("ws",),
        "_add_to_memory": ("ts", "ws", "recommendations", "client_msgs", "type", "typename"),
        "_task_to_msg": ("ts",),
    }
    for name, arguments in takes.items():
        found = inspect.signature(getattr(scheduler, name)).parameters
        _must(set(arguments) <= set(found), f"{name} takes other arguments")
    names = {"update-graph", "close-client", "client-desires-keys", "client-releases-keys"}
    _must(names <= set(scheduler.stream_handlers), "clients say other things")
    _must("gather" in scheduler.handlers, "results go by another way")
    _must(isinstance(scheduler._active_graph_updates, int), "graph updates are not counted")
    counted = ("idle_task_count", "WORKER_SATURATION", "running", "unrunnable", "queued")
    _must(all(hasattr(scheduler, name) for name in counted), "workers and queues are counted otherwise")
    _must(set(scheduler._TRANSITIONS_TABLE) >= INTERCEPTED, "tasks go other ways between states")


def _check_graphs(scheduler: Scheduler) -> None:
    del scheduler
    node = Task("b", str, 1)
    graph, annotations = dask_scheduler._materialize_graph(
        _ReadyGraph({"b": node}, {"priority": {"b": 1}}), validate=False
    )
    _must(graph["b"] is node and annotations["priority"] == {"b": 1}, "graphs are materialised otherwise")
    marker = _ReadyGraph({}, {})
    message = packed(marker)
    _must(deserialize(message.header, message.frames) is marker, "graphs are unpacked otherwise")
    inlined = substituted(Task("c", str, TaskRef("a")), {"a": 5})
    _must(not inlined.dependencies and inlined() == "5", "a value cannot be put into a task")
    alias = substituted(Alias("d", "a"), {"a": 5})
    _must(not alias.dependencies and alias() == 5, "a value cannot be put into an alias")


def _check_states(scheduler: Scheduler) -> None:
    """Have tasks go all the ways on a scheduler's state that belongs to nobody."""
    rehearsal = _Rehearsal()
    holder = make_holder(rehearsal.state)
    _must(holder.address not in scheduler.workers, "the holder counts as a worker")
    for start in ("released", "waiting", "queued", "no-worker"):
        intercept(
            rehearsal.state, start, "memory", lambda ts, *_: to_memory(rehearsal.state, holder, ts, "value")
        )
    rehearsal.make("known")
    rehearsal.go({"known": "memory"})
    _must(rehearsal.tasks["known"].who_has == {holder}, "a value cannot be held without a worker")
    rehearsal.make("reader", "known")
    send_values(rehearsal.state, holder, {"known": 5})
    message = rehearsal.state._task_to_msg(rehearsal.tasks["reader"])
    _must(message["who_has"] == message["nbytes"] == {}, "workers are told otherwise of what a task needs")
    _must(message["run_spec"].data() == [5], "a value cannot be sent with a task")
    rehearsal.let_go("reader")
    rehearsal.make("a")
    rehearsal.make("b", "a")
    rehearsal.make("c", "b")
    rehearsal.go({"c": "waiting"})
    _must(rehearsal.states("a", "b", "c") == ["no-worker", "waiting", "waiting"], "tasks wait otherwise")
    told = rehearsal.go({"a": "memory"})
    _must(rehearsal.states("a", "b") == ["memory", "no-worker"], "completing a task has other effects")
    _must(told == [("key-in-memory", "a")], "clients are told otherwise of what is complete")
    give_up(rehearsal.tasks["b"], ValueError())
    rehearsal.go({"b": "released"})
    rehearsal.go({"b": "erred"})
    _must(rehearsal.states("b", "c") == ["erred", "erred"], "giving a task up has other effects")
    told = [message for message in rehearsal.go({"b": "memory"}) if message[1] == "b"]
    _must(rehearsal.states("b", "c") == ["memory", "no-worker"], "completing what failed has other effects")
    _must(told == [("task-retried", "b"), ("key-in-memory", "b")], "clients are told otherwise of retries")
    rehearsal.let_go("known", "a", "b", "c")
    _must(not rehearsal.tasks and not holder.has_what, "what nobody wants is not forgotten")


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


# ---------------------------------------------------------------------------- graphs


class _ReadyGraph:
    """Stands for the expression that `Scheduler.update_graph` unpacks."""

    def __init__(self, graph: dict[Any, Any], annotations: Mapping[str, Mapping[Any, Any]]) -> None:
        self._graph, self._annotations = graph, annotations

    def __dask_graph__(self) -> dict[Any, Any]:
        return self._graph

    def __dask_annotations__(self) -> Mapping[str, Mapping[Any, Any]]:
        return self._annotations


def _unpack(header: Mapping[str, Any], frames: object) -> object:
    del frames
    return header["object"]


# what stays in this process need not be made bytes of
register_serialization_family("seamless-ready", None, _unpack)


def packed(ready: _ReadyGraph) -> Serialized:
    """Return something that `update_graph` unpacks to `ready` itself."""
    return Serialized({"serializer": "seamless-ready", "object": ready}, [])


def graph_arguments(graph: dict[Any, Any], annotations: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
    """Return a graph as `update_graph` takes one; where all of it is alone it need not be put in order."""
    kept = {
        kind: {key: value for key, value in given.items() if key in graph}
        for kind, given in annotations.items()
    }
    found: dict[str, Any] = {"expr_ser": packed(_ReadyGraph(graph, kept))}
    if not any(node.dependencies for node in graph.values()):
        found["internal_priority"] = dict(zip(graph, range(len(graph)), strict=True))
    return found


def mentions(expression: Serialized, marks: Iterable[bytes]) -> bool:
    """Whether one of some bytes is in what a client has sent: names of tasks are pickled as they are."""
    if "compression" in expression.header:
        return True
    return any(mark in frame for frame in map(bytes, expression.frames) for mark in marks)


def alone(node: Any, value: Any) -> Any:
    """Return a task whose value is known without what it needs.

    Should it have to run, because Dask is asked for that, its worker sees to what it needs. One that is not
    of the shape that ours have is its value.
    """
    if not node.dependencies:
        return node
    if getattr(node, "func", None) is not task.run or len(node.args) < 4:
        return DataNode(node.key, value)
    return Task(node.key, task.run, *node.args[:3], ())


async def materialize(expression: Serialized) -> tuple[dict[Any, Any], dict[str, dict[Any, Any]]]:
    """Return graph and annotations of what a client has sent, as Dask itself would read them."""

    def unpack() -> tuple[dict[Any, Any], dict[str, dict[Any, Any]]]:
        found = deserialize(expression.header, expression.frames)
        graph, annotations = dask_scheduler._materialize_graph(found, validate=False)
        return graph, dict(annotations)

    if sum(map(len, expression.frames)) < SMALL:
        return unpack()
    return await offload(unpack)


def substituted(node: Any, values: Mapping[Any, Any]) -> Any:
    """Return a node of a graph with `values` in the place of the keys that they belong to.

    `GraphNode.substitute` replaces references by nodes; an alias of a value becomes the value.
    """
    if isinstance(node, Alias) and node.target in values:
        return DataNode(node.key, values[node.target])
    return node.substitute({key: DataNode(key, value) for key, value in values.items()})


# ---------------------------------------------------------------------------- values without a worker


def make_holder(scheduler: Scheduler) -> WorkerState:
    """Return a worker state that holds what the database knows; it is never among `scheduler.workers`.

    Its address is the scheduler's own, which answers ``get_data`` as a worker does.
    """
    holder: WorkerState = dask_scheduler.WorkerState(
        address=scheduler.address or "seamless://database",
        status=Status.running,
        pid=0,
        name="seamless-database",
        nthreads=0,
        memory_limit=0,
        local_directory="",
        nanny=None,
        server_id="seamless-database",
        scheduler=scheduler,
    )
    # pages of the dashboard tell these of all holders of a task
    holder.metrics = {"memory": 0, "managed_bytes": 0, "spilled_bytes": {"memory": 0, "disk": 0}}
    return holder


def to_memory(scheduler: Any, holder: WorkerState, ts: Any, value: Any) -> Any:
    """Complete a task that has not begun; returns what a transition returns.

    One that has failed is ``released`` when this is called: Dask takes it there by itself on its way.
    """
    if ts.state == "queued":
        scheduler.queued.discard(ts)
    elif ts.state == "no-worker":
        scheduler.unrunnable.pop(ts, None)
    recommendations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    ts.waiting_on = None
    ts.priority = ts.priority or (0, 0, 0)
    _describe(ts, value)
    scheduler._add_to_memory(ts, holder, recommendations, messages, type=None, typename=ts.type)
    return recommendations, messages, {}


def only_revivable(ts: Any, go: Go) -> Any:
    """Answer the transition by which a failed task goes ``released``: what waits for others stays failed.

    Dask would have all that failed because of it wait, those too that need something else that has failed.
    """
    recommendations, to_clients, to_workers = go()
    for other in ts.dependents:
        failed = next((needed for needed in other.dependencies if needed.state == "erred"), None)
        if failed is not None and recommendations.pop(other.key, None) is not None:
            other.exception_blame = failed.exception_blame
    return recommendations, to_clients, to_workers


def keep_one_replica(scheduler: Any, holder: WorkerState) -> None:
    """Have a value leave its holder when a worker has it too.

    The Active Memory Manager takes for granted that all holders of what has several are workers.
    `Scheduler.add_replica` is looked up on the instance.
    """
    add = scheduler.add_replica

    def add_replica(ts: Any, ws: WorkerState) -> None:
        add(ts, ws)
        if ws is not holder and len(ts.who_has) > 1 and holder in ts.who_has:
            scheduler.remove_replica(ts, holder)

    scheduler.add_replica = add_replica


def restore_replicas(scheduler: Any) -> None:
    """Take back `keep_one_replica` and `send_values`."""
    for name in ("add_replica", "_task_to_msg"):
        scheduler.__dict__.pop(name, None)


def take_over(scheduler: Scheduler, holder: WorkerState, tasks: Iterable[Any]) -> None:
    """Hold values in the place of all workers that have them, as the Active Memory Manager moves them.

    `Scheduler.request_remove_replicas` counts a worker among the holders no longer when it returns; one that
    still needs a value says that it has it, and `keep_one_replica` takes the value from the holder.
    """
    stimulus_id = f"seamless-take-over-{time()}"
    removed: dict[str, list[Any]] = {}
    for ts in tasks:
        for ws in ts.who_has:
            removed.setdefault(ws.address, []).append(ts.key)
        scheduler.add_replica(ts, holder)
    for address, keys in removed.items():
        scheduler.request_remove_replicas(address, keys, stimulus_id=stimulus_id)


def intercept_retirement(scheduler: Any, interceptor: Callable[[list[WorkerState]], None]) -> None:
    """Have `interceptor` called with workers that are named for retirement, before they are.

    `Scheduler.retire_workers` is looked up on the instance by those who are in its process, clients reach it
    through ``handlers``. Without names Dask itself chooses, and asks plugins: `valid_workers_downscaling`.
    """
    original = scheduler.retire_workers

    async def retire_workers(workers: Any = None, *, names: Any = None, **options: Any) -> Any:
        addresses, called = set(workers or ()), {str(name) for name in names or ()}
        known = scheduler.workers.values()
        interceptor([ws for ws in known if ws.address in addresses or str(ws.name) in called])
        return await original(workers, names=names, **options)

    scheduler.retire_workers = scheduler.handlers["retire_workers"] = retire_workers


def restore_retirement(scheduler: Any) -> None:
    """Take `intercept_retirement` back."""
    scheduler.__dict__.pop("retire_workers", None)
    scheduler.handlers["retire_workers"] = scheduler.retire_workers


def _describe(ts: Any, value: Any) -> None:
    ts.set_nbytes(64)
    ts.type = type(value).__name__


def send_values(scheduler: Any, holder: WorkerState, values: Mapping[str, Any]) -> None:
    """Have workers be sent the values that no worker holds inside the tasks that need them.

    The scheduler's own state stays what it is; that a worker reaches the scheduler's address, at which they
    could be fetched, is not sure. `SchedulerState._task_to_msg` is looked up on the instance.
    """
    to_message = scheduler._task_to_msg

    def task_to_message(ts: Any) -> Any:
        message = to_message(ts)
        held = {
            other.key: values[other.key]
            for other in ts.dependencies
            if other.key in values and holder in (other.who_has or ())
        }
        if held:
            message["run_spec"] = ToPickle(substituted(ts.run_spec, held))
            for what in ("who_has", "nbytes"):
                message[what] = {key: told for key, told in message[what].items() if key not in held}
        return message

    scheduler._task_to_msg = task_to_message


# ---------------------------------------------------------------------------- transitions


def intercept(scheduler: Any, start: str, finish: str, interceptor: Interceptor) -> None:
    """Have `interceptor` called for a transition; several may follow each other, the last one first.

    The table of transitions belongs to the class; the scheduler gets one of its own.
    """
    table = dict(scheduler._TRANSITIONS_TABLE)
    original = table.get((start, finish))

    def transition(self: Any, key: str, stimulus_id: str, **details: Any) -> Any:
        gone = False

        def go() -> Any:
            nonlocal gone
            gone = True
            if original is None:
                raise NotAsAssumed(f"there is no transition of {key} from {start} to {finish}")
            return original(self, key, stimulus_id, **details)

        try:
            return interceptor(self.tasks[key], stimulus_id, details, go)
        except Exception:
            if gone or original is None:
                raise
            # what only saves work must not break the connections of workers, in which this happens
            log.exception("Dask decides about %s from %s to %s", key, start, finish)
            return go()

    table[start, finish] = transition
    scheduler._TRANSITIONS_TABLE = table


def allow_holding(scheduler: Any, held: Container[str]) -> None:
    """Have Dask's checks of itself put up with tasks in ``waiting`` that wait for nothing but us.

    With ``distributed.scheduler.validate`` they are made after each transition; `validate_key` looks
    `validate_waiting` up on the instance.
    """
    validate = scheduler.validate_waiting

    def validate_waiting(key: str) -> None:
        ts = scheduler.tasks[key]
        if ts.waiting_on or key not in held:
            validate(key)
        else:
            _must(not ts.who_has and not ts.processing_on, f"{key} is held back and somewhere")
            _must(all(other.who_has for other in ts.dependencies), f"{key} is held back and not ready")

    scheduler.validate_waiting = validate_waiting


def allow_queueing(scheduler: Any) -> None:
    """Have these checks put up with tasks that are queued while a worker is idle that may not have them.

    Dask asserts that nobody is idle where a task is queued, and that the first one in the queue is given to
    whoever becomes so. `stimulus_queue_slots_maybe_opened` is looked up on the instance.
    """
    open_slots = scheduler.stimulus_queue_slots_maybe_opened

    def opened(*, stimulus_id: str) -> None:
        with _unchecked(scheduler):
            open_slots(stimulus_id=stimulus_id)

    def queue(ts: Any, stimulus_id: str, details: dict[str, Any], go: Go) -> Any:
        del ts, stimulus_id, details
        with _unchecked(scheduler):
            return go()

    scheduler.stimulus_queue_slots_maybe_opened = opened
    intercept(scheduler, "waiting", "queued", queue)


@contextmanager
def _unchecked(scheduler: Any) -> Iterator[None]:
    checks, scheduler.validate = scheduler.validate, False
    try:
        yield
    finally:
        scheduler.validate = checks


def restore_transitions(scheduler: Scheduler) -> None:
    """Take all interceptors back, `allow_holding` and `allow_queueing`."""
    for name in ("_TRANSITIONS_TABLE", "validate_waiting", "stimulus_queue_slots_maybe_opened"):
        scheduler.__dict__.pop(name, None)


@contextmanager
def activity(scheduler: Scheduler) -> Iterator[None]:
    """Keep the scheduler from counting as idle."""
    scheduler._active_graph_updates += 1
    try:
        yield
    finally:
        scheduler._active_graph_updates -= 1


def report_error(scheduler: Scheduler, client: str, keys: Iterable[Any], error: Exception) -> None:
    """Tell a client that keys have failed which the scheduler was not given."""
    from distributed.core import error_message

    told = error_message(error)
    for key in keys:
        message = {
            "op": "task-erred",
            "key": key,
            "exception": told["exception"],
            "traceback": told["traceback"],
        }
        # not by `report`, which tells all who want the key
        scheduler.client_comms[client].send(message)


def retry(scheduler: Scheduler, keys: Iterable[Any], may: Callable[[Any], bool]) -> None:
    """Have tasks that failed run again, with those that they failed because of, as far as these may."""
    roots: list[Any] = []
    stack, seen = list(keys), set()
    while stack:
        key = stack.pop()
        if key in seen:
            continue
        seen.add(key)
        failed = [other.key for other in scheduler.tasks[key].dependencies if other.state == "erred"]
        stack += failed
        if not failed and may(key):
            roots.append(key)
    scheduler.transitions(dict.fromkeys(roots, "waiting"), f"seamless-retry-{time()}")


def intercept_removal(
    scheduler: Any, interceptor: Callable[[str, Callable[[], None]], None]
) -> Callable[..., None]:
    """Have `interceptor` called with a client that leaves, and what removes it; returns what does that.

    `Scheduler.remove_client` is looked up on the instance when a connection ends.
    """
    original = scheduler.remove_client

    def remove_client(client: str, stimulus_id: str | None = None) -> None:
        interceptor(client, lambda: original(client, stimulus_id))

    scheduler.remove_client = remove_client
    return remove_client


def intercept_desires(
    scheduler: Any, interceptor: Callable[[Collection[Any], str, Callable[[], None]], None]
) -> Callable[..., None]:
    """Have `interceptor` called with keys, the client that wants them, and what makes a note of that.

    Extensions and the handler of graphs look `Scheduler.client_desires_keys` up on the instance; returns it.
    """
    original = scheduler.client_desires_keys

    def client_desires_keys(keys: Collection[Any], client: str) -> None:
        interceptor(keys, client, lambda: original(keys, client))

    scheduler.client_desires_keys = client_desires_keys
    return client_desires_keys


def forsake(scheduler: Any, client: Any) -> None:
    """Have a client's state want nothing any more, which is no longer among `Scheduler.clients`."""
    recommendations: dict[Any, Any] = {}
    keys = [ts.key for ts in client.wants_what]
    scheduler._client_releases_keys(keys, client, recommendations)
    scheduler.transitions(recommendations, f"seamless-client-left-{time()}")


def restore_clients(scheduler: Any) -> None:
    """Take back `intercept_removal` and `intercept_desires`."""
    for name in ("remove_client", "client_desires_keys"):
        scheduler.__dict__.pop(name, None)


def settle(scheduler: Scheduler, keys: Iterable[str]) -> None:
    """Have tasks go into memory, through the interceptors."""
    scheduler.transitions(dict.fromkeys(keys, "memory"), f"seamless-hit-{time()}")


# ---------------------------------------------------------------------------- answers


def one_pickle(values: Mapping[Any, Any]) -> Any:
    """Return values in a form that is packed once for all of them, not once for each."""
    return Serialized(*serialize(dict(values), serializers=("pickle",), iterate_collection=False))


def one_pickle_of(value: Any) -> Any:
    """Return a value in a form that is packed by itself."""
    return to_serialize(value)


async def send_data(comm: Any, values: Mapping[str, Any], serializers: Any) -> Any:
    """Answer ``get_data`` as a worker does: the values, then an acknowledgement is read."""
    data = {key: to_serialize(value) for key, value in values.items()}
    await comm.write({"status": "OK", "data": data}, serializers=serializers)
    await comm.read(deserializers=serializers)
    return Status.dont_reply


# ---------------------------------------------------------------------------- dispatch and deaths
# for cutoff, recovery and claims


class Arguments(NamedTuple):
    """What `task.run` is called with; each of `values` is a handle or a reference to another task."""

    protocol: int
    key: str
    options: str
    upstream: tuple[str, ...]
    values: tuple[Any, ...]


def arguments(ts: Any) -> Arguments | None:
    """Return what a task of ours will be called with; None for one of another shape.

    The scheduler keeps the graph's node, a `dask._task_spec.Task`, as ``run_spec``.
    """
    args: Any = getattr(ts.run_spec, "args", ())
    if getattr(ts.run_spec, "func", None) is not task.run or len(args) < 4:
        return None
    protocol, key, options, upstream, *values = args
    return Arguments(protocol, key, options, upstream, tuple(values))


LOOKED_AT = 1000
"""How many parts of a task's arguments are looked at for handles of ours."""


def carries_handle(node: Any) -> bool:
    """Whether a handle is among the arguments of a task, in whatever they hold.

    The scheduler has the graph's node itself: a worker without this package cannot read its message.
    """
    stack, left = [node], LOOKED_AT
    while stack and left:
        left -= 1
        part = stack.pop()
        if isinstance(part, Handle):
            return True
        if isinstance(part, DataNode):
            stack.append(part.value)
        elif isinstance(part, Task):
            stack += [*part.args[:left], *part.kwargs.values()]
        elif isinstance(part, list | tuple):
            stack += part[:left]
        elif isinstance(part, dict):
            stack += islice((one for pair in part.items() for one in pair), left)
        elif isinstance(part, set | frozenset):
            stack += islice(part, left)
        elif isinstance(found := getattr(part, "__dict__", None), dict):
            stack += islice(found.values(), left)
    return False


NEVER = -(1 << 40)
"""A suspicion that no number of deaths brings over Dask's limit."""


def reported_value(ts: Any) -> Value | None:
    """Return the value that a worker reported with a finished task.

    What a worker puts into the metadata of its task state travels with the message that it has finished.
    """
    try:
        format_, checksum = (ts.metadata or {})["seamless"]
        return Value(str(format_), Checksum(checksum))
    except (KeyError, TypeError, ValueError, HashserverError):
        return None


def value_of(argument: Any) -> Value | None:
    """Return the value that stands as an argument in a task of ours; None for a reference to another task."""
    handle = argument.value if isinstance(argument, DataNode) else argument
    found: Value | None = getattr(handle, "value", None)
    return found


def restrict_workers(
    scheduler: Scheduler, concerned: Callable[[Any], bool], usable: Callable[[Any, set[Any]], set[Any]]
) -> None:
    """Have ``usable(ts, workers)`` choose among the workers for tasks that are ``concerned``.

    `valid_workers` is asked for every task that is not root-ish, when one is stolen and when a worker comes;
    both methods are looked up on the instance.
    """
    valid, rootish = scheduler.valid_workers, scheduler.is_rootish

    def valid_workers(ts: Any) -> set[Any] | None:
        found: set[Any] | None = valid(ts)
        if not concerned(ts):
            return found
        return usable(ts, set(scheduler.running) if found is None else found)

    scheduler.valid_workers = valid_workers  # type: ignore[method-assign]
    scheduler.is_rootish = lambda ts: not concerned(ts) and rootish(ts)  # type: ignore[method-assign]


def allowed_workers(scheduler: Scheduler, ts: Any) -> set[str]:
    """Return the addresses of the workers that Dask itself would give a task."""
    found = type(scheduler).valid_workers(scheduler, ts)
    return set(scheduler.workers) if found is None else {ws.address for ws in found}


def warn_clients(scheduler: Scheduler, text: str) -> None:
    """Have all clients show a warning, of which they unpickle the text, as `distributed.worker.warn` does."""
    scheduler.log_event("warn", {"message": dumps(text)})


def restrict_replicas(
    scheduler: Any, concerned: Callable[[Any], bool], usable: Callable[[], Collection[str] | None]
) -> None:
    """Have keys that are ``concerned`` copied only to workers that are ``usable``; None: all are.

    `Scheduler.replicate` tries for ever where a worker cannot read a value, and whoever retires workers
    meanwhile waits for that. It is looked up on the instance, and reached by clients through ``handlers``.
    """
    original = scheduler.replicate

    async def replicate(keys: Collection[Any], *args: Any, workers: Any = None, **options: Any) -> Any:
        able = usable()
        mine = [] if able is None else [key for key in keys if concerned(key)]
        if able is None or not mine:
            return await original(keys, *args, workers=workers, **options)
        rest, answer = [key for key in keys if key not in mine], None
        if rest:
            answer = await original(rest, *args, workers=workers, **options)
        if among := sorted(set(able).intersection(scheduler.workers_list(workers))):
            answer = await original(mine, *args, workers=among, **options) or answer
        return answer

    scheduler.replicate = scheduler.handlers["replicate"] = replicate


def restore_workers(scheduler: Any) -> None:
    """Take `restrict_workers` and `restrict_replicas` back."""
    for name in ("valid_workers", "is_rootish", "replicate"):
        scheduler.__dict__.pop(name, None)
    scheduler.handlers["replicate"] = scheduler.replicate


def finds_no_slot(scheduler: Scheduler, ts: Any, equipped: Container[str]) -> bool:
    """Whether Dask would queue a task if there were only these workers.

    It does so with root-ish ones where saturation is limited and nobody is in ``idle_task_count``.
    """
    if math.isinf(scheduler.WORKER_SATURATION) or not type(scheduler).is_rootish(scheduler, ts):
        return False
    return not any(ws.address in equipped for ws in scheduler.idle_task_count)


def dispatch_to(scheduler: Scheduler, worker: str, stimulus_id: str) -> None:
    """Give a worker what waits for one, as Dask does when one has come."""
    ws = scheduler.workers[worker]
    scheduler.transitions(scheduler.bulk_schedule_unrunnable_after_adding_worker(ws), stimulus_id)
    scheduler.stimulus_queue_slots_maybe_opened(stimulus_id=stimulus_id)


def is_ready(ts: Any) -> bool:
    """Whether a task waits for nothing but to be dispatched.

    Dask itself leaves no task behind like this; it asks for the dispatch of what lost its last dependency.
    """
    return ts is not None and ts.state == "waiting" and not ts.waiting_on


def never_suspect(ts: Any) -> None:
    """Spare a task Dask's counting of the deaths of all workers that it was ever assigned to."""
    ts.suspicious = NEVER


def put_back(scheduler: Scheduler, ts: Any, stimulus_id: str) -> Any:
    """Answer a transition from ``processing`` by releasing the task, so that it is dispatched again."""
    return type(scheduler)._TRANSITIONS_TABLE["processing", "released"](scheduler, ts.key, stimulus_id)


def give_up(ts: Any, error: Exception) -> Any:
    """Answer a transition from ``waiting`` by letting the task fail.

    A task with ``exception_blame`` goes from ``waiting`` by ``released`` to ``erred``, as the dependents of a
    failed task do; clients unpickle ``exception``.
    """
    ts.exception, ts.exception_text = dumps(error), repr(error)
    ts.traceback, ts.traceback_text = None, ""
    ts.exception_blame = ts
    return {ts.key: "erred"}, {}, {}


def in_order(scheduler: Scheduler, keys: Iterable[Any]) -> dict[Any, Any]:
    """Recommend the dispatch of tasks by their priority; `Scheduler.transitions` takes the last one first."""
    tasks = [ts for key in keys if (ts := scheduler.tasks.get(key)) is not None]
    tasks.sort(key=lambda ts: ts.priority or (), reverse=True)
    return {ts.key: "processing" for ts in tasks}


# ---------------------------------------------------------------------------- HTTP
# for the guard, the page and the figures; these work also where the plugin has stepped aside


def check_http(scheduler: Any) -> None:
    """Try what this section takes for granted.

    Raises
    ------
    NotAsAssumed
        It says what does not hold.
    """
    _must(callable(getattr(scheduler.http_application, "add_handlers", None)), "pages are served otherwise")
    _must(hasattr(scheduler.http_server, "request_callback"), "HTTP requests are answered otherwise")
    names = http_pages(scheduler)
    _must(
        isinstance(names, list) and all(isinstance(name, str) for name in names), "the dashboard has no menu"
    )


def intercept_http(server: Any, wrap: Callable[[Any], Any]) -> None:
    """Have each request of a scheduler or worker go to what `wrap` makes of its application.

    ``http_server`` is a Tornado server, which asks its ``request_callback`` for each request.
    """
    _must(hasattr(server.http_server, "request_callback"), "HTTP requests are answered otherwise")
    server.http_server.request_callback = wrap(server.http_server.request_callback)


def limit_http_silence(server: Any, seconds: float) -> None:
    """Bound the time in which a connection has to send the head of its next request."""
    server.http_server.conn_params.header_timeout = seconds


def http_prefix(scheduler: Any) -> str:
    """Return what stands before all paths of the dashboard, such as ``/cluster``.

    Bokeh's application, one of `RoutingApplication.applications`, was given it.
    """
    prefixes = [getattr(app, "prefix", "") for app in scheduler.http_application.applications]
    return next((prefix.rstrip("/") for prefix in prefixes if prefix), "")


def http_pages(scheduler: Any) -> list[str]:
    """Return the menu of Dask's dashboard; all pages share this list. It is empty without a dashboard."""
    try:
        from distributed.dashboard.scheduler import template_variables
    except ImportError:
        return []
    pages: list[str] = template_variables(scheduler)["pages"]
    return pages


def metrics_handler() -> Any:
    """Return the class that answers ``/metrics``; None when there are no figures for want of a package."""
    from distributed.http.prometheus import PrometheusNotAvailableHandler
    from distributed.http.scheduler.prometheus import routes

    handler = routes[0][1]
    return None if handler is PrometheusNotAvailableHandler else handler
