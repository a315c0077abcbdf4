"""How many bytes workers have fetched and stored, those that are gone included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from distributed.diagnostics.plugin import SchedulerPlugin

if TYPE_CHECKING:
    from distributed import Scheduler


class Bytes(NamedTuple):
    """Bytes that came to workers, and bytes that went from them."""

    fetched: int = 0
    stored: int = 0


def of(ws: Any) -> Bytes:
    """Return what a worker has told with its last heartbeat."""
    told = ws.metrics.get("seamless", {})
    return Bytes(int(told.get("fetched_bytes", 0)), int(told.get("stored_bytes", 0)))


class BufferTraffic(SchedulerPlugin):
    """Keeps the last word of each worker."""

    name = "seamless-moved"

    def __init__(self, scheduler: Scheduler) -> None:
        self._here = dict(scheduler.workers)
        self._gone = Bytes()

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Hear that a worker is there."""
        self._here[worker] = scheduler.workers[worker]

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Hear that a worker is gone."""
        del scheduler
        if ws := self._here.pop(worker, None):
            self._gone = _sum(self._gone, of(ws))

    def total(self) -> Bytes:
        """Return what all have moved."""
        return _sum(self._gone, *map(of, self._here.values()))


def _sum(*counted: Bytes) -> Bytes:
    return Bytes(*map(sum, zip(*counted, strict=True)))
