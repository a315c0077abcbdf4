"""One OpenSSH connection that carries commands and forwarded ports."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

from hashserver.atomic import write_atomic
from hashserver.errors import ServiceUnavailable

from ..config import private_directory
from ..errors import SeamlessError, UsageError

FILE = "tunnel.json"
SERVICES = ("scheduler", "jobserver", "hashserver")
ALIVE_INTERVAL, ALIVE_COUNT = 5, 3
"""A link that says nothing for 15 s is dead: after sleep, loss of network or another address."""
COMMAND_LIMIT = 30.0
"""Seconds."""


class NotAllowed(SeamlessError):
    """The other end wants a password or the like, and there is nobody to ask."""


class Target(NamedTuple):
    """What ``seamless-daskserver connect`` was told."""

    directory: str
    name: str
    """Of the connection, here."""
    destination: str
    """``[user@]host``, as ssh has it."""
    remote_name: str = "default"
    jump: str | None = None
    options: tuple[str, ...] = ()
    """Options of ssh, as ``KEY=VALUE``."""
    ports: tuple[int, ...] = ()
    """Local ports, in the order of `SERVICES`."""

    def file(self, name: str) -> str:
        """Path of a file of the connection's own directory."""
        return os.path.join(self.directory, name)

    def ssh(self, *words: str) -> list[str]:
        """Return an ssh command that shares the connection."""
        options = [word for option in self.options for word in ("-o", option)]
        jump = ["-J", self.jump] if self.jump else []
        return ["ssh", "-S", control_path(self), *jump, *options, *words]


def write(target: Target) -> None:
    """Write the file that the process reads."""
    write_atomic(target.file(FILE), json.dumps(target._asdict(), indent=2).encode(), 0o600)


def read(directory: str) -> Target:
    """Return what to connect to.

    Raises
    ------
    UsageError
        If there is nothing usable.
    """
    try:
        with open(os.path.join(directory, FILE), "rb") as file:
            found: dict[str, Any] = json.load(file)
        return Target(**found | {name: tuple(found[name]) for name in ("options", "ports")})
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"no connection in {directory}: seamless-daskserver connect makes one") from None


def control_path(target: Target) -> str:
    """Return the path of ssh's control socket: a short one, in a directory of this user's own."""
    import hashlib

    folder = private_directory(os.path.join(tempfile.gettempdir(), f"seamless-ssh-{os.geteuid()}"))
    status = os.lstat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise UsageError(f"{folder} must belong to you, and to you alone: TMPDIR names another place")
    return os.path.join(folder, hashlib.sha256(target.directory.encode()).hexdigest()[:16])


def _lasting() -> list[str]:
    return [
        "-o", "ConnectTimeout=15", "-o", f"ServerAliveInterval={ALIVE_INTERVAL}",
        "-o", f"ServerAliveCountMax={ALIVE_COUNT}", "-o", "TCPKeepAlive=yes", "-o", "ExitOnForwardFailure=no",
    ]  # fmt: skip


def login_command(target: Target) -> list[str]:
    """Return the ssh command that logs in on a terminal, for accounts that ask for more than a key.

    The connection stays for half a minute, and then as long as the tunnel uses it.
    """
    persist = ["-o", "ControlMaster=yes", "-o", "ControlPersist=30", "-o", "ClearAllForwardings=yes"]
    return target.ssh(*_lasting(), *persist, target.destination, "true")


class Ssh:
    """The connection to one target."""

    def __init__(self, target: Target) -> None:
        self.target = target

    @asynccontextmanager
    async def link(self) -> AsyncIterator[asyncio.Task[str]]:
        """Hold the ssh process that carries everything; what is yielded ends with it, and says why."""
        process = await self._start()
        assert process.stdout
        assert process.stderr
        said = asyncio.create_task(_tail(process.stderr))
        lost = asyncio.create_task(_outcome(process, said))
        try:
            line = await asyncio.wait_for(process.stdout.readline(), 4 * COMMAND_LIMIT)
            if not line:
                raise _refusal(self.target, await lost)
            yield lost
        except TimeoutError:
            raise ServiceUnavailable(f"{self.target.destination} does not answer") from None
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait([lost])

    async def _start(self) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        if await self._is_open():
            # The user has logged in on the terminal: that connection stays as long as somebody uses it.
            words = self.target.ssh("-T", self.target.destination, "echo connected; exec cat")
        else:
            words = self.target.ssh(
                "-M", "-N", "-T", *_lasting(), "-o", "BatchMode=yes", "-o", "ControlPersist=no",
                "-o", "ClearAllForwardings=yes", "-o", "PermitLocalCommand=yes",
                "-o", "LocalCommand=echo connected",
                self.target.destination,
            )  # fmt: skip
            with suppress(FileNotFoundError):
                os.unlink(control_path(self.target))  # of one that was killed
        return await asyncio.create_subprocess_exec(
            *words, stdin=pipe, stdout=pipe, stderr=pipe, preexec_fn=_die_with_parent
        )

    async def _is_open(self) -> bool:
        with suppress(ServiceUnavailable, UsageError):
            await self.run("-O", "check", self.target.destination)
            return True
        return False

    async def run(self, *words: str) -> bytes:
        """Run ssh over the link; its output."""
        pipe = asyncio.subprocess.PIPE
        command = self.target.ssh("-o", "BatchMode=yes", "-o", "ControlMaster=no", *words)
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, preexec_fn=_die_with_parent
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), COMMAND_LIMIT)
        except TimeoutError:
            raise ServiceUnavailable(f"{self.target.destination} does not answer") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            text = _last(err.decode(errors="replace"))
            if process.returncode == 255:
                raise ServiceUnavailable(f"ssh {self.target.destination}: {text}")
            raise UsageError(text)
        return out

    async def script(self, script: str, *words: str) -> bytes:
        """Run a shell script at the other end; its output. Whatever shell the account has, sh reads it."""
        return await self.run(self.target.destination, shlex.join(["exec", "sh", "-c", script, "sh", *words]))

    async def exit(self) -> None:
        """End the connection, also one that the user has logged in for."""
        with suppress(UsageError, ServiceUnavailable):
            await self.run("-O", "exit", self.target.destination)
        with suppress(FileNotFoundError):
            os.unlink(control_path(self.target))

    async def forward(self, forward: str) -> None:
        """Forward a port, as ``-L`` has it."""
        await self.run("-O", "forward", "-L", forward, self.target.destination)

    async def withdraw(self, forward: str) -> None:
        """Forward it no longer."""
        with suppress(UsageError, ServiceUnavailable):
            await self.run("-O", "cancel", "-L", forward, self.target.destination)


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


async def _tail(stream: asyncio.StreamReader) -> str:
    """Read to the end; the last line that says something."""
    last = ""
    while line := await stream.readline():
        last = line.decode(errors="replace").strip() or last
    return last


async def _outcome(process: asyncio.subprocess.Process, said: asyncio.Task[str]) -> str:
    status = await process.wait()
    return await said or f"ssh ended with status {status}"


def _refusal(target: Target, text: str) -> SeamlessError | ServiceUnavailable:
    if "Permission denied" in text or "Host key verification failed" in text:
        return NotAllowed(
            f"ssh {target.destination}: {text} Log in: seamless-daskserver connect, on a terminal"
        )
    return ServiceUnavailable(f"ssh {target.destination}: {text}")


def _die_with_parent() -> None:
    """Have the system end this process when the tunnel is killed."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
