"""The side of a runner that is in its interpreter: what calls need is imported once, each is a fork of it.

A fork has all to itself: its namespace, working directory, environment, random state, threads. No code of
the user's ever runs in the server, and what a call has started has ended before the next one begins.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import stat
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from seamless_dask.execution.calling import call
from seamless_dask.execution.resources import children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

IDLE = 300.0
"""Seconds after which a server that is not asked for anything ends."""
_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36
_LONGEST = 60_000  # a pipe takes as many bytes without a reader


class Unfit(Exception):
    """A module cannot be imported here, for forks of it would not be whole: it has started threads."""


def serve(told: Mapping[str, Any], prepare: Callable[[], None], end: Callable[[int], None]) -> None:
    """Run calls, one after the other, until nobody is there any more who may ask for one.

    Parameters
    ----------
    told
        ``serve``: the descriptor of the socket on which calls are asked for. ``unfit``: modules that are not
        imported beforehand. ``sandboxed``: whether temporary file systems are this server's own.
    prepare
        What a call begins with, before its variables are set.
    end
        Ends the process of a call, with an exit status.
    """
    with socket.socket(fileno=told["serve"]) as control:
        os.set_inheritable(control.fileno(), False)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what a call leaves behind becomes a child of this process
        _prctl(_PR_SET_DUMPABLE, 0)  # which it may not look into
        # neither can be had everywhere: then there is no server
        os.stat(f"/proc/self/task/{os.getpid()}/children")
        os.close(os.pidfd_open(os.getpid()))
        silence = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        server = _Server(control, set(told["unfit"]), _Litter() if told["sandboxed"] else None, prepare, end)
        server.say({"ready": True})
        for stream in (1, 2):
            os.dup2(silence, stream)
        with suppress(Unfit, ConnectionError):
            while server.answer():
                pass
    os._exit(0)


class _Server:
    def __init__(
        self,
        control: socket.socket,
        unfit: set[str],
        litter: _Litter | None,
        prepare: Callable[[], None],
        end: Callable[[int], None],
    ) -> None:
        self._control, self._unfit, self._litter = control, unfit, litter
        self._prepare, self._end = prepare, end
        self._files: dict[str, tuple[int, int, int]] = {}
        self._seen = 0
        self._look_at_files()
        gc.collect()
        gc.freeze()  # else each fork would copy what is collected there

    def say(self, message: Mapping[str, Any]) -> None:
        """Send a line."""
        self._control.sendall(json.dumps(message).encode() + b"\n")

    def answer(self) -> bool:
        """Answer one question; false: there will be none any more."""
        if not select.select([self._control], [], [], IDLE)[0]:
            return False
        data, descriptors, _, _ = socket.recv_fds(self._control, 1 << 16, 1)
        while data and not data.endswith(b"\n"):
            more = self._control.recv(1 << 16)
            data = data + more if more else b""
        if not data:
            return False
        asked = json.loads(data)
        if not descriptors:  # whether it is as good as a new one
            self.say({"fresh": self._is_fresh()})
            return True
        done, modules = self._run(asked, descriptors[0])
        self.say(done)
        if self._litter is not None and not self._litter.is_as_before():
            return False
        self._import(modules)
        return True

    def _run(self, asked: Mapping[str, Any], stderr: int) -> tuple[dict[str, Any], list[str]]:
        os.set_inheritable(stderr, False)
        told, tell = os.pipe()
        before = frozenset(sys.modules)
        process = os.fork()
        if process == 0:
            try:
                self._call(asked, stderr, tell, before)
            finally:  # whatever happens, a fork must not go on as a server
                os._exit(1)
        os.close(stderr)
        os.close(tell)
        done = self._await(process)
        with open(told, "rb") as stream:
            names = stream.read().decode("utf-8", "replace").split()
        return done, names

    def _call(self, asked: Mapping[str, Any], stderr: int, tell: int, before: frozenset[str]) -> None:
        os.setsid()
        _prctl(_PR_SET_DUMPABLE, 1)
        self._control.close()
        for stream in (1, 2):
            os.dup2(stderr, stream)
        os.close(stderr)
        os.environ.update(asked["variables"])
        if (module := sys.modules.get("numpy.random")) is not None:
            module.seed()  # the state that all forks have in common; Python sees to its own
        self._prepare()
        status = call("..", asked)
        with suppress(Exception):
            os.write(tell, "\n".join(_imported(before)).encode()[:_LONGEST])
            os.close(tell)
        self._end(status)

    def _await(self, process: int) -> dict[str, Any]:
        """Wait for the end of a call, and end what it has started; with whoever asked all ends."""
        ended = os.pidfd_open(process)
        try:
            ready = select.select([self._control.fileno(), ended], [], [])[0]
        finally:
            os.close(ended)
        if ended not in ready:
            os.kill(process, signal.SIGKILL)
        # its number is that of its group until it is waited for
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        _, status, used = os.wait4(process, 0)
        seconds, memory = used.ru_utime + used.ru_stime, used.ru_maxrss << 10
        for others in _ended_children():
            seconds += others.ru_utime + others.ru_stime
        if ended not in ready:
            raise ConnectionError
        code = os.waitstatus_to_exitcode(status)
        return {"status": code if code >= 0 else 128 - code, "cpu": seconds, "rss": memory}

    def _is_fresh(self) -> bool:
        """Say whether what was imported is what would be imported now."""
        try:
            return all(_state(path) == state for path, state in self._files.items())
        except OSError:
            return False

    def _look_at_files(self) -> None:
        modules = list(sys.modules.values())
        for module in modules[self._seen :]:
            path = getattr(module, "__file__", None)
            if isinstance(path, str):
                with suppress(OSError):
                    self._files[path] = _state(path)
        self._seen = len(modules)

    def _import(self, names: Iterable[str]) -> None:
        """Import what a call has imported, so that the next one finds it there."""
        for name in names:
            if name in sys.modules or name in self._unfit:
                continue
            with suppress(Exception):
                importlib.import_module(name)
            if len(os.listdir("/proc/self/task")) > 1:
                with suppress(OSError):
                    self.say({"unfit": name})
                raise Unfit(name)
        if len(sys.modules) != self._seen:
            self._look_at_files()
            gc.collect()
            gc.freeze()


class _Litter:
    """Whether a call has left something on the temporary file systems of a sandbox, or in its memory."""

    def __init__(self) -> None:
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            mounts = [line.split() for line in file]
        self._places = [
            place for _, _, _, _, place, how, *others in mounts
            if how.startswith("rw") and others[others.index("-") + 1] == "tmpfs"
        ]  # fmt: skip
        self._before = self._found()

    def is_as_before(self) -> bool:
        return self._found() == self._before

    def _found(self) -> tuple[list[tuple[str, int, int]], list[bytes]]:
        entries = sorted(entry for place in self._places for entry in _entries(place, os.stat(place).st_dev))
        shared = []
        for kind in ("shm", "sem", "msg"):
            with suppress(OSError), open(f"/proc/sysvipc/{kind}", "rb") as file:
                shared.append(file.read())
        return entries, shared


class _FileVersion(NamedTuple):
    inode: int
    size: int
    mtime_ns: int


def _state(path: str) -> _FileVersion:
    status = os.stat(path)
    return _FileVersion(status.st_ino, status.st_size, status.st_mtime_ns)


def _entries(place: str, device: int) -> Iterator[tuple[str, int, int]]:
    """Yield what lies below a directory on its own file system: path, inode, size of a file."""
    for entry in os.scandir(place):
        status = entry.stat(follow_symlinks=False)
        if status.st_dev != device:
            continue
        is_directory = stat.S_ISDIR(status.st_mode)
        yield entry.path, status.st_ino, 0 if is_directory else status.st_size
        if is_directory:
            yield from _entries(entry.path, device)


def _imported(before: frozenset[str]) -> Iterator[str]:
    """Yield the names of the modules of Python and of libraries that were imported since."""
    places = tuple(os.path.join(place, "") for place in sys.path if os.path.isdir(place))
    for name, module in list(sys.modules.items()):
        path = getattr(getattr(module, "__spec__", None), "origin", None)
        if name not in before and isinstance(path, str) and (path == "built-in" or path.startswith(places)):
            yield name


def _ended_children() -> Iterator[Any]:
    """End all children of this process, and yield what each has used."""
    while True:
        try:
            process, _, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if process:
            yield used
            continue
        for child in children(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.001)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


_libc = ctypes.CDLL(None, use_errno=True)
