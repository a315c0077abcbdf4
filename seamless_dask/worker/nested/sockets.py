"""Sockets by which the commands of a worker ask its scheduler for computations."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hashserver.client.store import find_token
from seamless_dask.execution.layout import GATEWAY
from seamless_dask.protocol.jobs import NESTED_OPERATION

from .. import internals
from ..scheduler_rpc import Unanswered, ask
from .command_socket import CommandSocket
from .gateway import PAUSE, Gateway, bounds_of, serve

if TYPE_CHECKING:
    from distributed import Worker

    from hashserver.server.connection import Protocols
    from seamless_dask.context import Context
    from seamless_dask.model.options import Options

    from .http import Ask, Hashserver


class Gateways:
    """Makes the sockets of a worker's commands, and serves them in one thread that the first one starts.

    Parameters
    ----------
    worker : Worker
        Of Dask.
    context : Context
        Says where the hashserver is.
    """

    def __init__(self, worker: Worker, context: Context) -> None:
        self._worker, self._config = worker, context.config
        self._lock = threading.Lock()
        self._listening: dict[int, Gateway] = {}
        self._places: dict[str, CommandSocket] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._hashserver: Hashserver | None = None
        self._opens: tuple[str, str | None, str | None]
        self._offered: bool | None = None

    def open(self, task: str, checksum: str, given: Options, control: str, inner: str) -> Gateway | None:
        """Make the files of one run; None where there is no daskserver to ask.

        Parameters
        ----------
        task, checksum
            What runs: by its name in Dask, and the transformation.
        given
            How it was asked for, which bounds what it can ask for itself.
        control, inner
            Directory of the run, made if need be, as we see it and as the command does.
        """
        with self._lock:
            if not self._is_offered():
                return None
            loop = self._loop or self._start()
        place = self._place(f"{control}/{GATEWAY}", f"{inner}/{GATEWAY}")
        made = Gateway(loop, self._ask, self._protocols, (task, checksum, bounds_of(given)), place)
        # the thread sleeps on, unless the command connects
        self._listening[made.fileno()] = made
        self._epoll.register(made.fileno(), select.EPOLLIN)
        return made

    def end(self, made: Gateway) -> None:
        """Let the command of a run ask no more."""
        with self._lock:  # nor is it listened to again
            del self._listening[made.fileno()]
            with suppress(OSError, ValueError):  # the thread may have ended, or not be listening
                self._epoll.unregister(made.fileno())
        made.close()
        idle: CommandSocket | None = made.place
        with self._lock:
            if self._loop is not None:  # another thread may have the directory by now, and files of its own
                idle = self._places.pop(made.place.directory, None)
                self._places[made.place.directory] = made.place
        if idle is not None:
            idle.close()

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            loop, self._loop, self._offered = self._loop, None, False
            for place in self._places.values():
                place.close()
            self._places.clear()
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            self._epoll.close()

    def _place(self, directory: str, inner: str) -> CommandSocket:
        """Return the files of a run; those of the one before, when its directory serves again."""
        place = self._places.pop(directory, None)
        if place is not None and place.inner == inner and place.renew():
            return place
        with self._lock:
            gone = [other for other in self._places if not os.path.exists(other)]
            left = [self._places.pop(other) for other in gone] + ([place] if place else [])
        for other in left:
            other.close()
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(os.path.dirname(directory), exist_ok=True)
        return CommandSocket(directory, inner)

    def _is_offered(self) -> bool:
        if self._offered is None:
            if not self._config.database.startswith("http") or sys.platform != "linux":
                self._offered = False
            else:
                with suppress(Unanswered):
                    arguments = {"keys": [NESTED_OPERATION], "default": False}
                    self._offered = bool(ask(self._worker, "get_metadata", arguments))
        return bool(self._offered)

    def _start(self) -> asyncio.AbstractEventLoop:
        config = self._config
        found = config.credential(config.database)
        token = find_token(found.token_file)
        secret = None if token is None else token.secret
        self._opens = config.database, secret, found.ca_file
        loop = self._loop = asyncio.new_event_loop()
        self._epoll = select.epoll()
        loop.add_reader(self._epoll.fileno(), self._accept)
        self._thread = threading.Thread(target=serve, args=(loop,), name="seamless-nested", daemon=True)
        self._thread.start()
        return loop

    def _protocols(self, token: str, ask: Ask) -> Protocols:
        from .http import CommandApplication, Hashserver  # aiohttp: for commands that do ask

        if self._hashserver is None:
            self._hashserver = Hashserver(*self._opens)
        return CommandApplication(token, self._hashserver, ask).protocols()

    def _accept(self) -> None:
        for fd, _ in self._epoll.poll(0):
            made = self._listening.get(fd)
            if made is not None and not made.accept():
                self._pause(made)

    def _pause(self, made: Gateway) -> None:
        """Listen to a command no more until it has fewer connections: the descriptors are for all of them."""
        with self._lock, suppress(OSError, ValueError):  # it may have ended
            self._epoll.unregister(made.fileno())
        assert self._loop is not None
        self._loop.call_later(PAUSE, self._resume, made)

    def _resume(self, made: Gateway) -> None:
        if made.is_full():
            self._pause(made)
            return
        with self._lock, suppress(OSError, ValueError):
            if self._listening.get(made.fileno()) is made:
                self._epoll.register(made.fileno(), select.EPOLLIN)

    async def _ask(self, **arguments: Any) -> dict[str, Any]:
        """Ask the scheduler, in the worker's event loop."""
        request = {"worker": self._worker.address, **arguments}
        answer = asyncio.run_coroutine_threadsafe(
            _called(self._worker, request), internals.event_loop(self._worker)
        )
        found: dict[str, Any] = await asyncio.wrap_future(answer)
        return found


async def _called(worker: Worker, arguments: dict[str, Any]) -> Any:
    return await internals.call_scheduler(worker, NESTED_OPERATION, arguments)
