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
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from hashserver.checksum import Checksum

from ..errors import ComputationFailed
from .handles import Object
from .names import key_in
from .objects import loaded, raised

if TYPE_CHECKING:
    from distributed import Client

THREADS = 8
"""In which what is gathered at once is loaded."""

log = logging.getLogger("distributed.client.seamless")

_ASSUMED = {
    ("Client", "_gather"): ("self", "futures", "errors", "direct", "local_worker"),
    ("Client", "_gather_remote"): ("self", "direct", "local_worker"),
    ("Future", "_result"): ("self", "raiseit"),
}
"""Coroutine functions that are called on the class, and their parameters."""

_installing = threading.Lock()
_is_installed = False
_with_handles: WeakSet[Client] = WeakSet()
_failed: WeakKeyDictionary[Client, dict[str, Exception]] = WeakKeyDictionary()
"""What could not be loaded: told to whoever asks for that, and to nobody who gathers other keys with it."""


def hand_over_objects() -> None:
    """Have all clients of this process hand over objects; where Dask is not as assumed they keep handles."""
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
                    "results stay handles, to be read by load(): Dask's %s.%s is another", owner, name
                )
                return
        _wrap(distributed.Client, distributed.Future)
        _leave_out_own_frames()


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
    gather, gather_remote, result = (
        client_class._gather,
        client_class._gather_remote,
        future_class._result,
    )

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
            raise await _exception(self, failure) from None
        if errors == "raise" and (failed := _failed.get(self)):
            from distributed.utils_comm import unpack_remotedata

            for future in unpack_remotedata(futures)[1]:
                if future.key in failed:
                    raise failed.pop(future.key)
        return found

    async def _result(self: Any, raiseit: bool = True) -> Any:
        try:
            return await result(self, raiseit)
        except ComputationFailed as failure:
            raise await _exception(self.client, failure) from None

    client_class._gather, client_class._gather_remote = _gather, _gather_remote
    future_class._result = _result


async def _exception(client: Client, failure: ComputationFailed) -> Exception:
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
        for key, handle, name in part:
            failed.pop(key, None)
            try:
                data[key] = loaded(handle, name)
            except Exception as error:  # whatever it is, those who ask for this one are to see it
                failed[key] = error

    parts = [found[start::THREADS] for start in range(min(THREADS, len(found)))]
    await asyncio.gather(*(asyncio.to_thread(load, part) for part in parts))
