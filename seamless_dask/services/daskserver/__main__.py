"""The daskserver's process.

``python -m seamless_dask.services.daskserver DIRECTORY`` runs until it is told to stop (SIGTERM) or has had
nothing to do for long enough. It holds a lock in its directory while it lives; the connection file is there
while everything listens. Everything that it starts ends with it, also when it is killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

from hashserver.errors import HashserverError
from hashserver.printable import tell
from hashserver.system_text import ensure_utf8

from ... import connection, daemon
from ...errors import SeamlessError
from .. import process
from . import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .settings import DaskserverSettings

logger = logging.getLogger("seamless_dask.services.daskserver")

LOGS = (process.LOG, "logs/hashserver.log")
LOG_INTERVAL = 60.0
"""Seconds between two looks at how long the logs have become."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daskserver of a directory; return the exit status."""
    if argv is None:
        ensure_utf8()
    (directory,) = sys.argv[1:] if argv is None else argv
    os.umask(0o077)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s - %(name)s - %(levelname)s - %(message)s"
    )
    try:
        told = settings.read(directory)
        _forget_environment(told)
        with process.held(told.file(connection.LOCK), process.HANDOVER if told.in_job else process.PROBED):
            asyncio.run(_run(told))
    except (SeamlessError, HashserverError, OSError, RuntimeError) as error:
        tell(f"seamless-daskserver: {_reason(error)}")
        return 1
    return 0


def _reason(error: BaseException) -> str:
    """Return what to say; Dask wraps what happened in 'failed to start'."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


def _forget_environment(told: DaskserverSettings) -> None:
    """Leave workers nothing of what the shell said about places: the plugin tells them."""
    for key in settings.OF_THE_ASKER:
        os.environ.pop(f"SEAMLESS_{key.upper()}", None)
    for name in [name for name in os.environ if name.upper().startswith("DASK_SEAMLESS__")]:
        if name.lower().split("__")[1].replace("-", "_") in settings.OF_THE_ASKER:
            del os.environ[name]
    os.environ["SEAMLESS_CACHE"] = told.cache


async def _run(told: DaskserverSettings) -> None:
    """Run until a signal says stop, or the daskserver finds that it may."""
    from .server import Daskserver

    _stop_once(asyncio.current_task())
    if told.dask is not None:
        settings.use_dask(told.dask)
    settings.forget_places()
    server = Daskserver(told)
    keeper = asyncio.create_task(_keep_logs_short(told))
    try:
        async with AsyncExitStack() as stack:
            await server.open(stack)
            await server.until_over()
    except asyncio.CancelledError:
        logger.info("stopped")
    finally:
        keeper.cancel()


async def _keep_logs_short(told: DaskserverSettings) -> None:
    while True:
        await asyncio.sleep(LOG_INTERVAL)
        for name in LOGS:
            with suppress(OSError):
                await asyncio.to_thread(daemon.rotate, told.file(name))


def _stop_once(task: asyncio.Task[Any] | None) -> None:
    """Have the first signal cancel `task`; a second one must not cut the clean-up short."""
    assert task is not None
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def stop() -> None:
        for number in signals:
            loop.add_signal_handler(number, lambda: None)
        logger.info("told to stop")
        task.cancel()

    for number in signals:
        loop.add_signal_handler(number, stop)


if __name__ == "__main__":
    sys.exit(main())
