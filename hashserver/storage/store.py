"""What a store of buffers does, whatever keeps the bytes."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.atomic import write_all
from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import (
    BufferCorrupt,
    BufferMissing,
    FileChanged,
    HashserverError,
    InvalidRequest,
    LinkRefused,
    NoSpace,
    OriginalChanged,
)
from hashserver.storage.files import Download, StreamHasher, write_error
from hashserver.workspace.index import is_executable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO, Self

    Bytes = bytes | bytearray | memoryview
    Path = str | os.PathLike[str]

SMALL = 1 << 20
_NOT_THERE = (BufferMissing, BufferCorrupt, OriginalChanged)


class Store(ABC):
    """Buffers under their checksums.

    A reader never sees a part of a buffer. Writing what is there already succeeds. What a method that writes
    has returned from survives a power cut. Every method may
    raise `ServiceUnavailable` or one of its kinds; those that write raise `ReadOnly` and `NoSpace`.
    """

    url: str
    """Where it is, without any secret."""

    @property
    @abstractmethod
    def writable(self) -> bool:
        """Whether buffers can be added."""

    @abstractmethod
    def has(self, checksums: Sequence[Checksum]) -> list[int]:
        """Return the length of each buffer, -1 for what cannot be read."""

    @abstractmethod
    def read(self, checksum: Checksum, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Return the bytes in parts, as they are: *not verified*, for those who pass them on.

        Raises
        ------
        BufferMissing, OriginalChanged
            At once, not with the first part.
        """

    @abstractmethod
    def open(self, checksum: Checksum) -> BinaryIO:
        """Return an open file with the bytes, *not verified*; it is a real file with a descriptor."""

    @abstractmethod
    def writer(self) -> Writer:
        """Return a writer of one new buffer, for those who get its bytes in parts."""

    @abstractmethod
    def delete(self, checksum: Checksum) -> None:
        """Forget a buffer; no error when it is not there."""

    @abstractmethod
    def verify(self, checksum: Checksum) -> bool:
        """Read a buffer back; a corrupt one is put into quarantine, and False returned.

        Raises
        ------
        BufferMissing
            If there is none.
        """

    def _check(self, checksum: Checksum, found: Checksum) -> None:
        """Raise `BufferCorrupt` unless `found` is `checksum`.

        A corrupt buffer is put out of the way first, so that it can be stored or computed again.
        """
        if found != checksum:
            with suppress(HashserverError):  # a store that cannot be written keeps it
                self.verify(checksum)
            check(checksum, found, self.url)

    def get(self, checksum: Checksum) -> bytes:
        """Return a buffer whole, verified.

        Raises
        ------
        BufferMissing, BufferCorrupt, OriginalChanged
            When its bytes cannot be had.
        """
        data = b"".join(self.read(checksum))
        self._check(checksum, hash_bytes(data))
        return data

    def at_hand(self, checksum: Checksum) -> int:
        """Return the length of a buffer that is in this process's memory, -1 where it is not.

        That is no word on what the store has.
        """
        del checksum
        return -1

    def get_many(self, checksums: Iterable[Checksum]) -> Iterator[tuple[Checksum, bytes]]:
        """Yield buffers, verified, in any order.

        Raises
        ------
        BufferMissing
            After all others; the message names the first few, `missing` holds all.
        BufferCorrupt
            At the first one that is.
        """
        missing = []
        for checksum in checksums:
            try:
                data = self.get(checksum)
            except BufferMissing:
                missing.append(checksum)
                continue
            yield checksum, data
        if missing:
            raise all_missing(missing, self.url)

    def get_file(self, checksum: Checksum, path: Path, executable: bool | None = None) -> None:
        """Write a buffer to a file, verified; the file is replaced at once or not at all.

        Parameters
        ----------
        checksum
            The buffer.
        path
            The file; its directory must exist.
        executable
            Whether it can be executed; by default as its first bytes say.

        Raises
        ------
        BufferMissing, BufferCorrupt, OriginalChanged, NoSpace
            When its bytes cannot be had, or find no room.
        OSError
            When the file cannot be written.
        """
        receive(checksum, self.read(checksum), path, executable, self.url)

    def put(self, data: Bytes) -> Checksum:
        """Store `data` and return its checksum."""
        with self.writer() as writer:
            writer.write(bytes(data))
            return writer.commit()[0]

    def put_file(self, path: Path, expected: Checksum | None = None) -> tuple[Checksum, int]:
        """Store a file, reading it once.

        Parameters
        ----------
        path
            The file.
        expected
            Its checksum, where the caller has one.

        Returns
        -------
        tuple of Checksum and int
            The checksum and the length.

        Raises
        ------
        FileChanged
            If it changed while it was read, or is not `expected`; nothing is kept.
        OSError
            If it cannot be read.
        """
        with open(path, "rb", buffering=0) as file, self.writer() as writer:
            before = os.fstat(file.fileno())
            while chunk := file.read(SMALL):
                writer.write(chunk)
            if changed(before, os.fstat(file.fileno())):
                raise file_changed(path, expected)
            try:
                return writer.commit(expected)
            except BufferCorrupt as error:
                raise file_changed(path, expected) from error

    def put_files(self, files: Iterable[tuple[Path, Checksum | None]]) -> list[Checksum]:
        """Store many files (path, expected checksum or None); return their checksums."""
        return [self.put_file(path, expected)[0] for path, expected in files]

    def put_many(self, buffers: Iterable[bytes]) -> list[Checksum]:
        """Store many small buffers; return their checksums."""
        checksums = []

        def named() -> Iterator[tuple[Checksum, bytes]]:
            for data in buffers:
                checksums.append(hash_bytes(data))
                yield checksums[-1], data

        self.put_verified(named())
        return checksums

    def put_verified(self, buffers: Iterable[tuple[Checksum, bytes]]) -> None:
        """Store many small buffers whose checksums have been found to be right.

        Those that came before one that cannot be had, or be stored, are kept.
        """
        for _, data in buffers:
            self.put(data)

    def put_stream(self, chunks: Iterable[Bytes], expected: Checksum | None = None) -> tuple[Checksum, int]:
        """Store what arrives in parts; return its checksum and length.

        Raises
        ------
        BufferCorrupt
            If it is not `expected`; nothing is kept.
        """
        with self.writer() as writer:
            for chunk in chunks:
                writer.write(chunk if isinstance(chunk, bytes) else bytes(chunk))
            return writer.commit(expected)

    def link_file(self, path: Path, checksum: Checksum, state: os.stat_result | None = None) -> None:
        """Hard-link a file into the store instead of copying it.

        Parameters
        ----------
        path
            The file.
        checksum
            Its checksum.
        state
            The state in which it had that checksum; without one it is read again.

        Raises
        ------
        LinkRefused
            With the reason, and what to do instead.
        FileChanged
            If it is no longer in that state.
        """
        raise LinkRefused(f"{self.url} cannot link files of this host: upload {path} without --hardlink")

    def reference(self, path: Path, checksum: Checksum, state: os.stat_result | None = None) -> None:
        """Record a file where it is, as the bytes of `checksum`; parameters as `link_file`."""
        raise InvalidRequest(
            f"{self.url} cannot refer to files of this host: upload {path} without --in-place"
        )

    def in_place(self, checksum: Checksum) -> bool:
        """Say whether a buffer that was just verified is a user's file, recorded where it is."""
        return False

    def local_path(self, checksum: Checksum) -> str | None:
        """Return the path of the bytes on this host, None where there is no such thing.

        Raises
        ------
        OriginalChanged
            If the bytes are a user's file that has changed since.
        """
        return None

    def clean(self) -> int:
        """Remove what dead writers left behind; return how many files that were."""
        return 0

    def close(self) -> None:  # noqa: B027 - most have nothing to let go of
        """Let go of connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


class Writer(ABC):
    """Takes one buffer in parts, hashing while they pass; left without `commit`, it keeps nothing."""

    def __init__(self) -> None:
        self._hasher = StreamHasher()

    @property
    def size(self) -> int:
        """The number of bytes so far."""
        return self._hasher.size

    def write(self, data: bytes) -> None:
        """Add `data`."""
        self._hasher.update(data)
        self._write(data)

    def finish(self) -> Checksum:
        """Return the checksum of all that was written; nothing can be added afterwards."""
        return self._hasher.finish()

    def commit(self, expected: Checksum | None = None) -> tuple[Checksum, int]:
        """Make the buffer visible; return its checksum and length.

        Raises
        ------
        BufferCorrupt
            If it is not `expected`; nothing is kept.
        """
        checksum = self.finish()
        if expected is not None and checksum != expected:
            raise BufferCorrupt(expected, f"the bytes are not those of {expected} but of {checksum}")
        self._commit(checksum)
        return checksum, self.size

    def close(self) -> None:
        """Give up what was not committed."""
        self._hasher.close()
        self._close()

    @abstractmethod
    def _write(self, data: bytes) -> None: ...

    @abstractmethod
    def _commit(self, checksum: Checksum) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def receive(
    checksum: Checksum, chunks: Iterable[bytes], path: Path, executable: bool | None, place: str
) -> None:
    """Write `chunks` to a file, which appears once they are found to be the bytes of `checksum`.

    Parameters
    ----------
    checksum, path, executable
        As in `Store.get_file`.
    chunks
        The bytes in parts.
    place
        Where they come from, for the message.

    Raises
    ------
    BufferCorrupt
        If they are not; the file is as before.
    """
    head = b""
    try:
        with Download(path) as target, StreamHasher() as hasher:
            for chunk in chunks:
                hasher.update(chunk)
                head = head or chunk[:4]
                write_all(target.fd, chunk)
            check(checksum, hasher.finish(), place)
            target.finish(is_executable(head) if executable is None else executable)
    except OSError as error:
        raise local_error(error, path) from error


def get_present(store: Store, checksums: Iterable[Checksum], most: int) -> dict[Checksum, bytes]:
    """Return those of some buffers that are there, intact, and have so many bytes at most."""
    asked = list(dict.fromkeys(checksums))
    there = [one for one, size in zip(asked, store.has(asked), strict=True) if 0 <= size <= most]
    try:
        return dict(store.get_many(there))
    except _NOT_THERE:  # each by itself, for which the others are not to blame
        return {one: data for one in there if (data := _get(store, one)) is not None}


def _get(store: Store, checksum: Checksum) -> bytes | None:
    try:
        return store.get(checksum)
    except _NOT_THERE:
        return None


def local_error(error: OSError, path: Path) -> Exception:
    """Return `NoSpace` for a full disk, and else `error` itself, with the path a user knows."""
    meaning = write_error(error, os.path.dirname(os.path.abspath(path)))
    if isinstance(meaning, NoSpace):
        return meaning
    return OSError(error.errno, error.strerror, os.fspath(path))


def check(checksum: Checksum, found: Checksum, place: str) -> None:
    """Raise `BufferCorrupt` unless `found` is `checksum`."""
    if found != checksum:
        raise BufferCorrupt(checksum, f"buffer {checksum} in {place} is corrupt (its bytes are of {found})")


def all_missing(missing: Sequence[Checksum], place: str) -> BufferMissing:
    """Return the error that names the first few of `missing`, with all of them in `missing`."""
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    word = "buffers are" if len(missing) > 1 else "buffer is"
    error = BufferMissing(missing[0], f"{len(missing)} {word} not in {place}: {shown}")
    error.missing = list(missing)
    return error


def changed(before: os.stat_result, after: os.stat_result) -> bool:
    """Say whether a file was written to, or replaced, between two looks at it."""
    return (
        before.st_mtime_ns != after.st_mtime_ns
        or before.st_size != after.st_size
        or before.st_ino != after.st_ino
    )


def file_changed(path: Path, expected: Checksum | None) -> FileChanged:
    """Return the error for a file that is not what it was said to be."""
    if expected is None:
        return FileChanged("", f"{os.fspath(path)} changed while it was read: upload it when it is finished")
    return FileChanged(expected, f"{os.fspath(path)} is not (or no longer) the file with checksum {expected}")
