"""Logs that several processes write to, and that must not fill the disk."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress

_BEGUN = "---- started "
LONGEST = 16 << 20
"""Bytes; of a longer one the older part is put aside, in place of what was put aside before."""


def rotate(path: str) -> bool:
    """Put a log aside that has become long; return whether it had.

    All who write to it append: they go on in the file that is empty then. What they write between the copy
    and the cut is lost.
    """
    with suppress(FileNotFoundError):
        if os.stat(path).st_size > LONGEST:
            descriptor = os.open(path + ".1", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with suppress(OSError), os.fdopen(descriptor, "wb") as aside, open(path, "rb") as file:
                shutil.copyfileobj(file, aside, 1 << 20)
            os.truncate(path, 0)  # also when there was no room for the copy
            return True
    return False


def begin(path: str) -> int:
    """Return a descriptor by which a new process writes to a log; a line tells its words from others'."""
    rotate(path)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with suppress(OSError):  # a full disk is for the process to complain about
        os.write(log, f"{_BEGUN}{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}\n".encode())
    return log


def last_line(path: str) -> str:
    """Return the last line that the last process to `begin` has written to a log, for a message."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    said = lines[-1].strip() if lines else _BEGUN
    return f"it said nothing in {path}" if said.startswith(_BEGUN) else said
