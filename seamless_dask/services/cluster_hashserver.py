"""A hashserver for one cluster, beside whoever has started that: it ends with either.

It runs as a child of a thread with an event loop of its own: the system ends it with that thread, whatever
becomes of this process, and a client's event loop may come to its end before the cluster does.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import tempfile
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hashserver.storage.options import write as write_options

from ..cluster_credentials import ClusterCredentials, MemoryFile
from ..errors import UsageError
from ..locks import is_locked, lock_now
from ..origins import Credential, origin
from ..private import private_directory
from .daskserver import credentials
from .daskserver.hashserver_process import HashserverChild
from .daskserver.settings import OPTIONS, DaskserverSettings

if TYPE_CHECKING:
    from ..config import Config

FOLDER, LOCK = "clusters", "lock"
"""Directory in the cache with one for each cluster; the lock is held by the process that it belongs to."""
END_SECONDS = 15.0
BUSY_SECONDS = 60.0
"""For how long a scheduler may be silent at whose address somebody listens."""


class ClusterHashserver:
    """A hashserver with a store and a database of this host, and a token and certificates of its own.

    Parameters
    ----------
    config
        It names both as paths, or the store as something that `fsspec` reaches.
    address
        Where it listens.
    """

    def __init__(self, config: Config, address: str) -> None:
        self._config, self._address = config, address
        self._started: Future[tuple[str, ClusterCredentials]] = Future()
        self._thread = threading.Thread(target=self._run, name="seamless-hashserver", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = asyncio.Event()
        self._is_let_go = False

    def start(self) -> tuple[str, ClusterCredentials]:
        """Start it; return its address and what opens it.

        Raises
        ------
        SeamlessError
            It does not start.
        """
        self._thread.start()
        found = self._started.result()
        atexit.register(self._leave)
        return found

    def end_with(self, scheduler: str, arguments: dict[str, Any], patience: float) -> None:
        """Have it end when a scheduler does.

        Parameters
        ----------
        scheduler
            Its address.
        arguments
            What connecting to it takes.
        patience
            Seconds for which a scheduler that does not answer is waited for.
        """
        assert self._loop is not None
        coroutine = self._watch(scheduler, arguments, patience)
        asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def stop(self) -> None:
        """End it, and with it its token."""
        atexit.unregister(self._leave)
        if self._loop is not None:
            with suppress(RuntimeError):  # its loop has ended
                self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(END_SECONDS)

    def _leave(self) -> None:
        """Tidy up at the end of this process; a cluster that is closed later still needs the server."""
        if self._is_let_go:
            self.stop()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        directory = None
        try:
            directory, lock = new_directory(self._config.cache)
            files = _in_memory(credentials.make(directory, [self._address]))
            own = credentials.Credentials(*(file.path for file in files))
            child = HashserverChild(self._settings(directory), self._address, 0, own)
            await child.start()
        except BaseException as error:
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)
            self._started.set_exception(error)
            return
        try:
            self._started.set_result((child.url, self._credentials_of(child.url, own)))
            await self._over.wait()
        finally:
            await child.stop()
            shutil.rmtree(directory, ignore_errors=True)
            os.close(lock)

    def _settings(self, directory: str) -> DaskserverSettings:
        config = self._config
        told = config.options_of(config.stores[0])
        if told:
            write_options(os.path.join(directory, OPTIONS), told)
        return DaskserverSettings(
            directory=directory,
            name=os.path.basename(directory),
            cache=config.cache,
            store=config.stores[0],
            database=config.database,
            store_timeout=config.store_timeout,
        )

    @staticmethod
    def _credentials_of(url: str, own: credentials.Credentials) -> ClusterCredentials:
        return ClusterCredentials.read([Credential(origin(url), own.token_file, own.ca_file)])

    async def _watch(self, scheduler: str, arguments: dict[str, Any], patience: float) -> None:
        """Hold a connection to a scheduler; when it cannot be had any more, the cluster is over."""
        from distributed.comm.core import CommClosedError, connect

        lost = time.monotonic()
        while True:
            try:
                comm = await connect(scheduler, timeout=patience, **arguments)
            except OSError as error:
                if _is_refused(error) or time.monotonic() - lost > BUSY_SECONDS:
                    break
                continue  # somebody listens there, who has no time to answer
            self._is_let_go = False
            with suppress(CommClosedError):
                await comm.read()  # the scheduler says nothing by itself
            self._is_let_go = True
            comm.abort()
            lost = time.monotonic()
        self._over.set()


def _is_refused(error: BaseException | None) -> bool:
    """Say whether nobody listened, by what an error came from."""
    while error is not None and not isinstance(error, ConnectionRefusedError):
        error = error.__cause__
    return error is not None


def _in_memory(made: credentials.Credentials) -> list[MemoryFile]:
    """Return credentials as files of memory in the place of those on the disk: they go with this process."""
    files = []
    for path in made:
        assert path is not None
        with open(path, encoding="ascii") as file:
            files.append(MemoryFile(file.read()))
    os.unlink(made.token_file)
    shutil.rmtree(os.path.join(os.path.dirname(made.token_file), credentials.TLS))
    return files


def new_directory(cache: str) -> tuple[str, int]:
    """Return a directory of one cluster, and the lock that is held for as long as it is wanted.

    What processes have left that were killed is removed: a log, and no secrets.
    """
    parent = private_directory(os.path.join(private_directory(cache), FOLDER))
    for entry in os.scandir(parent):
        lock = os.path.join(entry.path, LOCK)
        if os.path.exists(lock) and not is_locked(lock):
            shutil.rmtree(entry.path, ignore_errors=True)
    directory = tempfile.mkdtemp(dir=parent)
    # by another name first: a lock that is not held yet would be taken for that of somebody dead
    path = os.path.join(directory, f"{LOCK}.new")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    if not lock_now(descriptor):
        raise UsageError(f"cannot lock {path}")
    os.rename(path, os.path.join(directory, LOCK))
    os.mkdir(os.path.join(directory, "logs"), 0o700)
    return directory, descriptor
