"""Buffers at any URL that fsspec knows: S3, SFTP, memory and others."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from itertools import islice
from typing import TYPE_CHECKING

from hashserver.atomic import write_all
from hashserver.checksum import Checksum, hash_bytes, hash_descriptor
from hashserver.errors import (
    BufferMissing,
    HashserverError,
    NoSpace,
    ReadOnly,
    ServiceUnavailable,
)
from hashserver.index import is_executable
from hashserver.storage.asyncfs import abort_uploads, lengths
from hashserver.storage.files import Download, write_error
from hashserver.storage.remotefs import open_filesystem, shown, spool, translate
from hashserver.storage.store import Store, Writer, all_missing, local_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, BinaryIO, TypeVar

    from hashserver.storage.store import Bytes, Path

    T = TypeVar("T")

# what is uploaded there appears at once; elsewhere it gets its name when it is complete
_ATOMIC = frozenset(
    ["memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "tos", "obs"]
)
_TOGETHER = 32
_PIECE = 8 << 20
_THREADS = 8
_DAY = 86400


class FsspecStore(Store):
    """Buffers at a URL; connected to with the first request.

    Parameters
    ----------
    url
        Of the folder that has the buffers. A password in it is used and never shown.
    **options
        Storage options of fsspec; they are better placed in fsspec's own configuration.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._address, self._options = url, options
        self.url = shown(url)
        self._lock = threading.Lock()
        self._connection: tuple[Any, str] | None = None
        self._made: set[str] = set()
        self._numbers = 0
        self._direct = url.partition("://")[0] in _ATOMIC

    @property
    def writable(self) -> bool:
        """True: only an attempt can tell."""
        return True

    # ------------------------------------------------------------------ reading

    def has(self, checksums: Sequence[Checksum]) -> list[int]:
        """Return the length of each buffer, -1 for what is not there."""
        fs, root = self._connect()
        if fs.async_impl:
            paths = [f"{root}/{checksum.prefix}/{checksum}" for checksum in checksums]
            return self._call(lengths, fs, paths)
        if len(checksums) == 1:
            return [self._length(checksums[0])]
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(self._length, checksums))

    def _length(self, checksum: Checksum) -> int:
        try:
            return int(self._call(self._fs.info, self._path(checksum))["size"])
        except FileNotFoundError:
            return -1

    def get(self, checksum: Checksum) -> bytes:
        """Return a buffer whole, verified."""
        try:
            if self._fs.async_impl or self._direct:
                data: bytes = self._call(self._fs.cat_file, self._path(checksum))
            else:
                with self.open(checksum) as file:
                    data = file.read()
        except FileNotFoundError as error:
            raise self._missing(checksum) from error
        self._check(checksum, hash_bytes(data))
        return data

    def get_many(self, checksums: Iterable[Checksum]) -> Iterator[tuple[Checksum, bytes]]:
        """Yield buffers, verified; several are on their way at a time."""
        missing: list[Checksum] = []
        iterator = iter(checksums)
        with ThreadPoolExecutor(_THREADS) as pool:
            while batch := list(islice(iterator, _TOGETHER)):
                for checksum, data in zip(batch, pool.map(self._get_or_none, batch), strict=True):
                    if data is None:
                        missing.append(checksum)
                    else:
                        yield checksum, data
        if missing:
            raise all_missing(missing, self.url)

    def _get_or_none(self, checksum: Checksum) -> bytes | None:
        try:
            return self.get(checksum)
        except BufferMissing:
            return None

    def get_file(self, checksum: Checksum, path: Path, executable: bool | None = None) -> None:
        """Write a buffer to a file, verified; the file is replaced at once or not at all."""
        try:
            with Download(path) as target:
                self._fetch(checksum, target.fd)
                os.lseek(target.fd, 0, os.SEEK_SET)
                self._check(checksum, hash_descriptor(target.fd)[0])
                if executable is None:
                    executable = is_executable(os.pread(target.fd, 4, 0))
                target.finish(executable)
        except OSError as error:
            raise local_error(error, path) from error

    def read(self, checksum: Checksum, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Return the bytes in parts, not verified."""
        if not self._fs.async_impl:
            return _parts(self.open(checksum), start, length)
        size = self.has([checksum])[0]
        if size < 0:
            raise self._missing(checksum)
        return self._pieces(checksum, start, size if length is None else min(size, start + length))

    def _pieces(self, checksum: Checksum, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, _PIECE):
            to = min(at + _PIECE, end)
            try:
                yield self._call(self._fs.cat_file, self._path(checksum), start=at, end=to)
            except FileNotFoundError as error:
                raise self._missing(checksum) from error

    def open(self, checksum: Checksum) -> BinaryIO:
        """Return an open file with the bytes, not verified; they are fetched first."""
        fd = _spool()
        try:
            self._fetch(checksum, fd)
        except BaseException:
            os.close(fd)
            raise
        return os.fdopen(fd, "rb")

    def _fetch(self, checksum: Checksum, fd: int) -> None:
        # fsspec takes a path, and opens it anew, so that the position of `fd` stays at the beginning
        local = f"/proc/self/fd/{fd}"
        try:
            self._call(self._fs.get_file, self._path(checksum), local)
        except FileNotFoundError as error:
            raise self._missing(checksum) from error

    # ------------------------------------------------------------------ writing

    def put(self, data: Bytes) -> Checksum:
        """Store `data` and return its checksum."""
        checksum = hash_bytes(data)
        if self.has([checksum])[0] == len(data):
            return checksum
        if self._direct:
            self._call(self._fs.pipe_file, self._path(checksum), bytes(data), writing=True)
            return checksum
        with self.writer() as writer:
            writer.write(bytes(data))
            return writer.commit(checksum)[0]

    def put_files(self, files: Iterable[tuple[Path, Checksum | None]]) -> list[Checksum]:
        """Store many files; several are on their way at a time."""
        with ThreadPoolExecutor(_THREADS) as pool:
            return [result[0] for result in pool.map(lambda file: self.put_file(*file), files)]

    def writer(self) -> Writer:
        """Return a writer of one new buffer: it is kept here until it is complete, then uploaded."""
        return _RemoteWriter(self)

    def _upload(self, checksum: Checksum, fd: int, size: int) -> None:
        """Upload a spooled buffer, which is known to be that of `checksum`."""
        if self.has([checksum])[0] == size:
            return
        target, source = self._path(checksum), f"/proc/self/fd/{fd}"
        if self._direct:
            self._call(self._fs.put_file, source, target, writing=True)
            return
        temporary = self._temporary()
        self._make(os.path.dirname(temporary))
        self._make(os.path.dirname(target))
        try:
            self._call(self._fs.put_file, source, temporary, writing=True)
            self._call(self._fs.mv, temporary, target, writing=True)
        except BaseException:
            self._discard(temporary)
            raise

    def _temporary(self) -> str:
        with self._lock:
            self._numbers += 1
            number = self._numbers
        return f"{self._root}/.tmp/{os.uname().nodename}-{os.getpid()}-{id(self):x}-{number}"

    def _make(self, directory: str) -> None:
        for attempt in range(3):
            if directory in self._made:
                return
            try:
                self._call(self._fs.makedirs, directory, exist_ok=True, writing=True)
                self._made.add(directory)
            except ServiceUnavailable:
                # another writer may have made it, or one above it, between the look and the call
                if attempt == 2:
                    raise

    def _discard(self, path: str) -> None:
        with suppress(HashserverError):  # not there, or not reachable: `clean` has another look
            self._call(self._fs.rm_file, path, writing=True)

    def delete(self, checksum: Checksum) -> None:
        """Forget a buffer."""
        if self.has([checksum])[0] < 0:
            return
        try:
            self._call(self._fs.rm_file, self._path(checksum), writing=True)
        except FileNotFoundError:
            return

    def verify(self, checksum: Checksum) -> bool:
        """Read a buffer back; a corrupt one is put into quarantine."""
        with self.open(checksum) as file:
            found, _ = hash_descriptor(file.fileno())
        if found == checksum:
            return True
        quarantine = f"{self._root}/.quarantine"
        if not self._direct:
            self._make(quarantine)
        try:
            self._call(self._fs.mv, self._path(checksum), f"{quarantine}/{checksum}", writing=True)
        except FileNotFoundError:
            return False  # another one was faster
        return False

    def clean(self) -> int:
        """Remove what dead writers left behind; return how many files that were."""
        fs, root = self._connect()
        if hasattr(fs, "_call_s3"):
            try:
                return self._call(abort_uploads, fs, root, writing=True)
            except ReadOnly:
                return 0  # keys that may not do that: it is left to the bucket's own rules
        if self._direct:
            return 0
        try:
            entries = self._call(fs.ls, f"{root}/.tmp", detail=True)
        except FileNotFoundError:
            return 0
        abandoned = [entry["name"] for entry in entries if _abandoned(entry)]
        for path in abandoned:
            self._discard(path)
        return len(abandoned)

    # ------------------------------------------------------------------ connection

    def close(self) -> None:
        """Let go of the connection; the next request makes a new one."""
        with self._lock:
            connection, self._connection = self._connection, None
        client = getattr(connection[0], "client", None) if connection else None
        if client is not None:
            client.close()

    def _connect(self) -> tuple[Any, str]:
        with self._lock:
            if self._connection is None:
                self._connection = open_filesystem(self._address, self._options)
            return self._connection

    @property
    def _fs(self) -> Any:
        return self._connect()[0]

    @property
    def _root(self) -> str:
        return self._connect()[1]

    def _path(self, checksum: Checksum) -> str:
        return f"{self._root}/{checksum.prefix}/{checksum}"

    def _call(self, function: Callable[..., T], *args: Any, writing: bool = False, **kwargs: Any) -> T:
        """Call the file system; what is not there stays `FileNotFoundError` unless it is written."""
        own_channel = getattr(self._fs, "own_channel", nullcontext)
        try:
            with own_channel():
                return function(*args, **kwargs)
        except FileNotFoundError as error:
            if not writing:
                raise
            raise translate(error, self._address, writing) from error
        except TypeError:
            raise  # a mistake of ours
        except Exception as error:
            self._drop_dead_connection()
            raise translate(error, self._address, writing) from error

    def _drop_dead_connection(self) -> None:
        """Forget an SFTP session that has ended, after sleep or a restart: the next call makes one."""
        client = getattr(self._connection[0], "client", None) if self._connection else None
        if client is not None:
            transport = client.get_transport()
            if transport is None or not transport.is_active():
                self.close()

    def _missing(self, checksum: Checksum) -> BufferMissing:
        return BufferMissing(checksum, f"buffer {checksum} is not in {self.url}")


class _RemoteWriter(Writer):
    def __init__(self, store: FsspecStore) -> None:
        super().__init__()
        self._store, self._fd = store, _spool()

    def _write(self, data: bytes) -> None:
        try:
            write_all(self._fd, data)
        except OSError as error:
            raise _spool_error(error) from error

    def _commit(self, checksum: Checksum) -> None:
        self._store._upload(checksum, self._fd, self.size)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _spool() -> int:
    try:
        return spool()
    except OSError as error:
        raise _spool_error(error) from error


def _spool_error(error: OSError) -> HashserverError:
    import tempfile

    meaning = write_error(error, tempfile.gettempdir())
    if isinstance(meaning, NoSpace):
        return NoSpace(f"no room left in {tempfile.gettempdir()} for uploads: set TMPDIR to a larger place")
    return meaning


def _parts(file: BinaryIO, start: int, length: int | None) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while part := file.read(1 << 20 if length is None else min(1 << 20, length)):
            if length is not None:
                length -= len(part)
            yield part


def _abandoned(entry: dict[str, Any]) -> bool:
    import time

    host, pid = os.path.basename(entry["name"]).rsplit("-", 3)[:2]
    if host == os.uname().nodename:
        return not os.path.exists(f"/proc/{pid}")
    modified = entry.get("mtime") or entry.get("LastModified") or entry.get("created")
    return modified is not None and time.time() - modified.timestamp() > _DAY
