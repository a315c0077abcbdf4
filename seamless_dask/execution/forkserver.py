"""The side of a runner that is in its interpreter: what calls need is imported once, each is a fork of it.

A fork has all to itself: its namespace, working directory, environment, random state, threads. No code of
the user's ever runs in the server, and what a call has started has ended before the next one begins.
"""

from __future__ import annotations

import _locale
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import stat
import sys
import time
from array import array
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from seamless_dask.execution.call_files import SentFiles
from seamless_dask.execution.calling import call
from seamless_dask.execution.layout import ROOM, remove
from seamless_dask.execution.resources import children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

IDLE = 300.0
"""Seconds after which a server that is not asked for anything ends."""
_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36
_FORKS = "pyarrow"
"""A library whose threads may be there: a fork begins its own anew (ARROW-2963, ARROW-17975)."""
_WORD = (1 << 64) - 1
_PYTHON = os.path.join(os.path.dirname(os.__file__), "")
_PACKAGES = tuple(f"{_PYTHON}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_MODULES_AT = ROOM + (1 << 10)
_LONGEST = 1 << 20  # of what is told of the modules that a call has imported


class Unfit(Exception):
    """A module cannot be imported here: it does more than to be there for those who import it."""


def serve(told: Mapping[str, Any], prepare: Callable[[], None], end: Callable[[int], None]) -> None:
    """Run calls, one after the other, until nobody is there any more who may ask for one.

    Parameters
    ----------
    told
        ``serve``: the descriptor of the socket on which calls are asked for. ``unfit``: modules that are not
        imported beforehand; None: nothing is. ``sandboxed``: whether temporary file systems are this
        server's own.
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
        if children(os.getpid()):  # what was started before it, for one call, would not outlive the first
            os._exit(1)
        silence = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        server = _Server(control, told["unfit"], told["sandboxed"], prepare, end)
        server.say({"ready": True})
        for stream in (1, 2):
            os.dup2(silence, stream)
        os.close(silence)
        with suppress(Unfit, ConnectionError):
            while server.answer():
                pass
    os._exit(0)


class _Server:
    def __init__(
        self,
        control: socket.socket,
        unfit: Iterable[str] | None,
        sandboxed: bool,
        prepare: Callable[[], None],
        end: Callable[[int], None],
    ) -> None:
        self._control, self._prepare, self._end = control, prepare, end
        self._unfit = None if unfit is None else set(unfit)
        self._litter = _Litter() if sandboxed else None
        self._home = os.path.abspath("../home")
        self._directories = (
            os.getcwd(), self._home, "/tmp" if sandboxed else os.path.abspath("../tmp")  # noqa: S108 - its own
        )  # fmt: skip
        self._modules: list[_FileVersions] = []
        self._seen = 0
        self._asked = b""
        self._told: list[tuple[str, str]] = []
        self._look_at_files()
        gc.collect()
        gc.freeze()  # else each fork would copy what is collected there

    def say(self, message: Mapping[str, Any]) -> None:
        """Send a line."""
        self._control.sendall(json.dumps(message).encode() + b"\n")

    def answer(self) -> bool:
        """Do what is asked for; false: nothing will be any more."""
        if b"\n" not in self._asked and not select.select([self._control], [], [], IDLE)[0]:
            return False
        descriptors: list[int] = []
        while b"\n" not in self._asked:
            data, found, _, _ = socket.recv_fds(self._control, 1 << 16, 1)
            if not data:
                return False
            self._asked += data
            descriptors += found
        line, _, self._asked = self._asked.partition(b"\n")
        asked = json.loads(line)
        if descriptors:
            self.say(self._run(asked, descriptors[0]))
            return self._litter is None or self._litter.is_as_before()
        if "import" in asked:  # the directories are empty
            self._import()
        else:  # whether it is as good as a new one
            self.say({"fresh": self._is_fresh()})
        return True

    def _run(self, asked: Mapping[str, Any], stderr: int) -> dict[str, Any]:
        os.set_inheritable(stderr, False)
        told = os.memfd_create("told", os.MFD_CLOEXEC)
        known = len(sys.modules)
        try:
            process = os.fork()
        except OSError as error:
            os.close(stderr)
            os.close(told)
            return {"refused": str(error)}
        if process == 0:
            try:
                self._call(asked, stderr, told, known)
            finally:  # whatever happens, a fork must not go on as a server
                os._exit(1)
        os.close(stderr)
        done = self._await(process)
        if done["status"] == 0:
            done |= _answer_in(told)
        words = os.pread(told, _LONGEST, _MODULES_AT).decode("utf-8", "replace").split("\0")
        os.close(told)
        self._told = list(zip(words[::2], words[1::2], strict=False))
        return done

    def _call(self, asked: Mapping[str, Any], stderr: int, told: int, known: int) -> None:
        os.setsid()
        _prctl(_PR_SET_DUMPABLE, 1)
        self._control.close()
        for stream in (1, 2):
            os.dup2(stderr, stream)
        os.close(stderr)
        for name, value in asked["variables"].items():
            os.environ.setdefault(name, value)  # what the user has set goes first
        if (module := sys.modules.get("numpy.random")) is not None:
            module.seed()  # the state that all forks have in common; Python sees to its own
        answer = _Answer(told)
        self._prepare()
        status = call(SentFiles("..", asked.get("carried", {}), answer.give), asked)
        if self._unfit is not None:
            with suppress(Exception):
                if words := [word for pair in _imported(known) for word in pair]:
                    answer.tell("\0".join(words).encode(), _MODULES_AT)
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
            return self._places.are_current() and all(each.are_current() for each in self._modules)
        except OSError:
            return False

    def _look_at_files(self) -> None:
        modules = list(sys.modules.values())
        # a module that is installed later may be one that another has looked for in vain
        self._places = _FileVersions(path for path in sys.path if os.path.isdir(path))
        files = (getattr(module, "__file__", None) for module in modules[self._seen :])
        self._modules.append(_FileVersions(map(_watched, (path for path in files if isinstance(path, str)))))
        self._seen = len(modules)

    def _import(self) -> None:
        """Import what the last call has imported, so that the next one finds it there."""
        told, self._told = self._told, []
        if not told:
            return
        common = self._common()
        # before those that import it, such as pandas
        for name, origin in sorted(told, key=lambda each: not _is_of(_FORKS, each[0])):
            if self._unfit is None or name in self._unfit or not _would_be(name, origin):
                continue
            with suppress(OSError):
                self.say({"imports": name})  # which may take for ever, or end this process
            try:
                importlib.import_module(name)
            except BaseException:  # such as SystemExit
                self._unfit.add(name)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()  # else each fork would say it again
            _libc.fflush(None)
            _remove_caches(self._home)
            # with one processor NumPy, which comes along, has no threads; with more nothing tells them apart
            if _is_of(_FORKS, name) and os.environ.get("OMP_NUM_THREADS") == "1":
                common = (_threads(), *common[1:])
            if self._common() != common:
                with suppress(OSError):
                    self.say({"unfit": name})
                raise Unfit(name)
        if len(sys.modules) != self._seen:
            self._look_at_files()
            gc.collect()
            gc.freeze()

    def _common(self) -> tuple[object, ...]:
        """Return what all forks get from this process, whether they need a module or not."""
        return (
            _threads(), children(os.getpid()), len(os.listdir("/proc/self/fd")),
            _environment(), os.getcwd(), list(sys.path), sys.stdout, sys.stderr, sys.excepthook,
            [signal.getsignal(number) for number in signal.valid_signals()],
            _locale.setlocale(_locale.LC_ALL),
            # what is there when it is imported for one call, and removed after the next
            [os.listdir(place) for place in self._directories if os.path.isdir(place)],
        )  # fmt: skip


class _Answer:
    """What a call gives besides its end: its result where that is small, and the modules it has imported.

    Parameters
    ----------
    told
        A descriptor, which the function may close, and open another file in its place.
    """

    def __init__(self, told: int) -> None:
        self._told, self._state = told, os.fstat(told)

    def give(self, kind: str, data: bytes) -> bool:
        """Take a result in its format; false: it cannot any more."""
        return self.tell(b"%s %d\n%s" % (kind.encode(), len(data), data), 0)

    def tell(self, data: bytes, place: int) -> bool:
        """Write something down; false: there is no place for it any more."""
        try:
            is_ours = os.path.samestat(os.fstat(self._told), self._state)
            return is_ours and os.pwrite(self._told, data, place) == len(data)
        except OSError:
            return False


def _answer_in(told: int) -> dict[str, str]:
    """Return the result that a call has given by a descriptor, with its format, if it has."""
    head, _, data = os.pread(told, _MODULES_AT, 0).partition(b"\n")
    try:
        kind, length = head.decode("ascii").split(" ")
        return {"format": kind, "value": data[: int(length)].decode("latin-1")}
    except ValueError:
        return {}


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


class _FileVersions:
    """What some files were when this was made, as few objects.

    To look at many objects is to write to the pages they are on, each of which is copied where a fork has it.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = "\0".join(path for path in dict.fromkeys(paths) if os.path.exists(path))
        self._versions = self._current()

    def are_current(self) -> bool:
        """Say whether they are what they were; `OSError`: one is not there any more."""
        return self._current() == self._versions

    def _current(self) -> bytes:
        """Return inode, size and mtime of each."""
        found = array("Q")
        for path in self._paths.split("\0") if self._paths else ():
            status = os.stat(path)
            found.extend((status.st_ino, status.st_size, status.st_mtime_ns & _WORD))
        return found.tobytes()


def _watched(path: str) -> str:
    """Return what of a module's file is looked at before each call.

    Python itself is installed, not edited: that changes the directories of its modules, which are few.
    """
    return os.path.dirname(path) if path.startswith(_PYTHON) and not path.startswith(_PACKAGES) else path


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


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _is_of(library: str, name: str) -> bool:
    """Say whether a module is a library's."""
    return f"{name}.".startswith(f"{library}.")


def _environment() -> dict[str, str]:
    """Return the variables, but those by which joblib and scikit-learn fit OpenMP for their own forks."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KMP_")}


def _remove_caches(home: str) -> None:
    """Remove from a home directory what may be removed at any time: matplotlib lists fonts there."""
    for name in (".cache", ".config"):
        remove(f"{home}/{name}")


def _imported(known: int) -> Iterator[tuple[str, str]]:
    """Yield names and origins of the modules of Python and of libraries that were imported last.

    Parameters
    ----------
    known
        How many modules there were before.
    """
    # from the end: to look at those that were there is to copy the pages that they are on
    last = list(islice(reversed(sys.modules.items()), max(0, len(sys.modules) - known)))
    origins = [(name, getattr(getattr(module, "__spec__", None), "origin", None)) for name, module in last]
    if not any(isinstance(path, str) for _, path in origins):
        return
    places = tuple(os.path.join(place, "") for place in sys.path if os.path.isdir(place))
    for name, path in reversed(origins):
        if isinstance(path, str) and (path == "built-in" or path.startswith(places)):
            yield name, path


def _would_be(name: str, origin: str) -> bool:
    """Say whether a module that is not there yet would come from where a call has had it from."""
    parent = name.rpartition(".")[0]
    if name in sys.modules or (parent and parent not in sys.modules):
        return False
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    return found is not None and found.origin == origin


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
