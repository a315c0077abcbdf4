"""From what a client is asked for to calls with an identity, and from those to a graph."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from dask.highlevelgraph import HighLevelGraph
from dask.sizeof import sizeof
from distributed import Future

from hashserver.checksum import Hasher

from .. import api
from ..api import Output, Parts, Transformation
from ..errors import UsageError
from ..graph import handles
from ..graph.arguments import stored
from ..graph.handles import Handle
from ..graph.names import dask_key, fresh_key, key_in, label_of
from ..model.options import Options
from ..submitted import LARGE
from ..values.writing import encode
from .found import found_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from distributed import Client

    from hashserver.checksum import Checksum

    from ..context import Context
    from ..functions import Function
    from ..model.call_form import CallForm
    from ..values.writing import Encoded

    Arguments = tuple[tuple[Any, ...], dict[str, Any]]

WHEN_LARGE = 10_000_000
"""Bytes of an argument above which a warning says what is better."""
AT_ONCE = 1000
"""How many transformations are made before they are stored and sent: what they are made of is in memory."""
_CONTAINERS = (list, tuple, set, frozenset, dict)


class Submitted(Transformation):
    """One that a client has been given already, as an input of another."""

    def __init__(self, future: Future[Any], key: Checksum, context: Context) -> None:
        vars(self).update(options=Options())
        self._key, self._name, self._arrived = key, str(future.key), False
        self._context, self._kept, self._parts = context, [context], Parts(context, b"")
        found = found_in(future._state)
        self._graph = {self._name: future if found is None else found.task(self._name)}

    @property
    def checksum(self) -> Checksum | None:
        """Not known here."""
        return None


class Calls(NamedTuple):
    """A function as a client is to call it.

    Attributes
    ----------
    function
        With the context of the client, and what it has been told.
    context
        Where results are looked for.
    label
        What stands before ``-tf-`` in names of tasks.
    form
        Of the code, which is looked at once for all calls.
    large
        Arguments that all calls have, of which only the names have been passed on.
    """

    function: Function[..., Any]
    context: Context
    label: str
    form: CallForm | None
    large: list[Encoded]

    @classmethod
    def of(cls, function: Function[..., Any], context: Context, label: str | None, *, fresh: bool) -> Calls:
        """Return a function as it is called in a context, by default under its own name."""
        own = function.same()
        own._context = context
        if fresh:
            own._options = own._options._replace(fresh=True)
        identified = own._identified()
        if label is None:
            text = own._identity or identified.text
            label = label_of(text.decode("utf-8", "replace"))
        return cls(own, context, label, identified.form, [])

    @property
    def fresh(self) -> bool:
        """Whether calls are to run whatever is known."""
        return self.function._options.fresh

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Checksum:
        """Return the key of a call."""
        key = None if self.form is None else self.form.plain_key((*self.function._instance, *args), kwargs)
        if key is None:
            _warn_of_large([*args, *kwargs.values()])
            key = self.function._described(self.context, args, kwargs).key
        return key

    def keys(self, calls: list[Arguments]) -> list[Checksum]:
        """Return the keys of calls that have their keywords in common."""
        if self.form is None or self.function._instance:
            return [self.key(args, kwargs) for args, kwargs in calls]
        found = self.form.plain_keys([args for args, _ in calls], calls[0][1])
        return [key or self.key(*call) for key, call in zip(found, calls, strict=True)]

    def shared(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return keywords that all calls have, with handles for what takes long to identify."""
        if not self.function._keeps_inputs:
            return kwargs
        return {name: self._handle(value) if _is_large(value) else value for name, value in kwargs.items()}

    def _handle(self, value: Any) -> Any:
        encoded = encode(value)
        if encoded.holes:
            return value
        self.large.append(encoded)
        hasher = Hasher()
        encoded.write(hasher.update)
        return handles.of(encoded.format, hasher.finish())

    def store_shared(self) -> None:
        """Store the values of those handles."""
        for encoded in self.large:
            stored(self.context.store, encoded.write)
        self.large.clear()

    def name(self, key: Checksum) -> str:
        """Return the name of the task of a call."""
        return dask_key(key, self.label)

    def made(self, calls: Iterable[tuple[str | None, Arguments]]) -> list[Transformation]:
        """Return the transformations of some calls, under the names that these are to have in Dask."""
        named = fresh_key if self.fresh else dask_key
        made = []
        for name, (args, kwargs) in calls:
            one = self.function._made(self.function._described(self.context, args, kwargs))
            one._name = name or named(one._key, self.label)
            made.append(one)
        return made


def graph_of(transformations: list[Transformation]) -> dict[str, Any] | HighLevelGraph:
    """Return what Dask is to be given, after all of it has been stored."""
    if all(not one._parts.upstream for one in transformations):
        contexts = api._keep(transformations)
        return {one._name: one._task(contexts[one._name]).made_with({}) for one in transformations}
    api._keep([step for one in transformations for step in one._steps().values()])
    return HighLevelGraph.merge(*(one.__dask_graph__() for one in transformations))


def _is_large(value: Any) -> bool:
    return not isinstance(value, Handle | Transformation | Future) and sizeof(value) > LARGE


def _warn_of_large(arguments: Iterable[Any]) -> None:
    sizes = [sizeof(one) for one in arguments if not isinstance(one, Handle | Transformation)]
    if sizes and max(sizes) > WHEN_LARGE:
        warnings.warn(
            f"an argument of {max(sizes) / 1e6:.0f} MB is passed by value, to be read for each call:"
            " store it once by handle = client.put(…), and pass that",
            stacklevel=2,
        )


class ForeignFuture(Exception):
    """An argument is a future of whose result no identity is known before it is there."""


def resolved(item: Any, client: Client, context: Context) -> Any:
    """Return an argument with transformations in the places of the futures that stand for such.

    Raises
    ------
    ForeignFuture
        One stands for something else.
    UsageError
        One is of another cluster.
    """
    if isinstance(item, Future):
        return _transformation(item, client, context)
    if type(item) not in _CONTAINERS or not any(_futures_in(item)):
        return item
    if isinstance(item, dict):
        return {key: resolved(each, client, context) for key, each in item.items()}
    return type(item)(resolved(each, client, context) for each in item)


def _futures_in(item: Any) -> Iterator[bool]:
    if isinstance(item, Future):
        yield True
    elif type(item) in _CONTAINERS:
        for each in item.values() if isinstance(item, dict) else item:
            yield from _futures_in(each)


def _transformation(future: Future[Any], client: Client, context: Context) -> Output:
    from hashserver.checksum import Checksum

    found = found_in(future._state)
    name = key_in(future.key) if found is None else found.key
    if future.client is not client and (name is None or found is None):
        raise UsageError(
            f"the future {future.key} is one of another client's: pass its result, or the transformation"
        )
    if name is None:
        raise ForeignFuture
    return Output(Submitted(future, Checksum(name), context), None)
