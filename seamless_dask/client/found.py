"""Futures of what a client has found: finished at once, and unknown to the scheduler until it needs them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UntrustedValue
from ..graph import handles
from ..graph.collection import known_task_of
from ..graph.objects import FailedLoad, loaded, small_buffers
from ..values.loading import load
from .dask import PlainState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hashserver.checksum import Checksum

    from ..context import Context
    from ..model.options import Options
    from ..model.transformation import Value

AT_ONCE = 1000
"""How many of these are in memory before they are objects."""
SMALL = 256
"""Bytes of an object that are kept with its future until somebody asks for it."""


class FoundCall(NamedTuple):
    """What is known of a call; ``data`` are the bytes, verified, of an object that is small."""

    key: Checksum
    options: Options
    value: Value
    context: Context
    data: bytes | None = None

    def task(self, name: str) -> Any:
        """Return what stands for it in a graph."""
        return known_task_of(self.key, self.options, self.value, name)


class FoundState(PlainState):  # type: ignore[misc]
    """The state of such a future; what others have done to it since counts more than what was found.

    There are thousands: an event is made when somebody waits for one.
    """

    __slots__ = ("_found", "_told")

    def __init__(self, name: str, found: FoundCall) -> None:
        super().__init__(name)
        of_dask: Any = self
        self._found, of_dask.status = found, "finished"
        self._told: asyncio.Event | None = None

    @property
    def found(self) -> FoundCall | None:
        """What was found, as long as that is how it is."""
        return self._found if self.status == "finished" else None

    def _get_event(self) -> asyncio.Event:
        of_dask: Any = self
        event: asyncio.Event | None = of_dask._event
        if event is None:
            event = of_dask._event = asyncio.Event()
            if self.status == "finished":
                event.set()
        return event

    def done(self) -> bool:
        """Whether nothing more is waited for."""
        return self._get_event().is_set()

    def being_told(self) -> asyncio.Event:
        """Return what is set when the scheduler tells of it, to which it is about to be handed over."""
        if self._told is None:
            self._told = asyncio.Event()
        return self._told

    def finish(self, type: Any = None) -> None:  # noqa: A002 - Dask's name
        """Take note that the scheduler has it."""
        super().finish(type)
        self._has_told()

    def cancel(self, reason: Any = None, msg: Any = None) -> None:
        """Take note that it is withdrawn."""
        super().cancel(reason, msg)
        self._has_told()

    def set_error(self, exception: Any, traceback: Any) -> None:
        """Take note that it could not be had there."""
        super().set_error(exception, traceback)
        self._has_told()

    def _has_told(self) -> None:
        if self._told is not None:
            self._told.set()


def found_in(state: Any) -> FoundCall | None:
    """Return what a client has found for a future, by its state."""
    return state.found if isinstance(state, FoundState) else None


def load_all(wanted: Mapping[str, FoundCall]) -> dict[str, Any]:
    """Return the objects of many futures by their names; an exception where there is none."""
    places: dict[Context, dict[str, FoundCall]] = {}
    for name, one in wanted.items():
        places.setdefault(one.context, {})[name] = one
    objects: dict[str, Any] = {}
    for context, here in places.items():
        objects |= _load_in(context, here)
    return objects


def _load_in(context: Context, wanted: Mapping[str, FoundCall]) -> dict[str, Any]:
    objects: dict[str, Any] = {}
    rest: dict[Checksum, list[str]] = {}
    for name, one in wanted.items():
        constant = handles.constants.get(one.value, handles.UNSEEN)
        if constant is handles.UNSEEN and one.data is not None:
            objects[name] = _object(one, one.data)
        elif constant is handles.UNSEEN:
            rest.setdefault(one.value.checksum, []).append(name)
        else:
            objects[name] = constant
    checksums = list(rest)
    for start in range(0, len(checksums), AT_ONCE):
        part = checksums[start : start + AT_ONCE]
        there = small_buffers(context, part) if len(part) > 1 else {}
        for checksum in part:
            for name in rest[checksum]:
                objects[name] = _object(wanted[name], there.get(checksum))
    return objects


def _object(found: FoundCall, data: bytes | None) -> Any:
    try:
        if data is not None and handles.is_object(found.value.format):
            try:
                return load(found.value.format, bytearray(data))
            except UntrustedValue:
                pass  # the database is asked whether it has named that itself
        handle = handles.of(*found.value)
        handle._context = found.context
        if not isinstance(handle, handles.Object):
            return handle
        return loaded(handle, found.key, found.context)
    except Exception as error:  # whatever it is, those who ask for this one are to see it
        return FailedLoad(error)


def raise_first(objects: Iterable[Any]) -> None:
    """Raise what could not be loaded."""
    for one in objects:
        if isinstance(one, FailedLoad):
            raise one.error
