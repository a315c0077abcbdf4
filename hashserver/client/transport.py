"""HTTP/1.1 over blocking sockets: only what a client of our own server needs.

The standard library's client costs more to import than a cached run may take, and copies bodies
more than once. This one keeps connections, sends from files and receives into buffers of the
caller's without copies, and asks before it sends a large body (``Expect: 100-continue``).
"""

from __future__ import annotations

import os
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.client.connection import Connection, LostError, Response, Sink, Upload, is_loss, mind_cuts
from hashserver.errors import InvalidRequest, ServiceUnavailable
from hashserver.namedtuple import NamedTuple
from hashserver.regular_file import open_regular
from hashserver.retry import pauses

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    Bytes = bytes | bytearray | memoryview
    T = TypeVar("T")

CONNECT_SECONDS = 10.0
EXPECT_SECONDS = 3.0
IDLE_SECONDS = 120.0
"""How long a server may say and take nothing, if its client does not say."""
ATTEMPTS = 4
"""How often a request is made at least; a patient client goes on, for as long as it likes."""
KEPT_SECONDS = 30.0
"""How long a connection that nobody uses is kept: servers and their proxies close theirs later."""
SILENT = 3.0
"""Seconds of waiting after which a patient client says what it waits for."""

_DISTRUST = {
    9: "its certificate is not valid yet: check the clocks of both hosts",
    10: "its certificate has expired: whoever runs it must renew it",
    62: "its certificate is for another host name: use the name that stands in it",
    64: "its certificate is for another host name: use the name that stands in it",
}
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")

UNIX = "unix://"
_JOINED = 1 << 16
_TIMEVAL = struct.Struct("@ll")


class Patience(NamedTuple):
    """How long somebody waits for a server that others are starting again."""

    seconds: float
    tell: Callable[[str], None] | None = None
    """Gets one line when the wait takes more than a moment."""
    worth: Callable[[], bool] | None = None
    """Says whether it may still come back."""


class Transport:
    """Sends requests to one server; may be used from many threads.

    Parameters
    ----------
    url
        ``http://host:port`` or ``https://host:port``, with or without a path before all others; or
        ``unix:///path`` of a socket.
    token
        The secret that is sent with each request; over a network only by TLS.
    ca_file
        Certificates to trust instead of the system's.
    patience
        How long a request is repeated that could not be sent, or was lost.
    idle_seconds
        How long the server may say nothing until a connection counts as lost.
    cut_seconds
        How long the link may give no sign of life, whatever the server does; without it the system says.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        ca_file: str | None = None,
        patience: Patience | None = None,
        *,
        idle_seconds: float | None = None,
        cut_seconds: int | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._patience = patience or Patience(0.0)
        self._idle_seconds, self._cut_seconds = idle_seconds or IDLE_SECONDS, cut_seconds
        self._socket = self.url.removeprefix(UNIX) if self.url.startswith(UNIX) else None
        self._tls, self._host, self._port, self._base = (
            (False, "localhost", 80, "") if self._socket else split(self.url)
        )
        self._ca_file = ca_file
        self._has_token = token is not None
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._common = f"Host: {host}:{self._port}\r\n"
        if token is not None:
            self._common += f"Authorization: Bearer {token}\r\n"
        self._idle: list[Connection] = []
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"Transport({self.url!r})"

    def request(
        self,
        method: str,
        path: str,
        body: Bytes | Callable[[Sink], None] = b"",
        *,
        length: int | None = None,
        headers: Mapping[str, str] | None = None,
        expect: bool = False,
        replay: bool = True,
        whole: bool = False,
    ) -> Response:
        """Send a request and return its answer once the head of that has arrived.

        Parameters
        ----------
        method, path
            What is asked; `path` needs no quoting.
        body
            Bytes, or a function that writes them to a `Sink`.
        length
            The number of bytes that the function writes; when not given the body goes in chunks.
        headers
            Further headers.
        expect
            Ask before the body is sent; an answer other than "continue" comes back without it.
        replay
            Whether the request may be sent a second time when the connection is lost.
        whole
            Return when the whole answer has arrived: one that breaks off is asked for again.

        Raises
        ------
        ServiceUnavailable
            If the server cannot be reached, or the connection is lost.
        """
        head = self._head(method, path, body, length, headers, expect)

        def attempt() -> Response:
            response = self._attempt(method, head, body, length, expect, replay)
            if whole:
                response.load()
            return response

        return self._try(attempt, replay)

    def begin(self, method: str, path: str) -> Upload:
        """Start a request whose body comes in parts and cannot be sent twice.

        Raises
        ------
        ServiceUnavailable
            If the server cannot be reached.
        """
        head = self._head(method, path, _ignore, None, None, False)
        return self._try(lambda: Upload(self, self._connect(), head))

    def _try(self, attempt: Callable[[], T], replay: bool = True) -> T:
        """Return what an attempt gives; one that was lost is made again, for as long as patience lasts."""
        begun, count, told, waits = time.monotonic(), 0, False, pauses(0.05, 0.5, factor=4)
        while True:
            try:
                return attempt()
            except OSError as error:
                failure = error
            waited = time.monotonic() - begun
            count += 1
            if not replay or _is_final(failure) or (count >= ATTEMPTS and not self._waits(waited)):
                raise self.unavailable(self._explained(failure)) from None
            if self._patience.tell is not None and not told and waited > SILENT:
                self._patience.tell(f"{self.unavailable(failure)}; trying again (Ctrl-C gives up)")
                told = True
            time.sleep(next(waits))

    def _waits(self, waited: float) -> bool:
        seconds, _, worth = self._patience
        return waited < seconds and (worth is None or worth())

    def _explained(self, failure: OSError) -> OSError:
        if isinstance(failure, LostError) and not self._tls:
            return LostError(f"{failure} without an answer; if it speaks TLS its address is https://…")
        return failure

    def unavailable(self, error: OSError) -> ServiceUnavailable:
        """Return the error to raise when `error` came from a socket."""
        reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        code = getattr(error, "verify_code", None)  # of OpenSSL
        if code is not None:
            reason = _DISTRUST.get(code, "its certificate is not trusted: name the one to trust as ca-file")
        elif getattr(error, "reason", None) in _NOT_TLS:
            reason = "it does not speak TLS; without it its address is http://…"
        return ServiceUnavailable(f"no connection to {self.url}: {reason}")

    def _head(
        self,
        method: str,
        path: str,
        body: Bytes | Callable[[Sink], None],
        length: int | None,
        headers: Mapping[str, str] | None,
        expect: bool,
    ) -> bytes:
        text = f"{method} {self._base}{path} HTTP/1.1\r\n{self._common}"
        size = length if callable(body) else len(body)
        if size is None:
            text += "Transfer-Encoding: chunked\r\n"
        elif size or method in ("PUT", "POST"):
            text += f"Content-Length: {size}\r\n"
        if expect:
            text += "Expect: 100-continue\r\n"
        for name, value in (headers or {}).items():
            text += f"{name}: {value}\r\n"
        return f"{text}\r\n".encode("latin-1")

    def _attempt(
        self,
        method: str,
        head: bytes,
        body: Bytes | Callable[[Sink], None],
        length: int | None,
        expect: bool,
        replay: bool,
    ) -> Response:
        # what cannot be sent twice goes by a connection that the other side has no reason to close yet
        connection = self._take() if replay else self._connect()
        try:
            if expect:
                early = self._ask(connection, method, head)
                if early is not None:
                    return early
                head = b""
            reusable = _send(connection, head, body, length)
            return Response(self, connection, method, reusable)
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError):  # the others are as old, or went to the same server
                self.close()
            raise

    def _ask(self, connection: Connection, method: str, head: bytes) -> Response | None:
        connection.sock.sendall(head)
        connection.sock.settimeout(EXPECT_SECONDS)
        try:
            answer = Response(self, connection, method, reusable=False)
        except TimeoutError:
            return None  # not every server knows the question: send the body all the same
        finally:
            connection.sock.settimeout(self._idle_seconds)
        return answer if answer.status != 100 else None

    def _take(self) -> Connection:
        if self._pid != os.getpid():  # a fork: the connections are the parent's
            self._pid, self._idle = os.getpid(), []
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._connect()
            if time.monotonic() - connection.used < KEPT_SECONDS and connection.alive():
                return connection
            connection.close()

    def put_back(self, connection: Connection) -> None:
        """Keep a connection for the next request."""
        connection.used = time.monotonic()
        self._idle.append(connection)

    def _connect(self) -> Connection:
        import socket

        if self._socket:
            return Connection(_connect_unix(self._socket, self._idle_seconds), plain=True)
        # As bytes where that is the same: for text Python loads the tables of international names.
        host = self._host.encode() if self._host.isascii() else self._host
        sock = socket.create_connection((host, self._port), timeout=CONNECT_SECONDS)  # type: ignore[arg-type]
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(IDLE_SECONDS), 0))
            if self._tls:
                sock = self._wrap(sock)
            elif self._has_token and not _is_loopback(sock.getpeername()[0]):
                raise InvalidRequest(f"{self.url}: a token is sent to another host only by https")
            sock.settimeout(self._idle_seconds)
            if self._cut_seconds is not None:
                mind_cuts(sock, self._cut_seconds)
        except BaseException:
            sock.close()
            raise
        return Connection(sock, plain=not self._tls)

    def _wrap(self, sock: socket.socket) -> socket.socket:
        import ssl

        try:
            if self._ca_file is not None:
                os.close(open_regular(self._ca_file)[0])  # OpenSSL would wait for the writer of a pipe
            context = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise InvalidRequest(
                f"cannot read the certificates in {self._ca_file}: {error.strerror}"
            ) from None
        return context.wrap_socket(sock, server_hostname=self._host)

    def close(self) -> None:
        """Close all connections that are not in use."""
        with suppress(IndexError):  # another thread may have taken the last one
            while True:
                self._idle.pop().close()

    def __del__(self) -> None:
        if self.__dict__.get("_pid") == os.getpid():  # after a fork the connections are the parent's
            self.close()


def _send(
    connection: Connection, head: bytes, body: Bytes | Callable[[Sink], None], length: int | None
) -> bool:
    """Send a request; false if the other side stopped listening, which it may do after it has answered."""
    try:
        if not callable(body):
            connection.sock.sendall(head + body if len(body) < _JOINED else head)
            if len(body) >= _JOINED:
                connection.sock.sendall(body)
            return True
        connection.sock.sendall(head)
        sink = Sink(connection, chunked=length is None)
        body(sink)
        sink.end()
    except OSError as error:
        if not is_loss(error):
            raise
        return False
    return True


def _ignore(_: Sink) -> None:
    """Stand for a body that comes later."""


def split(url: str) -> tuple[bool, str, int, str]:
    """Return whether a server speaks TLS, its host, its port, and the path before all others.

    Raises
    ------
    InvalidRequest
        The URL is not that of a server.
    """
    scheme, _, rest = url.partition("://")
    authority, slash, base = rest.partition("/")
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, "443" if scheme == "https" else "80"
    if scheme not in ("http", "https") or not host or not port.isdecimal() or "@" in host:
        raise InvalidRequest("a server's address is http://HOST:PORT or https://HOST:PORT")
    return scheme == "https", host.strip("[]"), int(port), slash + base


def _connect_unix(path: str, idle_seconds: float) -> socket.socket:
    import socket

    sock = socket.socket(socket.AF_UNIX)
    try:
        # the kernel waits for room in the queue of the server only where Python itself bounds no time
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(CONNECT_SECONDS), 0))
        # the address of a socket has no room for long paths
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
        finally:
            os.close(directory)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(IDLE_SECONDS), 0))
        sock.settimeout(idle_seconds)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_loopback(address: str) -> bool:
    return address.startswith(("127.", "::ffff:127.")) or address == "::1"


def _is_final(error: OSError) -> bool:
    return not isinstance(error, ConnectionError) and not is_loss(error)
