"""The HTTP server: finds the route of a request, asks for the token, and says what went wrong.

There is no router and no middleware of aiohttp's in the way: a request for a small buffer costs
as much as they would.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import traceback
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from hashserver.auth import NOTHING, READ, WRITE
from hashserver.checksum import Checksum
from hashserver.errors import (
    BufferCorrupt,
    BufferMissing,
    HashserverError,
    InvalidRequest,
    Irreproducible,
    NoSpace,
    OriginalChanged,
    ReadOnly,
    ServiceUnavailable,
    TooLarge,
)
from hashserver.printable import visible
from hashserver.server import buffer_routes as buffers
from hashserver.server import pack_routes as packs
from hashserver.server import result_routes as results
from hashserver.server.answers import Answer, content_type, error_answer, json_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hashserver.server.service import Service

KEEP_ALIVE_SECONDS = 75.0
"""A connection on which nothing, or not even a whole head, arrives for so long is closed."""

HEAD_SECONDS = 20.0
"""A new connection whose first request has no whole head by then is closed, however its bytes drip."""

_LINGER_SECONDS = 5.0
_READ_BUFFER = 1 << 20


class Route(NamedTuple):
    """What answers a request: a function, and what it takes to be let in."""

    access: int
    call: Callable[..., Awaitable[Answer]]
    name: str


async def _healthcheck(_: Service, request: web.BaseRequest) -> Answer:
    return json_answer(request, {"status": "ok"})


async def _metrics(service: Service, request: web.BaseRequest) -> Answer:
    return Answer(request, 200, service.metrics.text(), content_type("text/plain; version=0.0.4"))


_BUFFER = "*"
_ROUTES: dict[str, dict[str, Route]] = {
    _BUFFER: {
        "GET": Route(READ, buffers.get_buffer, "buffer"),
        "HEAD": Route(READ, buffers.get_buffer, "buffer"),
        "PUT": Route(WRITE, buffers.put_buffer, "buffer"),
        "DELETE": Route(WRITE, buffers.delete_buffer, "buffer"),
    },
    "buffers": {"POST": Route(WRITE, buffers.post_buffer, "buffers")},
    "has": {"POST": Route(READ, packs.post_has, "has"), "GET": Route(READ, packs.get_has, "has")},
    "pack": {"POST": Route(READ, packs.post_pack, "pack"), "PUT": Route(WRITE, packs.put_pack, "pack")},
    "verify/*": {"POST": Route(READ, buffers.verify, "verify")},
    "result/*": {
        "GET": Route(READ, results.get_result, "result"),
        "PUT": Route(WRITE, results.put_result, "result"),
    },
    "result/*/contest": {"POST": Route(WRITE, results.contest, "contest")},
    "results": {"POST": Route(READ, results.post_results, "results")},
    "deferred/*": {"PUT": Route(WRITE, results.put_deferred, "deferred")},
    "failure/*": {
        "GET": Route(READ, results.get_failures, "failure"),
        "PUT": Route(WRITE, results.put_failure, "failure"),
    },
    "producers/*": {"GET": Route(READ, results.get_producers, "producers")},
    "irreproducible/*": {"GET": Route(READ, results.get_irreproducible, "irreproducible")},
    "counts": {"GET": Route(READ, results.get_counts, "counts")},
    "export": {"GET": Route(READ, results.get_export, "export")},
    "healthcheck": {"GET": Route(NOTHING, _healthcheck, "healthcheck")},
    "metrics": {"GET": Route(READ, _metrics, "metrics")},
}
_BUFFER_ROUTES = _ROUTES[_BUFFER]
_LONGEST_PATH = 200


class HashserverApplication:
    """Answers requests for one service.

    Parameters
    ----------
    service
        Store, database, tokens and limits.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._count = service.metrics.request
        self._access = service.gate.access

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        name = "none"
        request.protocol.has_asked = True  # type: ignore[attr-defined]
        try:
            routes, argument = _find(request.raw_path)
            route = routes.get(request.method)
            needed = READ if route is None else route.access
            if needed:
                refusal = self._refusal(request, needed)
                if refusal is not None:
                    return self._counted(name, refusal)
            if route is None:
                return self._counted(name, _no_route(request, routes))
            name = route.name
            if argument is None:
                answer = await route.call(self._service, request)
            else:
                answer = await route.call(self._service, request, Checksum(argument))
        except HashserverError as error:
            answer = error_answer(request, status_of(error), str(error))
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            sys.stderr.write(visible(traceback.format_exc()))
            answer = error_answer(request, 500, "the server failed; its standard error has the reason")
        return self._counted(name, answer)

    def _counted(self, name: str, answer: Answer) -> Answer:
        self._count(name, answer.status)
        return answer

    def _refusal(self, request: web.BaseRequest, needed: int) -> Answer | None:
        header = request.headers.get("Authorization")
        access = self._access(header)
        if access >= needed:
            return None
        if access:
            return error_answer(request, 403, "this token only reads: use one that writes")
        what = "a token is needed" if header is None else "the token is not one of this server's"
        return error_answer(
            request, 401, f"{what}: name the token file of the server", b"WWW-Authenticate: Bearer\r\n"
        )

    def protocol_factory(self) -> Protocols:
        """Return what makes a protocol for each connection of an event loop."""
        return Protocols(
            self.handle,
            access_log=None,
            logger=_silent_logger(),
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            lingering_time=_LINGER_SECONDS,
            read_bufsize=_READ_BUFFER,
            auto_decompress=False,
        )


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
        return self._waiter is not None and not self._waiter.done()

    @property
    def is_answered(self) -> bool:
        """Whether nothing more is owed to it: it is let send the rest of a body that nobody wants."""
        return self.has_asked and self._waiter is None and not self._request_in_progress

    @property
    def idle_since(self) -> float:
        """When that began, on a clock of its own."""
        return self._next_keepalive_close_time

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


def _find(path: str) -> tuple[dict[str, Route], str | None]:
    """Return the routes of a path by method, and the checksum in it; nothing is ever unquoted."""
    if len(path) == 65:
        return _BUFFER_ROUTES, path[1:]
    path, _, _ = path[:_LONGEST_PATH].partition("?")
    parts = path.split("/")
    if len(parts) == 2 and parts[1] and (parts[1] not in _ROUTES or parts[1] == _BUFFER):
        return _BUFFER_ROUTES, parts[1]
    argument = parts[2] if len(parts) > 2 else None
    pattern = "/".join((*parts[1:2], *("*" for _ in parts[2:3]), *parts[3:]))
    return _ROUTES.get(pattern, {}) if pattern != _BUFFER else {}, argument


def _no_route(request: web.BaseRequest, routes: dict[str, Route]) -> Answer:
    if not routes:
        return error_answer(request, 404, "there is no such address")
    allowed = ", ".join(routes)
    return error_answer(request, 405, f"only {allowed} here", f"Allow: {allowed}\r\n".encode())


_STATUS: tuple[tuple[type[HashserverError], int], ...] = (
    (TooLarge, 413),
    (InvalidRequest, 400),
    (BufferMissing, 404),
    (OriginalChanged, 410),
    (BufferCorrupt, 404),
    (Irreproducible, 409),
    (NoSpace, 507),
    (ReadOnly, 403),
    (ServiceUnavailable, 503),
)


def status_of(error: HashserverError) -> int:
    """Return the HTTP status that says what `error` says."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return 500


def _silent_logger() -> logging.Logger:
    # aiohttp would log malformed requests with their bytes, which may hold a token
    logger = logging.getLogger("hashserver.http")
    logger.disabled = True
    return logger
