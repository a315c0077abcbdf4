"""A scheduler that is known by its address alone, asked by Dask's own protocol."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from distributed.comm.addressing import parse_address, parse_host_port
from distributed.security import Security

from hashserver.errors import ServiceUnavailable
from hashserver.retry import pauses

from .jobs import OPERATION
from .transports import GRACE, WAIT
from .wire import NotUnderstood, Wire, is_plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

CONNECT_SECONDS = 10.0
PAUSE = 0.1
"""Seconds between attempts at a scheduler that is just being started."""
PORT = 8786
"""What Dask takes where an address has none."""
_ADVICE = {
    "ssl_context": "name certificates in Dask's configuration (distributed.comm.tls: ca-file, client.cert …)",
    "CERTIFICATE_VERIFY_FAILED": "name who has signed its certificate (distributed.comm.tls.ca-file)",
    "EOF occurred": "it may not accept our certificate (distributed.comm.tls.client.cert)",
    "ALERT": "it does not accept our certificate (distributed.comm.tls.client.cert)",
    "WRONG_VERSION": "it does not speak TLS; without it its address is tcp://…",
    "RECORD_LAYER": "it does not speak TLS; without it its address is tcp://…",
}
"""What to do, by a part of what went wrong."""


class SchedulerAnswer(NamedTuple):
    """What a scheduler has answered; see `seamless_dask.protocol.transports.Reply`."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    def read(self) -> bytes:
        """Return the body."""
        return self.body

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: it is all here."""


class Scheduler:
    """Requests to a scheduler; several threads may send them at once.

    Parameters
    ----------
    address : str
        Of the scheduler.
    security : Security, optional
        That opens it; by default that of Dask's configuration.
    """

    def __init__(self, address: str, security: Any = None) -> None:
        self.url = address
        self._security = security
        self._idle: list[Wire] = []
        self._closed = False

    def ask(self, method: str, path: str, body: bytes) -> SchedulerAnswer:
        """Send a request to the jobserver."""
        path, _, query = path.partition("?")
        found = self.call(OPERATION, method=method, path=path, query=query, body=body)
        if not is_plain(found, {"status": int, "body": bytes, "headers": dict}):
            raise ServiceUnavailable(f"the scheduler at {self.url} does not answer as a jobserver does")
        headers = {str(name).lower(): str(value) for name, value in found["headers"].items()}
        return SchedulerAnswer(found["status"], found["body"], headers)

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Have the scheduler do something.

        Raises
        ------
        ServiceUnavailable
            When it does not answer, does not trust us, or does not know how.
        """
        try:
            answer = self._call(operation, arguments)
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            raise ServiceUnavailable(self._reason(error)) from None
        if not isinstance(answer, dict):
            raise ServiceUnavailable(
                f"the scheduler at {self.url} has no plugin of seamless-dask: start it with --preload"
                " seamless_dask.scheduler, or add it by Client.register_plugin(SeamlessScheduler())"
            )
        if answer.get("status") == "uncaught-error":
            text = " ".join(str(answer.get("exception_text")).split())
            raise ServiceUnavailable(f"the scheduler at {self.url} failed: {text[:200]}")
        return answer

    def close(self) -> None:
        """Disconnect; a request that is under way in another thread comes to its end."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    # ------------------------------------------------------------------ how

    def _call(self, operation: str, arguments: dict[str, Any]) -> Any:
        wire = self._idle.pop() if self._idle else self._connect()
        try:
            answer = wire.call(operation, arguments)
        except BaseException:
            wire.close()
            raise
        self._idle.append(wire)
        if self._closed:
            self.close()
        return answer

    def _connect(self) -> Wire:
        """Connect; a scheduler that is being started again is waited for."""
        security: Any = self._security or Security()
        found = security.get_connection_args("client")
        scheme, place = parse_address(self.url)
        host, port = parse_host_port(place, PORT)
        if scheme == "tls" and found["ssl_context"] is None:
            raise ValueError("TLS needs an ssl_context")
        if scheme == "tcp" and found["require_encryption"]:
            raise ValueError("Dask's configuration asks for encryption, which tcp:// has not")
        context = found["ssl_context"] if scheme == "tls" else None
        end, waits = time.monotonic() + CONNECT_SECONDS, pauses(PAUSE, seconds=CONNECT_SECONDS)
        while True:
            try:
                left = max(end - time.monotonic(), PAUSE)
                return Wire(host, int(port), context, connect_seconds=left, answer_seconds=WAIT + GRACE)
            except ssl.SSLError:
                raise
            except ConnectionRefusedError:
                if not (pause := next(waits)):
                    raise
                time.sleep(pause)

    def _reason(self, error: Exception) -> str:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        advice = next((advice for sign, advice in _ADVICE.items() if sign in reason), None)
        if advice is None and self.url.startswith("tcp:") and isinstance(error, (OSError, NotUnderstood)):
            advice = "if it speaks TLS its address is tls://…"
        said = f"{reason}: {advice}" if advice else reason
        return f"no connection to the scheduler at {self.url}: {said}"
