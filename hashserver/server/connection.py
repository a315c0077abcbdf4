"""Connections of a server of aiohttp's, which hears of their beginning, their rest, and their end."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any

from aiohttp import web

from hashserver.server.answers import error_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HEAD_SECONDS = 20.0
"""A new connection whose first request has no whole head by then is closed, however its bytes drip."""

_PRIVATE = ("_waiter", "_request_in_progress", "_next_keepalive_close_time")


def knows(handler: type) -> bool:
    """Whether aiohttp's protocol has all of its private state that is read here."""
    return all(hasattr(handler, name) for name in _PRIVATE)


IS_KNOWN = knows(web.RequestHandler)
"""Whether this aiohttp has what tells of a connection's rest; without that none counts as being at rest."""


class ServerConnection(web.RequestHandler):
    """A connection that must begin with a request soon, and tells when it has none.

    It answers what is no request at all in our own words: aiohttp's quote it, perhaps with a token.
    """

    __slots__ = ("_began", "_late", "_when_lost", "has_asked")

    has_asked: bool

    def when_lost(self, call: Callable[[ServerConnection], None]) -> None:
        """Have `call` called when the connection is over."""
        self._when_lost, self.has_asked = call, False

    @property
    def is_idle(self) -> bool:
        """Whether a request is waited for; by the future that aiohttp waits with itself."""
        return IS_KNOWN and self._waiter is not None and not self._waiter.done()

    @property
    def is_answered(self) -> bool:
        """Whether nothing more is owed to it: it is let send the rest of a body that nobody wants."""
        return IS_KNOWN and self.has_asked and self._waiter is None and not self._request_in_progress

    @property
    def idle_since(self) -> float:
        """When that began, on a clock of its own."""
        return self._next_keepalive_close_time if IS_KNOWN else 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; aiohttp waits as long for the first head as between two requests, which is too long."""
        super().connection_made(transport)
        self._began = self.idle_since
        self._late = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._close_late)

    def _close_late(self) -> None:
        # a request that was answered in the meantime has put the end of the wait off
        if self.is_idle and self.idle_since == self._began:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._late.cancel()
        super().connection_lost(exc)
        self._when_lost(self)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to a request that the parser refused."""
        reason = re.split("[:\"']", message or "")[0].strip()
        return error_answer(request, status, f"not a request in HTTP/1.1: {reason or 'unreadable'}")


class Protocols(web.Server):
    """Makes the protocol of each connection."""

    def __call__(self) -> ServerConnection:
        """Return a new one."""
        return ServerConnection(self, loop=self._loop, **self._kwargs)


def protocols(
    handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **options: Any
) -> Protocols:
    """Return what makes the protocols of connections whose requests `handle` answers.

    Parameters
    ----------
    options
        As of `aiohttp.web.Server`.
    """
    return Protocols(handle, access_log=None, logger=_silent_logger(), auto_decompress=False, **options)


def _silent_logger() -> logging.Logger:
    # aiohttp would log malformed requests with their bytes, which may hold a token
    logger = logging.getLogger("hashserver.http")
    logger.disabled = True
    return logger
