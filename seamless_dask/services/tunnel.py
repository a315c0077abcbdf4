"""A daskserver elsewhere, reached over ssh: a process that keeps up a connection and its connection file.

``python -m seamless_dask.services.tunnel DIRECTORY`` does what ``seamless-daskserver connect`` has written
there. One OpenSSH connection carries everything: the remote connection file is read through it, with the
token and certificates that it names, and the ports of scheduler, jobserver and hashserver are forwarded.
Local ports stay the same, whatever happens at the other end, so that clients that wait find their way back.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from hashserver.atomic import write_atomic
from hashserver.errors import ServiceUnavailable

from ..errors import SeamlessError, UsageError
from ..locks import try_lock
from . import connection
from .connection import Connection
from .control import LOCK, LOG
from .ssh import SERVICES, NotAllowed, Ssh, Target, read, write

logger = logging.getLogger(__name__)

STATE = "tunnel-state.json"
_COPIES = {
    "token_file": "token",
    "hashserver_token_file": "hashserver-token",
    "hashserver_ca_file": "hashserver-ca.pem",
    "ca_file": "ca.pem",
    "cert_file": "cert.pem",
    "key_file": "key.pem",
}
LOOK_AGAIN = 5.0
"""Seconds between looks at the remote connection file."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds before the first and before a late attempt to connect again."""


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

    def __init__(self, target: Target) -> None:
        self.target, self._ssh = target, Ssh(target)
        self._seen: bytes | None = None
        """The remote connection file that the forwards are for."""
        self._forwards: list[str] = []
        self._connected_once = False

    async def run(self) -> None:
        """Keep the connection up until cancelled.

        Raises
        ------
        SeamlessError, ServiceUnavailable
            The first attempt fails. Later ones are repeated for ever.
        """
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                await self._stay()
            except (SeamlessError, ServiceUnavailable) as error:
                if not self._connected_once:
                    raise
                self._tell(str(error))
            if time.monotonic() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _stay(self) -> None:
        """Connect, and look after what is forwarded until the link is gone."""
        async with self._ssh.link() as lost:
            self._seen, self._forwards = None, []
            while not lost.done():
                try:
                    await self._follow()
                    self._tell(None)
                except UsageError as error:  # the daskserver there is stopped, or starting
                    if not self._connected_once:
                        raise
                    self._tell(str(error))
                await asyncio.wait([lost], timeout=LOOK_AGAIN)
            raise ServiceUnavailable(f"the connection to {self.target.destination} is lost: {lost.result()}")

    async def _follow(self) -> None:
        """Have the forwards and the local file agree with the remote connection file."""
        data = await self._ssh.script(_READ, self.target.remote_name)
        if data == self._seen:
            return
        remote, here = self._parse(data)
        await self._copy_files(remote)
        for forward in self._forwards:
            await self._ssh.withdraw(forward)
        self._forwards = []
        addresses = {name: getattr(remote, name) for name in SERVICES}
        self._choose_ports()
        for name, port in zip(SERVICES, self.target.ports, strict=True):
            if name == "hashserver" and _is_public(remote):
                continue
            url = urlsplit(addresses[name])
            forward = f"127.0.0.1:{port}:{_bracketed(url.hostname or '')}:{url.port}"
            self._refuse_other_host(url.hostname or "", remote, here)
            await self._ssh.forward(forward)
            self._forwards.append(forward)
            addresses[name] = f"{url.scheme}://127.0.0.1:{port}"
        self._write(remote._replace(**addresses))
        self._seen, self._connected_once = data, True

    def _parse(self, data: bytes) -> tuple[Connection, str]:
        """Return the remote connection file, and the name of the host that it was read on."""
        first, _, document = data.partition(b"\n")
        descriptor, path = tempfile.mkstemp(dir=self.target.directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(document)
            return connection.read(path), first.decode(errors="replace")
        except UsageError as error:
            name = f"{self.target.destination}: the connection file"
            raise UsageError(str(error).replace(path, name)) from None
        finally:
            os.unlink(path)

    def _refuse_other_host(self, address: str, remote: Connection, here: str) -> None:
        if address in ("127.0.0.1", "::1", "localhost") and remote.host != here:
            raise UsageError(
                f"the daskserver {remote.name!r} listens on loopback of {remote.host}, and this is {here}:"
                f" connect to {remote.host}, by --jump {self.target.destination} perhaps"
            )

    async def _copy_files(self, remote: Connection) -> None:
        paths = {name: path for name in _COPIES if (path := getattr(remote, name))}
        wanted = [path.lstrip("/") for path in dict.fromkeys(paths.values())]
        data = await self._ssh.script(_TAR, *wanted)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for name, path in paths.items():
                member = archive.extractfile(path.lstrip("/"))
                if member is None:
                    raise UsageError(f"{self.target.destination}: {path} is no file")
                write_atomic(self.target.file(_COPIES[name]), member.read(), 0o600)

    def _choose_ports(self) -> None:
        if not self.target.ports:
            with _Ports(len(SERVICES)) as ports:
                self.target = self.target._replace(ports=tuple(ports))
            write(self.target)

    def _write(self, remote: Connection) -> None:
        """Write the local connection file."""
        named = [name for name in _COPIES if getattr(remote, name)]
        copies: dict[str, Any] = {name: self.target.file(_COPIES[name]) for name in named}
        facts = remote._replace(
            name=self.target.name,
            host=os.uname().nodename,
            pid=os.getpid(),
            store=f"{self.target.destination}:{remote.store}",
            **copies,
        )
        connection.write(self.target.file(connection.FILE), facts)

    def _tell(self, problem: str | None) -> None:
        if problem != state(self.target.directory) or problem is None:
            if problem or state(self.target.directory):
                logger.info("%s", problem or "connected again")
            write_atomic(self.target.file(STATE), json.dumps({"problem": problem}).encode(), 0o600)

    def forget(self) -> None:
        """Remove what was copied here."""
        for name in (connection.FILE, STATE, *_COPIES.values()):
            with suppress(FileNotFoundError):
                os.unlink(self.target.file(name))


# The first line is the host's name.
_READ = """uname -n
cache=${SEAMLESS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/seamless}
cat "$cache/daskserver/$1/connection.json" 2> /dev/null && exit
echo "no daskserver called $1 is running on $(uname -n): seamless-daskserver start, there" >&2
exit 3"""
_TAR = 'exec tar -chf - -C / "$@"'


def _is_public(remote: Connection) -> bool:
    """Whether the hashserver is one that others run and that verifies under its own name only."""
    host = urlsplit(remote.hashserver).hostname
    own = remote.hashserver_token_file == remote.token_file or host in ("127.0.0.1", "::1", "localhost")
    return not own and remote.hashserver.startswith("https://")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Ports:
    """Some free ports of loopback, held until they are all known."""

    def __init__(self, number: int) -> None:
        self._sockets = [socket.socket() for _ in range(number)]

    def __enter__(self) -> list[int]:
        for one in self._sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in self._sockets]

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            one.close()


async def _run(target: Target) -> None:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    tunnel = Tunnel(target)
    try:
        await tunnel.run()
    except asyncio.CancelledError:
        logger.info("stopped")
    finally:
        await Ssh(target).exit()
        tunnel.forget()


def start(target: Target) -> int:
    """Start the process, detached from the terminal; its number."""
    import subprocess

    with suppress(FileNotFoundError):
        os.unlink(target.file(connection.FILE))
    log = os.open(target.file(LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        words = [sys.executable, "-P", "-m", "seamless_dask.services.tunnel", target.directory]
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
        )
    finally:
        os.close(log)
    process.returncode = 0  # it outlives this command: no complaint about that
    return process.pid


NOT_ALLOWED = 77
"""Exit status of the process when somebody has to log in."""


def until_connected(target: Target, pid: int) -> Connection:
    """Wait for the connection file.

    Raises
    ------
    NotAllowed
        Somebody has to log in.
    ServiceUnavailable
        It cannot be; the message says why.
    """
    from .hashserver_child import last_line

    while True:
        with suppress(UsageError):
            facts = connection.read(target.file(connection.FILE))
            if facts.pid == pid:
                return facts
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            text = last_line(target.file(LOG)).removeprefix("seamless-daskserver: ")
            raise (NotAllowed if os.waitstatus_to_exitcode(status) == NOT_ALLOWED else ServiceUnavailable)(
                text
            )
        time.sleep(0.02)


def _hold(path: str) -> None:
    """Take the lock that a daskserver of this name would have, for as long as this process lives."""
    descriptor = try_lock(path)
    if descriptor is None:
        raise UsageError("a daskserver of this name is running already")
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps({"pid": os.getpid()}).encode())


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
        _hold(os.path.join(directory, LOCK))
        asyncio.run(_run(read(directory)))
    except (SeamlessError, ServiceUnavailable, OSError) as error:
        print(f"seamless-daskserver: {error}", file=sys.stderr)
        return NOT_ALLOWED if isinstance(error, NotAllowed) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
