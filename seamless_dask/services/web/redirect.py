"""Plain HTTP on a port that speaks TLS: sent to where it is understood.

`Client.dashboard_link` of a client that is not configured like the scheduler begins with ``http://``, and so
does what people type. The first byte tells: that of TLS is no letter.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tornado.netutil import add_accept_handler

from ...scheduler.dask.assumptions import NotAsAssumed

if TYPE_CHECKING:
    import socket

LONGEST_HEAD = 1 << 14
SECONDS = 30.0
"""How long a connection may take to say what it wants."""
_HANDSHAKE = 0x16
_REQUEST = re.compile(rb"(?:GET|HEAD) (/[!-~]*) HTTP/1\.[01]\r\n")
_HOST = re.compile(rb"\r\n[Hh]ost: *([A-Za-z0-9.\-]+(?::[0-9]+)?|\[[0-9A-Fa-f:.]+\](?::[0-9]+)?) *\r\n")


def install(server: Any) -> None:
    """Answer plain requests to the HTTP server of a scheduler with its ``https://`` address.

    ``http_server`` is a Tornado server: `TCPServer._handle_connection` takes accepted connections, `_sockets`
    are those that it listens at, and `_handlers` stop accepting.

    Raises
    ------
    NotAsAssumed
        If it is another one.
    """
    http = server.http_server
    if not all(hasattr(http, name) for name in ("_handle_connection", "_sockets", "_handlers")):
        raise NotAsAssumed("connections of the HTTP server are taken otherwise")
    waiting: set[asyncio.Task[None]] = set()

    def accept(connection: socket.socket, address: Any) -> None:
        task = asyncio.get_running_loop().create_task(_sort(http, connection, address))
        waiting.add(task)  # else nobody would hold it
        task.add_done_callback(waiting.discard)

    for number, listening in http._sockets.items():
        http._handlers[number]()
        http._handlers[number] = add_accept_handler(listening, accept)


async def _sort(http: Any, connection: socket.socket, address: Any) -> None:
    """Hand a connection on that begins with TLS; answer and close every other one."""
    try:
        connection.setblocking(False)
        async with asyncio.timeout(SECONDS):
            first = await _peek(connection)
            if first != _HANDSHAKE:
                await _answer(connection)
    except (OSError, TimeoutError):
        first = None
    except BaseException:
        connection.close()
        raise
    if first == _HANDSHAKE:
        http._handle_connection(connection, address)
    else:
        connection.close()


async def _peek(connection: socket.socket) -> int | None:
    """Return the first byte, which stays where it is."""
    from socket import MSG_PEEK

    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    while True:
        with suppress(BlockingIOError):
            return next(iter(connection.recv(1, MSG_PEEK)), None)
        readable.clear()
        loop.add_reader(connection, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(connection)


async def _answer(connection: socket.socket) -> None:
    loop, head = asyncio.get_running_loop(), b""
    while b"\r\n\r\n" not in head and len(head) < LONGEST_HEAD:
        if not (data := await loop.sock_recv(connection, LONGEST_HEAD)):
            return
        head += data
    request, host = _REQUEST.match(head), _HOST.search(head.partition(b"\r\n\r\n")[0] + b"\r\n")
    answer = b"HTTP/1.1 400 Bad Request\r\n"
    if request and host:
        answer = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://%s%s\r\n" % (host[1], request[1])
    await loop.sock_sendall(connection, answer + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
