"""Ways to a jobserver: what they have in common, and plain HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

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

    def __init__(self, url: str, token: str | None = None, ca_file: str | None = None) -> None:
        super().__init__(url, token, ca_file, idle_seconds=WAIT + GRACE, cut_seconds=CUT_SECONDS)

    def ask(self, method: str, path: str, body: bytes) -> Response:
        """Send a request."""
        return self.request(method, path, body, headers={"Content-Type": JSON_TYPE} if body else {})
