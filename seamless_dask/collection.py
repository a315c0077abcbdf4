"""From documents to a Dask graph: one task for each transformation that has to be looked at.

A transformation that refers to others (`Deferred`) becomes a task with theirs as dependencies. Others whose
result is known are no tasks: their values stand in the graph.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from . import task
from .options import Options
from .transformation import Description, Value

if TYPE_CHECKING:
    from hashserver.checksum import Checksum

    from .context import Context

LABEL = "bash"


class Graph(NamedTuple):
    """A Dask graph, and the key in it whose result is asked for."""

    tasks: dict[str, Any]
    key: str


def build(
    context: Context, key: Checksum, options: Options | None = None, *, fresh: bool = False
) -> Value | Graph:
    """Return the graph of a stored transformation, or its result if that is known.

    Parameters
    ----------
    key
        Of the transformation; its document and those it refers to are in the store.
    options
        For this transformation; of them only `isolation` and `retries` hold for those it refers to.
    fresh
        It is to run whatever is known.
    """
    known: dict[Checksum, Value] = {}
    documents: dict[Checksum, Description] = {}
    layer = [key]
    while layer:
        found = context.database.lookup_many([name for name in layer if not fresh or name != key])
        known |= {name: Value(result.format, result.checksum) for name, (_, result) in found.items()}
        documents |= {name: task.load(context, name) for name in layer if name not in known}
        upstream = {
            reference.of: None
            for name in layer
            if name in documents
            for reference in documents[name].references
        }
        layer = [name for name in upstream if name not in known and name not in documents]
    if key in known:
        return known[key]
    options = options or Options()
    others = Options(isolation=options.isolation, retries=options.retries)
    tasks = {
        dask_key(name): _task(name, document, options if name == key else others, known)
        for name, document in documents.items()
    }
    return Graph(tasks, dask_key(key))


def compute(context: Context, key: Checksum, options: Options | None = None, *, fresh: bool = False) -> Value:
    """Compute a stored transformation in this process, which must be equipped for tasks.

    Parameters are those of `build`.
    """
    graph = build(context, key, options, fresh=fresh)
    if isinstance(graph, Value):
        return graph
    from dask.local import get_sync

    from hashserver.checksum import Checksum

    name, checksum = get_sync(graph.tasks, graph.key)
    return Value(name, Checksum(checksum))


def dask_key(key: Checksum, label: str = LABEL) -> str:
    """Return the name of a transformation's task; Dask groups tasks by what stands before ``-tf-``."""
    return f"{label}-tf-{key}"


def label_of(code: str) -> str:
    """Return a label for a command: its first word, as far as Dask can show it.

    It follows from the code alone, so that equal transformations have equal keys.
    """
    word = re.match(r"\s*(?:\w+=\S*\s+)*([^\s;|&<>()]+)", code)
    name = re.sub(r"[^A-Za-z0-9_.]", "", word[1].rpartition("/")[2]) if word else ""
    return name[:24] or LABEL


def _task(key: Checksum, document: Description, options: Options, known: dict[Checksum, Value]) -> Any:
    from dask._task_spec import Task, TaskRef

    upstream = list(dict.fromkeys(reference.of for reference in document.references))
    values = [tuple(known[name]) if name in known else TaskRef(dask_key(name)) for name in upstream]
    return Task(dask_key(key), task.run, str(key), options.to_json(), tuple(map(str, upstream)), *values)
