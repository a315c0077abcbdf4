"""The HTTP server: finds the route of a request, asks for the token, and says what went wrong.

There is no router and no middleware of aiohttp's in the way: a request for a small buffer costs
as much as they would.
"""

from __future__ import annotations

import asyncio
import errno
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
from hashserver.printable import tell, visible
from hashserver.server import buffer_routes as buffers
from hashserver.server import pack_routes as packs
from hashserver.server import result_routes as results
from hashserver.server import run_routes as runs
from hashserver.server.answers import Answer, content_type, error_answer, json_answer
from hashserver.server.connection import IS_KNOWN, Protocols, protocols

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hashserver.server.service import Service

KEEP_ALIVE_SECONDS = 75.0
"""A connection on which nothing, or not even a whole head, arrives for so long is closed."""

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
    "results": {
        "POST": Route(READ, results.post_results, "results"),
        "PUT": Route(WRITE, results.put_results, "results"),
    },
    "deferred/*": {"PUT": Route(WRITE, results.put_deferred, "deferred")},
    "failure/*": {
        "GET": Route(READ, results.get_failures, "failure"),
        "PUT": Route(WRITE, results.put_failure, "failure"),
    },
    "producers/*": {"GET": Route(READ, results.get_producers, "producers")},
    "producers": {"POST": Route(READ, runs.post_producers, "producers")},
    "irreproducible/*": {"GET": Route(READ, results.get_irreproducible, "irreproducible")},
    "runs": {"GET": Route(READ, runs.get_runs, "runs"), "POST": Route(READ, runs.post_runs, "runs")},
    "uses": {"POST": Route(READ, runs.post_uses, "uses")},
    "similar": {"POST": Route(READ, runs.post_similar, "similar")},
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
        except OSError as error:  # of this host, such as its disk or the limit of a process
            tell(f"hashserver: {request.method} {name}: {error}")
            answer = error_answer(request, status_of(trouble := _trouble(error)), str(trouble))
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
        if not IS_KNOWN:
            tell("hashserver: this aiohttp is not known: idle connections are not closed to make room")
        return protocols(
            self.handle,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            lingering_time=_LINGER_SECONDS,
            read_bufsize=_READ_BUFFER,
        )


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


def _trouble(error: OSError) -> HashserverError:
    """Return the error for a client whose request the system of this host has refused; it may ask again."""
    reason = error.strerror or "its standard error has the reason"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"the host of the server has no room: {reason}")
    return ServiceUnavailable(f"the host of the server does not let it: {reason}")


def status_of(error: HashserverError) -> int:
    """Return the HTTP status that says what `error` says."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return 500
