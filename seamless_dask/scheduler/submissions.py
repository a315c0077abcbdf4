"""Calls of functions that a stock client submits under names of Dask's choice.

They come as tasks that call a `SubmittedFunction`. What its call is can be told here where the arguments are
plain data, handles, and results of other tasks of ours: then the task becomes one of `task.run`, as those of
collections are. Any other is identified by the worker, from the objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dask._task_spec import Alias, DataNode, Dict, GraphNode, List, Set, Task, TaskRef, Tuple, parse_input
from distributed.utils import offload

from hashserver.errors import HashserverError

from ..api import Parts, Transformation
from ..errors import SeamlessError
from ..graph import task
from ..graph.collection import annotations_of
from ..graph.handles import Handle
from ..graph.local_inputs import keep_all
from ..graph.names import key_in
from ..model.transformation import Deferred
from ..submitted import PickledArgument, SubmittedFunction, check_name, run_call, says_fresh
from .dask import graphs
from .retries import adopt, can_be_known, checksum_of, disown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from hashserver.checksum import Checksum

    from ..context import Context
    from ..model.options import Options
    from ..model.transformation import Value

MARK = b"seamless_dask.submitted"
"""What is in the pickle of a `SubmittedFunction`."""
MOST = 10_000
"""Parts of an argument that are looked at here."""

_NODES = (List, Tuple, Set)
_ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes))


class SubmittedCall(NamedTuple):
    """A call that was identified here; ``needs`` are the names of tasks that it waits for, by their keys."""

    function: SubmittedFunction
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    key: Checksum
    options: str
    needs: dict[Checksum, str]


class Adopted(NamedTuple):
    """A graph in which calls of functions are tasks of ours.

    Attributes
    ----------
    found : MaterializedGraph
        The graph.
    calls : dict
        Those that were identified, by the names of their tasks.
    names : dict
        The keys of all; None: only the worker can tell.
    options : dict
        How all are run.
    """

    found: graphs.MaterializedGraph
    calls: dict[str, SubmittedCall]
    names: dict[str, Checksum | None]
    options: dict[str, Options]

    def annotations(self, given: Mapping[str, Any] | None) -> dict[str, dict[Any, Any]]:
        """Return the graph's annotations with the options of functions: what was asked for comes before them.

        Parameters
        ----------
        given
            What came with the graph for all of its tasks, as by `submit`.
        """
        merged = {kind: dict(told) for kind, told in self.found.annotations.items()}
        for name, options in self.options.items():
            for kind, own in annotations_of(options).items():
                asked = merged.get(kind, {}).get(name, (given or {}).get(kind))
                asked = asked(name) if callable(asked) else asked
                if kind == "resources":
                    merged.setdefault(kind, {})[name] = own | (asked or {})
                elif asked is None:
                    merged.setdefault(kind, {})[name] = own
        return merged


class CannotTell(Exception):
    """An argument is not for the scheduler to read."""


class TaskResult(Handle):
    """The result of another task of ours, as an argument: what is known is the key of its transformation."""

    __slots__ = ("name",)

    def __init__(self, key: Checksum, name: str) -> None:
        super().__init__("result", key)
        self.name = name


class CallParts(Parts):
    """What a call is made of; results of other tasks may be among it."""

    def __init__(self, function: SubmittedFunction) -> None:
        super().__init__(None, function.facts.code)
        self.buffers += function.facts.buffers
        self.needs: dict[Checksum, str] = {}

    def value(self, name: str, item: Any) -> Value | Deferred:
        """Return what stands for an input in the document."""
        if isinstance(item, TaskResult):
            self.needs[item.checksum] = item.name
            return Deferred(item.checksum, None)
        return super().value(name, item)


class Submissions:
    """One for a scheduler; its methods run in the scheduler's event loop.

    Parameters
    ----------
    context
        Whose store is given what calls need that have to run.

    Attributes
    ----------
    keys : dict
        Of calls by the names of their tasks; None where only the worker can tell.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.keys: dict[str, Checksum | None] = {}

    async def adopted(self, found: graphs.MaterializedGraph) -> Adopted:
        """Return a graph with tasks of ours in the place of calls of functions.

        Raises
        ------
        UsageError
            A call has the name of another one.
        """
        nodes = found.graph.values()
        if not any(is_call(node) or (isinstance(node, Task) and _takes_collection(node)) for node in nodes):
            return Adopted(found, {}, {}, {})
        # Arguments may be many and long, and the loop has other clients: what these have forgotten meanwhile,
        # though it was read here as an input, Dask misses when it takes the graph, and says so.
        adopted = await offload(self._adopted, found)
        self.note(adopted)
        return adopted

    def note(self, adopted: Adopted) -> None:
        """Have tasks count as ours, until they are forgotten: graphs that come later may need them."""
        for name, key in adopted.names.items():
            if name not in self.keys:
                adopt(name)
            self.keys[name] = key

    def forget(self, names: Iterable[Any]) -> None:
        """Forget tasks that the scheduler has not got, or no more."""
        for name in names:
            if name in self.keys:
                del self.keys[name]
                disown(name)

    async def store(self, calls: Collection[SubmittedCall]) -> None:
        """Store what calls need that are to run, all of it in one go."""
        if calls:
            await offload(self._store, calls)

    # -------------------------------------------------- how

    def _adopted(self, found: graphs.MaterializedGraph) -> Adopted:
        found = _with_tasks_of_collections(found)
        graph, options = dict(found.graph), {}
        # `map` names what is large and common to all calls by the word, and `submit` leaves it where it is
        data = {name: node.value for name, node in graph.items() if isinstance(node, DataNode)}
        calls: dict[str, SubmittedCall] = {}
        names: dict[str, Checksum | None] = {}
        for name in [name for name, node in graph.items() if isinstance(name, str) and is_call(node)]:
            node, named = graph[name], key_in(name)
            if not data.keys().isdisjoint(node.dependencies):
                node = graphs.substituted(node, data)
            fresh = found.of_calls and says_fresh(name)
            try:
                call = self._identified(node, fresh, names)
            except (CannotTell, TypeError, HashserverError, SeamlessError):
                # the worker has the objects, or says what is wrong with them
                told = (task.PROTOCOL, node.func, named, fresh)
                kwargs: dict[str, Any] = {word: _pickled(item) for word, item in node.kwargs.items()}
                graph[name] = Task(name, run_call, *told, *map(_pickled, node.args), **kwargs)
                names[name] = None
            else:
                check_name(node.func, named, call.key)
                needs = map(TaskRef, call.needs.values())
                upstream = tuple(map(str, call.needs))
                graph[name] = Task(
                    name, task.run, task.PROTOCOL, str(call.key), call.options, upstream, *needs
                )
                names[name], calls[name] = call.key, call
            options[name] = node.func.options
        return Adopted(found._replace(graph=graph), calls, names, options)

    def _identified(self, node: Task, fresh: bool, names: Mapping[str, Checksum | None]) -> SubmittedCall:
        function: SubmittedFunction = node.func  # type: ignore[assignment]
        if not function.facts.keeps_inputs:
            raise CannotTell
        args = tuple([self._argument(item, names) for item in node.args])
        kwargs = {name: self._argument(item, names) for name, item in node.kwargs.items()}
        key = function.plain_key(args, kwargs)
        if key is not None:
            return SubmittedCall(function, args, kwargs, key, function.options_json(fresh), {})
        parts = CallParts(function)
        description, options = function.described(parts, args, kwargs)
        if parts.large:
            raise CannotTell
        told = options._replace(fresh=fresh or options.fresh).to_json()
        return SubmittedCall(function, args, kwargs, description.key, told, parts.needs)

    def _argument(self, item: Any, names: Mapping[str, Checksum | None]) -> Any:
        """Return an argument of a call; raises `CannotTell` for what is not plain data."""
        if type(item) in _ATOMS or (isinstance(item, Handle) and not isinstance(item, TaskResult)):
            return item
        if isinstance(item, Alias | TaskRef):
            name: Any = item.target if isinstance(item, Alias) else item.key
            key = names[name] if name in names else self.keys.get(name)
            if key is None and can_be_known(name):
                key = checksum_of(name)
            if key is None:
                raise CannotTell
            return TaskResult(key, name)
        if isinstance(item, DataNode):
            return self._argument(item.value, names)
        if type(item) in (List, Tuple):
            return item.klass([self._argument(each, names) for each in item.args])
        if isinstance(item, GraphNode):
            raise CannotTell
        _check(item)
        return item

    def _store(self, calls: Collection[SubmittedCall]) -> None:
        buffers: dict[int, bytes] = {}
        for call in calls:
            parts = CallParts(call.function)
            description, _ = call.function.described(parts, call.args, call.kwargs)
            for data in (description.canonical(), *parts.buffers):
                buffers[id(data)] = data  # those of the function are the same for all its calls
        keep_all(self._context, [], buffers.values())


def is_call(node: Any) -> bool:
    """Whether a task of a graph calls a function of ours."""
    return isinstance(getattr(node, "func", None), SubmittedFunction)


def _takes_collection(node: Task) -> bool:
    return any(_collections_in([*node.args, *node.kwargs.values()]))


def _collections_in(items: Iterable[Any]) -> Iterator[Transformation]:
    """Yield calls of functions among arguments, and in lists and mappings, as Dask looks for futures."""
    for item in items:
        if isinstance(item, Transformation):
            if item.description.result.value:
                yield item
        elif type(item) in (list, tuple, set):
            yield from _collections_in(item)
        elif type(item) in _NODES:  # with futures beside them
            yield from _collections_in(item.args)
        elif type(item) is dict:
            yield from _collections_in(item.values())


def _with_tasks_of_collections(found: graphs.MaterializedGraph) -> graphs.MaterializedGraph:
    """Return a graph in which calls that are arguments are tasks: whoever takes one reads its object."""
    graph, annotations = dict(found.graph), {kind: dict(told) for kind, told in found.annotations.items()}
    for name, node in found.graph.items():
        if not isinstance(node, Task) or not _takes_collection(node):
            continue
        names: set[str] = set()
        for one in _collections_in([*node.args, *node.kwargs.values()]):
            tasks = one.tasks()
            names |= {one.name} if tasks else set()
            for step, (task_node, told) in tasks.items():
                graph.setdefault(step, task_node)
                for kind, value in told.items():
                    annotations.setdefault(kind, {})[step] = value
        args = [parse_input(_referring(item, names)) for item in node.args]
        kwargs: dict[str, Any] = {
            word: parse_input(_referring(item, names)) for word, item in node.kwargs.items()
        }
        graph[name] = Task(name, node.func, *args, **kwargs)
    return found._replace(graph=graph, annotations=annotations)


def _referring(item: Any, names: Collection[str]) -> Any:
    """Return an argument with references in the place of collections whose tasks have some names."""
    if isinstance(item, Transformation):
        return Alias(item.name) if item.name in names else item
    if type(item) in (list, tuple, set):
        return type(item)([_referring(each, names) for each in item])
    if type(item) in _NODES:
        return type(item)(*[parse_input(_referring(each, names)) for each in item.args])
    return {key: _referring(each, names) for key, each in item.items()} if type(item) is dict else item


def _pickled(item: Any) -> Any:
    """Return an argument with what not every worker may be able to read as its pickle."""
    if type(item) in _ATOMS or isinstance(item, Handle | Transformation | TaskRef):
        return item
    if isinstance(item, DataNode):
        return _pickled(item.value)
    if type(item) in _NODES:
        return type(item)(*map(_pickled, item.args))
    if type(item) is Dict:
        return Dict([_pickled(part) if place % 2 else part for place, part in enumerate(item.args)])
    if isinstance(item, GraphNode):
        return item
    try:
        return PickledArgument.of(item)
    except Exception:  # Dask tells of it
        return item


def _check(item: Any) -> None:
    """Raise `CannotTell` for what is not plain data, or too much of it."""
    stack, left = [item], MOST
    while stack:
        left -= 1
        part = stack.pop()
        kind = type(part)
        if left < 0:
            raise CannotTell
        if kind is dict:
            stack += [one for pair in part.items() for one in pair]
        elif kind in (list, tuple, set, frozenset):
            stack += part
        elif kind not in _ATOMS and not isinstance(part, Handle):
            raise CannotTell
