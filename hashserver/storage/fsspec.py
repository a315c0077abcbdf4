"""Buffers at any URL that fsspec knows: S3, SFTP, memory and others."""

from __future__ import annotations

import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from copy import copy
from itertools import islice
from time import monotonic
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
from hashserver.storage.files import DescriptorParts, Download, write_error
from hashserver.storage.patience import STORE_SECONDS
from hashserver.storage.remotefs import (
    MISTAKES,
    check_url,
    hidden,
    in_force,
    open_files,
    shown,
    spool,
    translate,
    wrong_options,
)
from hashserver.storage.store import SMALL, Store, Writer, all_missing, local_error
from hashserver.workspace.index import is_executable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, BinaryIO, TypeVar

    from hashserver.storage.remotefs import Files
    from hashserver.storage.store import Bytes, Path

    T = TypeVar("T")

# what is uploaded there appears at once; elsewhere it gets its name when it is complete
_ATOMIC = frozenset(
    ["memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "tos", "obs"]
)
_TOGETHER = 32
_THREADS = 8
_DAY = 86400
_REFUSED_SECONDS = 60.0
_TEMPORARY = re.compile(r"(.+)-([0-9]+)-[0-9a-f]+-[0-9]+").fullmatch


class FsspecStore(Store):
    """Buffers at a URL; connected to with the first request.

    Parameters
    ----------
    url
        Of the folder that has the buffers. A password in it is used and never shown.
    seconds
        For how long nothing may move in a request before it is given up.
    **options
        Storage options of fsspec.

    Raises
    ------
    InvalidRequest
        If there can be no store at that URL.
    """

    def __init__(self, url: str, seconds: float = STORE_SECONDS, **options: Any) -> None:
        check_url(url)
        self._address, self._seconds, self._options = url, seconds, options
        self.url = shown(url)
        self._lock = threading.Lock()
        self._connection: tuple[Files, str] | None = None
        self._failure: HashserverError | None = None
        """Of the last attempt to connect that failed."""
        self._made: set[str] = set()
        self._left: set[str] = set()
        self._numbers = 0
        self._direct = url.partition("://")[0] in _ATOMIC
        self._refused_until = 0.0
        self._there = self._tidied = self._answered = False

    @property
    def writable(self) -> bool:
        """False for a while after an upload was refused: only an attempt can tell, and rights may change."""
        return monotonic() >= self._refused_until

    # ------------------------------------------------------------------ reading

    def has(self, checksums: Sequence[Checksum]) -> list[int]:
        """Return the length of each buffer, -1 for what is not there."""
        if not checksums:
            return []
        lengths = self._call(lambda files: files.lengths([self._path(checksum) for checksum in checksums]))
        self._believe(all(length < 0 for length in lengths))
        return lengths

    def _believe(self, missing: bool) -> None:
        """Look once whether there is such a place, before it is believed that it lacks a buffer."""
        if missing and not self._there:
            self._call(lambda files: files.require(self._root), writing=True)
        self._there = True

    def get(self, checksum: Checksum) -> bytes:
        """Return a buffer whole, verified."""
        if self._files.reads_parts:
            data = self._having(checksum, lambda files: files.read(self._path(checksum)))
        else:
            with self.open(checksum) as file:
                data = file.read()
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
        if not self._files.reads_parts:
            return DescriptorParts(self._spooled(checksum), start, length)
        size = self.has([checksum])[0]
        if size < 0:
            raise self._missing(checksum)
        return self._pieces(checksum, start, size if length is None else min(size, start + length))

    def _pieces(self, checksum: Checksum, start: int, end: int) -> Iterator[bytes]:
        with closing(self._files.pieces(self._path(checksum), start, end)) as pieces:
            while piece := self._having(checksum, lambda _: next(pieces, b"")):
                yield piece

    def open(self, checksum: Checksum) -> BinaryIO:
        """Return an open file with the bytes, not verified; they are fetched first."""
        return os.fdopen(self._spooled(checksum), "rb")

    def _spooled(self, checksum: Checksum) -> int:
        """Return a descriptor of a file without a name that has the bytes."""
        fd = _spool()
        try:
            self._fetch(checksum, fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _fetch(self, checksum: Checksum, fd: int) -> None:
        self._having(checksum, lambda files: files.fetch(self._path(checksum), fd))

    def _having(self, checksum: Checksum, read: Callable[[Files], T]) -> T:
        try:
            return self._call(read)
        except FileNotFoundError as error:
            self._believe(missing=True)
            raise self._missing(checksum) from error

    # ------------------------------------------------------------------ writing

    def put(self, data: Bytes) -> Checksum:
        """Store `data` and return its checksum."""
        checksum = hash_bytes(data)
        if self.has([checksum])[0] == len(data):
            return checksum
        if self._direct and len(data) <= SMALL:
            self._add(lambda files: files.write(self._path(checksum), bytes(data)))
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
        target = self._path(checksum)
        self._tidy(size)
        if self._direct:
            self._add(lambda files: files.send(fd, size, target))
            return
        temporary = self._temporary()
        self._make(os.path.dirname(temporary))
        self._make(os.path.dirname(target))
        try:
            self._add(lambda files: files.send(fd, size, temporary))
            self._add(lambda files: files.rename(temporary, target))
        except BaseException:
            self._discard(temporary)
            raise

    def _tidy(self, size: int) -> None:
        """Remove what this writer could not, and at its first upload what dead ones have left."""
        for path in list(self._left):
            self._discard(path)
        # on S3 only large buffers leave something, and it costs a request to look
        if not self._tidied and not (self._direct and size <= SMALL):
            self._tidied = True
            with suppress(HashserverError):  # the upload itself will tell
                self.clean()

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
                self._add(lambda files: files.make_directory(directory))
                self._made.add(directory)
            except (ReadOnly, NoSpace):
                raise
            except ServiceUnavailable:
                # another writer may have made it, or one above it, between the look and the call
                if attempt == 2 or self._connection is None:
                    raise

    def _discard(self, path: str) -> None:
        self._left.add(path)
        if self._connection is None:
            return  # it was lost with what it was doing: the next upload, or `clean`, has another look
        with suppress(HashserverError):
            with suppress(FileNotFoundError):
                self._call(lambda files: files.remove(path))
            self._left.discard(path)

    def delete(self, checksum: Checksum) -> None:
        """Forget a buffer."""
        if self.has([checksum])[0] < 0:
            return
        with suppress(FileNotFoundError):
            self._call(lambda files: files.remove(self._path(checksum)), changing=True)

    def verify(self, checksum: Checksum) -> bool:
        """Read a buffer back; a corrupt one is put into quarantine."""
        with self.open(checksum) as file:
            found, size = hash_descriptor(file.fileno())
        if found == checksum:
            return True
        quarantine = f"{self._root}/.quarantine"
        if not self._direct:
            self._make(quarantine)
        with suppress(FileNotFoundError):  # another one was faster
            self._call(
                lambda files: files.rename(self._path(checksum), f"{quarantine}/{checksum}", size),
                changing=True,
            )
        return False

    def clean(self) -> int:
        """Remove what dead writers left behind; return how many files that were."""
        if self._direct:
            try:
                return self._call(lambda files: files.tidy(self._root), writing=True)
            except ReadOnly:
                return 0  # keys that may not do that: it is left to the bucket's own rules
        try:
            entries = self._call(lambda files: files.entries(f"{self._root}/.tmp"))
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
        if connection is not None:
            connection[0].close()

    def _connect(self) -> tuple[Files, str]:
        before = self._failure
        with self._lock:
            if self._connection is None:
                if self._failure is not None and self._failure is not before:
                    raise copy(self._failure)  # another thread tried in vain while this one waited for it
                try:
                    self._connection = open_files(self._address, self._options, self._seconds)
                except HashserverError as error:
                    self._failure = error
                    raise
            return self._connection

    @property
    def _files(self) -> Files:
        return self._connect()[0]

    @property
    def _root(self) -> str:
        return self._connect()[1]

    def _path(self, checksum: Checksum) -> str:
        return f"{self._root}/{checksum.prefix}/{checksum}"

    def _call(self, function: Callable[[Files], T], writing: bool = False, changing: bool = False) -> T:
        """Call the file system, and raise its errors in our terms.

        Parameters
        ----------
        writing
            Whether something is added. What is not there is an error of the place then, else it stays
            `FileNotFoundError`.
        changing
            Whether something is taken away or renamed.
        """
        files = self._files
        try:
            result = function(files)
            self._answered = True
            return result
        except FileNotFoundError as error:
            if not writing:
                raise
            raise self._meaning(error, writing) from hidden(error, self._known)
        except Exception as error:
            # some options are looked at with the first request only
            if isinstance(error, MISTAKES) and self._known and not self._answered:
                raise wrong_options(error, self._address, self._known) from None
            if isinstance(error, TypeError):
                raise  # a mistake of ours
            if files.is_lost():
                self._forget(files)
            raise self._meaning(error, writing or changing) from hidden(error, self._known)

    @property
    def _known(self) -> Mapping[str, Any]:
        return in_force(self._address, self._options)

    def _meaning(self, error: Exception, writing: bool) -> HashserverError:
        return translate(error, self._address, writing, self._known)

    def _add(self, function: Callable[[Files], T]) -> T:
        """Call what uploads: unlike looking and tidying, it tells whether this place may be written."""
        try:
            result = self._call(function, writing=True)
        except ReadOnly:
            self._refused_until = monotonic() + _REFUSED_SECONDS
            raise
        self._refused_until = 0.0
        return result

    def _forget(self, files: Files) -> None:
        """Forget a session that has ended, after sleep or a restart: the next call makes one."""
        with self._lock:
            if self._connection is None or self._connection[0] is not files:
                return  # another thread has a new one already
            self._connection = None
        files.close()

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


def _abandoned(entry: dict[str, Any]) -> bool:
    import time

    match = _TEMPORARY(os.path.basename(entry["name"]))
    if match is None:
        return False  # somebody else's
    host, pid = match.groups()
    if host == os.uname().nodename:
        return not os.path.exists(f"/proc/{pid}")
    names = "mtime", "LastModified", "modified", "created"
    modified = next((entry[name] for name in names if entry.get(name)), None)
    return modified is not None and time.time() - modified.timestamp() > _DAY
