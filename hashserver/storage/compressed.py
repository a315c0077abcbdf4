"""Buffers that Seamless 1.x keeps compressed.

::

    <two hex digits>/<checksum>.zst, .gz          the bytes, compressed; the checksum is that of the raw ones
    <two hex digits>/<checksum>.BUFFERLENGTH      how many there are, in decimal digits

They are read in constant memory, and nothing is written before all of them are known to be right: what
unpacks into more than the disk holds takes time, not room.
"""

from __future__ import annotations

import os
import stat
import zlib
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from hashserver.atomic import write_all
from hashserver.checksum import Hasher
from hashserver.errors import BufferMissing, NoSpace, ReadOnly, ServiceUnavailable
from hashserver.regular_file import open_regular, read_regular
from hashserver.storage.modes import make_below

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, BinaryIO

    from hashserver.checksum import Checksum
    from hashserver.storage.store import Bytes

ZSTD, GZIP = ".zst", ".gz"
SUFFIXES = (ZSTD, GZIP)
"""In the order in which Seamless 1.x looks for them."""

LENGTH = ".BUFFERLENGTH"
_CHUNK = 1 << 20
_MANY = 8
"""A folder in which more are asked for is listed once."""


class CorruptArchive(BufferMissing):
    """There is a compressed file, but not of these bytes."""

    corrupt = True


class CompressedDirectory(Protocol):
    """The directory store that has compressed buffers."""

    root: str

    @property
    def unpacks(self) -> bool:
        """Whether what is unpacked may be kept."""
        ...

    def put_stream(self, chunks: Iterable[Bytes], expected: Checksum | None = None) -> tuple[Checksum, int]:
        """Store a buffer."""
        ...

    def descriptor(self, checksum: Checksum) -> tuple[int, os.stat_result]:
        """Open a buffer."""
        ...


def find(root: str, checksum: str) -> str | None:
    """Return the path of the compressed form of a buffer below `root`."""
    for suffix in SUFFIXES:
        path = f"{root}/{checksum[:2]}/{checksum}{suffix}"
        try:
            if stat.S_ISREG(os.lstat(path).st_mode):
                return path
        except OSError:
            continue
    return None


def find_many(root: str, checksums: Iterable[Checksum]) -> dict[Checksum, str]:
    """Return the same for those of many that have one; mostly none has, which shall cost little."""
    folders: dict[str, list[Checksum]] = {}
    for checksum in checksums:
        folders.setdefault(checksum[:2], []).append(checksum)
    found: dict[Checksum, str] = {}
    for folder, asked in folders.items():
        if len(asked) > _MANY:
            names = _listed(f"{root}/{folder}")
            asked = [checksum for checksum in asked if checksum in names]
        for checksum in asked:
            if (path := find(root, checksum)) is not None:
                found[checksum] = path
    return found


def _listed(folder: str) -> set[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return set()
    return {name.rpartition(".")[0] for name in names if name.endswith(SUFFIXES)}


def said_length(path: str) -> int | None:
    """Return how long the raw bytes of a compressed file are said to be."""
    try:
        text = read_regular(path.rpartition(".")[0] + LENGTH, 32, follow=False)
    except OSError:
        return None
    return int(text) if text.strip().isdigit() else None


def add_lengths(store: CompressedDirectory, checksums: Sequence[Checksum], lengths: list[int]) -> None:
    """Put the lengths of buffers that are here compressed where `lengths` says -1."""
    absent = [checksum for checksum, length in zip(checksums, lengths, strict=True) if length < 0]
    found = find_many(store.root, absent)
    packed = {checksum: _length(store, checksum, path) for checksum, path in found.items()}
    if packed:
        for number, checksum in enumerate(checksums):
            if lengths[number] < 0:
                lengths[number] = packed.get(checksum, -1)


def _length(store: CompressedDirectory, checksum: Checksum, path: str) -> int:
    if path.endswith(ZSTD) and _zstd() is None:
        return -1
    if (said := said_length(path)) is not None:
        return said
    try:
        fd, state = unpacked(store, checksum, path)
    except (BufferMissing, ServiceUnavailable):
        return -1
    os.close(fd)
    return state.st_size


def unpacked(store: CompressedDirectory, checksum: Checksum, path: str) -> tuple[int, os.stat_result]:
    """Unpack a buffer to its place, or where that may not be written to a file without a name; open that.

    Raises
    ------
    CorruptArchive, ServiceUnavailable
        As `check`; a corrupt file is put into quarantine.
    """
    try:
        check(path, checksum)
    except CorruptArchive:
        if store.unpacks:
            _quarantine(store.root, path)
        raise
    if store.unpacks and os.access(os.path.dirname(path), os.W_OK | os.X_OK):
        try:
            store.put_stream(parts(path, checksum), checksum)
        except (ReadOnly, NoSpace):
            pass  # the bytes are wanted all the same
        else:
            return store.descriptor(checksum)
    return _nameless(path, checksum)


def _quarantine(root: str, path: str) -> None:
    with suppress(OSError):  # one that may only be read
        make_below(root, f"{root}/.quarantine")
        os.replace(path, f"{root}/.quarantine/{os.path.basename(path)}")


def _nameless(path: str, checksum: Checksum) -> tuple[int, os.stat_result]:
    from tempfile import TemporaryFile

    with TemporaryFile(buffering=0) as file:
        hasher = Hasher()
        for part in parts(path, checksum):
            hasher.update(part)
            write_all(file.fileno(), part)
        if hasher.finish() != checksum:
            raise CorruptArchive(checksum, f"{path} has changed while it was read")
        fd = os.dup(file.fileno())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd, os.fstat(fd)


def remove(root: str, checksum: str) -> None:
    """Forget the compressed forms of a buffer."""
    for ending in (*SUFFIXES, LENGTH):
        with suppress(OSError):
            os.unlink(f"{root}/{checksum[:2]}/{checksum}{ending}")


def check(path: str, checksum: Checksum) -> None:
    """Read a compressed file once, to see whether it is that of `checksum`.

    Raises
    ------
    CorruptArchive
        If it is not, or has another length than it is said to have.
    ServiceUnavailable
        If it cannot be read, or the library for it is not there.
    """
    said, hasher = said_length(path), Hasher()
    for part in parts(path, checksum):
        hasher.update(part)
        if said is not None and hasher.size > said:
            break
    if hasher.finish() != checksum or hasher.size != (hasher.size if said is None else said):
        raise CorruptArchive(checksum, f"{path} does not hold the bytes of its checksum")


def parts(path: str, checksum: Checksum) -> Iterator[bytes]:
    """Yield the raw bytes, as they are; raises as `check`."""
    try:
        with os.fdopen(open_regular(path, follow=False)[0], "rb") as file, _opened(path, file) as raw:
            while part := raw.read(_CHUNK):
                yield part
    except ServiceUnavailable:
        raise
    except OSError as error:
        if error.errno is not None:  # else the module gzip says that it is none
            raise ServiceUnavailable(f"{path} cannot be read: {error.strerror}") from error
        raise CorruptArchive(checksum, f"{path} is damaged: {error}") from error
    except Exception as error:
        if not isinstance(error, (EOFError, zlib.error, *_zstd_errors())):
            raise
        raise CorruptArchive(checksum, f"{path} is damaged: {error}") from error


def _opened(path: str, file: BinaryIO) -> BinaryIO:
    if path.endswith(GZIP):
        from gzip import GzipFile

        return GzipFile(fileobj=file)  # type: ignore[return-value]  # it reads and closes
    module = _zstd()
    if module is None:
        raise ServiceUnavailable(
            f"{path} is compressed by zstd: pip install 'seamless-dask[zstd]' to read it"
        )
    if hasattr(module, "ZstdFile"):
        opened: BinaryIO = module.ZstdFile(file)
    else:
        opened = module.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    return opened


def _zstd() -> Any:
    """Return a module for zstd: Python's own (3.14), its backport, or zstandard."""
    for name in ("compression.zstd", "backports.zstd", "zstandard"):
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


def _zstd_errors() -> tuple[type[Exception], ...]:
    error = getattr(_zstd(), "ZstdError", None)
    return (error,) if error is not None else ()
