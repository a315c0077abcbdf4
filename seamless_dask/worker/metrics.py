"""What each heartbeat of a worker tells of it."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Worker

    from .services import DaskWorker

EVERY = 5.0
"""Seconds after which the node cache is counted again."""


class WorkerMetrics:
    """Called with the worker at each heartbeat, in its event loop."""

    def __init__(self, equipment: DaskWorker) -> None:
        self._equipment = equipment
        self._counted, self._files, self._bytes = float("-inf"), 0, 0
        self._counting: threading.Thread | None = None

    def __call__(self, worker: Worker) -> dict[str, Any]:
        """Return what the page and the figures show."""
        del worker
        self._equipment.mind()
        context = self._equipment.context
        self._see_to_counting(context.config.node_cache)
        return {
            "cache_bytes": self._bytes,
            "cache_files": self._files,
            "cache_limit": context.config.node_cache_size,
            "fetched_bytes": getattr(context.store, "fetched", 0),
            "stored_bytes": getattr(context.store, "stored", 0) + getattr(context.database, "stored", 0),
            "running": self._equipment.running(),
        }

    def _see_to_counting(self, directory: str) -> None:
        """Have it counted beside the event loop: a cache of many files, or on a slow disk, takes its time."""
        is_under_way = self._counting is not None and self._counting.is_alive()
        if not is_under_way and time.monotonic() - self._counted > EVERY:
            self._counted = time.monotonic()
            self._counting = threading.Thread(target=self._count, args=(directory,), daemon=True)
            self._counting.start()

    def _count(self, directory: str) -> None:
        with suppress(OSError):
            self._files = len(os.listdir(f"{directory}/.admitted"))
        with suppress(OSError, ValueError), open(f"{directory}/.total", encoding="ascii") as file:
            self._bytes = int(file.read())
