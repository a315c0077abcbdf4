"""A command as a process tree: started, watched, and ended with all that came of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from resource import RUSAGE_SELF, getrusage
from select import POLLIN, poll
from typing import TYPE_CHECKING, NamedTuple

from hashserver.atomic import write_all
from hashserver.retry import pauses

from .environment import MARKER
from .resources import Birthdays, Meter, StrayFinder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from seamless_dask.execution.supervisor import Stop, Supervisor

TAIL = 64 << 10
"""How much of the end of stderr is kept, in bytes."""
SHOWN = 16 << 20
"""How much of stderr is passed on while the command runs, in bytes."""

_CHUNK = 64 << 10
FIRST_LOOK, LATER_LOOKS = 0.02, 0.1
_SETTLE = 2.0


class Ended(NamedTuple):
    """How a command ended.

    ``status`` is what a shell would report (128 + number for a signal), ``started`` whether the command ran
    at all (a sandbox may not have come about), ``stop`` why it was killed, ``alone`` whether surely none
    of its processes is left, ``value`` format and bytes of what it has given without a file. Times in
    seconds, memory in bytes; 0 if it ended before it was looked at.
    """

    status: int
    started: bool
    stop: Stop | None
    stderr: bytes
    wall: float
    cpu: float
    max_rss: int
    alone: bool = False
    value: tuple[str, bytes] | None = None


class CommandProcess(NamedTuple):
    """What to start.

    ``name`` and ``directory`` are those of the run. A ``sandboxed`` command takes ``--json-status-fd``,
    ``--block-fd`` and ``--args`` and has a process namespace of its own, so that nothing can outlive it. With
    ``show_stdout`` what is written to stdout, a file, is shown along with stderr. It inherits the descriptors
    ``passed``.
    """

    words: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    name: str
    directory: str
    sandboxed: bool
    stdin: int
    stdout: int
    show_stdout: bool = False
    passed: tuple[int, ...] = ()


def run(command: CommandProcess, supervisor: Supervisor) -> Ended:
    """Run a command to its end, and end whatever it has left running."""
    if not command.sandboxed:
        supervisor.begin()
    with RunningProcess(command, supervisor.stderr) as running:
        if command.sandboxed:
            supervisor.begin()
            running.release()
        return running.watch(supervisor)


def kill_strays(name: str, directory: str, since: Birthdays | None = None) -> None:
    """Kill the processes of a run that no longer belong to its process group."""
    find = StrayFinder(name, directory, since)
    # Again until none is left: each may have started another one in the meantime. One that is stuck in the
    # kernel dies when it comes out.
    for pause in pauses(0.001, seconds=_SETTLE):
        if not (pids := find()):
            return
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(pause)


class RunningProcess:
    """A context manager: starts a command, and ends it with all that came of it.

    Parameters
    ----------
    command : CommandProcess
        What to start; one in a sandbox begins when it is released.
    shown : str or None
        A file that its stderr is appended to as it comes.

    Attributes
    ----------
    pid, pidfd : int
        Of its first process; no pidfd (-1) on kernels before 5.3.
    stderr : int
        The reading end of its standard error.
    """

    def __init__(self, command: CommandProcess, shown: str | None) -> None:
        self._command = command
        self.stderr, write_end = os.pipe()
        status, status_end = os.pipe() if command.sandboxed else (-1, -1)
        barrier, self._barrier = os.pipe() if command.sandboxed else (-1, -1)
        self._status = status
        self._since = None if command.sandboxed else Birthdays()
        words, env, passed = list(command.words), dict(command.env), [*command.passed]
        settings = -1
        try:
            if command.sandboxed:
                # who makes the sandbox stands outside of it, and must not meet a variable such as LD_PRELOAD
                settings, env = _settings(env), {MARKER: command.name}
                words[1:1] = ["--json-status-fd", str(status_end), "--block-fd", str(barrier)]
                words[1:1] = ["--args", str(settings)]
                passed += [status_end, barrier, settings]
            self._process = subprocess.Popen(
                words, cwd="/" if command.sandboxed else command.cwd, env=env, start_new_session=True,
                stdin=command.stdin, stdout=command.stdout, stderr=write_end, pass_fds=passed,
            )  # fmt: skip
        except BaseException:
            self._close(self.stderr, status, self._barrier)
            raise
        finally:
            self._close(write_end, status_end, barrier, settings)
        self.pid = self._process.pid
        self.pidfd = _pidfd(self.pid)
        self._init = -1  # the first process of the sandbox
        self._report = b""
        strays = None if command.sandboxed else StrayFinder(command.name, command.directory)
        self._meter = Meter(self.pid, strays)
        self._tail = Tail(shown)
        self._shown = 0
        self._others_ended = False
        self._alone = False
        os.set_blocking(self.stderr, False)

    def __enter__(self) -> RunningProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._tail.close()
        self._close(self.stderr, self._status, self._barrier, self.pidfd, self._init)

    def release(self) -> None:
        """Let the command begin as soon as its sandbox is made."""
        with contextlib.suppress(BrokenPipeError):  # there is none: how it ended tells why
            os.write(self._barrier, b"x")
        self._close(self._barrier)
        self._barrier = -1

    def end(self) -> None:
        """Kill it, and return when no other process of it is left."""
        self._kill()
        self._reap()
        self._end_others()

    def watch(self, supervisor: Supervisor) -> Ended:
        """Follow the command to its end."""
        stop = self._follow(supervisor)
        wall = self._meter.wall
        if stop is not None:
            self._kill()
        status, cpu, rss = self._reap()
        self._end_others()
        self._drain()
        self._show_stdout()
        started = not self._command.sandboxed or status != 1 or b'"exit-code"' in self._read_report()
        return Ended(
            status, started, stop, self._tail.bytes(), wall,
            max(cpu, self._meter.cpu), max(rss, self._meter.max_memory), self._alone,
        )  # fmt: skip

    def _follow(self, supervisor: Supervisor) -> Stop | None:
        poller = poll()
        for fd in (self.stderr, self._status, self.pidfd):
            if fd >= 0:
                poller.register(fd, POLLIN)
        waits = pauses(FIRST_LOOK, LATER_LOOKS, factor=1.5)
        next_look = time.monotonic() + next(waits)
        while True:
            ready = {fd for fd, _ in poller.poll(max(0.0, next_look - time.monotonic()) * 1000)}
            if self.stderr in ready and not self._tail.read(self.stderr):
                poller.unregister(self.stderr)
            if self._status in ready:
                self._read_report()
                poller.unregister(self._status)
            if self._has_ended(ready):
                return None
            if time.monotonic() >= next_look:
                if (stop := supervisor.poll(self._meter.read())) is not None:
                    return stop
                self._show_stdout()
                next_look = time.monotonic() + next(waits)

    def _has_ended(self, ready: set[int]) -> bool:
        if self.pidfd >= 0:
            return self.pidfd in ready
        # kernels before 5.3
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _kill(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def _reap(self) -> tuple[int, float, int]:
        """Return exit status, processor time and largest memory of the command."""
        if self._process.returncode is not None:
            return self._process.returncode, 0.0, 0
        if not self._command.sandboxed:
            # the number of the group is ours until its leader is waited for
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        _, status, used = os.wait4(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self._process.returncode = code if code >= 0 else 128 - code
        # a child starts with the figure of the process that it was forked from
        rss = used.ru_maxrss if used.ru_maxrss > getrusage(RUSAGE_SELF).ru_maxrss else 0
        return self._process.returncode, used.ru_utime + used.ru_stime, rss << 10

    def _end_others(self) -> None:
        """Return when no other process of the command is left."""
        if self._others_ended:
            return
        self._others_ended = True
        if not self._command.sandboxed:
            kill_strays(self._command.name, self._command.directory, self._since)
        elif self._init >= 0:
            # it ends after all others in its namespace
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
            waiting = poll()
            waiting.register(self._init, POLLIN)
            self._alone = bool(waiting.poll(_SETTLE * 1000))

    def _read_report(self) -> bytes:
        """Read what the sandbox says of itself; the first report names its first process."""
        if self._status >= 0:
            os.set_blocking(self._status, False)
            with contextlib.suppress(BlockingIOError):
                self._report += os.read(self._status, _CHUNK)
            if self._init < 0 and (found := _first_process(self._report)):
                self._init = _pidfd(found)
                self._alone = self._init < 0 and not os.path.exists(f"/proc/{found}")
        return self._report

    def _drain(self) -> None:
        """Read the rest of stderr; all writers are dead, so that it has an end."""
        with contextlib.suppress(BlockingIOError):
            while self._tail.read(self.stderr):
                pass

    def _show_stdout(self) -> None:
        while self._command.show_stdout and (data := os.pread(self._command.stdout, _CHUNK, self._shown)):
            self._shown += len(data)
            self._tail.show(data)

    @staticmethod
    def _close(*fds: int) -> None:
        for fd in fds:
            if fd >= 0:
                os.close(fd)


class Tail:
    """Keeps the end of a stream, and passes its beginning on to a file."""

    def __init__(self, path: str | None) -> None:
        self._kept = bytearray()
        self._left = SHOWN
        self._path, self._file = path, -1

    def read(self, fd: int) -> bool:
        """Take what `fd` has; False at its end."""
        data = os.read(fd, _CHUNK)
        self._kept += data
        if len(self._kept) > 4 * TAIL:
            del self._kept[:-TAIL]
        self.show(data)
        return bool(data)

    def show(self, data: bytes) -> None:
        """Pass `data` on."""
        if self._path is None or not data or self._left <= 0:
            return
        if self._file < 0:  # most commands write nothing
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o600)
        self._left -= len(data)
        if self._left <= 0:
            data += b"\n[what follows is not shown; its end is kept with the record]\n"
        # nobody may be reading any more, and a full disk must not end the command
        with contextlib.suppress(OSError):
            os.write(self._file, data)

    def bytes(self) -> bytes:
        """Return the end of the stream."""
        return bytes(self._kept[-TAIL:])

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)


def _settings(env: Mapping[str, str]) -> int:
    """Return a file that tells a sandbox the environment inside; arguments could be seen by everybody."""
    words = [word for name, value in env.items() for word in ("--setenv", name, value)]
    fd = os.memfd_create("seamless", os.MFD_CLOEXEC)
    try:
        write_all(fd, b"".join(os.fsencode(word) + b"\0" for word in words))
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


def _first_process(report: bytes) -> int:
    import re

    match = re.search(rb'"child-pid": *([0-9]+)', report)
    return 0 if match is None else int(match[1])
