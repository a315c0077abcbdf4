"""What a running command needs to ask for computations itself: a socket, and a connection file beside it.

The socket stands for the daskserver's hashserver and jobserver both. It lies with the files of the run, so
that a command without a network reaches it, and is gone when the command has ended. Tokens of the daskserver
stay on this side: behind the socket one holds that is good for this run only.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import select
import socket
import sys
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from hashserver.client.buffers import find_token
from seamless_dask.services.connection import VERSION, Connection
from seamless_dask.services.nested import OPERATION

from . import gateway, internals
from .requests import Unanswered, ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Worker

    from seamless_dask.context import Context

DIRECTORY = "daskserver"
"""Where the files lie, within the control directory of a run."""

_BACKLOG = 64


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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._hashserver: gateway.Hashserver | None = None
        self._offered: bool | None = None

    def open(self, task: str, checksum: str, control: str, inner: str) -> Gateway | None:
        """Make the files of one run; None where there is no daskserver to ask.

        Parameters
        ----------
        task, checksum
            What runs: by its name in Dask, and the transformation.
        control, inner
            Directory of the run, made if need be, as we see it and as the command does.
        """
        with self._lock:
            if not self._is_offered():
                return None
            loop = self._loop or self._start()
        assert self._hashserver is not None
        os.makedirs(control, exist_ok=True)
        made = Gateway(loop, self._ask, self._hashserver, (task, checksum))
        try:
            made.make(f"{control}/{DIRECTORY}", f"{inner}/{DIRECTORY}")
        except BaseException:
            made.close()
            raise
        # the thread sleeps on, unless the command connects
        self._listening[made.fileno()] = made
        self._epoll.register(made.fileno(), select.EPOLLIN)
        return made

    def end(self, made: Gateway) -> None:
        """Let the command of a run ask no more."""
        del self._listening[made.fileno()]
        with suppress(OSError, ValueError):  # the thread may have ended
            self._epoll.unregister(made.fileno())
        made.close()

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            loop, self._loop, self._offered = self._loop, None, False
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            self._epoll.close()

    def _is_offered(self) -> bool:
        if self._offered is None:
            if not self._config.database.startswith("http") or sys.platform != "linux":
                self._offered = False
            else:
                with suppress(Unanswered):
                    arguments = {"keys": [OPERATION], "default": False}
                    self._offered = bool(ask(self._worker, "get_metadata", arguments))
        return bool(self._offered)

    def _start(self) -> asyncio.AbstractEventLoop:
        config = self._config
        meant = config.hashserver in (None, config.database)  # a token is for one server only
        token = find_token(config.token_file if meant else None)
        secret = None if token is None else token.secret
        self._hashserver = gateway.Hashserver(config.database, secret, config.ca_file)
        loop = self._loop = asyncio.new_event_loop()
        self._epoll = select.epoll()
        loop.add_reader(self._epoll.fileno(), self._accept)
        self._thread = threading.Thread(target=_serve, args=(loop,), name="seamless-nested", daemon=True)
        self._thread.start()
        return loop

    def _accept(self) -> None:
        for fd, _ in self._epoll.poll(0):
            made = self._listening.get(fd)
            if made is not None:
                made.accept()

    async def _ask(self, **arguments: Any) -> dict[str, Any]:
        """Ask the scheduler, in the worker's event loop."""
        request = {"worker": self._worker.address, **arguments}
        answer = asyncio.run_coroutine_threadsafe(
            _called(self._worker, request), internals.event_loop(self._worker)
        )
        found: dict[str, Any] = await asyncio.wrap_future(answer)
        return found


class Gateway:
    """The socket of one run.

    Attributes
    ----------
    waiting : bool
        Whether the command waits for something that it has asked for.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ask: Callable[..., Any],
        hashserver: gateway.Hashserver,
        runs: tuple[str, str],
    ) -> None:
        self.waiting = False
        self._loop, self._ask, self._hashserver = loop, ask, hashserver
        self._task, self._checksum = runs
        self._token, self._run = secrets.token_hex(32), secrets.token_hex(8)
        self._socket = socket.socket(socket.AF_UNIX)
        self._open: set[asyncio.Task[Any]] = set()
        self.variables: dict[str, str] = {}

    def make(self, directory: str, inner: str) -> None:
        """Make the files, and begin to answer."""
        os.mkdir(directory, 0o700)
        _write(f"{directory}/token", f"read-write {self._token}\n")
        _write(f"{directory}/connection.json", _connection(inner))
        _listen(self._socket, directory, "socket")
        self.variables = {"SEAMLESS_DASKSERVER": f"{inner}/connection.json"}

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Answer no more; the scheduler withdraws what is still asked for when the task has ended."""
        self._socket.close()
        if self._open:
            with suppress(RuntimeError):  # the thread may have ended
                self._loop.call_soon_threadsafe(self._end)

    def accept(self) -> None:
        """Answer one who has connected; called in the thread that serves."""
        with suppress(OSError):  # gone already, or all of this is
            connection = self._socket.accept()[0]
            task = self._loop.create_task(self._answer(connection))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    def _end(self) -> None:
        for task in self._open:
            task.cancel()

    async def _answer(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=gateway.LONGEST_HEAD)
        # whoever asked may be gone, or about to be
        with closing(writer), suppress(OSError, EOFError, asyncio.LimitOverrunError):
            await gateway.answer(reader, writer, self._token, self._hashserver, self._jobs)

    async def _jobs(self, **arguments: Any) -> dict[str, Any]:
        """Ask the jobserver."""
        if arguments["method"] == "POST":
            self.waiting = True  # the thread is wanted as soon as the job has come in
        facts = {"task": self._task, "checksum": self._checksum, "run": self._run}
        try:
            answer: dict[str, Any] = await self._ask(**facts, **arguments)
            self.waiting = answer["waiting"]
        except Exception as error:  # of the connection, or whatever the scheduler has raised
            return {"status": 503, "body": {"error": f"the scheduler does not answer: {error!r}"}}
        return answer


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
    return await internals.call_scheduler(worker, OPERATION, arguments)


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
    facts = Connection(
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


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
