"""Requests to a jobserver, which may come back elsewhere."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hashserver.auth import read_token_file
from hashserver.errors import AuthenticationFailed, ReadOnly, ServiceUnavailable

from .. import connection
from ..errors import SeamlessError, UsageError
from ..protocol.jobs import JOBS, PROTOCOL, UNKNOWN
from ..protocol.transports import HttpTransport, JobTransport, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..context import Context
    from ..jobs.request import JobRequest

    Facts = dict[str, Any]


class Unknown(SeamlessError):
    """The jobserver does not know what it was asked about."""


class JobserverClient:
    """Sends requests to the jobserver that a connection file names.

    Parameters
    ----------
    context : Context
        Its places follow when the daskserver comes back elsewhere.
    place : str
        The connection file.
    notify : callable
        Gets what a person who waits should know.
    """

    def __init__(self, context: Context, place: str, notify: Callable[[str], None] | None = None) -> None:
        self._context, self._place = context, place
        self.notify = notify or (lambda _: None)
        self._facts: connection.ConnectionFile | None = None
        self._way: JobTransport | None = None

    def close(self) -> None:
        """Let go of connections."""
        way, self._way = self._way, None
        if way is not None:
            way.close()

    def post(self, request: JobRequest) -> Facts:
        """Send one job; returns what is known of it."""
        body = json.dumps({"protocol": PROTOCOL, "jobs": [request.message()]}).encode()
        facts: Facts = self.ask("POST", JOBS, body)["jobs"][0]
        return facts

    def ask(self, method: str, path: str, body: bytes = b"") -> Facts:
        """Send a request and return the JSON of its answer.

        Raises
        ------
        Unknown
            When the jobserver does not know the job.
        ServiceUnavailable
            When there is no answer, or none of a jobserver.
        UsageError
            When it does not accept the request.
        """
        with self.send(method, path, body) as response:
            try:
                found: Facts = json.loads(response.read())
            except (ValueError, RecursionError):
                raise ServiceUnavailable(f"{self._url} does not answer as a jobserver does") from None
            return found

    def send(self, method: str, path: str, body: bytes = b"") -> Reply:
        """Send a request and return its answer, which is a good one."""
        if self._way is None:
            self._way = self._open()
        response = self._way.ask(method, path, body)
        if response.status < 300:
            return response
        with response:
            raise _meaning(response, self._url)

    def reconnect(self) -> None:
        """Connect anew: the daskserver may have come back elsewhere, which its connection file says."""
        with suppress(UsageError, AuthenticationFailed, ServiceUnavailable):
            way, self._way = self._way, self._open()
            if way is not None:
                way.close()

    def _open(self) -> JobTransport:
        before, self._facts = self._facts, connection.read(self._place)
        token = read_token_file(self._facts.token_file)[0].secret
        if before is not None and before.hashserver != self._facts.hashserver:
            self._context.move(before.hashserver, self._facts.hashserver)
        return HttpTransport(self._facts.jobserver, token, self._facts.ca_file)

    @property
    def _url(self) -> str:
        return self._way.url if self._way else self._place


def _meaning(response: Reply, url: str) -> Exception:
    try:
        message = str(json.loads(response.read())["error"])
    except (ValueError, KeyError, TypeError):
        message = ""
    if response.status == 404:
        if message.startswith(UNKNOWN):
            return Unknown(message)
        return ServiceUnavailable(f"{url} has no jobserver (yet): seamless-daskserver status looks at it")
    said = f"{message or f'status {response.status}'} ({url})"
    if response.status < 400 or (response.status == 400 and not message):
        advice = "" if url.startswith("https:") else "; if it speaks TLS its address is https://…"
        return ServiceUnavailable(f"no connection to {url}: it does not answer as a jobserver does{advice}")
    if response.status == 401:
        return AuthenticationFailed(said)
    if response.status == 403:
        return ReadOnly(said)
    return UsageError(said) if response.status < 500 else ServiceUnavailable(said)
