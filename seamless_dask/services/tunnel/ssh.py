"""One OpenSSH connection that carries commands and forwarded ports."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import signal
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from hashserver.errors import ServiceUnavailable
from hashserver.retry import pauses

from ...errors import SeamlessError, UsageError
from .target import TunnelTarget, control_path

ALIVE_INTERVAL, ALIVE_COUNT = 5, 3
"""A link that says nothing for 15 s is dead: after sleep, loss of network or another address."""
COMMAND_LIMIT, LOGIN_LIMIT = 30.0, 120.0
"""Seconds for a command at the other end, and for getting there."""


class NotAllowed(SeamlessError):
    """The other end wants a password or the like, and there is nobody to ask."""


def _lasting() -> list[str]:
    return [
        "-o", "ConnectTimeout=15", "-o", f"ServerAliveInterval={ALIVE_INTERVAL}",
        "-o", f"ServerAliveCountMax={ALIVE_COUNT}", "-o", "TCPKeepAlive=yes",
    ]  # fmt: skip


def login_command(target: TunnelTarget) -> list[str]:
    """Return the ssh command that logs in on a terminal, for accounts that ask for more than a key.

    The connection stays for half a minute, and then as long as the tunnel uses it.
    """
    persist = ["-o", "ControlMaster=yes", "-o", "ControlPersist=30"]
    return target.ssh(*_lasting(), *persist, target.destination, "true")


class Link:
    """The ssh process that carries everything, and the lines that its script writes at the other end."""

    def __init__(self, target: TunnelTarget, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        assert process.stderr
        self._target, self._process, self._lines = target, process, process.stdout
        self._said = asyncio.create_task(_tail(process.stderr))

    async def begin(self, mark: str) -> None:
        """Wait until the script writes `mark`: what comes before is from the account's start-up files.

        Raises
        ------
        NotAllowed, ServiceUnavailable
            The connection cannot be.
        """
        try:
            async with asyncio.timeout(LOGIN_LIMIT):
                while line := await self._lines.readline():
                    if line.endswith(f"{mark}\n".encode()):
                        return
                raise _refusal(self._target, await self._why())
        except (TimeoutError, ValueError):  # silence, or a line that does not end
            raise ServiceUnavailable(f"{self._target.destination} does not answer") from None

    async def line(self) -> str:
        """Return the next line.

        Raises
        ------
        ServiceUnavailable
            The connection is lost.
        """
        why = f"silent for {COMMAND_LIMIT:.0f} s"
        with suppress(TimeoutError, ValueError):
            if line := await asyncio.wait_for(self._lines.readline(), COMMAND_LIMIT):
                return line.decode(errors="replace").strip()
            why = await self._why()
        raise ServiceUnavailable(f"the connection to {self._target.destination} is lost: {why}")

    async def end(self) -> None:
        """End the process."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
        await self._why()

    async def _why(self) -> str:
        status = await self._process.wait()
        return await self._said or f"ssh ended with status {status}"


class Ssh:
    """The connection to one target."""

    def __init__(self, target: TunnelTarget) -> None:
        self.target = target

    @asynccontextmanager
    async def link(self, script: str, *words: str) -> AsyncIterator[Link]:
        """Connect, and hold the process that carries everything: it runs a shell script at the other end."""
        mark = secrets.token_hex(8)
        own = ["-o", "ControlMaster=no"]
        if not await self._is_open():  # else the user has logged in on the terminal, for us to join
            own = [*_lasting(), "-o", "ControlMaster=yes", "-o", "ControlPersist=no"]
            with suppress(FileNotFoundError):
                os.unlink(control_path(self.target))  # of one that was killed
        process = await _start(
            self.target.ssh("-o", "BatchMode=yes", *own, *self._remotely(script, mark, words)),
            stdin=asyncio.subprocess.PIPE,
        )
        link = Link(self.target, process)
        try:
            await link.begin(mark)
            yield link
        finally:
            await link.end()

    async def script(self, script: str, *words: str) -> bytes:
        """Run a shell script at the other end; its output."""
        mark = secrets.token_hex(8)
        options = ["-o", "BatchMode=yes", "-o", "ControlMaster=no"]
        out = await self._run(self.target.ssh(*options, *self._remotely(script, mark, words)))
        before, found, after = out.partition(f"{mark}\n".encode())
        if not found:
            raise UsageError(f"ssh {self.target.destination} runs no commands: {_telling(_texts(before))}")
        return after

    def _remotely(self, script: str, mark: str, words: Iterable[str]) -> list[str]:
        # One line without "!": not only bash but csh and fish hand it over unchanged. The mark tells
        # what the script writes from what the account's start-up files do.
        command = shlex.join(["exec", "sh", "-c", f'echo "$0"; {script}', mark, *words])
        return [self.target.destination, command]

    async def _is_open(self) -> bool:
        with suppress(ServiceUnavailable, UsageError):
            await self._control("check")
            return True
        return False

    async def opened(self, seconds: float) -> None:
        """Wait, as long as is said, for the user to log in."""
        path = control_path(self.target)
        for pause in pauses(0.5, seconds=seconds):
            if os.path.exists(path):
                return
            await asyncio.sleep(pause)

    async def forward(self, forward: str) -> None:
        """Forward a port, as ``-L`` has it."""
        await self._control("forward", "-L", forward)

    async def withdraw(self, forward: str) -> None:
        """Forward it no longer."""
        with suppress(UsageError, ServiceUnavailable):
            await self._control("cancel", "-L", forward)

    async def exit(self) -> None:
        """End the connection, also one that the user has logged in for."""
        with suppress(UsageError, ServiceUnavailable):
            await self._control("exit")
        with suppress(FileNotFoundError):
            os.unlink(control_path(self.target))

    async def _control(self, command: str, *words: str) -> None:
        """Tell the ssh process something; its socket is all that this takes.

        Ports that the user's own ssh_config forwards would be added to ours: it is not read.
        """
        alone = ["ssh", "-F", os.devnull, "-S", control_path(self.target)]
        await self._run([*alone, "-O", command, *words, self.target.destination])

    async def _run(self, words: list[str]) -> bytes:
        process = await _start(words)
        try:
            out, err = await asyncio.wait_for(process.communicate(), COMMAND_LIMIT)
        except TimeoutError:
            raise ServiceUnavailable(f"{self.target.destination} does not answer") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            text = _telling(_texts(err)) or f"ssh ended with status {process.returncode}"
            if process.returncode == 255:
                raise ServiceUnavailable(f"ssh {self.target.destination}: {text}")
            raise UsageError(f"{self.target.destination}: {text}")
        return out


async def _start(words: list[str], stdin: int = asyncio.subprocess.DEVNULL) -> asyncio.subprocess.Process:
    # ssh for a host in between does not know that nobody is there to answer: no window may pop up
    environment = os.environ | {"SSH_ASKPASS_REQUIRE": "never"}
    return await asyncio.create_subprocess_exec(
        *words,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        preexec_fn=_die_with_parent,
    )


_DENIED = ("Permission denied", "Host key verification failed", "Too many authentication failures")
_VAGUE = ("Connection closed by ", "Connection reset by ", "kex_exchange_identification:", "stdio forwarding")
"""What ssh says last when a host in between has refused, which it says before."""


def _texts(output: bytes) -> list[str]:
    return [line for text in output.splitlines() if (line := text.decode(errors="replace").strip())]


def _telling(lines: Iterable[str]) -> str:
    """Return the line that says why; empty when there is none."""
    last = list(lines)
    for wanted in (
        [line for line in last if any(text in line for text in _DENIED)],
        [line for line in last if not line.startswith(_VAGUE)],
        last,
    ):
        if wanted:
            return wanted[-1]
    return ""


async def _tail(stream: asyncio.StreamReader) -> str:
    """Read to the end; the line that says why it came."""
    last: deque[str] = deque(maxlen=20)
    with suppress(ValueError):
        while line := await stream.readline():
            last += _texts(line)
    return _telling(last)


def _refusal(target: TunnelTarget, text: str) -> SeamlessError | ServiceUnavailable:
    if any(denied in text for denied in _DENIED):
        return NotAllowed(
            f"ssh {target.destination}: {text} Log in: seamless-daskserver connect, on a terminal"
        )
    return ServiceUnavailable(f"ssh {target.destination}: {text}")


def _die_with_parent() -> None:
    """Have the system end this process when the tunnel is killed."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
