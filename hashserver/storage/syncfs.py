"""fsspec's other file systems (SFTP, WebDAV, memory): each call in a thread that may be left behind."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING

from hashserver.storage.asyncfs import PIECE, Beats
from hashserver.storage.patience import Pulse, in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from typing import Any, TypeVar

    T = TypeVar("T")

_THREADS = 8
_COPIED = 4 << 20


class SyncFiles:
    """Files on a file system whose calls block.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem
        Where they are. It may have a context manager ``own_channel``, a bound on calls at a time ``slots``,
        ``give_up`` (make calls that wait fail), ``hang_up`` (close), and ``is_lost``.
    seconds
        How long nothing may move in a call.
    """

    def __init__(self, fs: Any, seconds: float) -> None:
        self.fs, self.seconds = fs, seconds
        self._own_channel = getattr(fs, "own_channel", nullcontext)
        self._slots = getattr(fs, "slots", nullcontext())
        self._give_up = getattr(fs, "give_up", lambda: None)
        self.reads_parts = "memory" in fs.protocol
        """Whether a part of a file can be had without the rest."""

    def _call(self, function: Callable[[Pulse], T], extra: float = 0.0) -> T:
        with self._slots:  # those before us have bounds of their own
            pulse = Pulse(self.seconds + extra)

            def work() -> T:
                with self._own_channel():
                    return function(pulse)

            return in_thread(work, pulse, self._give_up)

    def _call_with(self, fd: int, function: Callable[[str, Pulse], Any]) -> None:
        """Call with the path of a descriptor of the call's own.

        A call that was given up may open that path much later: by then the caller may have another file
        under the number of `fd`.
        """
        with self._slots:
            pulse, own = Pulse(self.seconds), os.dup(fd)

            def work() -> None:
                try:
                    with self._own_channel():
                        function(f"/proc/self/fd/{own}", pulse)
                finally:
                    os.close(own)

            in_thread(work, pulse, self._give_up)

    # ------------------------------------------------------------------ reading

    def lengths(self, paths: Sequence[str]) -> list[int]:
        """Return the length of each file, -1 for those that are not there."""
        if len(paths) == 1:
            return [self._length(paths[0])]
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(self._length, paths))

    def _length(self, path: str) -> int:
        try:
            found = self._call(lambda _: self.fs.info(path))
        except FileNotFoundError:
            return -1
        return -1 if found.get("type") == "directory" else int(found["size"])

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of a file, or a part of them."""
        data: bytes = self._call(lambda _: self.fs.cat_file(path, start=start or None, end=end))
        return data

    def pieces(self, path: str, start: int, end: int) -> Generator[bytes]:
        """Yield a part of a file in pieces, each when it is asked for."""
        for at in range(start, end, PIECE):
            yield self.read(path, at, min(at + PIECE, end))

    def fetch(self, path: str, fd: int) -> None:
        """Write a file to a descriptor."""
        try:
            self._call_with(fd, lambda local, pulse: self.fs.get_file(path, local, callback=Beats(pulse)))
        except (TimeoutError, FileNotFoundError):
            raise
        except OSError as error:
            # a directory of that name is no file: each server has words of its own for that
            if not self.is_lost() and self._length(path) < 0:
                raise FileNotFoundError(path) from error
            raise

    # ------------------------------------------------------------------ writing

    def write(self, path: str, data: bytes) -> None:
        """Make a file of a few bytes."""
        self._call(lambda _: self.fs.pipe_file(path, data))

    def send(self, fd: int, size: int, path: str) -> None:
        """Make a file of what a descriptor has."""
        self._call_with(fd, lambda local, pulse: self.fs.put_file(local, path, callback=Beats(pulse)))

    def rename(self, path: str, to: str, size: int = 0) -> None:
        """Give a file of `size` bytes another name."""
        self._call(lambda _: self.fs.mv(path, to), size / _COPIED)

    def remove(self, path: str) -> None:
        """Remove a file."""
        self._call(lambda _: self.fs.rm_file(path))

    def make_directory(self, path: str) -> None:
        """Make a directory and those above it."""
        self._call(lambda _: self.fs.makedirs(path, exist_ok=True))

    def entries(self, path: str) -> list[dict[str, Any]]:
        """Return what is in a directory."""
        found: list[dict[str, Any]] = self._call(lambda _: self.fs.ls(path, detail=True))
        return found

    # ------------------------------------------------------------------ the place

    def require(self, root: str) -> None:
        """Do nothing: a directory that is not there is made by the first writer."""

    def tidy(self, root: str) -> int:
        """Return 0: there are only files."""
        return 0

    def close(self) -> None:
        """Let go of the connection."""
        getattr(self.fs, "hang_up", lambda: None)()

    def is_lost(self) -> bool:
        """Whether a new connection is needed."""
        return bool(getattr(self.fs, "is_lost", lambda: False)())
