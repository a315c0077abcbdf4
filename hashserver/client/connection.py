"""One connection of the HTTP client: receiving without copies, sending bytes and files, answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Self

    from hashserver.errors import ServiceUnavailable

    Bytes = bytes | bytearray | memoryview

_LONGEST_HEAD = 1 << 16
_SENT = 1 << 23
_LOSSES = ("SSLEOFError", "SSLZeroReturnError")  # by name: `ssl` is not imported for plain connections


class Owner(Protocol):
    """What a connection belongs to."""

    def put_back(self, connection: Connection) -> None:
        """Keep a connection for the next request."""

    def unavailable(self, error: OSError) -> ServiceUnavailable:
        """Return the error to raise when `error` came from a socket."""


class LostError(ConnectionError):
    """The other side closed the connection in the middle of an answer."""


def is_loss(error: OSError) -> bool:
    """Say whether the other side has gone away: by TLS that is told in other words than by TCP."""
    return isinstance(error, BrokenPipeError | ConnectionResetError) or type(error).__name__ in _LOSSES


def mind_cuts(sock: socket.socket, seconds: int) -> None:
    """Have the system give a connection up when nothing has come for so long: a cut link sends no sign."""
    import socket

    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, seconds // 2),
        (socket.TCP_KEEPINTVL, seconds // 4),
        (socket.TCP_KEEPCNT, 2),
        (socket.TCP_USER_TIMEOUT, seconds * 1000),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


class Connection:
    """One socket, and what was received from it but not used."""

    used = 0.0
    """When it was last put back (`time.monotonic`)."""

    def __init__(self, sock: socket.socket, plain: bool) -> None:
        self.sock = sock
        self.plain = plain
        self._buffer = memoryview(bytearray(_LONGEST_HEAD))
        self._start = self._stop = 0

    def alive(self) -> bool:
        """Whether the other side has neither closed the connection nor sent what nobody asked for."""
        if self._start < self._stop:
            return False
        from select import POLLIN, poll

        readable = poll()
        readable.register(self.sock, POLLIN)
        return not readable.poll(0) or (not self.plain and self._is_silent())

    def _is_silent(self) -> bool:
        """Whether what is readable is nothing but a part of TLS itself, such as a ticket for later."""
        before = self.sock.gettimeout()
        self.sock.settimeout(0.0)
        try:
            self.sock.recv(1)
        except OSError as error:
            return type(error).__name__ == "SSLWantReadError"
        finally:
            self.sock.settimeout(before)
        return False  # its end, or what nobody asked for

    def _receive(self) -> None:
        if self._start == self._stop:
            self._start = self._stop = 0
        elif self._stop == len(self._buffer):
            size = self._stop - self._start
            if size == len(self._buffer):
                raise LostError("the answer is not HTTP")
            self._buffer[:size] = bytes(self._buffer[self._start : self._stop])
            self._start, self._stop = 0, size
        count = self.sock.recv_into(self._buffer[self._stop :])
        if not count:
            raise LostError("the connection was closed")
        self._stop += count

    def read_until(self, end: bytes) -> bytes:
        """Return everything up to `end`, without it."""
        while True:
            data = bytes(self._buffer[self._start : self._stop])
            found = data.find(end)
            if found >= 0:
                self._start += found + len(end)
                return data[:found]
            self._receive()

    def readinto(self, view: memoryview) -> int:
        """Fill a part of `view`; at least one byte."""
        if self._start == self._stop:
            count = self.sock.recv_into(view)
            if not count:
                raise LostError("the connection was closed")
            return count
        count = min(len(view), self._stop - self._start)
        view[:count] = self._buffer[self._start : self._start + count]
        self._start += count
        return count

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


class Sink:
    """Where the body of a request goes: a connection, with or without chunk framing."""

    def __init__(self, connection: Connection, chunked: bool) -> None:
        self._sock = connection.sock
        self._chunked = chunked
        self.sends_files = connection.plain and not chunked

    def write(self, data: Bytes) -> None:
        """Send `data`."""
        if not self._chunked:
            self._sock.sendall(data)
        elif len(data):
            self._sock.sendall(b"%x\r\n" % len(data))
            self._sock.sendall(data)
            self._sock.sendall(b"\r\n")

    def send_file(self, fd: int, stop: int) -> int:
        """Send a file up to `stop`, not copied through this process (see `sends_files`).

        Returns
        -------
        int
            The number of bytes that were sent: less than `stop` if the file ends before.
        """
        start, before = 0, self._sock.gettimeout()
        self._sock.settimeout(None)  # the descriptor must block for os.sendfile; SO_SNDTIMEO bounds it
        try:
            target = self._sock.fileno()
            while start < stop and (sent := os.sendfile(target, fd, start, min(stop - start, _SENT))):
                start += sent
        finally:
            self._sock.settimeout(before)
        return start

    def end(self) -> None:
        """End the body."""
        if self._chunked:
            self._sock.sendall(b"0\r\n\r\n")


class Response:
    """An answer: its status, headers (names in lower case), and a body that is read once.

    Use it in a ``with`` block: a connection whose body was not read to its end is not used again.
    """

    def __init__(self, transport: Owner, connection: Connection, method: str, reusable: bool) -> None:
        self._transport, self._connection = transport, connection
        head = connection.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        try:
            self.status = int(head[0].split(" ", 2)[1])
            pairs = (line.partition(":") for line in head[1:])
            self.headers = {name.lower(): value.strip() for name, _, value in pairs}
            self._chunked = "chunked" in self.headers.get("transfer-encoding", "")
            self._left: int = 0 if self._chunked else int(self.headers.get("content-length", "0"))
        except (IndexError, ValueError):
            raise LostError("the answer is not HTTP") from None
        self._reusable = reusable and self.headers.get("connection", "").lower() != "close"
        self._complete = False
        self._loaded: bytes | None = None
        self.length: int | None = 0
        if self.status == 100:  # the answer proper comes later on the same connection
            self._complete = True
            return
        if method == "HEAD" or self.status in (204, 304):
            self._chunked, self._left = False, 0
        self.length = None if self._chunked else self._left
        if not self._chunked and not self._left:
            self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._complete:
            self._complete = True
            self._connection.close()

    def _finish(self) -> None:
        self._complete = True
        if self._reusable:
            self._transport.put_back(self._connection)
        else:
            self._connection.close()

    def readinto(self, view: memoryview) -> int:
        """Fill a part of `view` with what comes next of the body; 0 at its end.

        Raises
        ------
        ServiceUnavailable
            If the connection is lost before.
        """
        try:
            return self._readinto(view)
        except OSError as error:
            raise self._transport.unavailable(error) from None

    def _readinto(self, view: memoryview) -> int:
        if self._complete:
            return 0
        try:
            return self._receive(view)
        except OSError:
            self._complete = True
            self._connection.close()
            raise

    def _receive(self, view: memoryview) -> int:
        if self._chunked and not self._left:
            self._left = self._next_chunk()
            if not self._left:
                self._connection.read_until(b"\r\n")
                self._finish()
                return 0
        count = self._connection.readinto(view[: self._left])
        self._left -= count
        if not self._left:
            if self._chunked:
                self._connection.read_until(b"\r\n")
            else:
                self._finish()
        return count

    def _next_chunk(self) -> int:
        line = self._connection.read_until(b"\r\n")
        try:
            return int(line.partition(b";")[0], 16)
        except ValueError:
            raise LostError("the answer is not HTTP") from None

    def load(self) -> None:
        """Receive the whole body, for `read`; the error of a lost connection is the socket's own."""
        self._loaded = self._read(self._readinto)

    def read(self) -> bytes:
        """Return the rest of the body.

        Raises
        ------
        ServiceUnavailable
            If the connection is lost before its end.
        """
        if self._loaded is not None:
            data, self._loaded = self._loaded, b""
            return data
        return self._read(self.readinto)

    def _read(self, readinto: Callable[[memoryview], int]) -> bytes:
        data = bytearray(self._left if not self._chunked else 1 << 16)
        used = 0
        while True:
            if used == len(data):
                if not self._chunked:
                    break
                data.extend(bytes(len(data)))
            with memoryview(data) as view:
                count = readinto(view[used:])
            if not count:
                break
            used += count
        del data[used:]
        return bytes(data)


class Upload:
    """A request whose body is being sent, by the caller, in parts."""

    def __init__(self, transport: Owner, connection: Connection, head: bytes) -> None:
        self._transport, self._connection = transport, connection
        self._sink = Sink(connection, chunked=True)
        connection.sock.sendall(head)
        self._broken = False

    def write(self, data: Bytes) -> None:
        """Send a part; nothing happens once the other side has stopped listening."""
        self._try(lambda: self._sink.write(data))

    def end(self) -> None:
        """End the body."""
        self._try(self._sink.end)

    def finish(self) -> Response:
        """Return the answer; call `end` before.

        Raises
        ------
        ServiceUnavailable
            If the connection is lost.
        """
        try:
            return Response(self._transport, self._connection, "POST", not self._broken)
        except OSError as error:
            self.abort()
            raise self._transport.unavailable(error) from None

    def abort(self) -> None:
        """Close the connection: the server keeps nothing of a body without its end."""
        self._connection.close()

    def _try(self, send: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            send()
        except OSError as error:
            if is_loss(error):
                self._broken = True
                return
            self.abort()
            raise self._transport.unavailable(error) from None
