"""A store that counts the bytes that pass, and keeps the small ones at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hashserver.storage.store import Store

from .prefetch import Small

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    from hashserver.checksum import Checksum
    from hashserver.storage.store import Bytes, Path, Writer


class MeteredStore(Store):
    """Another store, with the bytes that were taken from it (`fetched`) and given to it (`stored`).

    Small buffers that were taken whole are kept in memory: documents, and code that tasks have in common.
    Figures for people: two threads may count at once, and one of them be lost.
    """

    def __init__(self, store: Store) -> None:
        self._store, self.url = store, store.url
        self.fetched = self.stored = 0
        self.small = Small()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def writable(self) -> bool:
        """Whether anything can be stored."""
        return self._store.writable

    def has(self, checksums: Sequence[Checksum]) -> list[int]:
        """Return the length of each buffer, -1 for what is not there."""
        return self._store.has(checksums)

    def read(self, checksum: Checksum, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Return the bytes in parts."""
        return self._counted(self._store.read(checksum, start, length))

    def open(self, checksum: Checksum) -> BinaryIO:
        """Return a stream of the bytes."""
        return self._store.open(checksum)

    def get(self, checksum: Checksum) -> bytes:
        """Return a buffer whole; a small one from memory, if it was fetched before."""
        data = self.small.get(checksum)
        if data is None:
            data = self._store.get(checksum)
            self.fetched += len(data)
            self.small.put(checksum, data)
        return data

    def get_many(self, checksums: Iterable[Checksum]) -> Iterator[tuple[Checksum, bytes]]:
        """Yield buffers; small ones from memory, if they were fetched before."""
        rest = []
        for checksum in checksums:
            if (kept := self.small.get(checksum)) is None:
                rest.append(checksum)
            else:
                yield checksum, kept
        for checksum, data in self._store.get_many(rest) if rest else ():
            self.fetched += len(data)
            self.small.put(checksum, data)
            yield checksum, data

    def at_hand(self, checksum: Checksum) -> int:
        """Return the length of a small buffer that was fetched before, -1 for others."""
        data = self.small.get(checksum)
        return -1 if data is None else len(data)

    def get_file(self, checksum: Checksum, path: Path, executable: bool | None = None) -> None:
        """Write a buffer to a file."""
        import os

        self._store.get_file(checksum, path, executable)
        self.fetched += os.stat(path).st_size

    def put(self, data: Bytes) -> Checksum:
        """Store bytes."""
        self.stored += len(data)
        return self._store.put(data)

    def put_file(self, path: Path, expected: Checksum | None = None) -> tuple[Checksum, int]:
        """Store a file."""
        checksum, size = self._store.put_file(path, expected)
        self.stored += size
        return checksum, size

    def put_files(self, files: Iterable[tuple[Path, Checksum | None]]) -> list[Checksum]:
        """Store many files."""
        import os

        found = list(files)
        checksums = self._store.put_files(found)
        self.stored += sum(os.stat(path).st_size for path, _ in found)
        return checksums

    def put_many(self, buffers: Iterable[bytes]) -> list[Checksum]:
        """Store many small buffers."""
        found = list(buffers)
        self.stored += sum(map(len, found))
        return self._store.put_many(found)

    def put_stream(self, chunks: Iterable[Bytes], expected: Checksum | None = None) -> tuple[Checksum, int]:
        """Store what arrives in parts."""
        checksum, size = self._store.put_stream(chunks, expected)
        self.stored += size
        return checksum, size

    def writer(self) -> Writer:
        """Return a writer of one new buffer."""
        return self._store.writer()

    def link_file(self, path: Path, checksum: Checksum, state: os.stat_result | None = None) -> None:
        """Hard-link a file into the store."""
        self._store.link_file(path, checksum, state)

    def reference(self, path: Path, checksum: Checksum, state: os.stat_result | None = None) -> None:
        """Record a file where it is."""
        self._store.reference(path, checksum, state)

    def local_path(self, checksum: Checksum) -> str | None:
        """Return the path of the bytes on this host."""
        return self._store.local_path(checksum)

    def delete(self, checksum: Checksum) -> None:
        """Forget a buffer."""
        self._store.delete(checksum)

    def verify(self, checksum: Checksum) -> bool:
        """Have a buffer read back."""
        return self._store.verify(checksum)

    def clean(self) -> int:
        """Remove what dead writers left behind."""
        return self._store.clean()

    def close(self) -> None:
        """Let go of connections."""
        self._store.close()

    def _counted(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        for part in parts:
            self.fetched += len(part)
            yield part
