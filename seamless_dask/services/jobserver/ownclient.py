"""The jobserver's own client of the scheduler whose process it lives in."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from distributed import Client

from ...graph.dask_client import keep_handles

if TYPE_CHECKING:
    from distributed import Scheduler

NAME = "seamless-jobserver"
PREFIX = f"{Client.__name__}-{NAME}"
"""What the scheduler's names of such clients begin with."""

CLOSE_SECONDS = 5.0


class OwnClient:
    """A client that is connected when it is first needed: not before the scheduler has started.

    It speaks to the scheduler within the process, so that no certificate of a client is needed there.

    Parameters
    ----------
    scheduler : Scheduler
        Of Dask.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._address: str | None = None
        self._connecting: asyncio.Task[Any] | None = None

    async def connected(self) -> Any:
        """Return the client; another one when it has failed."""
        if self._connecting is None or _has_failed(self._connecting):
            self._connecting = asyncio.create_task(self._connect())
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> Any:
        if self._address is None:
            _find_address()
            await self._scheduler.listen("inproc://", allow_offload=False)
            self._address = self._scheduler.listeners[-1].contact_address
        connect: Any = Client
        client = await connect(self._address, asynchronous=True, name=NAME, set_as_default=False)
        keep_handles(client)
        return client

    async def close(self) -> None:
        """Disconnect."""
        if self._connecting is None:
            return
        with suppress(Exception):  # it is on its way out, whatever it says
            client = await self._connecting
            await asyncio.wait_for(client.close(), CLOSE_SECONDS)


def _find_address() -> None:
    """Have Dask find out the address that it puts into such names: without a network it warns."""
    import warnings

    from distributed.utils import get_ip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        get_ip()  # it is remembered


def _has_failed(connecting: asyncio.Task[Any]) -> bool:
    if not connecting.done():
        return False
    if connecting.cancelled() or connecting.exception() is not None:
        return True
    return bool(connecting.result().status == "closed")
