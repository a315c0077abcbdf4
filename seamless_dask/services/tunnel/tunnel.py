"""A daskserver elsewhere, reached over ssh: a process that keeps up a connection and its connection file.

``python -m seamless_dask.services.tunnel.tunnel DIRECTORY`` does what ``seamless-daskserver connect`` has
written there. One OpenSSH connection carries everything: the remote connection file is read through it,
with the token and certificates that it names, and the ports of scheduler, jobserver and hashserver are
forwarded. Local ports stay the same, whatever happens at the other end, so that clients that wait find
their way back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from typing import Any
from urllib.parse import urlsplit

from hashserver.atomic import write_atomic
from hashserver.errors import ServiceUnavailable
from hashserver.printable import tell
from hashserver.retry import pauses

from ... import connection, daemon
from ...connection import LOCK, ConnectionFile
from ...daemon import DaemonFailed
from ...errors import SeamlessError, UsageError
from ..process import LOG, held
from . import remote
from .ssh import NotAllowed, Ssh
from .target import SERVICES, TunnelTarget, read, write

logger = logging.getLogger(__name__)

STATE = "tunnel-state.json"
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds before the first and before a late attempt to connect again."""
DENIED_PAUSE = 180.0
"""Seconds before the next attempt when somebody has to log in: hosts lock out who is refused too often."""
NOT_ALLOWED = 77
"""Exit status of the process when somebody has to log in."""


def state(directory: str) -> str | None:
    """Return what keeps a connection from working just now, if anything does."""
    try:
        with open(os.path.join(directory, STATE), "rb") as file:
            text = json.load(file)["problem"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(text) if text else None


class Tunnel:
    """One connection, kept up.

    Parameters
    ----------
    target
        What to connect to.
    """

    def __init__(self, target: TunnelTarget) -> None:
        self.target, self.ssh = target, Ssh(target)
        self.connected_once = False
        self._seen: str | None = None
        """The remote connection file that the forwards are for."""
        self._forwards: list[str] = []

    async def run(self) -> None:
        """Keep the connection up until cancelled.

        Raises
        ------
        SeamlessError, ServiceUnavailable
            The first attempt fails. Later ones are repeated for ever.
        """
        waits = pauses(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            began = time.monotonic()
            try:
                await self._stay()
            except (SeamlessError, ServiceUnavailable) as error:
                if not self.connected_once:
                    raise
                self._tell(str(error))
                if isinstance(error, NotAllowed):
                    await self.ssh.opened(DENIED_PAUSE)
            if time.monotonic() - began > LONGEST_PAUSE:
                waits = pauses(FIRST_PAUSE, LONGEST_PAUSE)
            await _rest(next(waits))

    async def _stay(self) -> None:
        """Connect, and look after what is forwarded until the link is gone."""
        async with self.ssh.link(remote.WATCH, self.target.remote_name) as link:
            self._seen, self._forwards = None, []
            host = await link.line()
            while True:
                line = await link.line()
                try:
                    await self._follow(host, line)
                    self._tell(None)
                except UsageError as error:  # the daskserver there is stopped, or starting
                    if not self.connected_once:
                        raise
                    self._tell(str(error))

    async def _follow(self, host: str, line: str) -> None:
        """Have the forwards and the local file agree with the remote connection file."""
        if line and line == self._seen:
            return
        self._seen = None
        found = remote.parse(self.target, host, line)
        facts = await remote.copy_files(self.ssh, found)
        for forward in self._forwards:
            await self.ssh.withdraw(forward)
        self._forwards = []
        addresses: dict[str, Any] = {}
        for number, name in enumerate(SERVICES):
            if name != "hashserver" or not remote.is_public(found):
                addresses[name] = await self._forward(number, getattr(found, name))
        facts = facts._replace(**addresses)
        await remote.probe(self.target, facts)
        remote.write(self.target, facts)
        self._seen, self.connected_once = line, True

    async def _forward(self, number: int, url: str) -> str:
        """Forward one of our ports to where `url` says; return what to say instead of that."""
        if not self.target.ports:
            self._take_ports(dict.fromkeys(range(len(SERVICES)), 0))
        there = urlsplit(url)
        host = f"[{there.hostname}]" if ":" in (there.hostname or "") else there.hostname
        try:
            forward = f"127.0.0.1:{self.target.ports[number]}:{host}:{there.port}"
            await self.ssh.forward(forward)
        except (ServiceUnavailable, UsageError):
            if is_free(self.target.ports[number]):
                raise
            self._take_ports(dict(enumerate(self.target.ports)) | {number: 0})
            forward = f"127.0.0.1:{self.target.ports[number]}:{host}:{there.port}"
            await self.ssh.forward(forward)
        self._forwards.append(forward)
        return f"{there.scheme}://127.0.0.1:{self.target.ports[number]}"

    def _take_ports(self, ports: dict[int, int]) -> None:
        """Choose ports where there is 0, and keep them for the next time."""
        free = iter(free_ports(len(ports)))
        self.target = self.target._replace(ports=tuple(port or next(free) for port in ports.values()))
        write(self.target)

    def _tell(self, problem: str | None) -> None:
        if problem != state(self.target.directory):
            logger.info("%s", problem or "connected again")
            write_atomic(self.target.file(STATE), json.dumps({"problem": problem}).encode(), 0o600)


async def _rest(seconds: float) -> None:
    """Wait so long, or until there are other networks than before."""
    before = _routes()
    for pause in pauses(1.0, seconds=seconds):
        if _routes() != before:
            return
        await asyncio.sleep(pause)


def _routes() -> str:
    """Return what networks this host has, where the system says so."""
    with suppress(OSError), open("/proc/net/route") as file:
        return file.read()
    return ""


def is_free(port: int) -> bool:
    """Whether a port of loopback is nobody's."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(number: int) -> list[int]:
    """Return different ports of loopback that are nobody's just now."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


async def _run(target: TunnelTarget) -> None:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task
    tunnel = Tunnel(target)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)

    def abandoned() -> None:
        loop.remove_reader(sys.stdin)
        if not tunnel.connected_once:
            task.cancel()

    loop.add_reader(sys.stdin, abandoned)  # it ends with the command that has started us
    try:
        await tunnel.run()
    except asyncio.CancelledError:
        logger.info("stopped")
    finally:
        remote.forget(target.directory)
        with suppress(FileNotFoundError):
            os.unlink(target.file(STATE))
        await tunnel.ssh.exit()


def start(target: TunnelTarget) -> ConnectionFile:
    """Start the process, and wait for its connection file. Until it is connected it ends with its input.

    Raises
    ------
    NotAllowed
        Somebody has to log in.
    ServiceUnavailable
        It cannot be; the message says why.
    """

    def serves(pid: int) -> ConnectionFile | None:
        with suppress(UsageError):
            facts = connection.read(target.file(connection.FILE))
            return facts if facts.pid == pid else None
        return None

    remote.forget(target.directory)
    words = daemon.command("seamless_dask.services.tunnel.tunnel", target.directory)
    try:
        return daemon.start("the connection", words, target.file(LOG), serves, inf, tied=True)
    except DaemonFailed as error:
        raise (NotAllowed if error.status == NOT_ALLOWED else ServiceUnavailable)(error.said) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Keep the connection of a directory up; return the exit status."""
    (directory,) = sys.argv[1:] if argv is None else argv
    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s - %(levelname)s - %(message)s"
    )
    if not shutil.which("ssh"):
        print("seamless-daskserver: ssh is not installed here", file=sys.stderr)
        return 1
    try:
        with held(os.path.join(directory, LOCK)):
            asyncio.run(_run(read(directory)))
    except (SeamlessError, ServiceUnavailable, OSError) as error:
        tell(f"seamless-daskserver: {error}")
        return NOT_ALLOWED if isinstance(error, NotAllowed) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
