"""The daskserver's own hashserver: a process beside it that is started again when it dies or hangs.

As a program (``python -m seamless_dask.services.daskserver.hashserver_process``) this is the command
``hashserver``, which ends when the daskserver does, however that ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.errors import HashserverError
from hashserver.ready_file import read_ready
from hashserver.retry import pauses
from hashserver.system_text import interpreter

from ... import daemon
from ...daemon import DaemonFailed
from . import client

if TYPE_CHECKING:
    from .credentials import Credentials
    from .settings import DaskserverSettings

logger = logging.getLogger(__name__)

READY, LOG = "hashserver.json", "logs/hashserver.log"
START_LIMIT, STOP_LIMIT = 60.0, 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds between a death and the next start; they begin anew after one that lasted a minute."""
HEALTH_INTERVAL, HEALTH_LIMIT = 10.0, 60.0
"""Seconds between two questions whether it is well, and without an answer until it is killed."""

_PARENT = "SEAMLESS_PARENT"
_PR_SET_PDEATHSIG = 1


class HashserverChild:
    """Keeps one hashserver running.

    Parameters
    ----------
    settings
        Where its store, its database and its log are.
    address, port
        Where it listens; port 0 is any, and stays the same from then on.
    credentials
        Its token file and certificate.
    """

    def __init__(
        self, settings: DaskserverSettings, address: str, port: int, credentials: Credentials
    ) -> None:
        self._settings, self._address, self._credentials = settings, address, credentials
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._begun = 0.0
        self.port = port
        self.url = ""
        self.deaths: list[tuple[float, str]] = []
        """When it died since the daskserver was started, and how."""

    async def start(self) -> None:
        """Start it; returns when it listens.

        Raises
        ------
        DaemonFailed
            If it does not.
        """
        await self._launch()
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End it, and do not start it again."""
        if self._watcher is not None:
            self._watcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._watcher
        await self._end()

    @property
    def running(self) -> bool:
        """Whether its process is there and has been listening."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """Number of its process."""
        return self._process.pid if self._process is not None and self.running else None

    async def _watch(self) -> None:
        waits = pauses(FIRST_PAUSE, LONGEST_PAUSE, factor=8)
        while True:
            if self._process is not None:
                self._died(await self._end_of(self._process))
                if time.monotonic() - self._begun > 60:
                    waits = pauses(FIRST_PAUSE, LONGEST_PAUSE, factor=8)
            await asyncio.sleep(next(waits))
            try:
                await self._launch()
            except (DaemonFailed, OSError) as error:
                self._process = None
                logger.error("%s", error)
            else:
                logger.info("the hashserver was started again (process %s)", self.pid)

    async def _end_of(self, process: asyncio.subprocess.Process) -> str:
        """Wait for the end of a process, by force when it answers no more; return how it ended."""
        ending = asyncio.ensure_future(process.wait())
        well = time.monotonic()
        try:
            while not (await asyncio.wait([ending], timeout=HEALTH_INTERVAL))[0]:
                if await asyncio.to_thread(self._answers):
                    well = time.monotonic()
                elif time.monotonic() - well > HEALTH_LIMIT:
                    with suppress(ProcessLookupError):
                        process.kill()
                    await ending
                    return f"did not answer for {HEALTH_LIMIT:.0f} s and was killed"
        finally:
            ending.cancel()
        status = ending.result()
        how = f"by signal {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        return f"ended {how}"

    def _answers(self) -> bool:
        files = self._credentials.token_file, self._credentials.ca_file
        with suppress(HashserverError, OSError):
            return client.ask(self.url, *files, "/healthcheck")[0] == 200
        return False

    def _died(self, how: str) -> None:
        self.deaths.append((time.time(), how))
        del self.deaths[:-20]
        logger.error("the hashserver %s; see %s", how, self._settings.file(LOG))

    async def _launch(self) -> None:
        ready = self._settings.file(READY)
        with suppress(FileNotFoundError):
            os.unlink(ready)
        log = daemon.begin(self._settings.file(LOG))
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(ready),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=os.environ | {_PARENT: str(os.getpid())},
            )
        finally:
            os.close(log)
        self._begun = time.monotonic()
        try:
            await self._until_ready(ready)
        except BaseException:
            await self._end()
            raise

    def _command(self, ready: str) -> list[str]:
        settings, credentials = self._settings, self._credentials
        words = ["--store", settings.store, "--database", settings.database]
        words += ["--host", self._address, "--port", str(self.port)]
        words += ["--token-file", credentials.token_file, "--ready-file", ready]
        words += ["--store-timeout", str(settings.store_timeout)]
        if options := settings.options_file:
            words += ["--storage-options", options]
        if credentials.cert_file and credentials.key_file:
            words += ["--tls-cert", credentials.cert_file, "--tls-key", credentials.key_file]
        return [*interpreter(), "-P", "-m", __spec__.name if __name__ == "__main__" else __name__, *words]

    async def _until_ready(self, ready: str) -> None:
        process, log = self._process, self._settings.file(LOG)
        assert process is not None
        self.url = await asyncio.to_thread(
            daemon.wait,
            "the hashserver",
            log,
            lambda: _url_of(process.pid, ready),
            lambda: process.returncode is not None,
            START_LIMIT,
        )
        self.port = int(self.url.rpartition(":")[2])

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_LIMIT)
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        with suppress(FileNotFoundError):
            os.unlink(self._settings.file(READY))  # of one that had to be killed


def _url_of(pid: int, path: str) -> str | None:
    """Return where a hashserver listens, once it does."""
    found = read_ready(path)
    return found.url if found is not None and found.pid == pid else None


def _die_with(parent: int) -> None:
    """Have the system end this process when the daskserver is gone."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before the system knew
        raise SystemExit("the daskserver is gone")


if __name__ == "__main__":
    _die_with(int(os.environ.pop(_PARENT)))
    from hashserver.__main__ import main

    sys.exit(main(sys.argv[1:]))
