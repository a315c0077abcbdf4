"""Processes that are detached from whoever starts them: their start, the wait until they serve, logs."""

from __future__ import annotations

import os
import signal
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, TypeVar

from hashserver.retry import pauses
from hashserver.system_text import interpreter

from .errors import SeamlessError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from subprocess import Popen

T = TypeVar("T")

_BEGUN, _DASKSERVER = "---- started ", "seamless-daskserver: "
LONGEST = 16 << 20
"""Bytes; of a longer one the older part is put aside, in place of what was put aside before."""


class DaemonFailed(SeamlessError):
    """A detached process did not start, or does not stop; the message says what to look at.

    Parameters
    ----------
    message
        One line.
    said
        The last line of its log.
    status
        Its exit status.
    """

    def __init__(self, message: str, said: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.said, self.status = said, status


class Daemon:
    """A process that may outlive whoever has started it; `Popen` would complain about that at the end.

    Parameters
    ----------
    process
        It.
    """

    def __init__(self, process: Popen[bytes]) -> None:
        process.returncode = 0
        self.pid, self.stdin = process.pid, process.stdin
        self._status: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        if self._status is None:
            with suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module; the directory that it is started in names no modules."""
    return [*interpreter(), "-P", "-m", module, *arguments]


def spawn(words: Sequence[str], log: str, *, keep: Sequence[int] = (), tied: bool = False) -> Daemon:
    """Start a process: session of its own, root directory, output to the log.

    It has none of our descriptors, nor of those that whoever called us had left open, such as the lock of
    ``flock`` or the end of a pipe, which would be held for as long as it lives.

    Parameters
    ----------
    keep
        Descriptors that it has nevertheless, under the same numbers.
    tied
        Whether its standard input ends when this process does; else there is nothing in it.
    """
    import subprocess

    output = begin(log)
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE if tied else subprocess.DEVNULL, stdout=output, stderr=output,
            cwd="/", start_new_session=True, pass_fds=keep,
        )  # fmt: skip
    finally:
        os.close(output)
    return Daemon(process)


def start(
    name: str,
    words: Sequence[str],
    log: str,
    serves: Callable[[int], T | None],
    seconds: float,
    *,
    tied: bool = False,
) -> T:
    """Start a process as `spawn` does, and wait as `wait` does; one that is not ready in time is ended.

    Parameters
    ----------
    serves
        Gets the number of the process: a file may be that of an earlier one.
    """
    process = spawn(words, log, tied=tied)
    try:
        with process.stdin or nullcontext():
            return wait(name, log, lambda: serves(process.pid), lambda: process.poll() is not None, seconds)
    except DaemonFailed as error:
        error.status = process.poll()
        if error.status is None:
            os.kill(process.pid, signal.SIGTERM)
        raise


def wait(
    name: str, log: str, serves: Callable[[], T | None], has_ended: Callable[[], bool], seconds: float
) -> T:
    """Wait until a process serves, and return what `serves` does then.

    Parameters
    ----------
    name
        What it is called in messages.
    serves
        Says where it serves, from what it has written; None: it does not yet.
    has_ended
        Whether it never will.
    seconds
        How long it may take.

    Raises
    ------
    DaemonFailed
        It ended, with its last words; or it takes too long.
    """
    for pause in pauses(0.004, 0.02, seconds=seconds):
        over = has_ended()  # asked first: what it has written before its end counts
        if (found := serves()) is not None:
            return found
        if over:
            said = last_line(log)
            raise DaemonFailed(f"{name} did not start: {said}", said)
        time.sleep(pause)
    raise DaemonFailed(f"{name} was not ready within {seconds:.0f} s; see {log}")


def rotate(path: str) -> bool:
    """Put a log aside that has become long; return whether it had.

    All who write to it append: they go on in the file that is empty then. What they write between the copy
    and the cut is lost.
    """
    with suppress(FileNotFoundError):
        if os.stat(path).st_size > LONGEST:
            descriptor = os.open(path + ".1", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            import shutil

            with suppress(OSError), os.fdopen(descriptor, "wb") as aside, open(path, "rb") as file:
                shutil.copyfileobj(file, aside, 1 << 20)
            os.truncate(path, 0)  # also when there was no room for the copy
            return True
    return False


def begin(path: str) -> int:
    """Return a descriptor by which a new process writes to a log; a line tells its words from others'."""
    rotate(path)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with suppress(OSError):  # a full disk is for the process to complain about
        os.write(log, f"{_BEGUN}{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}\n".encode())
    return log


def last_line(path: str) -> str:
    """Return the last line that the last process to `begin` has written to a log, for a message."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    said = lines[-1].strip() if lines else _BEGUN
    return f"it said nothing in {path}" if said.startswith(_BEGUN) else said.removeprefix(_DASKSERVER)
