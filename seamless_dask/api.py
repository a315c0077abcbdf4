"""Transformations in Python: each is a Dask collection of one task.

Building one runs nothing. What its graph needs in the store, of all transformations that have been built, is
uploaded in one go when the first graph is asked for.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from functools import partial
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakSet

from hashserver.checksum import hash_bytes
from hashserver.errors import BufferMissing
from hashserver.printable import one_line, visible

from .config import parse_size
from .errors import ComputationFailed, UsageError
from .execution.call import INSIDE
from .graph import handles
from .graph.arguments import HandedArguments, LargeArgument, of_source, stored
from .graph.handles import Directory, File, Handle, Located
from .graph.local_inputs import LocalInput, keep_all
from .graph.names import dask_key, fresh_key, label_of
from .graph.objects import loaded, loaded_if_there, raised, trimmed
from .model.options import Options
from .model.transformation import Deferred, Description, ResultSpec, Value, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashserver.checksum import Bytes, Checksum
    from hashserver.results.result import Result

    from .context import Context
    from .graph.lazy_graph import GraphTask

    Input: TypeAlias = "Transformation | Output | Handle | bytes"
    Write: TypeAlias = Callable[[Callable[[Bytes], None]], object]

__all__ = ["Directory", "File", "Output", "Transformation", "bash"]

SHOWN = 2000
"""Characters of the code that a notebook shows."""
SMALL = 200
"""Bytes of an argument that it shows as text."""

_INTERNAL = ("upstream", "foreign", "lines", "ignored", "source", "not_kept", "handed")
"""Options that travel with a transformation, and that nobody gives."""
_lock = threading.RLock()
_pending: dict[Context, WeakSet[Transformation]] = {}


def bash(
    code: str,
    inputs: Mapping[str, Input] | None = None,
    *,
    stdin: Input | None = None,
    variables: Mapping[str, str | float | os.PathLike[str]] | None = None,
    results: str | Iterable[str] = (),
    globs: str | Iterable[str] = (),
    stdout: bool | None = None,
    shell_flags: str | None = None,
    context: Context | None = None,
    **options: Any,
) -> Transformation:
    """Describe a command to be run in Bash.

    Parameters
    ----------
    code
        The shell text.
    inputs
        Path, as the command sees it → a `File`, a `Directory`, the bytes of a file, another transformation
        (its standard output or only result), or a result of one by its name: ``other["out.csv"]``.
    stdin
        What its standard input reads; empty by default.
    variables
        In its environment, and part of the identity; numbers and paths count as their text.
    results
        Files and directories that it writes.
    globs
        Patterns; each gives a directory of the files that match.
    stdout
        Whether its standard output is a result; by default when nothing else is.
    shell_flags
        Instead of ``-eo pipefail``.
    context
        Store and database; by default those of the configuration, or where that names none those of the
        scheduler that this process has a client of when the graph is asked for.
    **options
        How it is run, by the names of `seamless_dask.model.options.Options`: ``cpus``, ``memory``,
        ``time_limit``, ``conda``, ``scratch``, …

    Raises
    ------
    UsageError
        For an input that is not there, or an option that does not exist.
    """
    if not isinstance(code, str):
        raise UsageError("the code of bash() must be text")
    if "run" in options:
        raise UsageError("bash() has no option 'run': a command runs in processes of its own")
    if context is not None:
        handles.use(context)
    parts = Parts(context or handles.default_context(), code.encode("utf-8", "surrogateescape"))
    description = Description(
        language="bash",
        code=hash_bytes(parts.buffers[0]),
        result=_result_spec(results, globs, stdout),
        inputs={name: parts.value(name, item) for name, item in (inputs or {}).items()},
        stdin=None if stdin is None else parts.value("stdin", stdin),
        variables=variables_of(variables) if variables else None,
        shell_flags=shell_flags,
    )
    return made(description, options_of(options, "bash()", refused=("run",)), context, parts)


def made(description: Description, options: Options, context: Context | None, parts: Parts) -> Transformation:
    """Return a transformation; what it is made of is stored together with that of others."""
    transformation = Transformation(description, options, context, parts)
    place = parts.context or transformation.context
    with _lock:
        _pending.setdefault(place, WeakSet()).add(transformation)
    return transformation


def value_of(key: Checksum, known: Result, context: Context, *, named: bool) -> Any:
    """Return the object that a function returned once.

    Parameters
    ----------
    key, known
        Of the call, and what a look-up of it has given.
    context
        Where it was looked up.
    named
        Whether the user has named that context: no other is asked for the bytes then.
    """
    constant = handles.constants.get((known.format, known.checksum), handles.UNSEEN)
    if constant is not handles.UNSEEN:
        return constant
    found = handles.of(known.format, known.checksum)
    found._context = context  # where its bytes are nearly always: no other place is thought of before
    if not isinstance(found, handles.Object):
        found._context = context if named else None
        return found
    try:
        return loaded_if_there(found, key, [context], known)
    except BufferMissing:
        found._context = context if named else None
        return loaded(found, key, context, known)


class Output:
    """One result of a transformation, by its name; to be an input of another one."""

    def __init__(self, transformation: Transformation, path: str | None) -> None:
        self.transformation, self.path = transformation, path

    def __repr__(self) -> str:
        return f"{self.transformation!r}[{self.path!r}]"


class _FromDask:
    """A function of Dask's that a collection has as its own: Dask compares what collections have there."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return getattr(import_module(self._module), self._name)


class Transformation:
    """A computation with an identity; a Dask collection of one task beyond those that it needs.

    What `compute` hands over is a `File`, a `Directory`, or `seamless_dask.graph.handles.Results` where
    several results are declared; of a function the object that it returns. Made by `bash`, and by calling
    what `delayed` has made of a function.

    Attributes
    ----------
    description : Description
        What identifies it.
    options : Options
        How it is run.
    """

    description: Description
    options: Options

    def __init__(
        self, description: Description, options: Options, context: Context | None, parts: Parts
    ) -> None:
        vars(self).update(description=description, options=options)
        self._context, self._parts = context, parts
        self._kept: list[Context] = []
        self._document = description.canonical()
        self._key = hash_bytes(self._document)
        label = label_of(parts.buffers[0].decode("utf-8", "replace"))
        name = fresh_key if options.fresh else dask_key
        self._name = name(self._key, label)
        self._graph: Any = None
        self._arrived = False
        # As those of a layer of a `Delayed`: what holds where it is built, not where it is computed. Another
        # thread may be importing Dask at this moment: then nobody has annotated anything yet.
        get_annotations = getattr(sys.modules.get("dask"), "get_annotations", dict)
        self._annotated: dict[str, Any] = dict(get_annotations())

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise AttributeError(f"{name} cannot be set: a transformation does not change, make another one")
        super().__setattr__(name, value)

    @property
    def context(self) -> Context:
        """Store and database; for what was pickled those of the worker or process that it has come to."""
        if self._context is not None:
            return self._context
        return handles.contexts_of_process()[0] if self._arrived else handles.default_context()

    @property
    def key(self) -> Checksum:
        """Identity: its checksum, or the structural key where it needs another one's result."""
        return self._key

    @property
    def name(self) -> str:
        """The name of its task in Dask."""
        return self._name

    @property
    def is_looked_up(self) -> bool:
        """Whether a result on record is enough, and Dask has not been given it already (``persist``)."""
        return not self.options.fresh and self._graph is None

    @property
    def checksum(self) -> Checksum | None:
        """The transformation's checksum; None while a result that it needs is not known."""
        if not self.description.deferred:
            return self._key
        found = self.context.database.lookup(self._key)
        return None if found is None else found[0]

    def __getitem__(self, path: str) -> Output:
        """Return one of its results, or something inside one, as an input for others."""
        return Output(self, path)

    def __iter__(self) -> Any:
        raise TypeError("a transformation has no members before it is computed; name the one you mean")

    def __repr__(self) -> str:
        label = f"{one_line(self.options.label)}: " if self.options.label else ""
        return f"Transformation({label}{self._name[: self._name.index('-tf-') + 12]}…)"

    def __hash__(self) -> int:
        return hash(self._name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transformation) and self._name == other._name

    def _repr_html_(self) -> str:
        from .graph.lazy_graph import state_of

        code = self._parts.buffers[0].decode("utf-8", "replace")
        shown = code if len(code) <= SHOWN else f"{code[:SHOWN]}…"
        texts = {hash_bytes(data): data for data in self._parts.buffers[1:] if len(data) <= SMALL}
        given = [(name, self._shown(value, texts)) for name, value in self.description.inputs.items()]
        if self.description.stdin is not None:
            given.append(("stdin", self._shown(self.description.stdin, texts)))
        given += (self.description.variables or {}).items()
        rows = "".join(f"<tr><td>{_html(name)}</td><td>{_html(text)}</td></tr>" for name, text in given)
        table = f"<table>{rows}</table>" if rows else ""
        state = state_of(self.context, self._key)
        return f"<p>{_html(repr(self))}: {_html(state)}</p>{table}<pre>{_html(shown)}</pre>"

    def _shown(self, value: Value | Deferred, texts: Mapping[Checksum, bytes]) -> str:
        """Return an input as a notebook shows it: a small value by its text."""
        if isinstance(value, Deferred):
            upstream = self._parts.upstream.get(value.of)
            return f"{value.of[:8]}…" if upstream is None else repr(upstream)
        if value.format == "json/1" and value.checksum in texts:
            return texts[value.checksum].decode("utf-8", "replace")
        return f"{value.format} {value.checksum[:8]}…"

    def __copy__(self) -> Transformation:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Transformation:
        del memo
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        steps = list(self._steps().values())
        _keep(steps)  # whoever unpickles it has another file system
        return _unpickled, (self._name, [step._packed() for step in steps])

    def is_known(self) -> bool:
        """Tell whether the result is on record; nothing runs."""
        return self._known() is not None

    @property
    def result_checksum(self) -> Checksum | None:
        """The checksum of the result; None while it is not known."""
        known = self._known()
        return None if known is None else known.checksum

    @property
    def record(self) -> dict[str, Any] | None:
        """Where and how the result was computed; None while it is not known."""
        checksum = self.checksum
        known = None if checksum is None else self.context.database.get(checksum)
        return None if known is None else known.record

    def cancel(self) -> bool:
        """Withdraw what was asked for by whoever uses this cache or server; False: nothing was under way."""
        from .executors.opening import executor

        runs = executor(self.context)
        try:
            return runs.cancel(self.key)
        finally:
            runs.close()

    def _known(self) -> Result | None:
        found = self.context.database.lookup(self._key)
        return None if found is None else found[1]

    def compute(self, **kwargs: Any) -> Any:
        """Return the result: of a function the object, of a command handles of what it wrote."""
        __tracebackhide__ = True  # for IPython and pytest; others show this one frame of ours
        try:
            found = self._handle(**kwargs)
            return loaded(found, self._key, self.context) if isinstance(found, handles.Object) else found
        except ComputationFailed as failure:
            raise trimmed(raised(failure)) from None
        except Exception as error:
            raise trimmed(error)  # noqa: B904 - it is the same

    def _asked_for(self) -> Any:
        """Ask whoever runs the function that this is made in; its environment need not have Dask."""
        from .graph.task import elsewhere

        return elsewhere(self._key, self._alone())

    def run_in_task(self) -> Any:
        """Run it in a task of Dask's that was made for something else; returns the handle of its result."""
        from .graph.task import PROTOCOL, run

        options = self._alone()
        handed = HandedArguments(self._parts.handed) if self._parts.handed else None
        return run(PROTOCOL, str(self._key), options.to_json(), handed=handed)

    def _alone(self) -> Options:
        """Have what it needs stored, and return options that say how those are run that it needs."""
        steps = self._steps()
        _keep(steps.values())
        upstream = {
            str(step.key): step.options.to_json() for name, step in steps.items() if name != self._name
        }
        return self.options._replace(upstream=upstream)

    def _handle(self, **kwargs: Any) -> Any:
        if INSIDE in os.environ and "scheduler" not in kwargs and "distributed" not in sys.modules:
            return self._asked_for()
        dask = import_module("dask.base")
        if self.options.run == "here":
            if self.options.fresh or not self.is_known():
                self._compute_upstream(**kwargs)
            kwargs["scheduler"] = "synchronous"  # in this very thread, whatever client there is
        elif "scheduler" not in kwargs and len(self._steps()) == 1 and dask.get_scheduler() is None:
            # A single step is waited for in this thread, where Ctrl-C and the interruption of a cell arrive
            # and withdraw it. One that a thread of Dask's pool waited for would go on.
            kwargs["scheduler"] = "synchronous"
        (found,) = dask.compute(self, traverse=False, **kwargs)
        return found

    def _compute_upstream(self, **kwargs: Any) -> None:
        upstream = [] if self._graph is not None else list(self._parts.upstream.values())
        import_module("dask.base").compute(
            *[step for step in upstream if step.options.run != "here"], traverse=False, **kwargs
        )
        for step in upstream:
            if step.options.run == "here":
                step._handle(**kwargs)

    def persist(self, **kwargs: Any) -> Transformation:
        """Return the same with its result on its way to be kept where it is computed; as of Dask."""
        (found,) = import_module("dask.base").persist(self, traverse=False, **kwargs)
        persisted: Transformation = found
        return persisted

    def visualize(self, filename: str = "mydask", format: str | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Draw the graph; as of Dask."""
        return import_module("dask.base").visualize(
            self, traverse=False, filename=filename, format=format, **kwargs
        )

    def __await__(self) -> Any:
        return import_module("dask.base").DaskMethodsMixin.__await__(self)

    # -------------------------------------------------- what Dask asks of a collection

    __dask_scheduler__ = _FromDask("dask.threaded", "get")
    __dask_optimize__ = _FromDask("dask.delayed", "optimize")

    def __dask_graph__(self) -> Any:
        """Return the tasks of this one and of those that it needs, having stored what they need.

        Which of them are known is looked up when somebody reads the graph, and no later.
        """
        if sys._getframe(1).f_code.co_name == "is_dask_collection":
            return {}  # all that it asks is whether this is None, before and after the graph is asked for
        from dask.highlevelgraph import HighLevelGraph

        from .graph.interrupts import hear_of_interrupts
        from .graph.lazy_graph import layers_of

        hear_of_interrupts()
        if "distributed" in sys.modules:  # a client of it may be asked to compute this
            from .graph.dask_client import hand_over_objects

            hand_over_objects()
        steps = self._steps()
        contexts = _keep(steps.values())
        if self._graph is not None:
            return self._graph
        given: dict[str, Any] = {}
        for step in steps.values():
            given |= step._graph or {}
        tasks = {name: step._task(contexts[name]) for name, step in steps.items() if step._graph is None}
        return HighLevelGraph(*layers_of(self._name, tasks, given))

    def __dask_keys__(self) -> list[str]:
        return [self._name]

    def __dask_layers__(self) -> tuple[str, ...]:
        return (self._name,)

    def __dask_tokenize__(self) -> str:
        return self._name

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[()]]:
        # that of Delayed: with any other Dask adds a task of its own, which would need a worker for a hit
        return import_module("dask.delayed").single_key, ()

    def __dask_postpersist__(self) -> tuple[Callable[..., Transformation], tuple[()]]:
        return self._rebuilt, ()

    def _rebuilt(self, graph: Any, *, rename: Mapping[str, str] | None = None) -> Transformation:
        """Return the same with the graph that Dask has made of it: of what is on workers already."""
        from dask._task_spec import DataNode, GraphNode, TaskRef
        from dask.base import replace_name_in_key
        from dask.highlevelgraph import HighLevelGraph

        other = Transformation(self.description, self.options, self._context, self._parts)
        other._kept, other._arrived, other._annotated = self._kept, self._arrived, self._annotated
        other._name = replace_name_in_key(self._name, rename) if rename else self._name
        if not isinstance(graph, HighLevelGraph):
            # an object that looks like a task, or like the name of one, is neither
            nodes = GraphNode | TaskRef
            graph = {key: one if isinstance(one, nodes) else DataNode(key, one) for key, one in graph.items()}
            graph = HighLevelGraph.from_collections(other._name, graph, dependencies=())
        other._graph = graph
        return other

    # -------------------------------------------------- how

    def _steps(self) -> dict[str, Transformation]:
        """Return this one and all that it needs, by their names in Dask."""
        found: dict[str, Transformation] = {}
        waiting = [self]
        while waiting:
            step = waiting.pop()
            if step._name not in found:
                found[step._name] = step
                if step._graph is None:
                    waiting += step._parts.upstream.values()
        return found

    def _packed(self) -> tuple[Any, ...]:
        """Return what it can be made of elsewhere, without those that it needs and without its context."""
        upstream = {} if self._graph is not None else self._parts.upstream
        names = {key: step._name for key, step in upstream.items()}
        code, told = self._parts.buffers[0], (self._annotated, self._graph)
        handed = HandedArguments(self._parts.handed)
        return self._name, self._document, self.options.to_json(), code, names, told, handed

    def _task(self, context: Context) -> GraphTask:
        """Return its task, which is to run in a context."""
        from .graph import collection
        from .graph.lazy_graph import GraphTask

        upstream = {key: step._name for key, step in self._parts.upstream.items()}
        key = None if self.options.fresh else self._key
        handed = HandedArguments(self._parts.handed) if self._parts.handed else None

        def made_with(found: Mapping[Checksum, Value | str]) -> Any:
            return collection.task_of(self._key, self.description, self.options, found, self._name, handed)

        def known_as(value: Value) -> Any:
            return collection.known_task_of(self._key, self.options, value, self._name)

        is_object = self.description.result.value
        return GraphTask(context, key, upstream, made_with, known_as, self._annotations(), is_object)

    def tasks(self) -> dict[str, tuple[Any, dict[str, Any]]]:
        """Return the task of each step and what Dask is told about it, by name; without looking anything up.

        None at all where it has been persisted: then it is for whoever has the client to say what it is.
        """
        steps = self._steps()
        if any(step._graph is not None for step in steps.values()):
            return {}
        made = {name: step._task(step.context) for name, step in steps.items()}
        return {name: (one.made_with(one.upstream), one.annotations) for name, one in made.items()}

    def _annotations(self) -> dict[str, Any]:
        """Return what Dask is told about its own task: options come before what was annotated."""
        from .graph.collection import annotations_of

        told = annotations_of(self.options)
        annotated = self._annotated.get("resources")
        if annotated and "resources" in told:
            told["resources"] = annotated | told["resources"]
        return self._annotated | told


class Parts:
    """What a transformation is made of: buffers and local paths to be stored, and others that it needs."""

    def __init__(self, context: Context | None, code: bytes, *, keeps_inputs: bool = True) -> None:
        self.context, self._keeps_inputs = context, keeps_inputs
        self.buffers = [code]
        self.large: list[LargeArgument] = []
        self.handed: list[LargeArgument] = []
        self.stored: list[Checksum] = []
        self.sources: list[LocalInput] = []
        self.upstream: dict[Checksum, Transformation] = {}

    def add(self, name: str, checksum: Checksum, data: bytes | None, write: Write) -> None:
        """Take note of an argument's bytes: of `data`, or else of what `write` writes into a sink."""
        if not self._keeps_inputs:
            self.handed.append(
                LargeArgument(name, checksum, write if data is None else partial(_each, [data]))
            )
        elif data is not None:
            self.buffers.append(data)
        else:
            self.large.append(LargeArgument(name, checksum, write))

    def store_large(self) -> None:
        """Store large arguments now, from the objects: later these may have changed, and a copy takes room.

        Raises
        ------
        UsageError
            One has changed since its checksum was computed.
        """
        context, large, self.large = self.context, self.large, []
        if not large:
            return
        assert context is not None
        sizes = context.store.has([each.checksum for each in large])
        for each, size in zip(large, sizes, strict=True):
            if size < 0 and stored(context.store, each.write) != each.checksum:
                raise UsageError(
                    f"argument {each.name!r} was changed, by another thread, while it was stored"
                )
            self.stored.append(each.checksum)

    def copy_stored(self, context: Context) -> None:
        """See to it that a context has the large arguments, which may have been stored in another one."""
        first = self.context
        if first is None or first is context or not self.stored:
            return
        for checksum, size in zip(self.stored, context.store.has(self.stored), strict=True):
            if size < 0:
                stored(context.store, partial(_each, first.store.read(checksum)))

    def value(self, name: str, item: Any) -> Value | Deferred:
        """Return what stands for an input in the document."""
        if isinstance(item, Transformation):
            item = Output(item, None)
        if isinstance(item, Output):
            self.upstream[item.transformation.key] = item.transformation
            return Deferred(item.transformation.key, item.path)
        if isinstance(item, bytes | bytearray):
            self.buffers.append(bytes(item))
            return Value("file", hash_bytes(self.buffers[-1]))
        if not isinstance(item, Handle):
            is_path = isinstance(item, str | os.PathLike)
            hint = f"; a local file is File({os.fspath(item)!r})" if is_path else ""
            raise UsageError(f"input {name!r} is neither data nor a transformation{hint}")
        if not isinstance(item, Located) or item.source is None:
            return item.value
        assert self.context is not None
        if self._keeps_inputs:
            self.sources.append(item.source)
        else:
            self.handed += of_source(name, item.source, self.context)
        return Value(item.format, item.source.identify(self.context))


def _html(text: str) -> str:
    """Return text as a notebook shows it as it is, what would reorder it included."""
    return escape(visible(text))


def _each(parts: Iterable[bytes], sink: Callable[[bytes], None]) -> None:
    for part in parts:
        sink(part)


def _unpickled(name: str, packed: Iterable[tuple[Any, ...]]) -> Transformation:
    """Return what was pickled under a name."""
    made: dict[str, Transformation] = {}
    needs: dict[str, Mapping[Checksum, str]] = {}
    for step, document, options, code, needs[step], (annotated, graph), handed in packed:
        parts = Parts(None, code)
        parts.handed += handed.arguments
        one = made[step] = Transformation(parse(document), Options.from_json(options), None, parts)
        one._name, one._annotated, one._graph, one._arrived = step, annotated, graph, True
    for step, upstream in needs.items():
        made[step]._parts.upstream |= {key: made[other] for key, other in upstream.items()}
    return made[name]


def _keep(steps: Iterable[Transformation]) -> dict[str, Context]:
    """Store what some transformations need where they are to run now, which may be another place by then.

    Returns
    -------
    dict
        That place of each, by the names of their tasks.
    """
    steps = list(steps)
    contexts = contexts_of(steps)
    for step in steps:
        if (context := contexts[step._name]) not in step._kept:
            with _lock:
                _pending.setdefault(context, WeakSet()).add(step)
    for context in dict.fromkeys(contexts.values()):
        flush(context)
    return contexts


def contexts_of(transformations: Iterable[Transformation]) -> dict[str, Context]:
    """Return the store and the database of each by its name in Dask."""
    contexts: dict[str, Context] = {}
    unnamed: dict[bool, Context] = {}  # to find these takes longer than all else
    for one in transformations:
        context = one._context or unnamed.get(one._arrived)
        if context is None:
            context = unnamed[one._arrived] = one.context
        contexts[one._name] = context
    return contexts


def _forked() -> None:
    """Forget threads that a fork has not: Dask would wait for those of its pools for ever."""
    global _lock
    _lock = threading.RLock()
    threaded: Any = sys.modules.get("dask.threaded")
    if threaded is not None:
        threaded.default_pool = None
        threaded.pools.clear()
        threaded.pools_lock = threading.Lock()


os.register_at_fork(after_in_child=_forked)


def flush(context: Context) -> None:
    """Store what the transformations need that have been built in a context: all of it in one go."""
    with _lock:
        built = list(_pending.pop(context, ()))
    if not built:
        return
    try:
        for step in built:
            step._parts.copy_stored(context)
        keep_all(
            context,
            [source for step in built for source in step._parts.sources],
            [data for step in built for data in (step._document, *step._parts.buffers)],
        )
    except BaseException:
        with _lock:
            _pending.setdefault(context, WeakSet()).update(built)
        raise
    for step in built:
        step._kept.append(context)


def _result_spec(results: str | Iterable[str], globs: str | Iterable[str], stdout: bool | None) -> ResultSpec:
    paths = (results,) if isinstance(results, str) else tuple(results)
    patterns = (globs,) if isinstance(globs, str) else tuple(globs)
    return ResultSpec(not (paths or patterns) if stdout is None else stdout, paths, patterns)


def variables_of(given: Mapping[str, Any]) -> dict[str, str]:
    """Return variables as text; what has no obvious one is refused."""
    found = {}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float | os.PathLike):
            raise UsageError(f"variable {name!r} must be text, a number or a path, not {value!r}")
        found[name] = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    return found


def options_of(
    given: Mapping[str, Any], caller: str, *, refused: Iterable[str] = (), further: Iterable[str] = ()
) -> Options:
    """Check options given as keywords; sizes may be texts, and single texts stand for lists of one.

    Parameters
    ----------
    caller
        What messages call it.
    refused
        Options that it has not.
    further
        What else it takes, for a message that lists all.

    Raises
    ------
    UsageError
        For an option that it has not, or a bad value.
    """
    if not given:
        return Options()
    offered = [name for name in Options._fields if name not in {*_INTERNAL, *refused}]
    if unknown := sorted(set(given) - set(offered)):
        known = ", ".join([*further, *offered])
        raise UsageError(f"{caller} has no option {unknown[0]!r}; there are {known}")
    found = {name: value for name, value in given.items() if value is not None}
    for name in ("prologue", "modules", "writable"):
        if name in found:
            found[name] = [found[name]] if isinstance(found[name], str) else list(found[name])
    if "memory" in found:
        size = parse_size(found["memory"])
        if size is None:
            raise UsageError(f"memory must be a size such as '2 GiB', not {found['memory']!r}")
        found["memory"] = size
    try:
        return Options.from_json(json.dumps(found))
    except TypeError as error:
        raise UsageError(f"a bad option of {caller}: {error}") from None
