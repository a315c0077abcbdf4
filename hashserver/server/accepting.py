"""Taking connections: as many as there are descriptors for, and none for long that asks for nothing."""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.printable import tell

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from hashserver.server.connection import ServerConnection

MOST_FILES = 65536
"""More descriptors are not asked for: a table of millions costs memory and time."""

MOST_CONNECTIONS = 8192
STALLED_SECONDS = 60
"""A client that takes nothing of what is sent to it for so long is given up."""

_KEPT_BACK = 64
_HANDSHAKE_SECONDS = 10.0
_PAUSE_SECONDS = 0.2
_QUIET_SECONDS = 60.0


def raise_limit() -> int:
    """Let this process open as many files as it may; return how many connections that is good for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    aim = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < aim:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (aim, hard))
            soft = aim
    files = MOST_FILES if soft == resource.RLIM_INFINITY else soft
    # a request has a connection and a file; store, database and log are what is kept back for
    return max(8, min(MOST_CONNECTIONS, (files - _KEPT_BACK) // 2))


class Acceptor:
    """Takes the connections of a listening socket, at most so many at once.

    When there is no room the one goes that has been without a request for longest, a half-sent head and the
    body of a refused request included: who sends many of those keeps nobody else waiting. Where all are at
    work new ones wait until one ends; a client that takes nothing of its answer for a while is given up.

    Parameters
    ----------
    listener
        The socket.
    make
        Makes the protocol of a connection.
    tls
        What the connections are secured with.
    limit
        How many connections there are at most.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], ServerConnection],
        tls: ssl.SSLContext | None,
        limit: int,
    ) -> None:
        self._listener, self._make, self._tls, self._limit = listener, make, tls, limit
        self._open: set[ServerConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._told = -_QUIET_SECONDS

    async def run(self) -> None:
        """Take connections until cancelled."""
        self._listener.setblocking(False)
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._listener)
            except ConnectionError:
                continue  # given up in the queue
            except OSError as error:  # no descriptors or memory: without a pause it would fail at once again
                self._tell(f"connections wait: {error.strerror}")
                self._evict()
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            await self._make_room()
            connection = self._make()
            connection.when_lost(self._lost)
            self._open.add(connection)  # before the next one is taken, which may be there already
            task = loop.create_task(self._serve(connection, sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _make_room(self) -> None:
        while len(self._open) >= self._limit:
            self._tell(f"{self._limit} connections at once: the longest idle ones are closed")
            self._room.clear()
            # the end of one that goes is told in the next round of the loop; where all are at work one will
            # end, or be without a request
            pause = 0.0 if self._evict() else _PAUSE_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._room.wait()

    def _evict(self) -> bool:
        """Close the connection that has been idle for longest; False where none is."""
        leaving = (c for c in self._open if c.is_idle or c.is_answered)
        idle = min(leaving, key=lambda c: c.idle_since, default=None)
        if idle is None:
            return False
        idle.force_close()
        return True

    async def _serve(self, connection: ServerConnection, sock: socket.socket) -> None:
        limit = _HANDSHAKE_SECONDS if self._tls else None
        try:
            if sys.platform == "linux":  # there it counts for those who read nothing, too
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_SECONDS * 1000)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, sock, ssl=self._tls, ssl_handshake_timeout=limit
            )
        except (OSError, asyncio.CancelledError):
            sock.close()
            self._lost(connection)

    def _lost(self, connection: ServerConnection) -> None:
        self._open.discard(connection)
        self._room.set()

    def _tell(self, text: str) -> None:
        """Write a line to the log, one a minute."""
        now = time.monotonic()
        if now - self._told >= _QUIET_SECONDS:
            self._told = now
            tell(f"hashserver: {text}")
