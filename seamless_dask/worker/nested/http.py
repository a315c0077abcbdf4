"""HTTP behind the socket of a command: jobs go to the scheduler, buffers and results to the hashserver.

One request for each connection. Of the hashserver a command may use what its clients need; it removes
nothing, and says of no transformation what its result is.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import hdrs, web
from yarl import URL

from hashserver import protocol
from hashserver.server.connection import Protocols, protocols
from hashserver.server.uploads import expects_permission, proceed
from seamless_dask.protocol.jobs import JOBS, OVER

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    Ask = Callable[..., Awaitable[dict[str, Any]]]

MOST_BYTES = 8 << 20
"""Of the body of a post to the jobserver."""

_BLOCK = 1 << 18
_CONNECT_SECONDS = 10.0
_LOOKING = ("GET", "HEAD")
_HEX = "[0-9a-f]{64}"
_OPEN = {
    f"/{_HEX}": (*_LOOKING, "PUT"),
    protocol.BUFFERS: ("POST",),
    protocol.HAS: ("GET", "POST"),
    protocol.PACK: ("POST", "PUT"),
    f"{protocol.VERIFY}{_HEX}": ("POST",),
    f"{protocol.RESULT}{_HEX}": ("GET",),
    protocol.RESULTS: ("POST",),
    f"{protocol.FAILURE}{_HEX}": ("GET",),
    f"{protocol.PRODUCERS}{_HEX}": ("GET",),
    f"{protocol.IRREPRODUCIBLE}{_HEX}": ("GET",),
    protocol.RUNS: ("GET", "POST"),
    protocol.USES: ("POST",),
    protocol.PRODUCERS_OF: ("POST",),
    protocol.SIMILAR: ("POST",),
    protocol.COUNTS: ("GET",),
    protocol.HEALTHCHECK: ("GET",),
}
_JOB = re.compile(rf"{JOBS}/({_HEX})(/stderr)?")
_OF_ONE_LINK = (hdrs.CONNECTION, hdrs.TRANSFER_ENCODING, hdrs.HOST, hdrs.AUTHORIZATION, hdrs.EXPECT)
"""Headers that are not passed on."""
_OURS = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT)
"""Headers that aiohttp would add to a request."""


class AnswersRequests(Protocol):
    """What answers for buffers and results."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request that a command may make."""
        ...


class Hashserver:
    """Where the hashserver is, and what opens it."""

    def __init__(self, url: str, token: str | None, ca_file: str | None) -> None:
        self._url, self._token, self._ca_file = url.rstrip("/"), token, ca_file

    @cached_property
    def _tls(self) -> ssl.SSLContext | bool:
        """How it is known to be the right one."""
        if not self._url.startswith("https"):
            return True
        import ssl

        return ssl.create_default_context(cafile=self._ca_file)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Have it answer a request."""
        async with self.session() as session:
            return await _forward(request, session, self.url(request.raw_path))

    def session(self) -> aiohttp.ClientSession:
        """Return what asks it, by connections of its own, for as long as that takes."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            headers={} if self._token is None else {hdrs.AUTHORIZATION: f"Bearer {self._token}"},
            skip_auto_headers=_OURS,
            auto_decompress=False,
            read_bufsize=_BLOCK,
        )

    def url(self, target: str) -> URL:
        """Return the address of what a request asks for, which is passed on as it is."""
        return URL(self._url + target, encoded=True)


class CommandApplication:
    """Answers what the command of one run asks.

    Parameters
    ----------
    token
        What opens its socket.
    hashserver
        Who answers for buffers and results.
    ask
        Asks the jobserver; see `seamless_dask.services.jobserver.nested.Nested.request`.
    """

    def __init__(self, token: str, hashserver: AnswersRequests, ask: Ask) -> None:
        self._token, self._hashserver, self._ask = f"Bearer {token}".encode(), hashserver, ask

    def protocols(self) -> Protocols:
        """Return what makes the protocols of connections; who hangs up waits for no answer any more."""
        return protocols(self._handle, handler_cancellation=True, read_bufsize=_BLOCK)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        method, path = request.method, request.raw_path.partition("?")[0]
        given = request.headers.get(hdrs.AUTHORIZATION, "")
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token):
            return _refusal(401, "the token is not that of this run")
        if path == JOBS or path.startswith(f"{JOBS}/"):
            return await self._jobs(request, path)
        if not any(method in methods and re.fullmatch(known, path) for known, methods in _OPEN.items()):
            return _refusal(403, "a command may not do that")
        return await self._hashserver.answer(request)

    async def _jobs(self, request: web.BaseRequest, path: str) -> web.Response:
        query = dict(parse_qsl(request.raw_path.partition("?")[2]))
        found = _JOB.fullmatch(path)
        if path == JOBS and request.method == "POST":
            length = request.content_length or 0
            if length > MOST_BYTES:
                return _refusal(413, f"more than {MOST_BYTES} bytes at once: send fewer jobs")
            # not given up with the connection: how it is answered tells whether the command waits
            return _said(await asyncio.shield(self._post(await request.content.readexactly(length))))
        if found is None or request.method not in ("GET", "DELETE") or "asker" not in query:
            return _refusal(403, "a command has a say in the jobs that it has asked for, and no others")
        given = {name: query[name] for name in ("asker", "wait", "after", "start") if name in query}
        method = "STDERR" if found[2] else request.method
        return _said(await self._ask(method=method, key=found[1], **given))

    async def _post(self, body: bytes) -> dict[str, Any]:
        return await self._ask(method="POST", body=body)


def _said(answer: dict[str, Any]) -> web.Response:
    """Return what the jobserver says."""
    body = answer["body"]
    if not isinstance(body, bytes):
        return _last(web.json_response(body, status=answer["status"]))
    over = {OVER: "1" if answer["over"] else "0"}
    return _last(web.Response(status=answer["status"], body=body, headers=over))


def _refusal(status: int, reason: str) -> web.Response:
    return _last(web.json_response({"error": reason}, status=status))


def _last(response: web.Response) -> web.Response:
    """Have the connection end with an answer."""
    response.force_close()
    return response


async def _forward(request: web.BaseRequest, session: aiohttp.ClientSession, url: URL) -> web.StreamResponse:
    """Have the hashserver answer a request."""
    headers = [(name, value) for name, value in request.headers.items() if name.title() not in _OF_ONE_LINK]
    try:
        answer = await session.request(
            request.method, url, headers=headers, allow_redirects=False,
            data=_sent(request) if request.can_read_body else None, expect100=expects_permission(request),
        )  # fmt: skip
    except aiohttp.ClientConnectorError as error:
        return _refusal(503, f"the hashserver does not answer: {error.strerror or error}")
    try:
        kept = [(name, value) for name, value in answer.headers.items() if name.title() not in _OF_ONE_LINK]
        response = web.StreamResponse(status=answer.status, headers=dict(kept))
        response.force_close()
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
    except aiohttp.ClientError as error:  # only a broken connection can still tell the command
        raise ConnectionResetError("the hashserver went away") from error
    finally:
        answer.close()  # it may have answered before all was sent
    return response


async def _sent(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """Yield what the command sends, as soon as the hashserver wants it."""
    proceed(request)
    async for data in request.content.iter_any():
        yield data
