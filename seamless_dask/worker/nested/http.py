"""HTTP behind the socket of a command: jobs go to the scheduler, buffers and results to the hashserver.

One request for each connection. Of the hashserver a command may use what its clients need; it removes
nothing, and says of no transformation what its result is.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from hashserver import protocol
from seamless_dask.protocol.jobs import JOBS, JSON_TYPE, OVER

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    Ask = Callable[..., Awaitable[dict[str, Any]]]

LONGEST_HEAD = 1 << 16
HEAD_SECONDS = 20.0
"""A connection on which no whole head has come by then is closed."""
MOST_BYTES = 8 << 20
"""Of the body of a post to the jobserver."""

_BLOCK = 1 << 18
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
    protocol.COUNTS: ("GET",),
    protocol.HEALTHCHECK: ("GET",),
}
_JOB = re.compile(rf"{JOBS}/({_HEX})(/stderr)?")


class Hashserver:
    """Where the hashserver is, and what opens it."""

    def __init__(self, url: str, token: str | None, ca_file: str | None) -> None:
        self.url, self.token, self._ca_file = url, token, ca_file

    @cached_property
    def tls(self) -> ssl.SSLContext | None:
        """How it is known to be the right one."""
        if not self.url.startswith("https"):
            return None
        import ssl

        return ssl.create_default_context(cafile=self._ca_file)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection."""
        place = urlsplit(self.url)
        port = place.port or (443 if self.tls else 80)
        return await asyncio.open_connection(place.hostname, port, ssl=self.tls, limit=LONGEST_HEAD)


class Head(NamedTuple):
    """The head of a request; names of headers in lower case."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @classmethod
    def parse(cls, data: bytes) -> Head | None:
        """Read it; None when it can be understood in more than one way."""
        first, *lines = data.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        words = first.split(" ")
        pairs = [line.partition(":") for line in lines]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        is_odd = any(
            ord(character) < 32 or ord(character) == 127 for line in (first, *lines) for character in line
        )
        is_odd = is_odd or not all(re.fullmatch(r"[A-Za-z0-9-]+", name) for name, _, _ in pairs)
        if is_odd or len(headers) != len(lines) or len(words) != 3 or words[2] != "HTTP/1.1":
            return None
        return cls(words[0], words[1], headers)

    def forward(self, server: Hashserver) -> bytes:
        """Return the head for the hashserver, with its own token."""
        place = urlsplit(server.url)
        kept = {name: value for name, value in self.headers.items() if name not in _REPLACED}
        kept |= {"host": place.netloc, "connection": "close"}
        if server.token is not None:
            kept["authorization"] = f"Bearer {server.token}"
        lines = [f"{self.method} {place.path.rstrip('/')}{self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in kept.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


_REPLACED = {"host", "connection", "authorization"}


async def answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str, hashserver: Hashserver, ask: Ask
) -> None:
    """Answer one request.

    Parameters
    ----------
    reader, writer
        The connection; the caller closes it.
    token
        What opens this socket.
    hashserver
        Who answers for buffers and results.
    ask
        Asks the jobserver; see `seamless_dask.services.jobserver.nested.Nested.request`.
    """
    async with asyncio.timeout(HEAD_SECONDS):
        head = Head.parse(await reader.readuntil(b"\r\n\r\n"))
    if head is None:
        await _refuse(writer, 400, "not a request in HTTP/1.1")
    elif not hmac.compare_digest(head.headers.get("authorization", "").encode(), f"Bearer {token}".encode()):
        await _refuse(writer, 401, "the token is not that of this run")
    elif head.path == JOBS or head.path.startswith(f"{JOBS}/"):
        await _jobs(head, reader, writer, ask)
    elif not any(head.method in methods and re.fullmatch(path, head.path) for path, methods in _OPEN.items()):
        await _refuse(writer, 403, "a command may not do that")
    else:
        await _forward(head, reader, writer, hashserver)


async def _jobs(head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ask: Ask) -> None:
    said = await _said(head, reader, ask)
    body = said["body"]
    if isinstance(body, bytes):
        over = {OVER: "1" if said["over"] else "0"}
        await _send(writer, said["status"], body, {"Content-Type": "application/octet-stream"} | over)
    else:
        await _send(writer, said["status"], json.dumps(body).encode(), {"Content-Type": JSON_TYPE})


async def _said(head: Head, reader: asyncio.StreamReader, ask: Ask) -> dict[str, Any]:
    """Return what the jobserver says."""
    query = dict(parse_qsl(head.target.partition("?")[2]))
    found = _JOB.fullmatch(head.path)
    length = head.headers.get("content-length", "0")
    if head.path == JOBS and head.method == "POST":
        if not length.isdecimal() or int(length) > MOST_BYTES:
            return _refusal(413, f"more than {MOST_BYTES} bytes at once: send fewer jobs")
        return await ask(method="POST", body=await reader.readexactly(int(length)))
    if found is None or head.method not in ("GET", "DELETE") or "asker" not in query:
        return _refusal(403, "a command has a say in the jobs that it has asked for, and no others")
    given = {name: query[name] for name in ("asker", "wait", "after", "start") if name in query}
    method = "STDERR" if found[2] else head.method
    return await _while_there(reader, ask(method=method, key=found[1], **given))


def _refusal(status: int, reason: str) -> dict[str, Any]:
    return {"status": status, "body": {"error": reason}}


async def _while_there(reader: asyncio.StreamReader, asking: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """Wait for an answer as long as somebody waits for it."""
    answered, gone = asyncio.ensure_future(asking), asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait((answered, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            raise EOFError
        return answered.result()
    finally:
        answered.cancel()
        gone.cancel()


async def _forward(
    head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hashserver: Hashserver
) -> None:
    try:
        far_reader, far_writer = await hashserver.connect()
    except OSError as error:
        return await _refuse(writer, 503, f"the hashserver does not answer: {error.strerror or error}")
    far_writer.write(head.forward(hashserver))
    up = asyncio.ensure_future(_upload(reader, far_writer))
    try:
        while (data := await far_reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 1"):
            writer.write(data)
        writer.write(data.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n")
        await _pump(far_reader, writer)
    finally:
        up.cancel()
        far_writer.close()


async def _upload(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what is sent; who hangs up has not sent it to its end."""
    try:
        await _pump(reader, writer)
    except OSError:
        return  # the other side has answered already
    writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_BLOCK):
        writer.write(data)
        await writer.drain()


async def _refuse(writer: asyncio.StreamWriter, status: int, reason: str) -> None:
    await _send(writer, status, json.dumps({"error": reason}).encode(), {"Content-Type": JSON_TYPE})


async def _send(writer: asyncio.StreamWriter, status: int, body: bytes, headers: dict[str, str]) -> None:
    lines = [f"HTTP/1.1 {status} -", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)
    await writer.drain()
