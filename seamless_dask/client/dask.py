"""What has to be known of Dask's own classes, to notice where a future is used."""

from __future__ import annotations

import inspect
import logging
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any

import dask
import distributed
from dask._task_spec import GraphNode, TaskRef
from dask.highlevelgraph import HighLevelGraph
from distributed import Future
from distributed.client import FutureState
from distributed.diagnostics import progressbar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

log = logging.getLogger("distributed.client.seamless")

_ASSUMED = {
    "_gather": ("self", "futures", "errors", "direct", "local_worker"),
    "_graph_to_futures": ("self", "expr", "keys"),
    "_handle_restart": ("self",),
    "_inc_ref": ("self", "key"),
    "_release_key": ("self", "key"),
    "_send_to_scheduler": ("self", "msg"),
    "_start": ("self", "timeout"),
}
"""Methods of Dask's client that ours extends or relies on, and how their parameters begin."""

PlainClient: Any = distributed.Client
PlainState: Any = FutureState
get_annotations: Any = dask.get_annotations  # type: ignore[attr-defined]
_is_heard = False


def is_as_assumed() -> bool:
    """Whether Dask's client is one that ours can look up results for; where it is not, a warning says so."""
    for name, parameters in _ASSUMED.items():
        method = getattr(PlainClient, name, None)
        if method is None or tuple(inspect.signature(method).parameters)[: len(parameters)] != parameters:
            log.warning("results are looked up by the scheduler only: Dask's Client.%s is another", name)
            return False
    return True


def hear_of_uses() -> None:
    """Have futures tell their client where Dask uses them without asking it."""
    global _is_heard
    if _is_heard:
        return
    _is_heard = True
    future: Any = Future
    future.__reduce__ = _telling_reduce(future.__reduce__)
    bars: tuple[Any, ...] = progressbar.ProgressBar, progressbar.MultiProgressBar
    for bar in bars:
        bar.__init__ = _telling_init(bar.__init__)


def _telling_reduce(reduce: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @wraps(reduce)
    def wrapped(self: Any) -> Any:
        told = getattr(self._client, "_pickled", None)
        if told is not None:
            told(self.key)
        return reduce(self)

    return wrapped


def _telling_init(make: Callable[..., None]) -> Callable[..., None]:
    @wraps(make)
    def wrapped(self: Any, keys: Any, *args: Any, **kwargs: Any) -> None:
        keys = list(keys)
        for client in {getattr(each, "client", None) for each in keys}:
            if client is not None and hasattr(client, "_tell_of"):
                client._tell_of(keys)
        make(self, keys, *args, **kwargs)

    return wrapped


class Procedures:
    """The procedures of a scheduler; before one is called `tell` is awaited with its arguments."""

    def __init__(self, procedures: Any, tell: Callable[[Mapping[str, Any]], Awaitable[None]]) -> None:
        self._procedures, self._tell = procedures, tell

    def __getattr__(self, name: str) -> Any:
        procedure = getattr(self._procedures, name)
        if not inspect.iscoroutinefunction(procedure):
            return procedure

        async def call(**arguments: Any) -> Any:
            await self._tell(arguments)
            return await procedure(**arguments)

        return call


_NAMING = ("key", "keys", "keys_or_stimuli")


def names_in(message: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the names of tasks that a message to the scheduler is about."""
    for field in _NAMING:
        yield from _flat(message.get(field))


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):  # a name, or several
        with suppress(TypeError):
            hash(value)
            yield value
    if isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _flat(each)


def referred_to(expression: Any) -> set[Any]:
    """Return the names of the tasks that a graph refers to, as far as it is there as such."""
    found: set[Any] = set()
    for operand in getattr(expression, "operands", ()):
        layers = operand.layers.values() if isinstance(operand, HighLevelGraph) else [operand]
        for layer in layers:
            if isinstance(layer, dict) or (hasattr(layer, "is_materialized") and layer.is_materialized()):
                for node in dict(layer).values():
                    if isinstance(node, GraphNode):
                        found |= node.dependencies
                    elif isinstance(node, TaskRef):
                        found.add(node.key)
    return found
