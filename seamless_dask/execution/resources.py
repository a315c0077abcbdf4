"""What a command and all its descendants use."""

from __future__ import annotations

import contextlib
import os
import time

from seamless_dask.execution.supervisor import Usage

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGESIZE")
_STRAYS_EVERY = 2.0
_SCANNED = 1000  # numbers that are tried one by one; beyond that it is quicker to list what there is
# pages that processes share are counted once only by the kernel's proportional figure, which is slow
_PRECISE_FROM = 256 << 20
_PRECISE_EACH = 32 << 20


class Meter:
    """Measures a process tree; it remembers processes that have left the tree.

    Parameters
    ----------
    pid : int
        The root of the tree.
    find_strays : callable, optional
        Finds further processes (daemons that have cut their ties); asked every two seconds.
    """

    def __init__(self, pid: int, find_strays: StrayFinder | None = None) -> None:
        self._root, self._find_strays = pid, find_strays
        self._known: dict[int, bytes] = {}
        self._cpu: dict[int, float] = {}
        self._started = self._last_strays = time.monotonic()
        self.max_memory = 0

    def read(self) -> Usage:
        """Return what is used now; ``cpu`` includes what ended in the meantime and was waited for."""
        now = time.monotonic()
        resident: dict[int, int] = {}
        for pid in self._processes(now):
            self._read_process(pid, resident)
        memory = sum(resident.values())
        if len(resident) > 1 and memory > _PRECISE_FROM:
            memory = sum(_proportional(pid, size) for pid, size in resident.items())
        self.max_memory = max(self.max_memory, memory)
        return Usage(now - self._started, self.cpu, memory)

    @property
    def cpu(self) -> float:
        """Seconds of processor time, as of the last reading."""
        return sum(self._cpu.values())

    @property
    def wall(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def _read_process(self, pid: int, resident: dict[int, int]) -> None:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            self._known.pop(pid, None)
            return
        started = fields[19]
        if self._known.setdefault(pid, started) != started:
            del self._known[pid]  # another process with the same number
            return
        # what a child used moves to its parent's account when it is waited for: only the living count,
        # and of the dead only those whose parent is none of ours
        self._cpu[pid] = sum(map(int, fields[11:15])) / _TICK
        resident[pid] = int(fields[21]) * _PAGE

    def _processes(self, now: float) -> list[int]:
        if self._find_strays is not None and now - self._last_strays > _STRAYS_EVERY:
            self._last_strays = now
            for pid in self._find_strays():
                self._known.setdefault(pid, _started(pid))
        found: dict[int, None] = {}
        waiting = [self._root, *self._known]
        while waiting:
            pid = waiting.pop()
            if pid not in found:
                found[pid] = None
                waiting += children(pid)
        for pid in [pid for pid in self._cpu if pid not in found]:
            del self._cpu[pid]
        return list(found)


class Birthdays:
    """Which processes have begun since a moment, by their numbers, which the kernel gives out in turn."""

    def __init__(self) -> None:
        self._forks, self._first = _forks(), _last_process()

    def processes(self) -> list[str]:
        """Return the numbers of all processes that may have begun since, as texts."""
        born = _forks() - self._forks
        if not 0 <= born < _SCANNED or self._first <= 0:
            return [name for name in os.listdir("/proc") if name.isdigit()]
        last = _last_process()
        if last >= self._first:
            return [str(pid) for pid in range(self._first + 1, last + 1)]
        with open("/proc/sys/kernel/pid_max", "rb") as file:
            end = int(file.read())
        return [str(pid) for pid in (*range(self._first + 1, end + 1), *range(1, last + 1))]


class StrayFinder:
    """Finds the processes of a run by its name.

    Parameters
    ----------
    name, directory : str
        Name and directory of the run.
    since : Birthdays, optional
        Made before the run began; without it every process is looked at.
    """

    def __init__(self, name: str, directory: str, since: Birthdays | None = None) -> None:
        from .environment import MARKER

        self._mark = f"{MARKER}={name}".encode()
        self._directory, self._since = directory, since

    def __call__(self) -> list[int]:
        """Return the processes that carry the name in their environment or stand in the directory."""
        user, own, found = os.geteuid(), os.getpid(), []
        for name in self._since.processes() if self._since else os.listdir("/proc"):
            if name.isdigit() and int(name) != own:
                with contextlib.suppress(OSError):
                    path = f"/proc/{name}"
                    if os.stat(path).st_uid == user and self._is_ours(path):
                        found.append(int(name))
        return found

    def _is_ours(self, path: str) -> bool:
        with open(f"{path}/environ", "rb") as file:
            environment = file.read()
        if self._mark in environment:
            return True
        place = os.readlink(f"{path}/cwd").removesuffix(" (deleted)")
        return place == self._directory or place.startswith(self._directory + "/")


def children(pid: int) -> list[int]:
    """Return the processes that one has started and not waited for; none where the kernel does not tell."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def _proportional(pid: int, resident: int) -> int:
    if resident < _PRECISE_EACH:
        return resident
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) << 10
    return resident


def _started(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19]
    except OSError:
        return b""


def _forks() -> int:
    """Return how many processes and threads have begun since the system did; -1 where that is not told."""
    with contextlib.suppress(OSError), open("/proc/stat", "rb") as file:
        for line in file:
            if line.startswith(b"processes "):
                return int(line.split()[1])
    return -1


def _last_process() -> int:
    """Return the number that was given out last; 0 where that is not told."""
    with contextlib.suppress(OSError, ValueError), open("/proc/loadavg", "rb") as file:
        return int(file.read().split()[-1])
    return 0
