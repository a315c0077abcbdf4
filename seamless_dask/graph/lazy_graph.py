"""What is known of a graph is looked up where it is made, so that every scheduler of Dask's is spared it.

That happens when Dask first reads the graph, together with all others that it has been given and not read by
then: `dask.compute` asks each collection for its graph before it reads the first one. What is known stands in
the graph as a value; what only that needs is left out.

Nothing depends on the answer: what is not found here is looked up again by whoever is to run it.
"""

from __future__ import annotations

import queue
import threading
import time
import warnings
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

from dask.highlevelgraph import Layer, MaterializedLayer

from ..model.records import beside_of
from ..model.transformation import Value
from . import task
from .collection import as_object

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from hashserver.checksum import Checksum

    from ..context import Context

LONGEST = 3.0
"""Seconds that a look-up may take: who only draws a graph does not wait for a server that is gone."""
FOR_EACH = 0.0005
"""Seconds that it may take for each key, where that is longer: a busy server takes its time for 100,000."""
PAUSE = 30.0
"""Seconds for which a database that did not answer is not asked again."""
RECENT = 10.0
"""Seconds for which an answer counts that came along with another graph's."""

_reading = threading.RLock()
"""Held while graphs are looked up: whoever reads another one meanwhile has its answer with it."""
_registering = threading.Lock()
_unread: WeakSet[LazyGraph] = WeakSet()
_silent_until: WeakKeyDictionary[Context, float] = WeakKeyDictionary()


class GraphTask(NamedTuple):
    """One transformation of a graph.

    Attributes
    ----------
    context : Context
        Whose database may know it.
    key : Checksum or None
        Under which it is looked up; None: it is to run whatever is known.
    upstream : mapping
        The names of the tasks that it needs, by the keys of their transformations.
    made_with : callable
        Returns its node, given the value or else the name of each of those.
    known_as : callable
        Returns its node, given its value.
    annotations : dict
        What Dask is told about it.
    is_object : bool
        Its result is a Python object, and whoever asks for it is to see that.
    """

    context: Context
    key: Checksum | None
    upstream: Mapping[Checksum, str]
    made_with: Callable[[Mapping[Checksum, Value | str]], Any]
    known_as: Callable[[Value], Any]
    annotations: dict[str, Any]
    is_object: bool = False


class LazyGraph:
    """The graph of one collection, looked up when somebody first asks for its nodes.

    Parameters
    ----------
    name
        Of the task whose result the collection is.
    tasks
        By name, those that it needs among them.
    given
        Nodes that are not ours to decide about, such as futures.
    whole
        What only known ones need is in it too.
    """

    def __init__(
        self, name: str, tasks: Mapping[str, GraphTask], given: Mapping[str, Any], *, whole: bool
    ) -> None:
        self.name, self.tasks, self._given, self._whole = name, tasks, given, whole
        self._answers: _Answers | None = None
        self._nodes: dict[str, Any] | None = None
        self._local: dict[str, Any] | None = None
        self._asked: frozenset[str] = frozenset()
        with _registering:
            _unread.add(self)

    @property
    def nodes(self) -> dict[str, Any]:
        """What Dask is to see, by name; always the same, whatever becomes known later."""
        with _reading:
            if self._nodes is None:
                if not self._is_answered():
                    with _registering:
                        others = [graph for graph in _unread if graph is not self]
                    _look_up([self, *(graph for graph in others if not graph._is_answered())])
                assert self._answers is not None
                self._asked = self._answers.asked
                self._nodes, self._answers = self._made(self._answers), None
                with _registering:
                    _unread.discard(self)
        return self._nodes

    def in_this_process(self) -> dict[str, Any]:
        """Return the nodes as those schedulers see them that read the graph here: it is not pickled.

        What is asked for is an object there. All graphs that are read together agree on what that is, since
        of nodes of one name Dask keeps one.
        """
        nodes = self.nodes
        with _reading:
            if self._local is None:
                asked = {name for name in self._asked & nodes.keys() if name in self.tasks}
                asked = {name for name in asked if self.tasks[name].is_object}
                self._local = nodes | {name: as_object(nodes[name]) for name in asked}
        return self._local

    def _is_answered(self) -> bool:
        return self._answers is not None and self._answers.age() < RECENT

    def needed(self, answers: _Answers) -> Iterator[str]:
        """Yield the names of the tasks that are needed, as far as that can be told."""
        waiting = [self.name]
        seen = set(waiting)
        while waiting:
            name = waiting.pop()
            yield name
            one = self.tasks.get(name)
            if one is not None and answers.value(one) is None:
                new = [other for other in one.upstream.values() if other not in seen]
                seen.update(new)
                waiting += new

    def is_known(self, name: str) -> bool:
        """Whether a value stands in the place of a task."""
        return getattr(self.nodes.get(name), "func", None) is task.known

    def _made(self, answers: _Answers) -> dict[str, Any]:
        if self._whole:
            return {**self._given, **{name: answers.node(name, self.tasks) for name in self.tasks}}
        nodes = dict(self._given)
        for name in self.needed(answers):
            one = self.tasks.get(name)
            # values are parts of the tasks that need them; that of the last one is what is asked for
            if one is not None and (name == self.name or answers.value(one) is None):
                nodes[name] = answers.node(name, self.tasks)
        return nodes


class _Answers:
    """What is known of the tasks of some graphs."""

    def __init__(self, asked: Iterable[str]) -> None:
        self.asked = frozenset(asked)
        self._values: dict[tuple[Context, Checksum], Value | None] = {}
        self._nodes: dict[str, Any] = {}  # the same in all graphs: pickled once for all of them
        self._since = time.monotonic()

    def age(self) -> float:
        return time.monotonic() - self._since

    def value(self, one: GraphTask) -> Value | None:
        return None if one.key is None else self._values.get((one.context, one.key))

    def look_up(self, tasks: Iterable[GraphTask]) -> None:
        """Look up those of some tasks that were not, in one request for each database."""
        wanted: dict[Context, dict[Checksum, None]] = {}
        for one in tasks:
            if one.key is not None and (one.context, one.key) not in self._values:
                wanted.setdefault(one.context, {})[one.key] = None
        for context, keys in wanted.items():
            found = _ask(context, list(keys))
            self._values |= {(context, key): found.get(key) for key in keys}

    def node(self, name: str, tasks: Mapping[str, GraphTask]) -> Any:
        if name not in self._nodes:
            one = tasks[name]
            value = self.value(one)
            found = {key: self._upstream(other, tasks) for key, other in one.upstream.items()}
            self._nodes[name] = one.made_with(found) if value is None else one.known_as(value)
        return self._nodes[name]

    def _upstream(self, name: str, tasks: Mapping[str, GraphTask]) -> Value | str:
        return (self.value(tasks[name]) if name in tasks else None) or name


def _look_up(graphs: list[LazyGraph]) -> None:
    """Look up what is asked for, then what the rest of it still needs: two requests at most."""
    answers = _Answers(graph.name for graph in graphs)
    answers.look_up(graph.tasks[graph.name] for graph in graphs)
    answers.look_up(
        graph.tasks[name] for graph in graphs for name in graph.needed(answers) if name in graph.tasks
    )
    for graph in graphs:
        graph._answers = answers


def state_of(context: Context, key: Checksum) -> str:
    """Return what is known of a transformation, for people; a server is waited for as for a graph."""
    found = _ask(context, [key]).get(key)
    if found is not None:
        names = ", ".join(_not_kept(context, key))
        lost = f"; it cannot be made again from the store, which was given no {names}" if names else ""
        return f"computed, {found.format} {found.checksum[:8]}…{lost}"
    silent = time.monotonic() < _silent_until.get(context, 0.0)
    return "the database does not answer" if silent else "not computed"


def _not_kept(context: Context, key: Checksum) -> tuple[str, ...]:
    """Return the arguments of a known result that no store was given; none where nothing answers in time."""
    answer: queue.SimpleQueue[tuple[str, ...]] = queue.SimpleQueue()

    def ask() -> None:
        names: tuple[str, ...] = ()
        with suppress(Exception):  # whatever it is, the rest is shown
            found = context.database.lookup(key)
            names = () if found is None else beside_of(found[1].record).not_kept
        answer.put(names)

    threading.Thread(target=ask, name="seamless-record-lookup", daemon=True).start()
    try:
        return answer.get(timeout=LONGEST)
    except queue.Empty:
        return ()


def _ask(context: Context, keys: list[Checksum]) -> dict[Checksum, Value]:
    """Return what a database knows; that it does not answer is told once."""
    with LookUps(context) as lookups:
        lookups.ask(keys)
        return lookups.answer()


class _LookUpAnswer(NamedTuple):
    """What a database has answered, and the bytes that came with it."""

    values: dict[Checksum, Value]
    objects: dict[Checksum, bytes]


class LookUps:
    """Look-ups in a database, one after the other, while whoever asks goes on.

    That the database does not answer is told once; from then on nothing counts as known.

    Parameters
    ----------
    context
        Whose database is asked.
    small
        Bytes of an object up to which they come with the answer, where a server keeps both.

    Attributes
    ----------
    objects : dict
        What came with the last answer, verified, by checksums.
    """

    def __init__(self, context: Context, small: int = 0) -> None:
        self._context, self._small = context, small
        self.objects: Mapping[Checksum, bytes] = {}
        self._questions: queue.SimpleQueue[list[Checksum] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[_LookUpAnswer | str] = queue.SimpleQueue()
        self._asked: deque[int] = deque()
        self._is_silent = time.monotonic() < _silent_until.get(context, 0.0)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> LookUps:
        return self

    def __exit__(self, *_: object) -> None:
        self._questions.put(None)

    def ask(self, keys: list[Checksum]) -> None:
        """Have some keys looked up."""
        self._asked.append(len(keys))
        if not keys or self._is_silent:
            return
        if self._thread is None:
            # since a server may be waited for longer; nobody waits for it when Python ends
            self._thread = threading.Thread(target=self._work, name="seamless-graph-lookup", daemon=True)
            self._thread.start()
        self._questions.put(keys)

    def answer(self) -> dict[Checksum, Value]:
        """Return what is known of the keys that were asked for first, of those not answered yet."""
        number = self._asked.popleft()
        if not number or self._is_silent:
            return {}
        longest = max(LONGEST, FOR_EACH * number)
        try:
            found = self._answers.get(timeout=longest)
        except queue.Empty:
            found = f"no answer within {longest:g} s"
        if not isinstance(found, str):
            _silent_until.pop(self._context, None)
            self.objects = found.objects
            return found.values
        if self._context not in _silent_until:
            warnings.warn(
                f"results are not looked up before tasks are submitted, but by whoever runs them: {found}",
                stacklevel=3,
            )
        _silent_until[self._context] = time.monotonic() + PAUSE
        self._is_silent = True
        return {}

    def _work(self) -> None:
        while (keys := self._questions.get()) is not None:
            try:
                self._answers.put(self._look_up(keys))
            except Exception as error:  # whatever it is, the graph can go out as it is
                self._answers.put(str(error) or repr(error))

    def _look_up(self, keys: list[Checksum]) -> _LookUpAnswer:
        server = self._context.server if self._small else None
        if server is None:
            found = self._context.database.lookup_many(keys)
            return _LookUpAnswer(
                {key: Value(each.format, each.checksum) for key, (_, each) in found.items()}, {}
            )
        values, objects = server.values_of(keys, self._small)
        return _LookUpAnswer({key: Value(*value) for key, value in values.items()}, objects)


class _QuicklyCulled(Layer):
    """Looks for its own tasks among those that are wanted.

    Dask would look for all that are wanted in each layer: of thousands of collections each is one.
    """

    def cull(self, keys: set[Any], all_hlg_keys: Collection[Any]) -> tuple[Layer, Mapping[Any, set[Any]]]:
        """Return what is needed of it, and what that needs."""
        return super().cull({key for key in self if key in keys}, all_hlg_keys)


class TaskLayer(_QuicklyCulled, MaterializedLayer):
    """What a `LazyLayer` is pickled as."""


class LazyLayer(_QuicklyCulled):
    """All of a `LazyGraph`, or one task of it, as a layer; what is pickled is a `TaskLayer`.

    Parameters
    ----------
    graph
        Of which it is a part.
    name
        Of the task; None: all of them.
    """

    def __init__(self, graph: LazyGraph, name: str | None = None) -> None:
        super().__init__()
        self._graph, self._name = graph, name

    @property
    def annotations(self) -> dict[str, Any] | None:
        """What Dask is told about its task; a value needs no worker of a certain kind."""
        if self._name is None or not (told := self._graph.tasks[self._name].annotations):
            return None
        return None if self._graph.is_known(self._name) else told

    @annotations.setter
    def annotations(self, ambient: object) -> None:
        """Leave alone what holds where somebody uses this as an input."""

    @property
    def mapping(self) -> Mapping[str, Any]:
        """The nodes by name."""
        return self._part_of(self._graph.in_this_process())

    def _part_of(self, nodes: dict[str, Any]) -> dict[str, Any]:
        return nodes if self._name is None else {self._name: nodes[self._name]}

    def __getitem__(self, key: Any) -> Any:
        return self.mapping[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.mapping)

    def __len__(self) -> int:
        return len(self.mapping)

    def __contains__(self, key: object) -> bool:
        return key in self.mapping

    def __reduce__(self) -> tuple[Any, ...]:
        return _materialized, (dict(self._part_of(self._graph.nodes)), self.annotations)

    def is_materialized(self) -> bool:
        """Whether it has been looked up."""
        return self._graph._nodes is not None

    def get_output_keys(self) -> Any:
        """Return the names of all that may be in it."""
        return {*self._graph.tasks, *self._graph._given} if self._name is None else {self._name}


def _materialized(nodes: dict[str, Any], annotations: dict[str, Any] | None) -> TaskLayer:
    layer = TaskLayer(nodes)
    layer.annotations = annotations
    return layer


def layers_of(
    name: str, tasks: Mapping[str, GraphTask], given: Mapping[str, Any]
) -> tuple[dict[str, Layer], dict[str, set[str]]]:
    """Return the layers of a `LazyGraph`, and which needs which; parameters are those of that.

    Annotations are those of a layer: where there are any, each task is a layer. Of those that have the same
    name in graphs of several collections Dask keeps one. So none is empty because its own collection does not
    need it; where nobody does, Dask leaves it out.
    """
    annotated = any(one.annotations for one in tasks.values())
    graph = LazyGraph(name, tasks, given, whole=annotated)
    if not annotated:
        return {name: LazyLayer(graph)}, {name: set()}
    layers: dict[str, Layer] = {other: LazyLayer(graph, other) for other in tasks}
    futures = f"{name}:given"
    needs = {
        other: {upstream if upstream in tasks else futures for upstream in one.upstream.values()}
        for other, one in tasks.items()
    }
    if given:
        layers[futures], needs[futures] = _materialized(dict(given), None), set()
    return layers, needs
