"""Ways to a jobserver: what they have in common, and plain HTTP."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

from hashserver.client.connection import Connection
from hashserver.client.transport import Transport

from .jobs import JSON_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from hashserver.client.connection import Response

WAIT = 20.0
"""Seconds after which the jobserver answers even when nothing has happened."""
GRACE = 15.0
"""How much longer an answer may take before the connection counts as lost."""
CUT_SECONDS = 8
"""After how long without a sign of life the system gives a connection up: a cut link sends none."""


class Reply(Protocol):
    """An answer, whichever way it came; to be closed by leaving its context."""

    @property
    def status(self) -> int:
        """As in HTTP."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By their names in lower case."""
        ...

    def read(self) -> bytes:
        """Return the body."""
        ...

    def __enter__(self) -> Self:
        """Do nothing."""
        ...

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        ...


class JobTransport(Protocol):
    """A way to a jobserver."""

    url: str

    def ask(self, method: str, path: str, body: bytes) -> Reply:
        """Send a request and return its answer; raises `ServiceUnavailable` when there is none."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class HttpTransport(Transport):
    """Plain HTTP; it is noticed when a link is cut: no answer takes longer than it was asked to."""

    def ask(self, method: str, path: str, body: bytes) -> Response:
        """Send a request."""
        return self.request(method, path, body, headers={"Content-Type": JSON_TYPE} if body else {})

    def _connect(self) -> Connection:
        found = super()._connect()
        found.sock.settimeout(WAIT + GRACE)
        if found.sock.family != socket.AF_UNIX:
            mind_cuts(found.sock)
        return found


def mind_cuts(sock: socket.socket) -> None:
    """Have the system give a connection up when nothing has come for `CUT_SECONDS`."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, CUT_SECONDS // 2),
        (socket.TCP_KEEPINTVL, CUT_SECONDS // 4),
        (socket.TCP_KEEPCNT, 2),
        (socket.TCP_USER_TIMEOUT, CUT_SECONDS * 1000),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
