"""Answers of the server, written to the connection as they are.

aiohttp builds the head of a response from a dictionary and serialises it, which would take a small buffer
some 40 % longer. Here a head is one formatted line of bytes. aiohttp still owns the connection: it calls
`prepare` and `write_eof`, and asks `keep_alive`, as it does for its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion11, web

from hashserver.protocol import JSON_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor, Future
    from typing import BinaryIO

    from aiohttp.abc import AbstractStreamWriter

log = logging.getLogger(__name__)

_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    + b"X-Content-Type-Options: nosniff\r\n"
    for status in HTTPStatus
}
_CLOSE = b"Connection: close\r\n"


class _Clock:
    """The Date header, formatted once a second."""

    second = 0
    line = b""

    @classmethod
    def date(cls) -> bytes:
        now = int(time.time())
        if now != cls.second:
            cls.second, cls.line = now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode()
        return cls.line


class Answer(web.StreamResponse):
    """An answer whose bytes are known.

    Parameters
    ----------
    request
        What is answered.
    status
        The HTTP status.
    body
        The bytes; of a ``HEAD`` request they are only counted.
    headers
        Complete lines, each with its end.
    length
        The length to announce, where it is not that of `body`.
    """

    _framed = True

    def __init__(
        self,
        request: web.BaseRequest,
        status: int,
        body: bytes = b"",
        headers: bytes = b"",
        length: int | None = None,
    ) -> None:
        super().__init__(status=status)
        self._bytes = b"" if request.method == "HEAD" else body
        self._is_kept = request.keep_alive and request.content.is_eof() and self._framed
        size = len(body) if length is None else length
        self._head = b"".join(
            (
                _LINES[status],
                _Clock.date(),
                headers,
                b"Content-Length: %d\r\n" % size if status != 304 and size >= 0 else b"",
                b"\r\n" if self._is_kept else _CLOSE + b"\r\n",
            )
        )

    @property
    def keep_alive(self) -> bool:
        """Whether there may be another request on the connection."""
        return self._is_kept

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the answer."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        transport.write(self._head + self._bytes)
        await request.writer.drain()
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: all is written by now."""


class FileAnswer(Answer):
    """An answer with a part of a file, which the kernel copies; the file is closed afterwards."""

    def __init__(
        self,
        request: web.BaseRequest,
        status: int,
        headers: bytes,
        file: BinaryIO,
        start: int,
        length: int,
    ) -> None:
        super().__init__(request, status, b"", headers, length)
        self._source, self._offset, self._count = file, start, length

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the answer."""
        with self._source:
            await super().prepare(request)
            transport = request.transport
            if transport is None:
                raise ConnectionResetError("the client is gone")
            loop = asyncio.get_running_loop()
            sent = await loop.sendfile(transport, self._source, self._offset, self._count)
            if sent != self._count:  # somebody cut the file: the client must not take it for all
                transport.abort()
                raise ConnectionResetError("the file became shorter")
        return None


class StreamAnswer(Answer):
    """An answer from parts that a thread produces.

    Parameters
    ----------
    request, status, headers
        As of `Answer`.
    parts
        The body; it is advanced in a thread, and closed there.
    threads
        Where that is.
    length
        The number of bytes; without one the body is sent in chunks, as far as the client knows them.
    """

    def __init__(
        self,
        request: web.BaseRequest,
        status: int,
        headers: bytes,
        parts: Iterator[bytes],
        threads: Executor,
        length: int | None = None,
    ) -> None:
        self._in_chunks = length is None and request.version >= HttpVersion11
        self._framed = self._in_chunks or length is not None  # else its end is that of the connection
        headers += b"Transfer-Encoding: chunked\r\n" if self._in_chunks else b""
        super().__init__(request, status, b"", headers, -1 if length is None else length)
        self._parts, self._threads, self._left = parts, threads, length or 0
        self._work: Future[bytes] | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the answer."""
        try:
            await super().prepare(request)
            while part := await self._next():
                await self._write(request, part)
        except BaseException as error:
            # the head is out: only a broken connection can still tell the client
            if request.transport is not None:
                request.transport.abort()
            if isinstance(error, Exception):
                raise ConnectionResetError("the source failed") from error
            raise
        finally:
            self._close()
        self._end(request)
        return None

    def _next(self) -> asyncio.Future[bytes]:
        """Have a thread produce the next part; an empty one is the end."""
        self._work = self._threads.submit(next, self._parts, b"")
        return asyncio.wrap_future(self._work)

    def _close(self) -> None:
        """Close the source where it works, once it does not: an answer may be cancelled while it does.

        A generator that is closed by one thread while another one is in it refuses, and would go on.
        """
        close: Callable[[], None] | None = getattr(self._parts, "close", None)
        if close is None:
            return

        def quietly(_: object = None) -> None:
            try:
                close()
            except Exception as error:  # whoever asked has the bytes, or is gone
                log.debug("a source could not be closed: %r", error)

        if self._work is not None and not self._work.done():
            self._work.add_done_callback(quietly)
            return
        try:
            self._threads.submit(quietly)
        except RuntimeError:  # the server ends, and its threads have gone already
            quietly()

    async def _write(self, request: web.BaseRequest, part: bytes) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        # not writelines(): before Python 3.12.9 and 3.13.2 it has no regard for slow readers
        # (CVE-2024-12254)
        transport.write(b"%x\r\n%b\r\n" % (len(part), part) if self._in_chunks else part)
        self._left -= len(part)
        await request.writer.drain()

    def _end(self, request: web.BaseRequest) -> None:
        transport = request.transport
        if transport is None:
            return
        if self._in_chunks:
            transport.write(b"0\r\n\r\n")
        elif self._framed and self._left:
            transport.abort()
            raise ConnectionResetError("the source ended early")


def content_type(name: str) -> bytes:
    """Return the header line of a media type."""
    return f"Content-Type: {name}\r\n".encode()


_JSON = content_type(JSON_TYPE)


def json_answer(request: web.BaseRequest, document: Any, status: int = 200, headers: bytes = b"") -> Answer:
    """Return an answer with `document` as JSON; bytes are taken for JSON already."""
    if not isinstance(document, bytes):
        document = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    return Answer(request, status, document, _JSON + headers)


def error_answer(request: web.BaseRequest, status: int, message: str, headers: bytes = b"") -> Answer:
    """Return an answer that says in one line what is wrong."""
    return json_answer(request, {"error": " ".join(message.split())}, status, headers)
