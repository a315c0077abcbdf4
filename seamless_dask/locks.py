"""Lock files that a dead process lets go of, and what tells one process from another."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def birth(process: int) -> int:
    """Return when a process began, in ticks since the system did; 0 if there is none, or only its remains."""
    try:
        fd = os.open(f"/proc/{process}/stat", os.O_RDONLY | os.O_CLOEXEC)  # who waits asks often
    except OSError:
        return 0
    try:
        fields = os.read(fd, 4096).rpartition(b")")[2].split()
    except OSError:
        return 0
    finally:
        os.close(fd)
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold a lock file; waits for it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def try_lock(path: str) -> int | None:
    """Lock a file and return its descriptor; None when another process holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if lock_now(fd):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def lock_now(fd: int) -> bool:
    """Lock an open file if nobody holds it; says whether it did."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: str) -> bool:
    """Whether somebody holds a lock file."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not lock_now(fd)
    finally:
        os.close(fd)


def sign(lock: int, **facts: Any) -> None:
    """Write into a lock file who holds it, for people: what it contains means nothing else.

    Parameters
    ----------
    lock
        Its descriptor.
    **facts
        What there is to say besides ``pid`` and ``host``, or in their place.
    """
    text = json.dumps({"pid": os.getpid(), "host": os.uname().nodename} | facts)
    os.ftruncate(lock, 0)
    os.pwrite(lock, text.encode(), 0)


def signed(path: str) -> dict[str, Any]:
    """Return what `sign` has written into a lock file; nothing where nobody has."""
    try:
        with open(path, "rb") as file:
            facts = json.load(file)
            return facts if isinstance(facts, dict) else {}
    except (OSError, ValueError):
        return {}
