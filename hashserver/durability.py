"""What survives a power cut: the bytes of files first, then the directories that name them.

A file is synced before it gets its name, so that no name ever stands for bytes that are not on the disk.
The whole file system is never synced: others may be writing gigabytes to it.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

T = TypeVar("T")
R = TypeVar("R")

# what a file system says that cannot sync a directory (CIFS, some of FUSE, read-only ones), or whose
# directory may be written but not be read
_NO_SYNC = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EROFS, errno.EACCES})
_SIDE_BY_SIDE = 8
"""Syncs at once: the device merges those that wait for it together."""


def sync_directory(path: str) -> None:
    """Have the names in a directory survive a power cut, where its file system can do that at all."""
    try:
        fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(fd)


def start_writing(fd: int, start: int, length: int) -> None:
    """Have the disk begin with what was just written to a file, so that a later sync finds little left."""
    with suppress(OSError):
        # the advice of Linux with this effect; pages that are still to be written stay in memory
        os.posix_fadvise(fd, start, length, os.POSIX_FADV_DONTNEED)


def sync_file(path: str) -> None:
    """Have a user's file, bytes and name, survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_directory(os.path.dirname(path))


@cache
def boot() -> str:
    """Return a name of the time since this host was started, an empty text where there is none.

    What was not synced and is found in another such time may be torn.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().decode().strip()
    except OSError:
        return ""


def make_directories(path: str, mode: int = 0o700) -> bool:
    """Make a directory and those above it as `os.makedirs` does, to stay; say whether it was not there."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        return False
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if parent in ("", path):
            raise
        make_directories(parent, 0o777)
        return make_directories(path, mode)
    sync_directory(os.path.dirname(path))
    return True


def side_by_side(operation: Callable[[T], object], items: Sequence[T]) -> None:
    """Call an operation that waits for a device for all of some items, in a few threads when there are many.

    Raises
    ------
    OSError
        The first that was raised; the other items have been seen to, as far as they could be.
    """
    failures: list[OSError] = []
    rest = iter(items)  # the next of a list's iterator is one step: threads may share it

    def work() -> None:
        for item in rest:
            try:
                operation(item)
            except OSError as error:
                failures.append(error)

    helpers = [threading.Thread(target=work) for _ in range(min(_SIDE_BY_SIDE, len(items) // 2) - 1)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[0]


class Together(Generic[T, R]):
    """Calls of several threads, made as one: whoever has the turn does what has gathered meanwhile.

    Parameters
    ----------
    work
        Takes what the callers gave and returns what each of them gets. What it raises all of them get: an
        error that is one caller's own belongs among the answers.
    """

    def __init__(self, work: Callable[[list[T]], Sequence[R]]) -> None:
        self._work = work
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._waiting: list[_Call[T, R]] = []

    def __call__(self, item: T) -> R:
        """Have `item` seen to."""
        call: _Call[T, R] = _Call(item)
        with self._lock:  # before the turn is waited for: whoever has it next begins after this
            self._waiting.append(call)
        with self._turn:
            if not call.done:
                self._do_all(call)
        if call.error is not None:
            raise call.error
        return call.answer

    def _do_all(self, own: _Call[T, R]) -> None:
        with self._lock:
            calls, self._waiting = self._waiting, []
        try:
            answers = self._work([call.item for call in calls])
        except Exception as error:
            for call in calls:
                call.done, call.error = True, error
        except BaseException:  # Ctrl-C of this one: the next in turn does it for the others
            with self._lock:
                self._waiting += [call for call in calls if call is not own]
            raise
        else:
            for call, answer in zip(calls, answers, strict=True):
                call.done, call.answer = True, answer


class _Call(Generic[T, R]):
    answer: R

    def __init__(self, item: T) -> None:
        self.item = item
        self.done = False
        self.error: Exception | None = None


def sync_directories(paths: Iterable[str]) -> None:
    """Sync some directories; threads that ask at the same time share the syncs.

    Raises
    ------
    OSError
        One of them cannot be synced; what others have asked for meanwhile does not count.
    """
    if (error := _sync_together(list(paths))) is not None:
        raise error


def _sync_all(wanted: list[list[str]]) -> list[OSError | None]:
    failures: dict[str, OSError] = {}

    def sync(path: str) -> None:
        try:
            sync_directory(path)
        except OSError as error:
            failures[path] = error

    side_by_side(sync, list(dict.fromkeys(path for paths in wanted for path in paths)))
    return [next((failures[path] for path in paths if path in failures), None) for paths in wanted]


_sync_together: Together[list[str], OSError | None] = Together(_sync_all)
