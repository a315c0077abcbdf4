"""From stored transformations to graphs that a scheduler is given, with what Dask is told about each task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...graph import collection, task
from ...graph.collection import Graph
from ...model.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...model.transformation import Value

_OPTIONS = 2
"""Place of the options among the arguments of `task.run`."""


def send(client: Any, graphs: Sequence[Graph]) -> dict[str, Any]:
    """Send graphs in one go; returns the future of what each of them is asked for, by its key."""
    tasks: dict[str, Any] = {}
    for graph in graphs:
        tasks |= graph.tasks
    keys = list(dict.fromkeys(graph.key for graph in graphs))
    futures = client.get(_annotated(tasks), keys, sync=False)
    return dict(zip(keys, futures, strict=True))


def restoring(value: Value) -> Graph:
    """Return the graph of a task that sees to it that the bytes of a value are there."""
    from dask._task_spec import Task

    name = f"restore-{value.checksum}"
    return Graph({name: Task(name, task.restore, task.PROTOCOL, value.format, str(value.checksum))}, name)


def _annotated(tasks: Mapping[str, Any]) -> Any:
    """Return a graph that says of each task what it asks of a worker: annotations belong to layers."""
    said = {name: _annotations(one) for name, one in tasks.items()}
    if not any(said.values()):
        return dict(tasks)
    from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

    # a layer for each task: any coarser division may depend on itself
    layers = {name: MaterializedLayer({name: one}, said[name]) for name, one in tasks.items()}
    needs = {name: set(one.dependencies) & tasks.keys() for name, one in tasks.items()}
    return HighLevelGraph(layers, needs)


def _annotations(one: Any) -> dict[str, Any]:
    if one.func is not task.run:
        return {}
    return collection.annotations_of(Options.from_json(one.args[_OPTIONS]))
