"""Warm runners: interpreters with all that functions need imported, in which each call is a fork.

A runner has a run directory, a sandbox if there is to be one, and an environment of its own; it serves calls
that are to have the same. Where none can be had, or does not do, a call has an interpreter of its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from select import POLLIN, poll
from typing import TYPE_CHECKING, Any

from hashserver.errors import HashserverError
from hashserver.retry import pauses
from seamless_dask.errors import SeamlessError
from seamless_dask.model.transformation import Description, ResultSpec

from . import environment, isolation
from .bash import Attempt, Program, sandbox_program
from .layout import GATEWAY, Freshness, layout, remove
from .process import FIRST_LOOK, LATER_LOOKS, Ended, RunningProcess, Tail
from .resources import Meter
from .supervisor import Usage
from .workdir import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from seamless_dask.context import Context
    from seamless_dask.execution.supervisor import Stop, Supervisor
    from seamless_dask.model.options import Options

    Start = Callable[[Mapping[str, Any]], Program]

MOST = 4
"""Runners that a thread keeps: for so many environments it need not start one again."""
_START_SECONDS = 60.0
_OWN_CONTROL = {GATEWAY, "phase", "prelude", "command"}
_FIRST_DESCRIPTOR = 20  # the shell that starts the interpreter uses the lower ones

_NOWHERE = layout("", "", 0)

_employers = 0
_employing = threading.Lock()
_runners: dict[threading.Thread, dict[Hashable, Runner]] = {}
_unfit: set[str] = set()
"""Modules that start threads when they are imported."""


def employ() -> None:
    """Have the functions of this process run by runners that are kept."""
    global _employers
    with _employing:
        _employers += sys.platform == "linux"


def dismiss() -> None:
    """Do without, unless others have employed them too; runners that are idle end."""
    global _employers
    with _employing:
        _employers = max(0, _employers - 1)
        over = [] if _employers else [each for kept in _runners.values() for each in kept.values()]
    for runner in over:
        if runner.retire():  # who uses one ends it himself
            runner.close()


@contextmanager
def lent(command: Description, context: Context, options: Options, start: Start) -> Iterator[Runner | None]:
    """Lend a runner for one call; None: there is none.

    The runners of a thread are its own: a sandbox ends with the thread that has started it.

    Parameters
    ----------
    command, context, options
        As `run_program` is given them.
    start
        Returns what starts an interpreter that is told something.
    """
    runner = None
    if _employers and not options.image:  # descriptors do not get into a container
        with suppress(isolation.Unavailable, SeamlessError, HashserverError, OSError):
            runner = _taken(_key(command, context, options), command, context, options, start)
    try:
        yield runner
    finally:
        if runner is not None and (not runner.give_back() or not _employers) and runner.retire():
            _own().pop(runner.key, None)
            runner.close()


def _own() -> dict[Hashable, Runner]:
    """Return the runners of this thread."""
    return _runners.setdefault(threading.current_thread(), {})


def _end_those_of_dead_threads() -> None:
    for thread in [each for each in _runners if not each.is_alive()]:
        for runner in _runners.pop(thread, {}).values():
            runner.close()


def _key(command: Description, context: Context, options: Options) -> Hashable:
    """Return what two calls must have in common to be served by one runner."""
    given = environment.variables(_NOWHERE, command, options, os.environ)
    return (
        tuple(given.items()), context.cache, options.conda, options.modules, options.prologue,
        options.isolation, options.gpus, sandbox_program(options),
    )  # fmt: skip


def _taken(key: Hashable, command: Description, context: Context, options: Options, start: Start) -> Runner:
    runners = _own()
    runner = runners.pop(key, None)
    if runner is not None and not runner.take():
        runner.close()
        runner = None
    if runner is None:
        while len(runners) >= MOST:
            runners.pop(next(iter(runners))).close()
        description = Description(
            language="bash", code=command.code, result=ResultSpec(paths=()), inputs={},
            variables=command.variables,
        )  # fmt: skip
        _end_those_of_dead_threads()
        runner = Runner(key, description, context, options, start)
    runners[key] = runner  # the last one is that which was used last
    return runner


class Runner:
    """An interpreter that runs calls in forks of itself, one at a time.

    Parameters
    ----------
    key
        What it can be used for.
    command : Description
        What the interpreter is started as; it has no inputs.
    context, options
        As `run_program` is given them.
    start
        Returns what starts an interpreter that is told something.
    """

    def __init__(
        self, key: Hashable, command: Description, context: Context, options: Options, start: Start
    ) -> None:
        self.key = key
        self._busy, self._spent = threading.Lock(), False
        self._busy.acquire()
        self._ends = ExitStack()
        self._left = b""
        try:
            self.directory = self._ends.enter_context(RunDirectory())
            os.mkdir(self.directory.layout.control)
            self._control = self._started(command, context, options, start)
            self._fresh = Freshness.of(self.directory.path)
            self._meter = Meter(self._process.pid)
            self._own = self._meter.read().memory
        except BaseException:
            self.close()
            raise

    def _started(
        self, command: Description, context: Context, options: Options, start: Start
    ) -> socket.socket:
        ours, theirs = socket.socketpair()
        self._ends.enter_context(ours)
        with theirs:
            passed = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
        try:
            sandboxed = sandbox_program(options) is not None
            told = {"serve": passed, "unfit": sorted(_unfit), "sandboxed": sandboxed}
            program = start(told)._replace(description=command)
            attempt = Attempt(program, context, options, self.directory)
            self._ends.callback(attempt.close)
            attempt.prepare(False, ())
            with attempt.command({}) as words:
                self._process = self._ends.enter_context(
                    RunningProcess(words._replace(passed=(passed,)), None)
                )
        finally:
            os.close(passed)
        if sandboxed:
            self._process.release()
        self._await_ready(ours)
        return ours

    def _await_ready(self, control: socket.socket) -> None:
        poller = poll()
        for fd in (control.fileno(), self._process.stderr):
            poller.register(fd, POLLIN)
        end = time.monotonic() + _START_SECONDS
        while (left := end - time.monotonic()) > 0:
            ready = {fd for fd, _ in poller.poll(left * 1000)}
            if self._process.stderr in ready and not os.read(self._process.stderr, 1 << 16):
                poller.unregister(self._process.stderr)
            if control.fileno() in ready:
                if "ready" not in (self._read(control) or {}):
                    break
                return
        raise SeamlessError("no runner has started")

    def take(self) -> bool:
        """Have it for a call; false: it is not what it was when it was started."""
        if not self._busy.acquire(blocking=False):
            return False
        with suppress(ConnectionError):
            self._control.sendall(b"{}\n")
        with suppress(OSError, ValueError):
            while answer := self._read(self._control):
                if "fresh" in answer:
                    return bool(answer["fresh"])
                if "unfit" in answer:
                    _unfit.add(answer["unfit"])
        return False

    def give_back(self) -> bool:
        """Keep it for another call; false: it cannot serve one."""
        kept = not self._spent and self._clear()
        self._busy.release()
        return kept

    def retire(self) -> bool:
        """Let it serve no more calls; false: it serves one at the moment."""
        return self._busy.acquire(blocking=False)

    def close(self) -> None:
        """End it, with all that it has started."""
        self._ends.close()

    def call(
        self, told: Mapping[str, Any], root: str, variables: dict[str, str], supervisor: Supervisor
    ) -> Ended:
        """Run a call; see `process.run`.

        Parameters
        ----------
        told
            What the interpreter is told of its inputs.
        root
            Where they are.
        variables
            What is added to the environment.
        """
        del root  # the runner's own, in which it stands
        self._spent = True  # until it has ended as it should
        read_end, write_end = os.pipe()
        tail = Tail(supervisor.stderr)
        try:
            os.set_blocking(read_end, False)
            message = json.dumps({**told, "variables": variables}).encode() + b"\n"
            began = time.monotonic()
            try:
                socket.send_fds(self._control, [message[:1]], [write_end])
                self._control.sendall(message[1:])
            finally:
                os.close(write_end)
            done, stop = self._follow(read_end, tail, supervisor, began)
            wall = time.monotonic() - began
            if stop is not None or done is None:
                self._process.end()
            with suppress(BlockingIOError):
                while tail.read(read_end):  # all writers are dead
                    pass
            return self._ended(done, stop, tail.bytes(), wall)
        finally:
            tail.close()
            os.close(read_end)

    def _ended(self, done: dict[str, Any] | None, stop: Stop | None, stderr: bytes, wall: float) -> Ended:
        most = max(0, self._meter.max_memory - self._own)
        if stop is not None or done is None:
            return Ended(137, True, stop, stderr, wall, 0.0, most, True)
        self._spent = False
        return Ended(done["status"], True, None, stderr, wall, done["cpu"], max(done["rss"], most), True)

    def _follow(
        self, stderr: int, tail: Tail, supervisor: Supervisor, began: float
    ) -> tuple[dict[str, Any] | None, Stop | None]:
        poller = poll()
        for fd in (stderr, self._control.fileno()):
            poller.register(fd, POLLIN)
        self._meter.max_memory = 0
        waits = pauses(FIRST_LOOK, LATER_LOOKS, factor=1.5)
        next_look = began + next(waits)
        while True:
            ready = {fd for fd, _ in poller.poll(max(0.0, next_look - time.monotonic()) * 1000)}
            if stderr in ready and not tail.read(stderr):
                poller.unregister(stderr)
            if self._control.fileno() in ready:
                return self._read(self._control), None
            if (now := time.monotonic()) >= next_look:
                used = self._meter.read()
                usage = Usage(now - began, used.cpu, max(0, used.memory - self._own))
                if (stop := supervisor.poll(usage)) is not None:
                    return None, stop
                next_look = time.monotonic() + next(waits)

    def _read(self, control: socket.socket) -> dict[str, Any] | None:
        """Return the next line; None: there is none any more."""
        while b"\n" not in self._left:
            try:
                data = control.recv(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._left += data
        line, _, self._left = self._left.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _clear(self) -> bool:
        """Empty the directories; false: they are not what they were."""
        place = self.directory.layout
        try:
            for directory in (place.root, place.home, place.tmp):
                for entry in os.scandir(directory):
                    if entry.is_dir(follow_symlinks=False):
                        remove(entry.path)
                    else:
                        os.unlink(entry.path)
            known = set(os.listdir(place.control)) <= _OWN_CONTROL
            return known and Freshness.of(self.directory.path) == self._fresh
        except OSError:
            return False
