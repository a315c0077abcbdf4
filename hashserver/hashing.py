"""Hashing of files that may change meanwhile; large ones side by side."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from hashserver.checksum import Checksum, hash_descriptor
from hashserver.errors import FileChanged, TreeError
from hashserver.namedtuple import NamedTuple
from hashserver.regular_file import named, open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LARGE = 1 << 20
"""Below this, starting a thread costs more than it saves."""


class Hashed(NamedTuple):
    """A file's checksum, and what the file was then.

    Attributes
    ----------
    checksum
        SHA-256 of the bytes.
    status
        The file's state, equal before and after it was read.
    began
        When reading began, in nanoseconds since the epoch: what the stat cache needs to trust it.
    """

    checksum: Checksum
    status: os.stat_result
    began: int


def same_state(one: os.stat_result, other: os.stat_result) -> bool:
    """Tell whether a file is what it was, as far as its attributes can show."""
    return (
        one.st_mtime_ns == other.st_mtime_ns
        and one.st_ctime_ns == other.st_ctime_ns
        and one.st_size == other.st_size
        and one.st_ino == other.st_ino
        and one.st_dev == other.st_dev
    )


def hash_stable(path: str | os.PathLike[str]) -> Hashed:
    """Hash the regular file at `path`, links followed, in constant memory.

    Raises
    ------
    FileChanged
        If it changed while it was read.
    OSError
        If it cannot be read or is not a regular file.
    """
    began = time.time_ns()
    fd, before = open_regular(path)
    try:
        with named(path):
            checksum, size = hash_descriptor(fd, before.st_size)
        after = os.fstat(fd)
    finally:
        os.close(fd)
    if size != after.st_size or not same_state(before, after):
        raise FileChanged(
            checksum, f"{os.fspath(path)} changed while it was read: wait until its writer is done"
        )
    return Hashed(checksum, after, began)


def hash_files(
    paths: Sequence[str],
    sizes: Sequence[int] | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[Hashed]:
    """Hash many files; those of a mebibyte and more in as many threads as there are processors.

    Parameters
    ----------
    paths
        The files.
    sizes
        Their lengths as far as they are known, to tell large ones.
    progress
        Called with the length of each file that is done, from any thread.

    Returns
    -------
    In the order of `paths`.

    Raises
    ------
    TreeError
        If a file cannot be read.
    FileChanged
        If one changed while it was read.
    """
    if sizes is None:
        sizes = [_size(path) for path in paths]
    results: dict[int, Hashed] = {}

    def hash_one(number: int) -> None:
        results[number] = hashed = _hash_member(paths[number])
        if progress is not None:
            progress(hashed.status.st_size)

    large = [number for number, size in enumerate(sizes) if size >= LARGE]
    # The largest first, so that no thread is left alone with it at the end.
    large.sort(key=sizes.__getitem__, reverse=True)
    in_threads(hash_one, large)
    for number, size in enumerate(sizes):
        if size < LARGE:
            hash_one(number)
    return [results[number] for number in range(len(paths))]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0  # opening it will tell


def _hash_member(path: str) -> Hashed:
    try:
        return hash_stable(path)
    except OSError as error:
        raise TreeError(f"cannot read {path}: {error.strerror}") from None


def in_threads(work: Callable[[int], object], items: Sequence[int]) -> None:
    """Call `work` for each item, on all processors; the first error ends it and is raised."""
    width = min(len(items), processors())
    if width < 2:
        for item in items:
            work(item)
        return
    queue, lock, errors = iter(items), threading.Lock(), list[BaseException]()

    def run() -> None:
        while not errors:
            with lock:
                item = next(queue, None)
            if item is None:
                return
            try:
                work(item)
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=run, name="hashing", daemon=True) for _ in range(width)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as error:  # Ctrl-C: the threads stop after their file
        errors.append(error)
        raise
    if errors:
        raise errors[0]


def processors() -> int:
    """Return how many processors this process may use, eight at most."""
    return min(8, len(os.sched_getaffinity(0)))
