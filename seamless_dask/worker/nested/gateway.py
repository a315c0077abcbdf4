"""What answers the command of one run, in the event loop that serves all commands of a process."""

from __future__ import annotations

import asyncio
import errno
import resource
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from seamless_dask.model.options import Options

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from hashserver.server.connection import Protocols, ServerConnection

    from .command_socket import CommandSocket
    from .http import Ask

MOST_OPEN = 512
"""Connections that one command may have, where there are descriptors for so many."""
PAUSE = 0.2
"""Seconds after which one that has so many is listened to again."""


class Gateway:
    """What answers the command of one run.

    Attributes
    ----------
    waiting : bool
        Whether the command waits for something that it has asked for.
    place : CommandSocket
        Where it asks; outlives it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ask: Callable[..., Any],
        make: Callable[[str, Ask], Protocols],
        runs: tuple[str, str, str],
        place: CommandSocket,
    ) -> None:
        self.waiting, self.place = False, place
        self._loop, self._ask, self._make = loop, ask, make
        self._task, self._checksum, self._given = runs
        self._token, self._run = place.token, secrets.token_hex(8)
        self._protocols: Protocols | None = None
        self._open: set[ServerConnection] = set()
        self._begins: set[asyncio.Task[None]] = set()
        self.variables = place.variables

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self.place.socket.fileno()

    def close(self) -> None:
        """Answer no more; the scheduler withdraws what is still asked for when the task has ended."""
        if self._open:
            with suppress(RuntimeError):  # the thread may have ended
                self._loop.call_soon_threadsafe(self._end)

    def accept(self) -> bool:
        """Answer one who has connected, if there is room; called in the thread that serves."""
        try:
            connection = self.place.socket.accept()[0]
        except OSError as error:  # gone already, or all of this is
            return error.errno not in (errno.EMFILE, errno.ENFILE)
        if self._protocols is None:
            self._protocols = self._make(self._token, self._jobs)
        protocol = self._protocols()
        protocol.when_lost(self._open.discard)
        self._open.add(protocol)
        task = self._loop.create_task(self._begin(protocol, connection))
        self._begins.add(task)
        task.add_done_callback(self._begins.discard)
        return not self.is_full()

    def is_full(self) -> bool:
        """Whether the command has as many connections as it may have."""
        # one that is passed on takes two descriptors, and other commands of this worker need some
        return len(self._open) >= min(MOST_OPEN, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)

    def _end(self) -> None:
        for protocol in list(self._open):
            protocol.force_close()

    async def _begin(self, protocol: ServerConnection, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, connection)
        except OSError:
            connection.close()
            self._open.discard(protocol)

    async def _jobs(self, **arguments: Any) -> dict[str, Any]:
        """Ask the jobserver."""
        if arguments["method"] == "POST":
            self.waiting = True  # the thread is wanted as soon as the job has come in
        facts: dict[str, Any] = {"task": self._task, "checksum": self._checksum, "run": self._run}
        facts |= {"sandboxed": self.place.inner != self.place.directory, "given": self._given}
        try:
            answer: dict[str, Any] = await self._ask(**facts, **arguments)
            self.waiting = answer["waiting"]
        except Exception as error:  # of the connection, or whatever the scheduler has raised
            return {"status": 503, "body": {"error": f"the scheduler does not answer: {error!r}"}}
        return answer


def bounds_of(given: Options) -> str:
    """Return what of its own options a command may pass on to what it asks for."""
    return Options(prologue=given.prologue, metavars=given.metavars).to_json()


def serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run an event loop until it is stopped, and end what is left in it."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    finally:
        loop.close()
