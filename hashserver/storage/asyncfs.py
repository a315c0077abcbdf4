"""fsspec's asynchronous file systems (S3 and its kin): many requests at a time, each with a bound."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fsspec.asyn import _run_coros_in_chunks
from fsspec.callbacks import Callback

from hashserver.storage.patience import Pulse, in_loop, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence
    from typing import Any, TypeVar

    T = TypeVar("T")

_AT_ONCE = 64
_COPIED = 4 << 20  # bytes a second that a copy within the place is believed to do at least


PIECE = 4 << 20


class AsyncFiles:
    """Files on an asynchronous file system.

    Parameters
    ----------
    fs : fsspec.asyn.AsyncFileSystem
        Where they are.
    seconds
        How long nothing may move in a request.
    """

    reads_parts = True
    """Whether a part of a file can be had without the rest."""

    def __init__(self, fs: Any, seconds: float) -> None:
        self.fs, self.seconds = fs, seconds

    def _run(self, coroutine: Any) -> Any:
        return run(self.fs.loop, coroutine)

    async def _bounded(self, ask: Callable[[Pulse], Awaitable[T]], extra: float = 0.0) -> T:
        return await in_loop(ask, self.seconds + extra)

    # ------------------------------------------------------------------ reading

    def lengths(self, paths: Sequence[str]) -> list[int]:
        """Return the length of each file, -1 for those that are not there."""
        return [_length_of(answer) for answer in self._run(self._lengths(paths))]

    async def _lengths(self, paths: Sequence[str]) -> list[Any]:
        answers: list[Any] = await _run_coros_in_chunks(
            [self._length(path) for path in paths], batch_size=_AT_ONCE, return_exceptions=True
        )
        return answers

    async def _length(self, path: str) -> int:
        return int((await self._bounded(lambda _: self.fs._info(path)))["size"])

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of a file, or a part of them."""
        data: bytes = self._run(self._read(path, start, end))
        return data

    async def _read(self, path: str, start: int, end: int | None) -> bytes:
        part = {} if end is None else {"start": start, "end": end}
        data: bytes = await self._bounded(lambda _: self.fs._cat_file(path, **part))
        return data

    def pieces(self, path: str, start: int, end: int) -> Generator[bytes]:
        """Yield a part of a file in pieces, each when it is asked for."""
        for at in range(start, end, PIECE):
            yield self.read(path, at, min(at + PIECE, end))

    def fetch(self, path: str, fd: int) -> None:
        """Write a file to a descriptor."""
        self._run(self._with_own(fd, lambda own: self._fetch(path, own)))

    async def _fetch(self, path: str, fd: int) -> None:
        local = f"/proc/self/fd/{fd}"
        await self._bounded(lambda pulse: self.fs._get_file(path, local, callback=Beats(pulse)))

    # ------------------------------------------------------------------ writing

    def write(self, path: str, data: bytes) -> None:
        """Make a file of a few bytes."""
        self._run(self._bounded(lambda _: self.fs._pipe_file(path, data)))

    def send(self, fd: int, size: int, path: str) -> None:
        """Make a file of what a descriptor has."""
        self._run(self._with_own(fd, lambda own: self._send(own, size, path)))

    async def _send(self, fd: int, size: int, path: str) -> None:
        local = f"/proc/self/fd/{fd}"
        await self._bounded(lambda pulse: self.fs._put_file(local, path, callback=Beats(pulse)))

    def rename(self, path: str, to: str, size: int = 0) -> None:
        """Give a file of `size` bytes another name."""
        self._run(self._bounded(lambda _: self._copy_and_remove(path, to), size / _COPIED))

    async def _copy_and_remove(self, path: str, to: str) -> None:
        await self.fs._cp_file(path, to)
        await self.fs._rm_file(path)

    def remove(self, path: str) -> None:
        """Remove a file."""
        self._run(self._bounded(lambda _: self.fs._rm_file(path)))

    def make_directory(self, path: str) -> None:
        """Make a directory and those above it."""
        self._run(self._bounded(lambda _: self.fs._makedirs(path, exist_ok=True)))

    def entries(self, path: str) -> list[dict[str, Any]]:
        """Return what is in a directory."""
        found: list[dict[str, Any]] = self._run(self._bounded(lambda _: self.fs._ls(path, detail=True)))
        return found

    # ------------------------------------------------------------------ the place

    def require(self, root: str) -> None:
        """Raise `FileNotFoundError` when that in which `root` would lie is known not to be there."""

    def tidy(self, root: str) -> int:
        """Give up what dead writers have begun; return how many that were."""
        return 0

    def close(self) -> None:
        """Let go of connections; the library does that by itself."""

    def is_lost(self) -> bool:
        """Whether a new connection is needed: the library makes one by itself."""
        return False

    async def _with_own(self, fd: int, work: Callable[[int], Awaitable[T]]) -> T:
        # the caller may be interrupted, close its descriptor and open another file under that number
        # while the request still goes on
        own = os.dup(fd)
        try:
            return await work(own)
        finally:
            os.close(own)


class Beats(Callback):  # type: ignore[misc]
    """Hears from fsspec how a transfer gets on."""

    def __init__(self, pulse: Pulse) -> None:
        super().__init__()
        self._pulse = pulse

    def call(self, *_: Any, **__: Any) -> None:
        """Note that something moved."""
        self._pulse.beat()


def _length_of(answer: Any) -> int:
    if isinstance(answer, FileNotFoundError):
        return -1
    if isinstance(answer, BaseException):
        raise answer
    return int(answer)
