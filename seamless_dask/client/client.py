"""`Client`: as Dask's, but what functions that `direct` or `delayed` made are asked for is looked up first.

What is found is a future that is finished, and of which the scheduler hears only when it needs to: when the
future is an argument of another task, is pickled, or named in what the scheduler is asked or told.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import distributed
from dask.utils import disable_gc
from distributed import Future
from distributed.utils_comm import pack_data, unpack_remotedata

from ..api import Transformation, contexts_of
from ..errors import UsageError
from ..functions import Function, put
from ..graph import handles, lazy_graph
from ..graph.collection import annotations_of
from ..graph.dask_client import hand_over_objects
from ..graph.objects import FailedLoad
from ..protocol import discovery
from .calls import AT_ONCE, Calls, ForeignFuture, graph_of, resolved
from .dask import PlainClient, Procedures, get_annotations, hear_of_uses, is_as_assumed, names_in, referred_to
from .found import SMALL, FoundCall, FoundState, found_in, load_all, raise_first

if TYPE_CHECKING:
    from hashserver.checksum import Checksum

    from ..context import Context
    from ..model.options import Options
    from .calls import Arguments

NO_SECURITY = (
    "a tls:// address takes certificates: security=Security(tls_ca_file=…, tls_client_cert=…,"
    " tls_client_key=…), or seamless_dask.connect() with the name or the connection file of the daskserver"
)
LOOKED_UP_AT_ONCE = 2500
"""How many keys are in a request: meanwhile the names of as many others are found out."""
PATIENCE = 5.0
"""Seconds for which a question to the scheduler waits for what it is about."""

_ASKED = {*inspect.signature(distributed.Client.submit).parameters, "batch_size"} - {
    "self", "func", "args", "kwargs",
}  # fmt: skip
"""Keywords of `submit` and `map` that are Dask's; all others are arguments of the function."""


class Client(PlainClient):  # type: ignore[misc]
    """A client of Dask that looks for the results of functions before it has them computed.

    Parameters are those of `distributed.Client`. `submit` and `map` of what `direct` or `delayed` made name
    tasks by what they compute. Anything else is as in Dask.

    Parameters
    ----------
    places : Context, optional
        Store and database; by default those of the configuration, or of the scheduler.

    Attributes
    ----------
    dashboard : str or None
        Where the dashboard is, if the scheduler cannot tell.
    """

    def __init__(self, *args: Any, places: Context | None = None, **kwargs: Any) -> None:
        self._only_here: set[Any] = set()
        self._noted = threading.local()
        self.places = places
        self._looks_up = is_as_assumed()
        self.dashboard: str | None = None
        if places is not None:
            handles.use(places)
            weakref.finalize(self, places.close)
        hand_over_objects()
        hear_of_uses()
        super().__init__(*args, **kwargs)

    @property
    def dashboard_link(self) -> Any:
        """Where the scheduler's dashboard is."""
        return self.dashboard or super().dashboard_link

    async def _start(self, *args: Any, **kwargs: Any) -> Any:
        try:
            found = await super()._start(*args, **kwargs)
        except TypeError as error:
            if "ssl_context" not in str(error):
                raise
            await self._close()
            raise UsageError(NO_SECURITY) from None
        if self.places is None and self._asynchronous:  # no thread may wait for its answer later
            await discovery.ask_once(self)
        return found

    # ------------------------------------------------------------------ what is asked for

    def submit(self, func: Any, *args: Any, **kwargs: Any) -> Any:
        """Have a function called; as of Dask, and what is known is found."""
        if not (isinstance(func, Function) and self._looks_up):
            self._tell_of((args, kwargs))
            return super().submit(func, *args, **kwargs)
        asked = {name: kwargs.pop(name) for name in _ASKED & kwargs.keys()}
        names = [asked.pop("key", None)]
        try:
            return self._asked(func, [(args, kwargs)], names, None, **asked)[0]
        except ForeignFuture:
            self._tell_of((args, kwargs))
            return super().submit(func, *args, key=names[0], **asked, **kwargs)

    def map(self, func: Any, *iterables: Any, **kwargs: Any) -> Any:
        """Have a function called with the members of collections; as of Dask, and what is known is found."""
        is_ours = isinstance(func, Function) and self._looks_up and iterables
        if not is_ours or not all(hasattr(each, "__len__") for each in iterables):
            self._tell_of((iterables, kwargs))
            return super().map(func, *iterables, **kwargs)
        asked = {name: kwargs.pop(name) for name in _ASKED & kwargs.keys()}
        key = asked.pop("key", None)
        calls = [(args, kwargs) for args in zip(*iterables, strict=False)]
        names = [None] * len(calls) if key is None or isinstance(key, str) else list(key)
        try:
            return self._asked(func, calls, names, key if isinstance(key, str) else None, **asked)
        except ForeignFuture:
            self._tell_of((iterables, kwargs))
            return super().map(func, *iterables, key=key, **asked, **kwargs)

    def compute(self, collections: Any, sync: bool = False, *args: Any, **kwargs: Any) -> Any:
        """Compute collections; as of Dask, and transformations that are known are found."""
        is_one = not isinstance(collections, list | tuple | set | frozenset)
        wanted = [collections] if is_one else list(collections)
        ours = [one for one in wanted if isinstance(one, Transformation)] if self._looks_up else []
        futures = self._computed(ours) if ours else {}
        if not futures:
            return super().compute(collections, sync, *args, **kwargs)
        places = [futures.get(one.name) if isinstance(one, Transformation) else None for one in wanted]
        rest = [one for one, future in zip(wanted, places, strict=True) if future is None]
        others = iter(super().compute(rest, False, *args, **kwargs) if rest else ())
        found: Any = [next(others) if future is None else future for future in places]
        found = self.gather(found) if sync else found
        return found[0] if is_one else found

    def put(self, value: Any) -> handles.Handle:
        """Store a value once, and return a handle that functions take in its place."""
        return put(value, context=self._place(None))

    def _asked(
        self,
        function: Function[..., Any],
        calls: list[Arguments],
        names: list[Any],
        label: str | None,
        *,
        pure: bool = True,
        batch_size: int | None = None,
        **asked: Any,
    ) -> list[Future[Any]]:
        """Return the futures of calls; parameters that are not named here are Dask's."""
        if asked.pop("actor", False) or asked.pop("actors", False):
            raise UsageError(f"{function!r} cannot be an actor: what it returns is a result, and no actor")
        if asked.get("allow_other_workers") and asked.get("workers") is None:
            raise ValueError("Only use allow_other_workers= if using workers=")
        if not callable(function.function) or not calls:
            return []
        context = self._place(function)
        ours = Calls.of(function, context, label, fresh=not pure)
        shared = ours.shared(calls[0][1]) if len(calls) > 1 else calls[0][1]
        given = self._resolved_all(shared, context)
        calls = [(tuple([resolved(each, self, context) for each in args]), given) for args, _ in calls]
        futures: dict[Any, Future[Any]] = {}
        if not ours.fresh:
            names, futures = self._held_or_found(ours, calls, names)
        missing: dict[Any, tuple[Any, Arguments]] = {}
        for number, (name, call) in enumerate(zip(names, calls, strict=True)):
            if name is None or name not in futures:
                missing[number if name is None else name] = name, call
        futures |= self._missed(ours, missing, batch_size or AT_ONCE, asked)
        return [futures[number if name is None else name] for number, name in enumerate(names)]

    def _place(self, function: Function[..., Any] | None) -> Context:
        """Return where results of a function are, if this client is to compute them."""
        if function is not None and function._context is not None:
            handles.use(function._context)
            return function._context
        if self.places is not None:
            return self.places
        with self.as_current():
            return handles.default_context()

    def _resolved_all(self, given: dict[str, Any], context: Context) -> dict[str, Any]:
        return {name: resolved(each, self, context) for name, each in given.items()}

    def _held_or_found(
        self, ours: Calls, calls: list[Arguments], names: list[Any]
    ) -> tuple[list[Any], dict[Any, Future[Any]]]:
        """Return the names of calls, and futures of those that this client holds or that are known.

        A request looks up thousands, while the names of the next ones are found out.
        """
        futures: dict[Any, Future[Any]] = {}
        parts: list[dict[Any, Checksum]] = []
        options = ours.function._options
        # nothing of all that is garbage, and to look for some takes as long as all else
        with disable_gc(), lazy_graph.LookUps(ours.context, SMALL) as lookups:
            for start in range(0, len(calls), LOOKED_UP_AT_ONCE):
                stop = start + LOOKED_UP_AT_ONCE
                keys = ours.keys(calls[start:stop])
                pairs = zip(names[start:stop], keys, strict=True)
                names[start:stop] = [ours.name(key) if name is None else name for name, key in pairs]
                parts.append(dict(zip(names[start:stop], keys, strict=True)))
                held = self._held(parts[-1])
                futures |= held
                lookups.ask(list(dict.fromkeys(key for name, key in parts[-1].items() if name not in held)))
            for part in parts:
                wanted = ((name, key, options) for name, key in part.items())
                futures |= self._found(wanted, lookups, ours.context)
        return names, futures

    def _held(self, names: Iterable[Any]) -> dict[Any, Future[Any]]:
        held: dict[Any, Future[Any]] = {}
        with self._refcount_lock:
            for name in names:
                state = self.futures.get(name)
                if state is not None and state.status in ("pending", "finished"):
                    held[name] = Future(name, self)
        return held

    def _found(
        self, wanted: Iterable[tuple[Any, Checksum, Options]], lookups: lazy_graph.LookUps, context: Context
    ) -> dict[Any, Future[Any]]:
        """Return futures of what the next answer says is known, by their names."""
        futures: dict[Any, Future[Any]] = {}
        known = lookups.answer()
        objects = lookups.objects
        with self._refcount_lock:
            for name, key, options in wanted:
                if (value := known.get(key)) is None:
                    continue
                if (state := self.futures.get(name)) is None:
                    self.futures[name] = FoundState(
                        name, FoundCall(key, options, value, context, objects.get(value.checksum))
                    )
                    self._only_here.add(name)
                elif state.status not in ("pending", "finished"):
                    continue  # it has failed, and is asked for anew
                futures[name] = Future(name, self)
        return futures

    def _computed(self, transformations: list[Transformation]) -> dict[Any, Future[Any]]:
        """Return futures of those transformations that this client holds or that are known."""
        asked = {one.name: one for one in transformations if one.is_looked_up}
        futures = self._held(asked)
        with self.as_current():
            contexts = contexts_of(asked.values())
        places: dict[Context, list[Transformation]] = {}
        for name, one in asked.items():
            if name not in futures:
                places.setdefault(contexts[name], []).append(one)
        for context, wanted in places.items():
            with disable_gc(), lazy_graph.LookUps(context, SMALL) as lookups:
                parts = [wanted[n : n + LOOKED_UP_AT_ONCE] for n in range(0, len(wanted), LOOKED_UP_AT_ONCE)]
                for part in parts:
                    lookups.ask([one.key for one in part])
                for part in parts:
                    named = ((one.name, one.key, one.options) for one in part)
                    futures |= self._found(named, lookups, context)
        return futures

    def _missed(
        self, ours: Calls, missing: Mapping[Any, tuple[Any, Arguments]], size: int, asked: dict[str, Any]
    ) -> dict[Any, Future[Any]]:
        """Have what is not known stored and computed, so many at a time."""
        if missing:
            ours.store_shared()
        asked = _with_options(ours, asked)
        futures: dict[Any, Future[Any]] = {}
        identifiers = list(missing)
        for start in range(0, len(identifiers), size):
            part = identifiers[start : start + size]
            made = ours.made(missing[one] for one in part)
            graph = graph_of(made)
            with self._refcount_lock:
                for one in made:
                    if (state := self.futures.get(one._name)) is not None and state.status != "pending":
                        state.retry()
            found = self.get(graph, [one._name for one in made], sync=False, **asked)
            futures |= dict(zip(part, found, strict=True))
        return futures

    # ------------------------------------------------------------------ what is only here

    def _hand_over(self, names: Iterable[Any]) -> None:
        """Tell the scheduler of futures that it does not know, which are about to be used there."""
        tasks: dict[Any, Any] = {}
        with self._refcount_lock:
            for name in names:
                if name in self._only_here:
                    self._only_here.discard(name)
                    if (found := found_in(self.futures.get(name))) is not None:
                        tasks[name] = found.task(name)
        if tasks:
            for future in self.get(tasks, list(tasks), sync=False):
                future.release()

    def _tell_of(self, value: Any) -> None:
        """Hand over the futures in something."""
        if self._only_here:
            self._hand_over([each.key for each in distributed.futures_of(value) if each.client is self])

    def _pickled(self, name: Any) -> None:
        """Take note of a future that is pickled: who reads it asks the scheduler for its result."""
        noted: list[Any] | None = getattr(self._noted, "names", None)
        if noted is not None:
            noted.append(name)
        elif name in self._only_here:
            self._hand_over([name])

    def _graph_to_futures(self, expr: Any, keys: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        """Send a graph; what it refers to goes before it."""
        keys = list(keys)
        if not self._only_here:
            return super()._graph_to_futures(expr, keys, *args, **kwargs)
        self._only_here.difference_update(keys)  # it is in this graph
        self._hand_over(referred_to(expr) & self._only_here)
        with self._noting():
            return super()._graph_to_futures(expr, keys, *args, **kwargs)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        self._noted.names = []
        try:
            yield
        finally:
            del self._noted.names

    def _send_to_scheduler(self, msg: Any) -> None:
        noted, self._noted.names = getattr(self._noted, "names", None), None
        try:
            if self._only_here:
                self._hand_over([*(noted or ()), *names_in(msg)])
            super()._send_to_scheduler(msg)
        finally:
            self._noted.names = noted

    def _release_key(self, key: Any) -> None:
        if key not in self._only_here:
            super()._release_key(key)
            return
        self._only_here.discard(key)
        state = self.futures.pop(key, None)
        if state is not None:
            state.cancel()

    def _handle_restart(self) -> None:
        super()._handle_restart()
        self._only_here.clear()

    @property
    def scheduler(self) -> Any:
        """The scheduler's procedures."""
        return self._procedures

    @scheduler.setter
    def scheduler(self, procedures: Any) -> None:
        self._procedures = None if procedures is None else Procedures(procedures, self._known_there)

    async def _known_there(self, asked: Mapping[str, Any]) -> None:
        """See to it that the scheduler knows of futures that it is asked about."""
        if not self._only_here or not (names := set(names_in(asked)) & self._only_here):
            return
        states = [state for name in names if isinstance(state := self.futures.get(name), FoundState)]
        told = [state.being_told() for state in states]
        self._hand_over(names)
        # without our plugin it takes a worker, which there may not be: then that is what is to be seen
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(event.wait() for event in told))

    # ------------------------------------------------------------------ gathering

    async def _gather(
        self, futures: Any, errors: str = "raise", direct: Any = None, local_worker: Any = None
    ) -> Any:
        if not self.futures:
            return await super()._gather(futures, errors, direct, local_worker)
        unpacked, wanted = _unpacked(futures)
        found = {
            one.key: known
            for one in wanted
            if one.client is self and (known := found_in(self.futures.get(one.key))) is not None
        }
        if not found:
            return await super()._gather(futures, errors, direct, local_worker)
        rest = [one for one in wanted if one.key not in found]
        if rest and errors != "raise":
            await self._known_there({"keys": list(found)})
            return await super()._gather(futures, errors, direct, local_worker)
        objects = await asyncio.to_thread(load_all, found)
        if errors == "raise":
            raise_first(objects.values())
        elif isinstance(unpacked, list):
            bad = {name for name, one in objects.items() if isinstance(one, FailedLoad)}
            unpacked = [one for one in unpacked if one not in bad]
        if rest:
            others = await super()._gather(rest, errors, direct, local_worker)
            objects |= {one.key: value for one, value in zip(rest, others, strict=True)}
        return pack_data(unpacked, objects)


def _unpacked(futures: Any) -> tuple[Any, Iterable[Any]]:
    """Return names in the places of futures, and these; as Dask does, which walks through what is inside."""
    if type(futures) is list and all(type(one) is Future for one in futures):
        return [one.key for one in futures], futures
    found: tuple[Any, Iterable[Any]] = unpack_remotedata(futures, byte_keys=True)
    return found


def _with_options(ours: Calls, asked: dict[str, Any]) -> dict[str, Any]:
    """Return what Dask is told about tasks: what a function asks for comes on top of what the call says."""
    told = annotations_of(ours.function._options)
    if (resources := told.get("resources")) is not None:
        given = asked.get("resources") or get_annotations().get("resources") or {}
        asked = asked | {"resources": given | resources}
    if not asked.get("priority") and (priority := told.get("priority")):
        asked = asked | {"priority": priority}
    return asked
