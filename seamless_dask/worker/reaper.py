"""Commands do not outlive their worker, even one that is killed: a process of their own sees to that.

A shell waits at the end of a pipe for next to nothing; only when the worker has gone without a word does it
become a Python that kills what is left. The signal that Linux offers for the death of a parent would not do:
it reaches the first process of a command only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from select import POLLIN, poll

from seamless_dask.execution.workdir import sweep, temporary_directory

_WAIT = 'read -r _ || exec "$0" -m seamless_dask.worker.reaper "$@"'


class Reaper:
    """Begins when this process ends, unless it is closed before."""

    def __init__(self) -> None:
        self._process = self._start()

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        packages = Path(__file__).parents[2]
        return subprocess.Popen(
            ["/bin/sh", "-c", _WAIT, sys.executable, str(os.getpid()), temporary_directory()],
            cwd=packages, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def mind(self) -> None:
        """Replace it if somebody has killed it."""
        if self._process.poll() is not None:
            self._close_pipe()
            self._process = self._start()

    def close(self) -> None:
        """Have it not begin: nothing runs any more."""
        with suppress(BrokenPipeError):
            self._process.communicate(b"\n")
        self._close_pipe()

    def _close_pipe(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()


def main(owner: int, place: str) -> None:
    """Remove what runs of dead processes have left, running or lying about, once `owner` is dead itself."""
    with suppress(OSError):  # its descriptors are closed before it is dead
        fd = os.pidfd_open(owner)
        waiting = poll()
        waiting.register(fd, POLLIN)
        waiting.poll()
    sweep(place)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
