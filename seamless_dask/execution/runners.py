"""Warm runners: interpreters with all that functions need imported, in which each call is a fork.

A runner has a run directory, a sandbox if there is to be one, and an environment of its own; it serves calls
that are to have the same. Where none can be had, or does not do, a call has an interpreter of its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from select import POLLIN, poll
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.errors import HashserverError
from hashserver.retry import pauses
from seamless_dask.errors import SeamlessError
from seamless_dask.model.transformation import Description, ResultSpec

from . import isolation
from .bash import Attempt, Program, sandbox_program
from .call import WORK
from .layout import GATEWAY, Freshness, remove
from .process import FIRST_LOOK, LATER_LOOKS, Ended, RunningProcess, Tail
from .resources import Meter
from .supervisor import Usage
from .workdir import RunDirectory, temporary_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hashserver.checksum import Checksum
    from seamless_dask.context import Context
    from seamless_dask.execution.supervisor import Stop, Supervisor
    from seamless_dask.model.options import Options

    Start = Callable[[Mapping[str, Any]], Program]

MOST = 4
"""Runners that a thread keeps: for so many environments it need not start one again."""
_START_SECONDS, _IMPORT_SECONDS, _END_SECONDS = 60.0, 30.0, 2.0
_WITHOUT_SECONDS = 300.0
_FIRST_DESCRIPTOR = 20  # the shell that starts the interpreter uses the lower ones
_BEFORE_IMPORTS = re.compile(
    rb"\b(environ|environb|putenv|unsetenv|addsitedir|sys\s*\.\s*(path|modules|meta_path)|from sys)\b"
)
"""What a function may do first, so that a module it imports then is another one, or is otherwise."""

_employers = 0
_employing = threading.Lock()
_runners: dict[threading.Thread, dict[_Key, Runner]] = {}
_without: dict[_Key, float] = {}
"""Until when no runner is started for something, because none came about."""
_MOST_READINESS = 1000
_readiness: dict[Checksum, bool] = {}
_unfit: set[str] = set()
"""Modules that do more when they are imported than to be there; or take long, or end the process."""


class Gone(Exception):
    """The runner has ended before it could begin a call."""


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
def lent(
    command: Description, context: Context, options: Options, supervisor: Supervisor, start: Start
) -> Iterator[Runner | None]:
    """Lend a runner for one call; None: there is none.

    The runners of a thread are its own: a sandbox ends with the thread that has started it.

    Parameters
    ----------
    command, context, options, supervisor
        As `run_program` is given them.
    start
        Returns what starts an interpreter that is told something.
    """
    runner = None
    if _employers and not options.image:  # descriptors do not get into a container
        with suppress(isolation.Unavailable, SeamlessError, HashserverError, OSError):
            wanted = _Wanted(command, context, options, supervisor, start)
            runner = _taken(_key(command, context, options), wanted)
    try:
        yield runner
    finally:
        if runner is not None and (not runner.give_back() or not _employers) and runner.retire():
            _own().pop(runner.key, None)
            runner.close()


def _own() -> dict[_Key, Runner]:
    """Return the runners of this thread."""
    return _runners.setdefault(threading.current_thread(), {})


def is_kept() -> bool:
    """Say whether this thread has a runner, which would end with it."""
    return bool(_runners.get(threading.current_thread()))


def _end_those_of_dead_threads() -> None:
    for thread in [each for each in _runners if not each.is_alive()]:
        for runner in _runners.pop(thread, {}).values():
            runner.close()


class _Key(NamedTuple):
    """What two calls must have in common to be served by one runner."""

    environment: tuple[tuple[str, str], ...]
    variables: tuple[tuple[str, str], ...]
    cpus: int | None
    gpus: int | None
    conda: str | None
    modules: tuple[str, ...]
    prologue: tuple[str, ...]
    sandbox: str | None
    cache: str
    temporary: str
    ready: bool
    """Whether modules may be there that the call has not imported."""


def _key(command: Description, context: Context, options: Options) -> _Key:
    variables = (*options.metavars.items(), *(command.variables or {}).items())
    return _Key(
        tuple(os.environ.items()), variables, options.cpus, options.gpus, options.conda, options.modules,
        options.prologue, sandbox_program(options), context.cache, temporary_directory(),
        _is_ready(command.code, context),
    )  # fmt: skip


def _is_ready(code: Checksum, context: Context) -> bool:
    """Say whether a code text may find modules there that it has not imported."""
    ready = _readiness.get(code)  # most often that of the call before
    if ready is None:
        ready = _BEFORE_IMPORTS.search(context.store.get(code)) is None
        if len(_readiness) >= _MOST_READINESS:
            _readiness.clear()
        _readiness[code] = ready
    return ready


class _Wanted(NamedTuple):
    """What a call asks of a runner, or what one is started for; as of `lent`."""

    command: Description
    context: Context
    options: Options
    supervisor: Supervisor
    start: Start


def _taken(key: _Key, wanted: _Wanted) -> Runner | None:
    runners = _own()
    runner = runners.pop(key, None)
    if runner is not None and not runner.take(wanted.supervisor):
        runner.close()
        runner = None
    if runner is None:
        if _without.get(key, 0.0) > time.monotonic():
            return None
        while len(runners) >= MOST:
            runners.pop(next(iter(runners))).close()
        description = Description(
            language="bash", code=wanted.command.code, result=ResultSpec(paths=()), inputs={},
            variables=wanted.command.variables,
        )  # fmt: skip
        _end_those_of_dead_threads()
        runner = Runner(key, wanted._replace(command=description))
    runners[key] = runner  # the last one is that which was used last
    return runner


def _do_without(key: _Key) -> None:
    now = time.monotonic()
    for each, until in list(_without.items()):
        if until <= now:
            _without.pop(each, None)
    _without[key] = now + _WITHOUT_SECONDS


class Runner:
    """An interpreter that runs calls in forks of itself, one at a time.

    Parameters
    ----------
    key
        What it can be used for.
    wanted
        What its interpreter is started as: a command without inputs.
    """

    def __init__(self, key: _Key, wanted: _Wanted) -> None:
        self.key = key
        self._busy, self._spent = threading.Lock(), False
        self._busy.acquire()
        self._ends = ExitStack()
        self._left = b""
        self._unwanted = False
        try:
            self.directory = self._ends.enter_context(RunDirectory())
            os.mkdir(self.directory.layout.control)
            self._control = self._started(wanted)
            self._await_ready(wanted.supervisor)
            self._fresh = Freshness.of(self.directory.path)
            self._make_work()
            self._meter, self._own = Meter(self._process.pid), -1
        except BaseException:
            self.close()
            raise

    def _started(self, wanted: _Wanted) -> socket.socket:
        ours, theirs = socket.socketpair()
        self._ends.enter_context(ours)
        with theirs:
            passed = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR)
        try:
            sandboxed = self.key.sandbox is not None
            told = {
                "serve": passed, "unfit": sorted(_unfit) if self.key.ready else None, "sandboxed": sandboxed,
            }  # fmt: skip
            program = wanted.start(told)._replace(description=wanted.command)
            attempt = Attempt(program, wanted.context, wanted.options, self.directory)
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
        return ours

    def _await_ready(self, supervisor: Supervisor) -> None:
        """Wait until it can be given a call.

        Raises
        ------
        SeamlessError
            It never can, or what goes before a command has left files for a call, which only the first
            one would find.
        """
        place = self.directory.layout
        ready = "ready" in (self._hear(_START_SECONDS, supervisor, self._process.stderr) or {})
        if not ready or any(map(os.listdir, (place.root, place.home, place.tmp))):
            if not self._unwanted:
                _do_without(self.key)
            raise SeamlessError("no runner has started")
        for name in os.listdir(place.control):  # what its shell has read
            os.unlink(f"{place.control}/{name}")

    def _hear(self, seconds: float, supervisor: Supervisor, said: int = -1) -> dict[str, Any] | None:
        """Return the next line; None: there is none any more, or in time, or nobody wants to know.

        Parameters
        ----------
        said
            A stream that is read meanwhile.
        """
        poller = poll()
        ended = self._process.pidfd
        for fd in (self._control.fileno(), ended, said):
            if fd >= 0:
                poller.register(fd, POLLIN)
        began = time.monotonic()
        for pause in pauses(FIRST_LOOK, LATER_LOOKS, factor=1.5, seconds=seconds):
            ready = {fd for fd, _ in poller.poll(pause * 1000)} if b"\n" not in self._left else set()
            if said in ready and not os.read(said, 1 << 16):
                poller.unregister(said)
            if self._control.fileno() in ready or b"\n" in self._left:
                return self._read()
            if ended in ready:  # though what it has started may hold its end of the socket
                return None
            if supervisor.poll(Usage(time.monotonic() - began, 0.0, 0)) is not None:
                self._unwanted = True
                break
        return None

    def take(self, supervisor: Supervisor) -> bool:
        """Have it for a call; false: it is not what it was when it was started."""
        if not self._busy.acquire(blocking=False):
            return False
        imports = None
        with suppress(OSError):  # it has ended, having said why
            self._control.sendall(b"{}\n")
        while answer := self._hear(_IMPORT_SECONDS, supervisor):
            if "fresh" in answer:
                return bool(answer["fresh"])
            imports, self._own = answer.get("imports", imports), -1
        if imports is not None and not self._unwanted:  # the last thing that it has done, or still does
            _unfit.add(imports)
        return False

    def give_back(self) -> bool:
        """Keep it for another call; false: it cannot serve one."""
        kept = not self._spent and self._clear()
        if kept:
            with suppress(OSError):
                self._control.sendall(b'{"import": true}\n')
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
        if self._own < 0:  # it may have imported something since the last call
            self._own = self._meter.read().memory
        read_end, write_end = os.pipe()
        tail = Tail(supervisor.stderr)
        try:
            os.set_blocking(read_end, False)
            message = json.dumps({**told, "variables": variables}).encode() + b"\n"
            began = time.monotonic()
            try:
                socket.send_fds(self._control, [message[:1]], [write_end])
                self._control.sendall(message[1:])
            except ConnectionError as error:  # it had to wait for long, or was killed
                raise Gone from error
            finally:
                os.close(write_end)
            done, stop = self._follow(read_end, tail, supervisor, began)
            wall = time.monotonic() - began
            if stop is not None or done is None:
                self._end()
            elif "refused" in done:
                raise Gone(done["refused"])
            with suppress(BlockingIOError):
                while tail.read(read_end):  # all writers are dead
                    pass
            return self._ended(done, stop, tail.bytes(), wall)
        finally:
            tail.close()
            os.close(read_end)

    def _end(self) -> None:
        """End it with its call: it finds what that has started, wherever this hides, where it can."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
            ended = poll()
            ended.register(self._control, POLLIN)
            ended.poll(_END_SECONDS * 1000)
        self._process.end()

    def _ended(self, done: dict[str, Any] | None, stop: Stop | None, stderr: bytes, wall: float) -> Ended:
        most = max(0, self._meter.max_memory - self._own)
        if stop is not None or done is None:
            return Ended(137, True, stop, stderr, wall, 0.0, most, self.key.sandbox is not None)
        self._spent = False
        value = (done["format"], done["value"].encode("latin-1")) if "value" in done else None
        most = max(done["rss"], most)
        return Ended(done["status"], True, None, stderr, wall, done["cpu"], most, True, value)

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
                return self._read(), None
            if (now := time.monotonic()) >= next_look:
                used = self._meter.read()
                usage = Usage(now - began, used.cpu, max(0, used.memory - self._own))
                if (stop := supervisor.poll(usage)) is not None:
                    return None, stop
                next_look = time.monotonic() + next(waits)

    def _read(self) -> dict[str, Any] | None:
        """Return the next line; None: there is none any more."""
        while b"\n" not in self._left:
            try:
                data = self._control.recv(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._left += data
        line, _, self._left = self._left.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _make_work(self) -> None:
        """Make the directory in which the next call works."""
        self._work = f"{self.directory.layout.root}/{WORK}"
        os.mkdir(self._work)
        self._unused = Freshness.of_each(self._work)

    def _clear(self) -> bool:
        """Empty the directories; false: they are not what they were."""
        place = self.directory.layout
        try:
            # most calls leave nothing in it: to remove it and to make it again takes longer than all else
            unused = Freshness.of_each(self._work) == self._unused and not os.listdir(self._work)
        except OSError:
            unused = False
        try:
            for directory in (place.root, place.home, place.tmp):
                for entry in os.scandir(directory):
                    if unused and entry.path == self._work:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        remove(entry.path)
                    else:
                        os.unlink(entry.path)
            if not unused:
                self._make_work()
            known = set(os.listdir(place.control)) <= {GATEWAY}
            return known and Freshness.of(self.directory.path) == self._fresh
        except OSError:
            return False
