"""Request bodies on their way from the event loop to a thread that hashes and writes them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

from hashserver.errors import HashserverError, InvalidRequest, TooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from concurrent.futures import Executor

    from aiohttp import web

T = TypeVar("T")

IDLE_SECONDS = 60.0
"""A client that sends nothing for so long is given up."""

SLOWEST = 500.0
"""So is one that has been waited for longer than for so many bytes a second, and `IDLE_SECONDS` besides."""

_FULL = 4 << 20
"""Bytes of one upload that wait for the thread; it holds as many itself."""
_WORTH_WAKING = 1 << 20
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class TruncatedError(InvalidRequest):
    """The client stopped in the middle of a body."""


class Feed:
    """A bounded queue of parts: an event loop puts them in, a thread iterates over them.

    A thread is woken for every mebibyte only: waking costs more than what a small part saves.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._ended = self._failed = self._closed = False
        self._room: asyncio.Future[None] | None = None

    async def put(self, part: bytes) -> bool:
        """Add a part, waiting for room; false once nobody takes parts any more."""
        with self._changed:
            if self._closed:
                return False
            self._parts.append(part)
            self._size += len(part)
            if self._size >= _WORTH_WAKING:
                self._changed.notify()
            if self._size < _FULL:
                return True
            room = self._room = self._loop.create_future()
        await room
        return not self._closed

    def end(self, complete: bool) -> None:
        """Say that nothing more comes, and whether that was all."""
        with self._changed:
            self._ended, self._failed = True, not complete
            self._changed.notify()

    def close(self) -> None:
        """Take no more parts."""
        with self._changed:
            self._closed = True
            self._parts.clear()
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                while self._size < _WORTH_WAKING and not self._ended:
                    self._changed.wait()
                if self._failed:
                    raise TruncatedError("the body is cut short: send it again")
                parts, self._parts, self._size = self._parts, deque(), 0
                waiting = self._room is not None
            if waiting:
                self._loop.call_soon_threadsafe(self._wake)
            if not parts:
                return
            while parts:  # what was taken is not kept until the last of it is
                yield parts.popleft()


async def receive(
    request: web.BaseRequest,
    threads: Executor,
    consume: Callable[[Iterator[bytes]], T],
    maximum: int | None = None,
) -> T:
    """Pass the body of a request to `consume`, which runs in a thread, and return what that returns.

    The thread is taken when there is something to do: those who send a few bytes and then wait have none.

    Parameters
    ----------
    request
        The request; a client that waits for permission to send its body gets it.
    threads
        Where `consume` runs.
    consume
        Takes the parts of the body; it may stop early by raising.
    maximum
        The longest body that is accepted.

    Raises
    ------
    TooLarge
        If the body is longer.
    TruncatedError
        If the client stops, or sends nothing for too long.
    """
    check_length(request, maximum)
    proceed(request)
    feed = Feed()

    def work() -> T:
        try:
            return consume(iter(feed))
        finally:
            feed.close()

    loop, job, size = asyncio.get_running_loop(), None, 0
    try:
        async with aclosing(_parts(request, maximum)) as parts:
            async for part in parts:
                size += len(part)
                if job is None and size >= _WORTH_WAKING:
                    job = loop.run_in_executor(threads, work)
                if not await feed.put(part):
                    break
    except BaseException:
        feed.end(complete=False)
        if job is not None:
            job.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise
    feed.end(complete=True)
    return await (job or loop.run_in_executor(threads, work))


async def _parts(request: web.BaseRequest, maximum: int | None) -> AsyncGenerator[bytes]:
    """Yield the body of a request as it comes, if it comes soon and is not too long."""
    content, size, waited = request.content, 0, 0.0
    try:
        while waited < IDLE_SECONDS + size / SLOWEST:
            began = time.monotonic()
            async with asyncio.timeout(IDLE_SECONDS):
                part = await content.readany()
            if not part:
                return
            waited += time.monotonic() - began
            size += len(part)
            if maximum is not None and size > maximum:
                raise _too_large(maximum)
            yield part
    except (HashserverError, asyncio.CancelledError, GeneratorExit):
        raise
    except Exception as error:  # aiohttp has several for a client that is gone
        raise TruncatedError("the body is cut short: send it again") from error
    raise TruncatedError("the body came too slowly: send it again")


def check_length(request: web.BaseRequest, maximum: int | None) -> None:
    """Raise `TooLarge` if the request announces a body longer than `maximum`."""
    if maximum is not None and (request.content_length or 0) > maximum:
        raise _too_large(maximum)


def proceed(request: web.BaseRequest) -> None:
    """Tell a client that asked whether it may send its body that it may."""
    if expects_permission(request) and request.transport is not None:
        request.transport.write(_CONTINUE)


def expects_permission(request: web.BaseRequest) -> bool:
    """Say whether the client waits before it sends the body."""
    return request.headers.get("Expect", "").lower() == "100-continue"


async def read_body(request: web.BaseRequest, maximum: int) -> bytes:
    """Return a short body whole.

    Raises
    ------
    TooLarge, TruncatedError
        As `receive`.
    """
    check_length(request, maximum)
    proceed(request)
    parts, size = [], 0
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            while part := await request.content.readany():
                parts.append(part)
                size += len(part)
                if size > maximum:
                    raise _too_large(maximum)
    except (HashserverError, asyncio.CancelledError):
        raise
    except Exception as error:
        raise TruncatedError("the body is cut short: send it again") from error
    return b"".join(parts)


def _too_large(maximum: int) -> TooLarge:
    return TooLarge(f"this server takes at most {maximum} bytes at once")
