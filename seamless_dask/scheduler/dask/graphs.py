"""Graphs and tasks, as Dask keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import dask
from dask._task_spec import Alias, DataNode, Task, TaskRef
from dask.utils import parse_bytes
from distributed.protocol.serialize import (
    Serialized,
    deserialize,
    register_serialization_family,
)
from distributed.utils import nbytes, offload

from ...graph import task
from ...graph.handles import Handle
from ...model.transformation import Value
from .assumptions import dask_scheduler

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

SMALL = 20_000
"""A graph of fewer bytes than this is unpacked in the event loop."""


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


def size(expression: Serialized) -> int:
    """Return how many bytes a client has sent; arrays are views of another length."""
    return sum(map(nbytes, expression.frames))


def most_bytes() -> int:
    """Return the size of a graph above which Dask warns of it."""
    size: int = parse_bytes(dask.config.get("distributed.admin.large-graph-warning-threshold"))
    return size


def alone(node: Any, value: Any) -> Any:
    """Return a task whose value is known without what it needs.

    Should it have to run, because Dask is asked for that, its worker sees to what it needs. One that is not
    of the shape that ours have is its value.
    """
    if handle_in(node) is None and not node.dependencies:
        return node
    if getattr(node, "func", None) not in (task.run, task.known) or len(node.args) < 4:
        return DataNode(node.key, value)
    return Task(node.key, task.run, *node.args[:3], ())


class MaterializedGraph(NamedTuple):
    """What a client has sent; ``of_calls``: by `submit` or `map`, not for a collection."""

    graph: dict[Any, Any]
    annotations: dict[str, dict[Any, Any]]
    of_calls: bool


async def materialize(expression: Serialized) -> MaterializedGraph:
    """Return graph and annotations of what a client has sent, as Dask itself would read them."""

    def unpack() -> MaterializedGraph:
        found = deserialize(expression.header, expression.frames)
        graph, annotations = dask_scheduler._materialize_graph(found, validate=False)
        return MaterializedGraph(graph, dict(annotations), type(found).__name__ in ("LLGExpr", "_MapExpr"))

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


def reading_objects(node: Any, keys: Iterable[str]) -> Any:
    """Return a task that is given objects where the tasks of these keys give handles of such.

    `GraphNode.substitute` puts a task, which is called with what it refers to, in the place of a reference.
    """
    readers = {key: Task(key, task.object_of, key, TaskRef(key)) for key in keys}
    if isinstance(node, Alias) and node.target in readers:
        return Task(node.key, task.object_of, node.target, TaskRef(node.target))
    return node.substitute(readers)


def handle_in(node: Any) -> Handle | None:
    """Return the result of a task that was known when its graph was made; None: it was not."""
    if getattr(node, "func", None) is not task.known or len(node.args) < 4:
        return None
    found = node.args[3]
    found = found.value if isinstance(found, DataNode) else found
    return found if isinstance(found, Handle) else None


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


def is_fresh(node: Any) -> bool:
    """Whether a task of ours is to run whatever is known, as its options say."""
    args: Any = getattr(node, "args", ())
    return len(args) > 2 and '"fresh":true' in str(args[2])


LOOKED_AT = 1000
"""How many parts of a task's arguments are looked at for handles of ours."""


def carries_handle(node: Any) -> bool:
    """Whether a handle is among the arguments of a task, in whatever they hold.

    The scheduler has the graph's node itself. On a worker without this package reading a handle is an error,
    and a function that catches it would come to another result.
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


def value_of(argument: Any) -> Value | None:
    """Return the value that stands as an argument in a task of ours; None for a reference to another task."""
    handle = argument.value if isinstance(argument, DataNode) else argument
    found: Value | None = getattr(handle, "value", None)
    return found


def in_order(scheduler: Scheduler, keys: Iterable[Any]) -> dict[Any, Any]:
    """Recommend the dispatch of tasks by their priority; `Scheduler.transitions` takes the last one first."""
    tasks = [ts for key in keys if (ts := scheduler.tasks.get(key)) is not None]
    tasks.sort(key=lambda ts: ts.priority or (), reverse=True)
    return {ts.key: "processing" for ts in tasks}
