"""Known results that were found without the scheduler: command lines ask the hashserver."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.errors import HashserverError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashserver.client.transport import Transport

EVERY = 1.0
"""Seconds after which the hashserver is asked again, while somebody looks."""
_NAME = "hashserver_direct_hits_total "


class DirectHits:
    """Called for their number; it is asked for behind the caller's back, and tells what was known last.

    Parameters
    ----------
    open_transport
        Returns the way to the hashserver; called once.
    """

    def __init__(self, open_transport: Callable[[], Transport]) -> None:
        self._open = open_transport
        self._transport: Transport | None = None
        self._asking: asyncio.Task[None] | None = None
        self._asked = float("-inf")
        self._before = self._now = 0

    def __call__(self) -> int:
        """Return how many there have been; call it in the event loop."""
        is_asking = self._asking is not None and not self._asking.done()
        if not is_asking and time.monotonic() - self._asked > EVERY:
            self._asked = time.monotonic()
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return self._before + self._now

    async def _ask(self) -> None:
        with suppress(HashserverError, OSError, ValueError):  # it is started again; the count goes on then
            found = await asyncio.to_thread(self._figure)
            if found < self._now:  # another process, which began at nothing
                self._before += self._now
            self._now = found

    def _figure(self) -> int:
        if self._transport is None:
            self._transport = self._open()
        with self._transport.request("GET", "/metrics", whole=True) as response:
            lines = response.read().decode().splitlines()
        return next(int(line.removeprefix(_NAME)) for line in [*lines, f"{_NAME}0"] if line.startswith(_NAME))
