"""The directory of one run: made fresh, removed afterwards, and at the next start if we could not."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import re
import secrets
import threading
from functools import cache
from posixpath import basename, join, normpath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

_NAME = re.compile(r"seamless-([0-9a-f]{8})-([0-9]+)-([0-9]+)-[0-9a-f]{8}")


class Layout(NamedTuple):
    """Where the directories of a run are: as we see them, or as the command does.

    ``root`` holds the inputs; ``work`` is the working directory, as deep below it as ``../`` inputs need.
    """

    name: str
    root: str
    work: str
    home: str
    tmp: str
    control: str

    def path(self, name: str) -> str:
        """Return the path of an input or result; never outside ``root``, given the depth."""
        found = normpath(join(self.work, name))
        if found != self.root and not found.startswith(self.root + "/"):
            raise ValueError(f"{name!r} leads out of the work directory")
        return found


def layout(name: str, base: str, depth: int) -> Layout:
    """Return the layout of a run below `base`."""
    root = join(base, "work")
    work = "/".join([root, *["work"] * depth])
    return Layout(name, root, work, join(base, "home"), join(base, "tmp"), join(base, "control"))


def depth_of(names: Iterable[str]) -> int:
    """Return how many levels above the working directory the highest of `names` lies."""
    return max((normpath(name).split("/").count("..") for name in names), default=0)


class RunDirectory:
    """A context manager: makes the directory, and removes it whatever the command left in it.

    Parameters
    ----------
    depth : int
        How many levels the working directory lies below the root of the inputs.
    """

    def __init__(self, depth: int = 0) -> None:
        parent = temporary_directory()
        sweep(parent)
        self._caretaker = _caretaker
        ready = self._caretaker.take(parent) if self._caretaker and depth == 0 else None
        self._is_made = ready is not None
        self.path = ready or join(parent, _new_name())
        self.name = basename(self.path)
        self.layout = layout(self.name, self.path, depth)

    def __enter__(self) -> Self:
        if not self._is_made:
            _make(self.layout, self.path)
        return self

    def __exit__(self, *_: object) -> None:
        if self._caretaker is None:
            remove(self.path)
        else:
            self._caretaker.remove(self.path)


class Caretaker:
    """Makes and removes run directories in a thread of its own.

    On many file systems both are little work and a long wait for the disk.
    """

    BACKLOG = 64
    """Directories that may wait to be removed; who leaves one more removes it himself."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[str], None], str]] = queue.SimpleQueue()
        self._is_leaving = False
        self._ready: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="seamless-caretaker", daemon=True)
        self._thread.start()

    def take(self, parent: str) -> str | None:
        """Return a fresh directory, if one is ready, and have the next one made."""
        if not self._is_leaving:
            self._jobs.put((self._prepare, parent))
        try:
            path = self._ready.get_nowait()
        except queue.Empty:
            return None
        if path.rpartition("/")[0] == parent:
            return path
        self.remove(path)
        return None

    def remove(self, path: str) -> None:
        """Remove a tree before long."""
        if self._jobs.qsize() < self.BACKLOG and not self._is_leaving:
            self._jobs.put((remove, path))
        else:
            remove(path)

    def finish(self) -> None:
        """Leave; return when nothing is left of what was made or is to be removed."""
        self._is_leaving = True
        self._jobs.put((self._leave, ""))
        self._thread.join()
        while not self._jobs.empty():  # somebody had not yet seen that it leaves
            act, path = self._jobs.get()
            if act is remove:
                remove(path)

    def _prepare(self, parent: str) -> None:
        if self._ready.empty():
            path = join(parent, _new_name())
            _make(layout("", path, 0), path)
            self._ready.put(path)

    def _leave(self, _: str) -> None:
        while not self._ready.empty():
            remove(self._ready.get())

    def _work(self) -> None:
        act: Callable[[str], None] | None = None
        while act != self._leave:
            act, path = self._jobs.get()
            with contextlib.suppress(OSError):  # whoever needs a directory meets the fault himself
                act(path)


_caretaker: Caretaker | None = None
_employers = 0
_employing = threading.Lock()


def employ_caretaker() -> None:
    """Have the run directories of this process made and removed in the background."""
    global _caretaker, _employers
    with _employing:
        _employers += 1
        _caretaker = _caretaker or Caretaker()


def dismiss_caretaker() -> None:
    """Do without it, unless others have employed it too; returns when nothing is left to be removed."""
    global _caretaker, _employers
    with _employing:
        _employers -= 1
        leaving = None if _employers else _caretaker
        _caretaker = _caretaker if _employers else None
    if leaving is not None:
        leaving.finish()


def _new_name() -> str:
    return f"seamless-{_host()}-{os.getpid()}-{_start_time(os.getpid())}-{secrets.token_hex(4)}"


def _make(layout: Layout, path: str) -> None:
    os.mkdir(path, 0o700)
    os.makedirs(layout.work)
    for directory in (layout.home, layout.tmp):
        os.mkdir(directory)


def temporary_directory() -> str:
    """Return where run directories go, as an absolute path without links."""
    return os.path.realpath(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - made with mode 0700


def remove(path: str) -> None:
    """Remove a tree, also where the command took away the permission to do so."""
    import shutil

    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError:
        with contextlib.suppress(OSError):
            os.chmod(path, 0o700)
        for directory, names, _ in os.walk(path):
            for name in names:
                below = join(directory, name)
                if not os.path.islink(below):
                    with contextlib.suppress(OSError):
                        os.chmod(below, 0o700)
        shutil.rmtree(path, ignore_errors=True)


@cache
def sweep(parent: str) -> None:
    """Remove what runs have left whose owner was killed, processes included; once a process."""
    from .process import kill_strays

    with contextlib.suppress(OSError):
        for name in os.listdir(parent):
            match = _NAME.fullmatch(name)
            if match is None or match[1] != _host() or _start_time(int(match[2])) == int(match[3]):
                continue
            path = join(parent, name)
            with contextlib.suppress(OSError):
                if os.lstat(path).st_uid == os.geteuid():
                    kill_strays(name, path)
                    remove(path)


@cache
def _host() -> str:
    # a directory may be shared by hosts, and by containers of one host: a pid means something in one of them
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        namespace = 0
    return hashlib.sha256(f"{os.uname().nodename} {namespace}".encode()).hexdigest()[:8]


def _start_time(pid: int) -> int:
    """Return when a process began, in clock ticks since the system did; -1 if there is none or a dead one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return -1 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return -1
