"""A bounded cache of buffers on the local disk of a node, shared by all its processes.

::

    <directory>/<two hex digits>/<checksum>   a buffer: read-only, executable if its content says so
    <directory>/.admitted/<checksum>          its state when it was verified, and since which start of the
                                              host it was; the mtime is its last use
    <directory>/.fetching/<checksum>          locked by the one who fetches it
    <directory>/.incoming/                    what is being fetched
    <directory>/.total                        the bytes in the cache, roughly; its lock guards evictions

A pin is a shared lock on the record, so that it ends with its process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from hashserver.checksum import hash_descriptor
from hashserver.durability import boot
from hashserver.storage.files import in_use, remove_abandoned, write_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from hashserver.checksum import Checksum
    from hashserver.storage.store import Path, Store

_KEEP = 0.9
_NO_BOOT = "-"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class Admission(NamedTuple):
    """The state of a cached file when its bytes were found to be right."""

    inode: int
    size: int
    mtime_ns: int
    mode: int


class Pin:
    """Keeps a buffer in the cache until it is released, or its process ends."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd

    def release(self) -> None:
        """Let the buffer go."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class NodeCache:
    """Buffers of another store, verified once and kept while there is room.

    Parameters
    ----------
    directory
        On a local disk; made 0700 if it does not exist.
    limit_bytes
        How much is kept. What is pinned is kept beyond it, and so is the newest buffer.
    upstream
        Where buffers come from.
    """

    def __init__(self, directory: Path, limit_bytes: int, upstream: Store) -> None:
        self.directory = os.path.abspath(os.fspath(directory))
        self.limit = limit_bytes
        self.upstream = upstream
        try:
            for name in ("", "/.admitted", "/.fetching", "/.incoming"):
                os.makedirs(self.directory + name, mode=0o700, exist_ok=True)
            self._clean()
        except OSError as error:
            raise write_error(error, self.directory) from error

    def fetch(self, checksum: Checksum) -> str:
        """Return the path of a buffer, fetched if it is not here; it may be evicted at any time.

        Raises
        ------
        BufferMissing, BufferCorrupt, OriginalChanged, NoSpace, ServiceUnavailable
            When it cannot be had.
        """
        with self.pin(checksum) as pin:
            return pin.path

    def pin(self, checksum: Checksum) -> Pin:
        """Fetch a buffer if it is not here, and keep it from being evicted; raises as `fetch`."""
        while (pin := self._pinned(checksum)) is None:
            self._admit(checksum)
        return pin

    def unchanged(self, checksum: Checksum) -> bool:
        """Say whether a cached buffer still is in the state in which it was verified."""
        try:
            state = _state(os.stat(self._path(checksum)))
            with open(self._record(checksum), "rb") as file:
                *admitted, started = file.read().decode("ascii").split()
            same = list(map(str, state)) == admitted
        except (OSError, ValueError):
            return False
        return same and (started == (boot() or _NO_BOOT) or self._survived(checksum, state))

    def _survived(self, checksum: Checksum, state: Admission) -> bool:
        """Say whether a buffer of before a restart has all its bytes: nothing here was ever synced."""
        try:
            with open(self._path(checksum), "rb") as file:
                found, _ = hash_descriptor(file.fileno())
            if found == checksum:
                # in place: the record's file is what pins lock
                with open(self._record(checksum), "r+b", buffering=0) as record:
                    record.write(_record_text(state))
        except OSError:
            return False
        return found == checksum

    def drop(self, checksum: Checksum) -> None:
        """Forget a buffer at once, pinned or not: it was found to be modified."""
        with self._evictions() as total:
            self._remove(checksum, total)

    def size(self) -> int:
        """Return the number of bytes in the cache."""
        return sum(entry.size for entry in self._entries())

    def _clean(self) -> None:
        """Remove what dead processes left behind."""
        remove_abandoned(f"{self.directory}/.incoming")
        for name in os.listdir(f"{self.directory}/.fetching"):
            with suppress(OSError), _Lock(f"{self.directory}/.fetching/{name}", wait=False):
                pass  # the lock's end removes its file

    # ------------------------------------------------------------------ fetching

    def _pinned(self, checksum: Checksum) -> Pin | None:
        record = self._record(checksum)
        try:
            fd = os.open(record, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            # evicted, or admitted anew, between our open and our lock
            if os.path.samestat(os.fstat(fd), os.stat(record)) and self.unchanged(checksum):
                os.utime(fd)
                pin, fd = Pin(self._path(checksum), fd), -1
                return pin
        except FileNotFoundError:
            return None
        finally:
            if fd >= 0:
                os.close(fd)
        self.drop(checksum)
        return None

    def _admit(self, checksum: Checksum) -> None:
        with _Lock(f"{self.directory}/.fetching/{checksum}"):
            if self.unchanged(checksum):
                return  # the one we waited for has fetched it
            incoming = (
                f"{self.directory}/.incoming/{os.uname().nodename}-{os.getpid()}-{id(self):x}-{checksum}"
            )
            try:
                self._receive(checksum, incoming)
            except OSError as error:
                raise write_error(error, self.directory) from error
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(incoming)

    def _receive(self, checksum: Checksum, incoming: str) -> None:
        self.upstream.get_file(checksum, incoming)
        os.chmod(incoming, os.stat(incoming).st_mode & 0o555)
        with self._evictions() as total:
            self._remove(checksum, total)
            path = self._path(checksum)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            os.rename(incoming, path)
            state = _state(os.stat(path))
            _write_record(self._record(checksum), f"{incoming}.record", state)
            total.bytes += state.size
            if total.bytes > self.limit:
                self._evict(total, checksum)

    # ------------------------------------------------------------------ evicting

    def _evict(self, total: _Total, newest: str) -> None:
        entries = sorted(self._entries(), key=lambda entry: entry.used)
        total.bytes = sum(entry.size for entry in entries)
        for entry in entries:
            if total.bytes <= self.limit * _KEEP:
                return
            if entry.checksum != newest and not in_use(self._record(entry.checksum)):
                self._remove(entry.checksum, total)

    def _remove(self, checksum: str, total: _Total) -> None:
        # the record first: what has none is not in the cache, whatever happens now
        with suppress(FileNotFoundError):
            os.unlink(self._record(checksum))
        with suppress(FileNotFoundError):
            path = self._path(checksum)
            size = os.stat(path).st_size
            os.unlink(path)
            total.bytes = max(0, total.bytes - size)

    def _entries(self) -> Iterator[_Entry]:
        """Yield what is in the cache, what a dead process left without a record as never used."""
        for prefix in os.listdir(self.directory):
            if prefix.startswith("."):
                continue
            for file in os.scandir(f"{self.directory}/{prefix}"):
                try:
                    used = os.stat(self._record(file.name)).st_mtime_ns
                except FileNotFoundError:
                    used = 0
                with suppress(FileNotFoundError):
                    yield _Entry(file.name, file.stat().st_size, used)

    @contextmanager
    def _evictions(self) -> Iterator[_Total]:
        """Hold the lock under which buffers come and go, and keep account of their bytes."""
        fd = os.open(f"{self.directory}/.total", _FLAGS, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            text = os.pread(fd, 40, 0)
            total = _Total(int(text) if text.strip().isdigit() else self.size())
            yield total
            os.pwrite(fd, b"%-20d" % total.bytes, 0)
        finally:
            os.close(fd)

    def _path(self, checksum: str) -> str:
        return f"{self.directory}/{checksum[:2]}/{checksum}"

    def _record(self, checksum: str) -> str:
        return f"{self.directory}/.admitted/{checksum}"


class _Entry(NamedTuple):
    checksum: str
    size: int
    used: int


class _Total:
    def __init__(self, size: int) -> None:
        self.bytes = size


class _Lock:
    """An exclusive lock on a file that exists only while somebody wants it."""

    def __init__(self, path: str, wait: bool = True) -> None:
        self._path, self._how = path, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)

    def __enter__(self) -> None:
        while True:
            fd = os.open(self._path, _FLAGS, 0o600)
            try:
                fcntl.flock(fd, self._how)
                if os.path.samestat(os.fstat(fd), os.stat(self._path)):
                    self._fd = fd
                    return
            except FileNotFoundError:
                pass  # removed by its former holder: the next one makes another
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def __exit__(self, *_: object) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._path)
        os.close(self._fd)


def _state(found: os.stat_result) -> Admission:
    return Admission(found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode)


def _record_text(state: Admission) -> bytes:
    return " ".join([*map(str, state), boot() or _NO_BOOT]).encode()


def _write_record(path: str, temporary: str, state: Admission) -> None:
    with open(temporary, "w", encoding="ascii") as file:
        file.write(_record_text(state).decode())
    os.replace(temporary, path)
