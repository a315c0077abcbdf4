"""SHA-256 checksums of bytes, files and streams."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from typing import TYPE_CHECKING, Protocol

from hashserver.errors import HashserverError, InvalidChecksum
from hashserver.regular_file import named

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    Bytes = bytes | bytearray | memoryview

CHUNK = 1 << 20
_matches = re.compile("[0-9a-f]{64}").fullmatch
_new = str.__new__


class Checksum(str):
    """A SHA-256 checksum: 64 lower-case hexadecimal digits.

    Parameters
    ----------
    text
        The digits.

    Raises
    ------
    InvalidChecksum
        If `text` is not a checksum.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check `text`."""
        if type(text) is cls:  # checked, and none can change it
            return text
        if not isinstance(text, str) or _matches(text) is None:
            raise InvalidChecksum(text)
        return _new(cls, text)

    @classmethod
    def from_digest(cls, digest: Bytes) -> Self:
        """Return the checksum whose 32 bytes are `digest`."""
        if len(digest) != 32:
            raise InvalidChecksum(bytes(digest[:40]).hex())
        return _new(cls, digest.hex())

    @classmethod
    def of(cls, data: Bytes) -> Self:
        """Return the checksum of some bytes."""
        return _new(cls, hashlib.sha256(data).hexdigest())

    @classmethod
    def of_file(cls, path: str | os.PathLike[str]) -> Self:
        """Return the checksum of a file, read in constant memory; raises OSError where it cannot be."""
        return _new(cls, hash_file(path)[0])

    @property
    def hex(self) -> str:
        """The 64 digits as plain text."""
        return str(self)

    def resolve(self) -> bytes:
        """Return the bytes; as `seamless_dask.checksums` says, which has to be imported."""
        return _resolver(self, again=False)

    def fingertip(self) -> bytes:
        """Return the bytes, computed again when they are gone; as `resolve`."""
        return _resolver(self, again=True)

    @property
    def prefix(self) -> str:
        """The first two digits: the folder of a store that holds the buffer."""
        return self[:2]

    @property
    def digest(self) -> bytes:
        """The checksum as 32 bytes."""
        return bytes.fromhex(self)


class _Resolver(Protocol):
    def __call__(self, checksum: Checksum, *, again: bool) -> bytes: ...


def _no_resolver(checksum: Checksum, *, again: bool) -> bytes:
    what = "computed again" if again else "found"
    raise HashserverError(f"{checksum} can be {what} with seamless_dask imported; else ask a store for it")


_resolver: _Resolver = _no_resolver


def set_resolver(resolver: _Resolver) -> None:
    """Say what `Checksum.resolve` and `Checksum.fingertip` (``again``) do: for whoever knows of stores."""
    global _resolver
    _resolver = resolver


def is_checksum(text: str) -> bool:
    """Tell whether `text` is 64 lower-case hexadecimal digits."""
    return _matches(text) is not None


def make_checksum(digits: str) -> Checksum:
    """Return `digits` as a checksum, unchecked: the caller knows that they are one."""
    return _new(Checksum, digits)


def hash_bytes(data: Bytes) -> Checksum:
    """Return the checksum of `data`."""
    return _new(Checksum, hashlib.sha256(data).hexdigest())


def hash_descriptor(fd: int, size_hint: int = CHUNK) -> tuple[Checksum, int]:
    """Return the checksum and the length of what `fd` yields up to its end, in constant memory.

    Parameters
    ----------
    fd
        An open descriptor; it is read from where it stands.
    size_hint
        The expected length: a small file is read with one call.
    """
    if size_hint < CHUNK:
        data = os.read(fd, size_hint + 1)
        if len(data) == size_hint:  # a regular file: a short read is its end
            return hash_bytes(data), size_hint
        return _hash_rest(fd, data)
    return _hash_rest(fd, b"")


def _hash_rest(fd: int, head: bytes) -> tuple[Checksum, int]:
    sha, size = hashlib.sha256(head), len(head)
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    while count := os.readv(fd, [buffer]):
        sha.update(view[:count])
        size += count
    return _new(Checksum, sha.hexdigest()), size


def hash_file(path: str | os.PathLike[str]) -> tuple[Checksum, int]:
    """Return the checksum and the length of the file at `path`, in constant memory.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with named(path):
            return hash_descriptor(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


class Hasher:
    """Computes a checksum from parts."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self.size = 0

    def update(self, data: Bytes) -> None:
        """Add `data`."""
        self._sha.update(data)
        self.size += len(data)

    def finish(self) -> Checksum:
        """Return the checksum of all parts so far."""
        return _new(Checksum, self._sha.hexdigest())


class PipelinedHasher(Hasher):
    """Hashes in a thread of its own while the caller moves the bytes.

    The parts must not be changed by the caller until `finish` returns, unless they were given
    through `lend`. The queue is bounded: a caller who is faster than the hash waits.

    Parameters
    ----------
    depth
        The number of parts that may wait.
    """

    def __init__(self, depth: int = 4) -> None:
        super().__init__()
        self._parts: list[tuple[Bytes, Callable[[], None] | None]] = []
        self._depth = depth
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="hasher", daemon=True)
        self._thread.start()

    def update(self, data: Bytes) -> None:
        """Add `data`, which must stay as it is until `finish` returned."""
        self.lend(data, None)

    def lend(self, data: Bytes, done: Callable[[], None] | None) -> None:
        """Add `data`; `done` is called (from the thread) once the caller may change it again."""
        with self._changed:
            while len(self._parts) >= self._depth:
                self._changed.wait()
            self._parts.append((data, done))
            self.size += len(data)
            self._changed.notify_all()

    def finish(self) -> Checksum:
        """Wait until all parts are hashed, end the thread and return the checksum."""
        self.close()
        return super().finish()

    def close(self) -> None:
        """End the thread; what was added before is hashed first."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._parts and not self._closed:
                    self._changed.wait()
                if not self._parts:
                    return
                data, done = self._parts[0]
            self._sha.update(data)
            if done is not None:
                done()
            with self._changed:
                del self._parts[0]
                self._changed.notify_all()
