"""Several stores as one: read from the first that can, written to the first that may be."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.errors import (
    BufferCorrupt,
    BufferMissing,
    HashserverError,
    OriginalChanged,
    ReadOnly,
    ServiceUnavailable,
)
from hashserver.storage.store import Store, all_missing

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO, TypeVar

    from hashserver.checksum import Checksum
    from hashserver.storage.store import Bytes, Path, Writer

    T = TypeVar("T")


class StoreChain(Store):
    """An ordered list of stores.

    What one does not have, cannot give or has corrupt is sought in the next; the corrupt buffer is
    reported to where it was found.

    Parameters
    ----------
    stores
        At least one; they are closed with this one.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = tuple(stores)
        self._proven: list[Store] = []
        """Those that have taken something."""
        self.url = ", ".join(store.url for store in stores)

    @property
    def writable(self) -> bool:
        """Whether one of them is."""
        return any(store.writable for store in self.stores)

    # ------------------------------------------------------------------ reading

    def has(self, checksums: Sequence[Checksum]) -> list[int]:
        """Return the length of each buffer, -1 for what no reachable place has.

        Raises
        ------
        ServiceUnavailable
            When none can be reached.
        """
        lengths = dict.fromkeys(checksums, -1)
        failures: list[ServiceUnavailable] = []
        for store in self.stores:
            wanted = [checksum for checksum, length in lengths.items() if length < 0]
            if not wanted:
                break
            try:
                lengths.update(zip(wanted, store.has(wanted), strict=True))
            except ServiceUnavailable as error:
                failures.append(error)
        if failures and len(failures) == len(self.stores):
            raise failures[0]
        return [lengths[checksum] for checksum in checksums]

    def get(self, checksum: Checksum) -> bytes:
        """Return a buffer whole, verified."""
        return self._first(checksum, lambda store: store.get(checksum))

    def get_file(self, checksum: Checksum, path: Path, executable: bool | None = None) -> None:
        """Write a buffer to a file, verified; the file is replaced at once or not at all."""
        self._first(checksum, lambda store: store.get_file(checksum, path, executable))

    def read(self, checksum: Checksum, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Return the bytes in parts, not verified."""
        return self._first(checksum, lambda store: store.read(checksum, start, length))

    def open(self, checksum: Checksum) -> BinaryIO:
        """Return an open file with the bytes, not verified."""
        return self._first(checksum, lambda store: store.open(checksum))

    def local_path(self, checksum: Checksum) -> str | None:
        """Return the path of the bytes on this host, None where no place has one."""
        changed: OriginalChanged | None = None
        for store in self.stores:
            try:
                if (path := store.local_path(checksum)) is not None:
                    return path
            except OriginalChanged as error:
                changed = changed or error
        if changed:
            raise changed
        return None

    def in_place(self, checksum: Checksum) -> bool:
        """Say whether a buffer is nowhere but in a user's file that was recorded where it is."""
        holders = [store for store in self.stores if store.has([checksum])[0] >= 0]
        return bool(holders) and all(store.in_place(checksum) for store in holders)

    def _first(self, checksum: Checksum, read: Callable[[Store], T]) -> T:
        failures: list[HashserverError] = []
        for store in self.stores:
            try:
                return read(store)
            except (BufferMissing, BufferCorrupt, OriginalChanged, ServiceUnavailable) as error:
                _report(store, error)
                failures.append(error)
        raise _gravest(failures, self._missing([checksum]))

    def get_many(self, checksums: Iterable[Checksum]) -> Iterator[tuple[Checksum, bytes]]:
        """Yield buffers, verified; each place is asked for what those before it did not give."""
        wanted = dict.fromkeys(checksums)
        failures: list[HashserverError] = []
        for store in self.stores:
            excluded: set[str] = set()
            while asked := [checksum for checksum in wanted if checksum not in excluded]:
                try:
                    for checksum, data in store.get_many(asked):
                        wanted.pop(checksum, None)
                        yield checksum, data
                    break
                except (BufferCorrupt, OriginalChanged) as error:
                    # one bad buffer ends the answer: the rest is asked for again
                    _report(store, error)
                    failures.append(error)
                    excluded.add(error.checksum)
                except BufferMissing:
                    break
                except ServiceUnavailable as error:
                    failures.append(error)
                    break
        if wanted:
            raise _gravest(_about(failures, wanted), self._missing(list(wanted)))

    def _missing(self, checksums: list[Checksum]) -> BufferMissing:
        return all_missing(checksums, self.url)

    # ------------------------------------------------------------------ writing

    def _write(self, write: Callable[[Store], T]) -> T:
        """Write to the first place that takes it: that one may not be written to, only an attempt tells."""
        refusal: ReadOnly | None = None
        for store in self.stores:
            if store.writable:
                try:
                    return write(store)
                except ReadOnly as error:
                    refusal = error
        raise refusal or ReadOnly(f"none of the stores may be written: {self.url}")

    def _target(self) -> Store:
        """Return the first place that takes a buffer: what comes in a stream cannot be sent again."""

        def probe(store: Store) -> Store:
            if store not in self._proven:
                store.put(b"")
                self._proven.append(store)
            return store

        return self._write(probe)

    def writer(self) -> Writer:
        """Return a writer of one new buffer."""
        return self._target().writer()

    def put(self, data: Bytes) -> Checksum:
        """Store `data` and return its checksum."""
        return self._write(lambda store: store.put(data))

    def put_file(self, path: Path, expected: Checksum | None = None) -> tuple[Checksum, int]:
        """Store a file, reading it once."""
        return self._write(lambda store: store.put_file(path, expected))

    def put_files(self, files: Iterable[tuple[Path, Checksum | None]]) -> list[Checksum]:
        """Store many files; return their checksums."""
        listed = list(files)
        return self._write(lambda store: store.put_files(listed))

    def put_many(self, buffers: Iterable[bytes]) -> list[Checksum]:
        """Store many small buffers; return their checksums."""
        listed = list(buffers)
        return self._write(lambda store: store.put_many(listed))

    def put_stream(self, chunks: Iterable[Bytes], expected: Checksum | None = None) -> tuple[Checksum, int]:
        """Store what arrives in parts; return its checksum and length."""
        return self._target().put_stream(chunks, expected)

    def link_file(self, path: Path, checksum: Checksum, state: os.stat_result | None = None) -> None:
        """Hard-link a file into the first writable store."""
        self._write(lambda store: store.link_file(path, checksum, state))

    def reference(self, path: Path, checksum: Checksum, state: os.stat_result | None = None) -> None:
        """Record a file where it is, in the first writable store."""
        self._write(lambda store: store.reference(path, checksum, state))

    def delete(self, checksum: Checksum) -> None:
        """Forget a buffer in all places that may be written."""
        for store in self.stores:
            if store.writable:
                store.delete(checksum)

    def verify(self, checksum: Checksum) -> bool:
        """Read a buffer back wherever it is; True if every place that has it has it right."""
        answers = []
        for store in self.stores:
            with suppress(BufferMissing):
                answers.append(store.verify(checksum))
        if not answers:
            raise self._missing([checksum])
        return all(answers)

    def clean(self) -> int:
        """Remove what dead writers left behind; return how many files that were."""
        return sum(store.clean() for store in self.stores if store.writable)

    def close(self) -> None:
        """Let go of all connections."""
        for store in self.stores:
            store.close()


def _report(store: Store, error: HashserverError) -> None:
    """Have the place look at what it gave: it quarantines what is corrupt there, not on the way."""
    if isinstance(error, BufferCorrupt):
        with suppress(HashserverError):  # one that may only be read; the reader gets on without
            store.verify(error.checksum)  # type: ignore[arg-type]


def _about(failures: list[HashserverError], wanted: Iterable[str]) -> list[HashserverError]:
    """Return the failures that matter: those of what is still wanted, and of whole places."""
    return [error for error in failures if getattr(error, "checksum", None) in (None, *wanted)]


def _gravest(failures: list[HashserverError], missing: BufferMissing) -> HashserverError:
    """Return what the caller is to know: that a place could not be asked, or why a buffer is no good.

    A buffer is only said to be missing when every place said so: a caller may compute it again.
    """
    for kind in (ServiceUnavailable, OriginalChanged, BufferCorrupt):
        for error in failures:
            if isinstance(error, kind):
                return error
    return missing
