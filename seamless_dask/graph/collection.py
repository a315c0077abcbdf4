"""From documents to a Dask graph: one task for each transformation that has to be looked at.

A transformation that refers to others (`Deferred`) becomes a task with theirs as dependencies. Others whose
result is known are no tasks: their values stand in the graph.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.errors import BufferMissing

from ..model.options import Options
from ..model.requirements import CPUS, GPU, MEMORY, NODE, QUEUE
from ..model.transformation import Description, Value
from . import task
from .handles import of as handle_of
from .names import LABEL, dask_key, fresh_key, label_of
from .perform import unknown_below

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hashserver.checksum import Checksum

    from ..context import Context
    from .arguments import HandedArguments


class Graph(NamedTuple):
    """A Dask graph, and the key in it whose result is asked for."""

    tasks: dict[str, Any]
    key: str


def build(context: Context, key: Checksum, options: Options | None = None) -> Value | Graph:
    """Return the graph of a stored transformation, or its result if that is known.

    Parameters
    ----------
    key
        Of the transformation; its document and those it refers to are in the store.
    options
        For this transformation; those it refers to are run as `Options.of_upstream` says.
    """
    options = options or Options()
    known, documents = unknown_below(context, key, fresh=options.fresh)
    if key in known:
        return known[key]
    names = _names(context, documents, key if options.fresh else None)
    tasks = {
        names[name]: task_of(
            name,
            document,
            options if name == key else options.of_upstream(name),
            {of: known.get(of) or names[of] for of in document.upstream},
            names[name],
        )
        for name, document in documents.items()
    }
    return Graph(tasks, names[key])


def task_of(
    key: Checksum,
    document: Description,
    options: Options,
    upstream: Mapping[Checksum, Value | str],
    name: str,
    handed: HandedArguments | None = None,
) -> Any:
    """Return the task of one transformation.

    Parameters
    ----------
    upstream
        The result of each transformation that it refers to, or the name of its task.
    name
        Of the task itself.
    handed
        Arguments that the run is given with it.
    """
    from dask._task_spec import Task, TaskRef

    handles = [
        TaskRef(found) if isinstance(found, str) else handle_of(*found)
        for found in (upstream[of] for of in document.upstream)
    ]
    given: dict[str, Any] = {} if handed is None else {"handed": handed}
    return Task(
        name,
        task.run,
        task.PROTOCOL,
        str(key),
        options.to_json(),
        tuple(map(str, document.upstream)),
        *handles,
        **given,
    )


def known_task_of(key: Checksum, options: Options, value: Value, name: str) -> Any:
    """Return what stands in a graph for a transformation that is known; parameters as of `task_of`."""
    from dask._task_spec import Task

    return Task(name, task.known, task.PROTOCOL, str(key), options.to_json(), handle_of(*value))


def as_object(node: Any) -> Any:
    """Return a task whose result is asked for as an object."""
    from dask._task_spec import Task

    return Task(node.key, node.func, *node.args, **node.kwargs, asked=node.key)


def annotations_of(options: Options) -> dict[str, Any]:
    """Return what Dask is told about a task: resources that a worker must have, and priority."""
    resources: dict[str, float] = {CPUS: options.cpus} if options.cpus else {}
    resources |= {MEMORY: options.memory} if options.memory else {}
    resources |= {GPU: options.gpus} if options.gpus else {}
    resources |= options.resources
    resources |= {f"{QUEUE}{options.queue}": 1} if options.queue else {}
    resources |= {f"{NODE}{options.node}": 1} if options.node else {}
    found: dict[str, Any] = {"resources": resources} if resources else {}
    return found | ({"priority": options.priority} if options.priority else {})


def _names(
    context: Context, documents: Mapping[Checksum, Description], fresh: Checksum | None
) -> dict[Checksum, str]:
    """Return the names of the tasks, labelled after their code."""
    labels: dict[Checksum, str] = {}
    with suppress(BufferMissing):  # the worker says so, or has it made again
        for code, data in context.store.get_many({document.code for document in documents.values()}):
            labels[code] = label_of(data.decode("utf-8", "surrogateescape"))
    return {
        key: (fresh_key if key == fresh else dask_key)(key, labels.get(document.code, LABEL))
        for key, document in documents.items()
    }
