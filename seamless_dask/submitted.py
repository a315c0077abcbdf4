"""Functions on their way through Dask: what tells their calls from others, and the text that runs.

What a stock client's graph holds in the place of a function is a `SubmittedFunction`. It is made of texts,
bytes and numbers only, so that nothing of the user's is unpickled in the scheduler, and that a worker has the
code though no store was ever given it.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.checksum import Checksum, Hasher, hash_bytes
from hashserver.printable import one_line

from . import api
from .api import Output, Transformation
from .errors import NotAValue, UsageError
from .graph import handles
from .graph.current_worker import current_task
from .graph.handles import Handle
from .graph.objects import loaded
from .model.call_form import CallForm
from .model.options import Options
from .model.transformation import ARGUMENT, Deferred, Value, parse
from .values.writing import encode, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hashserver.checksum import Bytes

    from .context import Context
    from .model.transformation import Description

LARGE = 1 << 20
"""Bytes of an argument above which none are kept in memory."""


_FRESH = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(-\d+)?\Z")


def says_fresh(name: str) -> bool:
    """Whether a task has the name that `submit` and `map` of a client give to what is not pure."""
    return _FRESH.search(name) is not None


class OwnArgument(NamedTuple):
    """What a function has for an argument by itself, a default or an instance: it, and what is inside."""

    values: tuple[tuple[str, str], ...]


class NoDefault(NamedTuple):
    """A default that nothing stands for: left to the function, or ``why`` not."""

    why: str | None = None


class FunctionFacts(NamedTuple):
    """What of a function travels.

    Attributes
    ----------
    name : str
        That people call it by.
    common : bytes
        Canonical form of what all calls have in common.
    options : str
        `Options` of a call, as JSON.
    parameters : tuple
        Name, kind and default of each; the default is a plain value, an `OwnArgument` or a `NoDefault`.
    tells_defaults : bool
        Whether defaults count as arguments.
    instance : tuple of OwnArgument
        Of a method: its first argument.
    ignored : tuple of str
        Names of arguments that do not count.
    beside : dict
        What the code reads without counting: format and checksum by names of inputs.
    keeps_inputs : bool
        Whether arguments are stored.
    code : bytes
        The text that identifies it.
    buffers : tuple of bytes
        What else a run of it needs in the store.
    """

    name: str
    common: bytes
    options: str
    parameters: tuple[tuple[str, int, Any], ...]
    tells_defaults: bool
    instance: tuple[OwnArgument, ...]
    ignored: tuple[str, ...]
    beside: dict[str, tuple[str, str]]
    keeps_inputs: bool
    code: bytes
    buffers: tuple[bytes, ...]


class SubmittedFunction:
    """A function as the scheduler and the workers see it; a call returns what the function computes.

    Parameters
    ----------
    facts
        That it was pickled as.
    """

    def __init__(self, facts: FunctionFacts) -> None:
        self.facts = facts
        self.__name__ = facts.name
        self.common: Description = parse(facts.common)
        self.options = Options.from_json(facts.options)
        fresh = self.options._replace(fresh=True).to_json()
        self._options_json = {False: self.options.to_json(), True: fresh}
        self._signature = inspect.Signature(
            [
                inspect.Parameter(name, inspect._ParameterKind(kind), default=default)
                for name, kind, default in facts.parameters
            ]
        )
        self._ignored = frozenset(facts.ignored)
        self._form = (
            CallForm.of(self.common, self._signature, facts.ignored) if facts.tells_defaults else None
        )

    def __reduce__(self) -> tuple[Any, ...]:
        from .graph.task import PROTOCOL

        return _unpickled, (PROTOCOL, tuple(self.facts))

    def __repr__(self) -> str:
        return f"<submitted function {self.__name__}>"

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Return what it computes: where no gate has seen to it, this task, or one of others, calls it."""
        name = f"{self.__name__}-"
        fresh = (task := current_task()) is not None and task.startswith(name) and says_fresh(task)
        found = self.transformation(handles.contexts_of_process()[0], args, kwargs, fresh=fresh)
        handle = _run(found)
        return loaded(handle, found.key) if isinstance(handle, handles.Object) else handle

    def plain_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Checksum | None:
        """Return the key of a call with plain and short values only, all of which count; else None."""
        if self._form is None or self.facts.instance or self.facts.beside or self._ignored:
            return None
        return self._form.plain_key(args, kwargs)

    def options_json(self, fresh: bool) -> str:
        """Return how a call is run of which all arguments count."""
        return self._options_json[fresh]

    def described(
        self, parts: api.Parts, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Description, Options]:
        """Return what a call is, and how it is run; `parts` is given what it is made of."""
        facts = self.facts
        inputs = dict(self.common.inputs)
        beside: dict[str, Value | Deferred] = {
            name: Value(kind, Checksum(checksum)) for name, (kind, checksum) in facts.beside.items()
        }
        given = (*facts.instance, *args)
        for name, item, counts in arguments_of(
            self._signature, self._form, self._ignored, given, kwargs, self._fill
        ):
            (inputs if counts else beside).update(inputs_of(parts, name, item))
        options = self.options._replace(
            ignored={name: beside_of(name, value) for name, value in beside.items()},
            not_kept=tuple(sorted({each.name for each in parts.handed})),
        )
        return self.common._replace(inputs=inputs), options

    def parts(self, context: Context | None) -> api.Parts:
        """Return what a call is made of beside its arguments."""
        parts = api.Parts(context, self.facts.code, keeps_inputs=self.facts.keeps_inputs)
        parts.buffers += self.facts.buffers
        return parts

    def transformation(
        self, context: Context, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False
    ) -> Transformation:
        """Return a call as a transformation."""
        parts = self.parts(context)
        description, options = self.described(parts, args, kwargs)
        parts.store_large()
        return api.made(description, options._replace(fresh=fresh or options.fresh), context, parts)

    def _fill(self, bound: inspect.BoundArguments) -> None:
        if not self.facts.tells_defaults:
            return
        bound.apply_defaults()
        for name, item in list(bound.arguments.items()):
            if isinstance(item, NoDefault):
                if item.why is not None:
                    raise NotAValue(item.why)
                del bound.arguments[name]


class PickledArgument:
    """An argument as its pickle, which is read where its call runs.

    Dask unpickles arguments with the message that brings them: a worker that cannot read one, because its
    pandas is another, would lose its connection to the scheduler, and all that it holds.

    Parameters
    ----------
    data
        The pickle.
    buffers
        What is beside it; not copied on its way.
    """

    __slots__ = ("_buffers", "_data")

    def __init__(self, data: bytes, buffers: Sequence[Any]) -> None:
        self._data, self._buffers = data, buffers

    @classmethod
    def of(cls, value: Any) -> PickledArgument:
        """Return an argument as its pickle."""
        from distributed.protocol import pickle

        buffers: list[Any] = []
        return cls(pickle.dumps(value, buffer_callback=buffers.append), buffers)

    def __reduce__(self) -> tuple[Any, ...]:
        return PickledArgument, (self._data, [PickleBuffer(buffer) for buffer in self._buffers])

    def load(self) -> Any:
        """Return the argument.

        Raises
        ------
        UsageError
            This process has not what it consists of.
        """
        from distributed.protocol import pickle

        try:
            return pickle.loads(self._data, buffers=self._buffers)
        except Exception as error:  # whatever unpickling comes to
            raise UsageError(
                one_line(
                    f"{sys.executable} on {os.uname().nodename} cannot read an argument"
                    f" ({type(error).__name__}: {error}): install there what the client has, or pass"
                    " put(value) in its place"
                )
            ) from None


def _read(item: Any) -> Any:
    """Return an argument, or a collection of such, as its call is to have it."""
    if isinstance(item, PickledArgument):
        return item.load()
    if type(item) in (list, tuple, set):
        return type(item)([_read(each) for each in item])
    return {key: _read(each) for key, each in item.items()} if type(item) is dict else item


def _unpickled(protocol: int, facts: tuple[Any, ...]) -> SubmittedFunction:
    """Return what was pickled, by a client of this version."""
    from .graph.task import check_protocol

    check_protocol(protocol, "process")
    return SubmittedFunction(FunctionFacts(*facts))


def run_call(
    protocol: int, function: SubmittedFunction, named: str | None, fresh: bool, /, *args: Any, **kwargs: Any
) -> Handle:
    """Run a call that the scheduler could not identify, unless its result is known.

    Parameters
    ----------
    protocol : int
        `graph.task.PROTOCOL` of whoever made the graph.
    function : SubmittedFunction
        That is called.
    named : str or None
        The key that its task's name is about, as the user has it.
    fresh : bool
        A result on record is not enough.
    """
    from .graph.task import check_protocol

    check_protocol(protocol)
    context = handles.contexts_of_process()[0]
    found = function.transformation(context, _read(args), _read(kwargs), fresh=fresh)
    check_name(function, named, found.key)
    return _run(found)


def check_name(function: SubmittedFunction, named: str | None, key: Checksum) -> None:
    """Raise `UsageError` for a call that was given the name of another one."""
    if named is not None and named != key:
        raise UsageError(
            f"key= names another call of {function.__name__}: give {function.__name__}.keys() all arguments"
            " of map, those by keyword too"
        )


def _run(found: Transformation) -> Handle:
    known = None if found.options.fresh else found.context.database.lookup(found.key)
    if known is not None:
        return handles.of(known[1].format, known[1].checksum, found.key)
    handle: Handle = found.run_in_task()
    return handle


# ------------------------------------------------------------------------ arguments as inputs


def arguments_of(
    signature: inspect.Signature,
    form: CallForm | None,
    ignored: frozenset[str],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    fill: Callable[[inspect.BoundArguments], None],
) -> Iterator[tuple[str, Any, bool]]:
    """Yield all arguments, also those left out: by the name of an input, and whether it counts.

    Parameters
    ----------
    fill
        Called with what was given, to add the defaults that count.
    """
    quickly = None if form is None else form.bound(args, kwargs)
    if quickly is not None:
        yield from ((name, item, name not in ignored) for name, item in quickly.items())
        return
    bound = signature.bind(*args, **kwargs)
    fill(bound)
    for name, value in bound.arguments.items():
        kind, counts = signature.parameters[name].kind, name not in ignored
        if kind is inspect.Parameter.VAR_POSITIONAL:
            yield from ((str(number), item, counts) for number, item in enumerate(value))
        elif kind is inspect.Parameter.VAR_KEYWORD:
            for keyword, item in value.items():
                yield _keyword(keyword), item, counts and keyword not in ignored
        else:
            yield name, value, counts


def inputs_of(parts: api.Parts, name: str, item: Any) -> dict[str, Value | Deferred]:
    """Return the inputs for one argument; `parts` is given what they are made of."""
    if isinstance(item, Transformation | Output | Handle):
        return {name: parts.value(name, item)}
    if isinstance(item, OwnArgument):
        first, *inner = [Value(kind, Checksum(checksum)) for kind, checksum in item.values]
        return {name: first, **{f"{name}/{number}": value for number, value in enumerate(inner)}}
    if (known := plain(item)) is not None and len(known[1]) <= LARGE:  # without a walk
        written, data = known
        checksum = hash_bytes(data)
        parts.add(name, checksum, data, lambda sink: sink(data))
        return {name: Value(written, checksum)}
    check_identity(name, item)
    found: dict[str, Value | Deferred] = {}
    held: dict[str, Value | Deferred] = {}

    def hole(each: Any) -> str | None:
        if not isinstance(each, Transformation | Output | Handle):
            return None
        value = parts.value(name, each)
        text = f"{type(value).__name__}{tuple(value)}"
        held[text] = value
        return text

    encoded = encode(item, f"argument {name!r}", hole)
    hasher, small = Hasher(), list[bytes]()

    def take(part: Bytes) -> None:
        hasher.update(part)
        if hasher.size <= LARGE:
            small.append(bytes(part))

    encoded.write(take)
    checksum = hasher.finish()
    parts.add(name, checksum, b"".join(small) if hasher.size <= LARGE else None, encoded.write)
    found[name] = Value(encoded.format, checksum)
    # Not in the order in which they were met: members of a set are met in one, and written in another.
    found |= {f"{name}/{number}": held[text] for number, text in enumerate(encoded.holes)}
    return found


def check_identity(name: str, item: Any) -> None:
    """Refuse what nothing but its identity tells apart: another one would arrive."""
    if type(item) is object:
        raise NotAValue(
            f"argument {name!r} is an object() that is known by its identity only: use None or an enum"
        )


def beside_of(name: str, value: Value | Deferred) -> list[str]:
    """Return what stands for an argument that does not count."""
    if isinstance(value, Deferred):
        raise UsageError(
            f"argument {name.partition('/')[0]!r} does not count (ignore=), so it cannot be a transformation:"
            " pass its result"
        )
    return [value.format, value.checksum]


def _keyword(name: str) -> str:
    """Return the name of the input for a keyword that the function has no parameter for."""
    found = ARGUMENT.fullmatch(f"**{name}")
    if found is None or found[2] is not None or not name.isprintable():
        raise UsageError(one_line(f"{name!r:.80} cannot be the name of an argument: pass a dict"))
    return f"**{name}"
