"""Moving the bytes of buffers between files, and the names of what the system refuses."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from typing import TYPE_CHECKING

from hashserver.atomic import TEMPORARY_PREFIX, NewFile, write_all
from hashserver.checksum import CHUNK, Checksum, PipelinedHasher, hash_bytes
from hashserver.durability import start_writing
from hashserver.errors import HashserverError, NoSpace, ReadOnly, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    Bytes = bytes | bytearray | memoryview

FICLONE = 0x40049409
_EARLY = 8 << 20
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def write_error(error: OSError, place: str) -> HashserverError:
    """Return what `error`, met while writing to `place`, means in our terms."""
    if error.errno in _NO_ROOM:
        return NoSpace(f"no room left in {place}: free some space there, or use another place")
    if error.errno in _REFUSED:
        return ReadOnly(f"{place} cannot be written: {error.strerror}")
    return ServiceUnavailable(f"{place} cannot be written: {error.strerror or error}")


def read_all(fd: int, size: int) -> bytes:
    """Return what `fd` yields up to its end; `size` is the length to expect."""
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while part := os.read(fd, CHUNK):
        parts.append(part)
    return b"".join(parts)


def clone(source: int, target: int) -> bool:
    """Let the descriptor `target` share the blocks of `source`; False where that is not possible."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError:
        return False
    return True


def copy_hashed(
    source: int, target: int, path: str | os.PathLike[str], durable: bool = False
) -> tuple[Checksum, int]:
    """Copy one descriptor to another in constant memory, hashed in a thread meanwhile.

    Parameters
    ----------
    source, target
        Descriptors; `target` is that of an empty file.
    path
        Of the source, for messages.
    durable
        Whether `target` is about to be synced.

    Returns
    -------
    tuple of Checksum and int
        What was copied, and its length.

    Raises
    ------
    OSError
        Its file name is `path`, that of the source, when reading failed.
    """
    from functools import partial
    from queue import SimpleQueue  # loads heapq: only for what is large

    free: SimpleQueue[bytearray] = SimpleQueue()
    for _ in range(4):
        free.put(bytearray(CHUNK))
    writing = EarlyWriting(target)
    with PipelinedHasher() as hasher:
        while True:
            buffer = free.get()
            try:
                count = os.readv(source, [buffer])
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from error
            if not count:
                break
            part = memoryview(buffer)[:count]
            hasher.lend(part, partial(free.put, buffer))
            write_all(target, part)
            if durable:
                writing.wrote(count)
    return hasher.finish(), hasher.size


class EarlyWriting:
    """Has the disk begin while a large file is still being written; the sync at its end is then short."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._begun = self._size = 0

    def wrote(self, count: int) -> None:
        """Count what was added at the end."""
        self._size += count
        if self._size - self._begun >= _EARLY:
            start_writing(self._fd, self._begun, self._size - self._begun)
            self._begun = self._size


class DescriptorParts:
    """The bytes of a descriptor, which is closed at the end or when nobody wants the rest.

    Parameters
    ----------
    fd, start, length
        The descriptor, and which part of it.
    meaning
        What to raise when the system says that it cannot be read.
    """

    def __init__(
        self,
        fd: int,
        start: int,
        length: int | None,
        meaning: Callable[[OSError], Exception] = lambda error: error,
    ) -> None:
        self._fd, self._left, self._meaning = fd, length, meaning
        if start:
            os.lseek(fd, start, os.SEEK_SET)

    def __iter__(self) -> DescriptorParts:
        return self

    def __next__(self) -> bytes:
        part = b""
        if self._fd >= 0:
            try:
                part = os.read(self._fd, CHUNK if self._left is None else min(CHUNK, self._left))
            except OSError as error:
                raise self._meaning(error) from error
        if not part:
            self.close()
            raise StopIteration
        if self._left is not None:
            self._left -= len(part)
        return part

    def close(self) -> None:
        """Close the descriptor."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


class StreamHasher:
    """Hashes a stream of unknown length: in a thread of its own once it proves to be a long one."""

    def __init__(self) -> None:
        self.size = 0
        self._head: list[bytes] = []
        self._hasher: PipelinedHasher | None = None

    def update(self, data: bytes) -> None:
        """Add `data`."""
        self.size += len(data)
        if self._hasher is not None:
            self._hasher.update(data)
            return
        self._head.append(data)
        if self.size > CHUNK:
            self._hasher = PipelinedHasher()
            for part in self._head:
                self._hasher.update(part)
            self._head.clear()

    def finish(self) -> Checksum:
        """Return the checksum of all parts."""
        return self._hasher.finish() if self._hasher else hash_bytes(b"".join(self._head))

    def close(self) -> None:
        """End the thread."""
        if self._hasher is not None:
            self._hasher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Download(NewFile):
    """A user's file that is being fetched: replaced at once when its bytes are complete.

    Parameters
    ----------
    path
        The file to be.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        directory = os.path.dirname(self.path) or "."
        name = hashlib.sha256(os.fsencode(os.path.basename(self.path))).hexdigest()[:16]
        super().__init__(directory, f"{directory}/{TEMPORARY_PREFIX}{name}")

    def finish(self, executable: bool) -> None:
        """Put it in its place."""
        if executable:
            mode = os.fstat(self.fd).st_mode
            os.fchmod(self.fd, mode | (mode & 0o444) >> 2)
        self.publish(self.path)


def remove_abandoned(directory: str) -> int:
    """Remove the temporary files of dead writers in `directory`; return how many.

    A live writer holds a lock on its own. It has none in the instant between making and locking
    it, so that a file of the last seconds is left alone, unless its process is known to be gone.
    Locks of another host may not be seen here: what is from there is left alone for a day.
    """
    import time

    removed = 0
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return 0
    for name in names:
        path = f"{directory}/{name}"
        try:
            old = time.time() - os.stat(path).st_mtime > _seconds_to_wait(name)
            if old and not in_use(path):
                os.unlink(path)
                removed += 1
        except OSError:
            continue  # gone meanwhile, or not ours
    return removed


def _seconds_to_wait(name: str) -> float:
    """Return after how long without a change a file named HOST-PROCESS-…-… may be that of a dead writer."""
    host, process, *rest = name.rsplit("-", 3)
    if rest[1:] and host != os.uname().nodename:
        return 86400.0
    return 10.0 if not rest[1:] or os.path.exists(f"/proc/{process}") else -1.0


def in_use(path: str) -> bool:
    """Say whether somebody holds a lock on a file, or nobody can tell; a file that is gone is not in use."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
