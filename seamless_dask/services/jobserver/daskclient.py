"""The jobserver of a scheduler that is known by its address alone, by Dask's own protocol."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import dask.config
from distributed.comm.core import connect
from distributed.core import send_recv
from distributed.security import Security

from hashserver.errors import ServiceUnavailable

from .jobclient import JobserverExecutor
from .jobprotocol import OPERATION
from .ways import CUT_SECONDS, GRACE, WAIT

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from typing import Self

CONNECT_SECONDS = 10.0
_ADVICE = {
    "ssl_context": "name certificates in Dask's configuration (distributed.comm.tls: ca-file, client.cert …)",
    "CERTIFICATE_VERIFY_FAILED": "name who has signed its certificate (distributed.comm.tls.ca-file)",
    "EOF occurred": "it may not accept our certificate (distributed.comm.tls.client.cert)",
    "ALERT": "it does not accept our certificate (distributed.comm.tls.client.cert)",
    "WRONG_VERSION": "it does not speak TLS; without it its address is tcp://…",
}
"""What to do, by a part of what went wrong."""
_OBJECT = re.compile(r"in <[^>]*>: ")
"""What Dask says of itself in its errors."""
PLACES = "seamless_places"


class DaskExecutor(JobserverExecutor):
    """Runs computations on the scheduler at an address, as the jobserver of a daskserver does.

    The place is ``tcp://…`` or ``tls://…``; certificates are those of Dask's configuration. The scheduler has
    the plugin of this package.
    """

    def _open(self) -> Scheduler:
        return Scheduler(self._place)


class Answer(NamedTuple):
    """What a scheduler has answered; see `seamless_dask.services.jobserver.ways.Reply`."""

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

    Dask's connections live in an event loop, which runs in a thread of its own: so that those who wait can
    be interrupted, and may themselves be called from an event loop.

    Parameters
    ----------
    address : str
        Of the scheduler.
    """

    def __init__(self, address: str) -> None:
        self.url = address
        self._idle: list[Any] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="seamless-dask", daemon=True)
        self._thread.start()

    def ask(self, method: str, path: str, body: bytes) -> Answer:
        """Send a request to the jobserver."""
        path, _, query = path.partition("?")
        found = self.call(OPERATION, method=method, path=path, query=query, body=body)
        headers = {name.lower(): value for name, value in found["headers"].items()}
        return Answer(found["status"], bytes(found["body"]), headers)

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Have the scheduler do something.

        Raises
        ------
        ServiceUnavailable
            When it does not answer, does not trust us, or does not know how.
        """
        try:
            answer = self._result(self._call(operation, arguments))
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            raise ServiceUnavailable(self._reason(error)) from None
        if not isinstance(answer, dict):
            raise ServiceUnavailable(
                f"the scheduler at {self.url} has no plugin of seamless-dask: start it with --preload"
                " seamless_dask.scheduler, or add it by Client.register_plugin(SeamlessScheduler())"
            )
        return answer

    def close(self) -> None:
        """Disconnect."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        for comm in self._idle:
            comm.abort()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    # ------------------------------------------------------------------ how

    def _result(self, work: Coroutine[Any, Any, Any]) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _call(self, operation: str, arguments: dict[str, Any]) -> Any:
        async with asyncio.timeout(WAIT + GRACE):
            comm = self._idle.pop() if self._idle else None
            if comm is None or comm.closed():
                comm = await self._connect()
            try:
                answer = await send_recv(comm, op=operation, reply=True, **arguments)
            except BaseException:
                comm.abort()
                raise
            self._idle.append(comm)
            return answer

    async def _connect(self) -> Any:
        security: Any = Security()
        # a link that was cut is to be noticed soon
        with dask.config.set({"distributed.comm.timeouts.tcp": max(CUT_SECONDS, 11)}):
            return await connect(self.url, timeout=CONNECT_SECONDS, **security.get_connection_args("client"))

    def _reason(self, error: Exception) -> str:
        cause = error.__cause__ or error
        reason = " ".join(_OBJECT.sub("", str(cause)).split())[:200] or type(cause).__name__
        advice = next((advice for sign, advice in _ADVICE.items() if sign in reason), None)
        if advice is None and self.url.startswith("tcp:") and isinstance(cause, OSError):
            advice = "if it speaks TLS its address is tls://…"
        said = f"{reason}: {advice}" if advice else reason
        return f"no connection to the scheduler at {self.url}: {said}"


def ask_places(address: str) -> dict[str, Any]:
    """Ask a scheduler where its buffers and results are.

    Raises
    ------
    ServiceUnavailable
        When it does not answer, or has no plugin of ours.
    """
    scheduler = Scheduler(address)
    try:
        return scheduler.call(PLACES)
    finally:
        scheduler.close()
