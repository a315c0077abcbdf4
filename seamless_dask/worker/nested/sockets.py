"""What a running command needs to ask for computations itself: a socket, and a connection file beside it.

The socket stands for the daskserver's hashserver and jobserver both. It lies with the files of the run, so
that a command without a network reaches it, and nobody answers when the command has ended. Tokens of the
daskserver stay on this side: behind the socket one holds that is good for this run only.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import secrets
import select
import shutil
import socket
import stat
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hashserver.client.store import find_token
from seamless_dask.connection import VERSION, ConnectionFile
from seamless_dask.execution.layout import GATEWAY
from seamless_dask.model.options import Options
from seamless_dask.protocol.jobs import NESTED_OPERATION

from .. import internals
from ..scheduler_rpc import Unanswered, ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Worker

    from hashserver.server.connection import Protocols, ServerConnection
    from seamless_dask.context import Context

    from .http import Ask, Hashserver

MOST_OPEN = 512
"""Connections that one command may have, where there are descriptors for so many."""

_BACKLOG = 512
_PAUSE = 0.2


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
        made = Gateway(loop, self._ask, self._protocols, (task, checksum, _bounds(given)), place)
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
        self._thread = threading.Thread(target=_serve, args=(loop,), name="seamless-nested", daemon=True)
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
        self._loop.call_later(_PAUSE, self._resume, made)

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


class CommandSocket:
    """A socket, and beside it a connection file and the token that opens it.

    Parameters
    ----------
    directory, inner : str
        Where they are, made here: as we see it and as the command does.
    """

    def __init__(self, directory: str, inner: str) -> None:
        self.directory, self.inner = directory, inner
        self.token = secrets.token_hex(32)
        self._facts = _connection(inner)
        os.mkdir(directory, 0o700)
        _write(f"{directory}/token", _line(self.token))
        _write(f"{directory}/connection.json", self._facts)
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            _listen(self.socket, directory, "socket")
            self._number = os.lstat(f"{directory}/socket").st_ino
        except BaseException:
            self.socket.close()
            raise

    def renew(self) -> bool:
        """Change the token, for another run; False when the one before has touched anything."""
        directory, token = self.directory, secrets.token_hex(32)
        try:
            state = os.lstat(f"{directory}/socket")
            is_ours = stat.S_ISSOCK(state.st_mode) and state.st_ino == self._number
            is_ours = is_ours and sorted(os.listdir(directory)) == ["connection.json", "socket", "token"]
            if not is_ours or stat.S_IMODE(os.lstat(directory).st_mode) != 0o700:
                return False
            if not _holds(f"{directory}/connection.json", self._facts):
                return False
            if not _holds(f"{directory}/token", _line(self.token), _line(token)):
                return False
        except OSError:
            return False
        self.token = token
        return True

    def close(self) -> None:
        """Listen no more."""
        self.socket.close()


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
        self.variables = {"SEAMLESS_DASKSERVER": f"{place.inner}/connection.json"}

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


def _bounds(given: Options) -> str:
    return Options(prologue=given.prologue, metavars=given.metavars).to_json()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    finally:
        loop.close()


async def _called(worker: Worker, arguments: dict[str, Any]) -> Any:
    return await internals.call_scheduler(worker, NESTED_OPERATION, arguments)


def _listen(sock: socket.socket, directory: str, name: str) -> None:
    """Listen at a path; the address of a socket has no room for a long one."""
    sock.setblocking(False)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.bind(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)
    sock.listen(_BACKLOG)


def _connection(inner: str) -> str:
    url, token = f"unix://{inner}/socket", f"{inner}/token"
    facts = ConnectionFile(
        name="nested",
        host=os.uname().nodename,
        pid=os.getpid(),
        started=time.time(),
        jobserver=url,
        scheduler=url,
        hashserver=url,
        store=url,
        token_file=token,
        hashserver_token_file=token,
    )
    return json.dumps({"version": VERSION} | facts._asdict())


def _line(token: str) -> str:
    return f"read-write {token}\n"


def _holds(path: str, text: str, instead: str | None = None) -> bool:
    """Say whether a file of ours holds `text`; put another one of the same length in its place."""
    flags = os.O_RDONLY if instead is None else os.O_RDWR
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        state = os.fstat(fd)
        is_ours = state.st_mode == stat.S_IFREG | 0o600 and state.st_nlink == 1
        if not is_ours or os.read(fd, len(text) + 1) != text.encode():
            return False
        if instead is not None:
            os.pwrite(fd, instead.encode(), 0)
    finally:
        os.close(fd)
    return True


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
