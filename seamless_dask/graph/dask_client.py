"""All private API of Dask's client that is needed: what it gathers of ours becomes objects.

A handle is what travels. Were it made an object where it is unpickled, that would happen in the client's
event loop, which answers nobody meanwhile. So what has been gathered is loaded in threads before it is handed
over.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from hashserver.checksum import Checksum
from hashserver.errors import HashserverError

from ..errors import ComputationFailed, SeamlessError, UsageError
from ..protocol import discovery
from . import handles
from .handles import Handle, Object, deliver_by
from .names import key_in
from .objects import FailedLoad, loaded, loaded_many, raised

if TYPE_CHECKING:
    from distributed import Client

THREADS = 8
"""In which what is gathered at once is loaded."""

log = logging.getLogger("distributed.client.seamless")

_ASSUMED = {
    ("Client", "_gather"): ("self", "futures", "errors", "direct", "local_worker"),
    ("Client", "_gather_remote"): ("self", "direct", "local_worker"),
    ("Future", "_exception"): ("self",),
    ("Future", "_result"): ("self", "raiseit"),
}
"""Coroutine functions that are called on the class, and their parameters."""

_installing = threading.Lock()
_is_installed = False
_with_handles: WeakSet[Client] = WeakSet()
_failed: WeakKeyDictionary[Client, dict[str, Exception]] = WeakKeyDictionary()
"""What could not be loaded: told to whoever asks for that, and to nobody who gathers other keys with it."""


def hand_over_objects() -> None:
    """Have all clients of this process hand over objects, outside their event loop if Dask is as assumed."""
    global _is_installed
    with _installing:
        if _is_installed:
            return
        _is_installed = True
        import distributed

        classes = {"Client": distributed.Client, "Future": distributed.Future}
        for (owner, name), parameters in _ASSUMED.items():
            if not _is_as_assumed(getattr(classes[owner], name, None), parameters):
                log.warning(
                    "results are loaded in the event loop that receives them: Dask's %s.%s is another",
                    owner,
                    name,
                )
                deliver_by(_delivered)
                return
        _wrap(distributed.Client, distributed.Future)
        _leave_out_own_frames()


def hand_over_in_tasks() -> None:
    """Have clients of tasks in this worker's process do so.

    Where the scheduler is in this process, too, its first graph of ours sees to that: until then all clients
    of the process stay as Dask made them, to the frames of tracebacks.
    """
    import distributed

    if not _has_any(distributed.Scheduler):
        hand_over_objects()


def _has_any(kind: Any) -> bool:
    """Whether there are schedulers, or workers, in this process."""
    return bool(getattr(kind, "_instances", ()))


def _leave_out_own_frames() -> None:
    """Have Dask leave out our frames where it leaves out its own: in tracebacks, and in what asked."""
    import dask

    for name, own in (
        ("admin.traceback.shorten", r"seamless_dask[\\\/](client|graph)[\\\/]"),
        ("distributed.diagnostics.computations.ignore-modules", "seamless_dask"),
    ):
        if isinstance(known := dask.config.get(name, None), list):
            dask.config.set({name: [*known, own]})


def keep_handles(client: Client) -> None:
    """Have one client of this process gather handles all the same."""
    _with_handles.add(client)


def _is_as_assumed(function: Any, parameters: tuple[str, ...]) -> bool:
    return (
        inspect.iscoroutinefunction(function) and tuple(inspect.signature(function).parameters) == parameters
    )


def _wrap(client_class: Any, future_class: Any) -> None:
    gather, gather_remote = client_class._gather, client_class._gather_remote
    exception, result = future_class._exception, future_class._result

    async def _gather_remote(self: Any, direct: bool, local_worker: Any) -> dict[str, Any]:
        """Gather what several have asked for, and load what is ours.

        It answers with a dictionary, in which ``data`` are the values by their keys, unless some are lost.
        """
        response: dict[str, Any] = await gather_remote(self, direct, local_worker)
        if response.get("status") == "OK" and self not in _with_handles:
            await _load(self, response["data"])
        return response

    async def _gather(
        self: Any, futures: Any, errors: str = "raise", direct: Any = None, local_worker: Any = None
    ) -> Any:
        try:
            found = await gather(self, futures, errors=errors, direct=direct, local_worker=local_worker)
        except ComputationFailed as failure:
            raise await _raised(self, failure) from None
        if errors == "raise" and (failed := _failed.get(self)):
            from distributed.utils_comm import unpack_remotedata

            for future in unpack_remotedata(futures)[1]:
                if future.key in failed:
                    raise failed.pop(future.key)
        return found

    async def _result(self: Any, raiseit: bool = True) -> Any:
        """Return the result, or what Dask knows of a failure, in which the exception is the second."""
        try:
            found = await result(self, raiseit)
        except ComputationFailed as failure:
            raise await _raised(self.client, failure) from None
        if self.status == "error" and isinstance(found, tuple) and isinstance(found[1], ComputationFailed):
            error = await _raised(self.client, found[1])
            return type(error), error, error.__traceback__
        return found

    async def _exception(self: Any) -> Any:
        found = await exception(self)
        return await _raised(self.client, found) if isinstance(found, ComputationFailed) else found

    client_class._gather, client_class._gather_remote = _gather, _gather_remote
    future_class._exception, future_class._result = _exception, _result
    if not hasattr(future_class, "checksum"):
        future_class.checksum = property(_checksum)


def _checksum(future: Any) -> Any:
    """Return the checksum of a result, which is not fetched; an asynchronous client's is to be awaited."""
    return future.client.sync(_checksum_of, future)


async def _checksum_of(future: Any) -> Checksum:
    """Return the same: what the scheduler has is a handle, unless the task is none of ours.

    `Client.scheduler` is what asks the scheduler; it answers ``gather`` as `_gather_remote` says.
    """
    await future._state.wait()
    if future.status == "finished" and (future.type is None or _is_handle(future.type)):
        response = await future.client.scheduler.gather(keys=[future.key])
        found = response["data"].get(future.key) if response["status"] == "OK" else None
        if isinstance(found, Handle):
            return found.checksum
    elif future.status != "finished":
        await future._result()  # which raises what it has come to
    raise UsageError(f"{future.key} is no result of a transformation, and has no checksum")


def _is_handle(kind: Any) -> bool:
    """Say whether a future's type, or the name of it, is one of ours: no value of others is gathered.

    What no worker has computed or holds has none.
    """
    name = str(getattr(kind, "__name__", kind))  # with the module's, or without
    return name.rpartition(".")[2] in ("Object", "File", "Directory", "Results")


def _delivered(found: Object) -> Any:
    try:
        return loaded(found, Checksum(str(found.key)))
    except (HashserverError, SeamlessError, RuntimeError):  # it says so again where it is read
        return found


async def _raised(client: Client, failure: ComputationFailed) -> Exception:
    if client in _with_handles or failure.exception is None:
        return failure
    return await asyncio.to_thread(raised, failure)


async def _load(client: Client, data: dict[Any, Any]) -> None:
    """Put objects in the places of handles of ours."""
    found = [
        (key, value, Checksum(name))
        for key, value in data.items()
        if isinstance(value, Object) and (name := value.key or key_in(key)) is not None
    ]
    if not found:
        return
    failed = _failed.setdefault(client, {})

    def load(part: list[tuple[Any, Object, Checksum]]) -> None:
        found = loaded_many([(handle, name) for _, handle, name in part])
        for (key, *_), value in zip(part, found, strict=True):
            if isinstance(value, FailedLoad):  # those who ask for this one are to see it
                failed[key] = value.error
            else:
                failed.pop(key, None)
                data[key] = value

    parts = [found[start::THREADS] for start in range(min(THREADS, len(found)))]
    await asyncio.gather(*(asyncio.to_thread(load, part) for part in parts))


# ------------------------------------------------------------------------ programs that only read


def _unpickled(format: str, checksum: str, key: str) -> Any:  # noqa: A002 - the field's word
    """Return the result of a transformation that a worker or a scheduler has sent."""
    if not (_is_installed or handles.is_delivered()):
        _see_to_reader()
    return handles._unpickled(format, checksum, key)


handles.arrive_by(_unpickled)


def _see_to_reader() -> None:
    """Have a program get objects that has done nothing by which `hand_over_objects` would have been called.

    It only reads what others have computed. What it gathers is under way already, and becomes an object where
    it is unpickled. Schedulers and workers keep handles.
    """
    import distributed

    if _has_any(distributed.Scheduler) or _has_any(distributed.Worker):
        return
    with suppress(ValueError):  # there is no client
        discovery.ask_in_its_loop(distributed.Client.current())
        deliver_by(_delivered)
