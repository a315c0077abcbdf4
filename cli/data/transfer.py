"""From local files to the store: only what it does not have, each byte read once."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from hashserver.errors import HashserverError
from hashserver.hashing import Hashed, hash_files, hash_stable, same_state
from hashserver.workspace.sidecar import find_sidecar

from ..console import CommandError, Console
from ..text import count_text, size_text
from .identify import LocalFile, PathIdentity, directory_identity, stat_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hashserver.checksum import Checksum
    from hashserver.statcache import NullStatCache
    from hashserver.storage.directory import LocalStore
    from hashserver.storage.store import Store
    from seamless_dask.context import Context

LARGE_FILE = 1 << 20
"""A new file from this size on is hashed while it travels, and travels alone."""
BATCH_BYTES, BATCH_FILES = 32 << 20, 1000
BY_REFERENCE = 64 << 20
"""In embedded mode a larger input is recorded where it is instead of copied."""


class Sent(NamedTuple):
    """What had to be stored."""

    files: int = 0
    size: int = 0

    def plus(self, other: Sent) -> Sent:
        """Add two counts."""
        return Sent(self.files + other.files, self.size + other.size)

    def __str__(self) -> str:
        return f"{count_text(self.files, 'file')}, {size_text(self.size)}"


class TransferMode(NamedTuple):
    """How files get into the store."""

    name: str
    reference_from: int | None = None
    """Files of at least this size are recorded where they are."""


COPY, HARDLINK, IN_PLACE = TransferMode("copy"), TransferMode("hardlink"), TransferMode("in-place", 0)
EMBEDDED_INPUT = TransferMode("copy", BY_REFERENCE)


class Uploader:
    """Stores local files and directories.

    Parameters
    ----------
    context : Context
        Store and stat cache.
    console : Console
        Hears of warnings and progress.
    manner : TransferMode
        How; all but `COPY` need a store on this host.
    """

    def __init__(self, context: Context, console: Console, manner: TransferMode = COPY) -> None:
        self._console, self._manner = console, manner
        self.stat_cache: NullStatCache = context.stat_cache
        self.store: Store = context.store if manner == COPY else local_store(context, manner)

    def upload(self, path: str) -> tuple[PathIdentity, Sent]:
        """Store what is at `path`.

        Returns
        -------
        tuple of Identity and Sent
            What it is, and what of it the store did not have.

        Raises
        ------
        CommandError
            There is nothing, or nothing that has an identity.
        """
        status = stat_path(path)
        if status is None:
            raise CommandError(f"{path}: no such file or directory")
        return self._directory(path) if os.path.isdir(path) else self._file(path, status)

    def _file(self, path: str, status: os.stat_result) -> tuple[PathIdentity, Sent]:
        if self._send_while_hashing(path, status):
            with self._console.progress(path, status.st_size):
                hashed = send_new(self.store, path)
            self.stat_cache.put(path, *_entry(hashed))
            size = hashed.status.st_size
            return PathIdentity(path, "file", hashed.checksum, size, hashed.status), Sent(1, size)
        checksum, status = self._checksum_of(path, status)
        identity = PathIdentity(path, "file", checksum, status.st_size, status)
        return identity, self.send([LocalFile(path, checksum, status)], label=path)

    def _checksum_of(self, path: str, status: os.stat_result) -> tuple[Checksum, os.stat_result]:
        known = self.stat_cache.get(path, status)
        if known is not None:
            return known, status
        hashed = hash_stable(path)
        if self._manner != HARDLINK:  # linking will change its ctime
            self.stat_cache.put(path, *_entry(hashed))
        return hashed.checksum, hashed.status

    def _send_while_hashing(self, path: str, status: os.stat_result) -> bool:
        """Say whether a file is large, new to us, and not what its sidecar says the store has."""
        if (
            self._manner != COPY
            or status.st_size < LARGE_FILE
            or self.stat_cache.get(path, status) is not None
        ):
            return False
        try:
            sidecar = find_sidecar(path)
        except HashserverError:
            sidecar = None  # it is about to be written anew
        return sidecar is None or self.store.has([sidecar.checksum])[0] != status.st_size

    def _directory(self, path: str) -> tuple[PathIdentity, Sent]:
        from hashserver.workspace.tree import build

        early: list[Sent] = []

        def hash_many(paths: Sequence[str], sizes: Sequence[int]) -> list[Hashed]:
            return self._hash_and_send(path, paths, sizes, early)

        keep = self._manner != HARDLINK
        tree = build(path, self.stat_cache, hash_many, fetch=self.store.get, remember=keep)
        if not tree.index:
            self._console.warn(f"{path} is an empty directory")
        identity = directory_identity(path, tree, self._console)
        self._check_stand_ins(path, tree.scan.stand_ins)
        members = [
            LocalFile(os.path.join(path, name), tree.index[name], status) for name, status in tree.scan.files
        ]
        sent = self.send(members, path)
        for more in early:
            sent = sent.plus(more)
        if self.store.has([tree.checksum])[0] < 0:
            self.store.put(tree.data)
        return identity, sent

    def _hash_and_send(
        self, label: str, paths: Sequence[str], sizes: Sequence[int], sent: list[Sent]
    ) -> list[Hashed]:
        """Hash what is not known; what is large is stored on the way."""
        if self._manner != COPY:
            return hash_files(paths, sizes)
        small = [path for path, size in zip(paths, sizes, strict=True) if size < LARGE_FILE]
        found = dict(zip(small, hash_files(small), strict=True))
        with self._console.progress(label, sum(size for size in sizes if size >= LARGE_FILE)) as progress:
            for path, size in zip(paths, sizes, strict=True):
                if size >= LARGE_FILE:
                    found[path] = send_new(self.store, path)
                    sent.append(Sent(1, size))
                    progress.add(size)
        return [found[path] for path in paths]

    def _check_stand_ins(self, root: str, stand_ins: dict[str, Checksum]) -> None:
        lengths = self.store.has(list(stand_ins.values())) if stand_ins else []
        for name, length in zip(stand_ins, lengths, strict=True):
            if length < 0:
                shown = os.path.join(root, name)
                self._console.warn(
                    f"{shown} is not here, and the store does not have it: only its checksum counts"
                )

    def send(self, files: Sequence[LocalFile], label: str) -> Sent:
        """Store those of `files` that the store does not have."""
        missing = self.missing(files)
        with self._console.progress(label, sum(file.status.st_size for file in missing)) as progress:
            for batch in self._batches(missing):
                self._send_batch(batch)
                progress.add(sum(file.status.st_size for file in batch))
        return Sent(len(missing), sum(file.status.st_size for file in missing))

    def missing(self, files: Sequence[LocalFile]) -> list[LocalFile]:
        """Return one file for each buffer that is not in the store."""
        unique = {file.checksum: file for file in files}
        lengths = self.store.has(list(unique)) if unique else []
        return [file for file, length in zip(unique.values(), lengths, strict=True) if length < 0]

    def _batches(self, files: Iterable[LocalFile]) -> Iterator[list[LocalFile]]:
        """Cut `files` into batches of small ones; a large one is a batch of its own."""
        batch: list[LocalFile] = []
        room = BATCH_BYTES
        for file in files:
            if self._alone(file):
                yield [file]
                continue
            if batch and (len(batch) == BATCH_FILES or file.status.st_size > room):
                yield batch
                batch, room = [], BATCH_BYTES
            batch.append(file)
            room -= file.status.st_size
        if batch:
            yield batch

    def _alone(self, file: LocalFile) -> bool:
        return self._manner == HARDLINK or self._by_reference(file) or file.status.st_size >= LARGE_FILE

    def _by_reference(self, file: LocalFile) -> bool:
        limit = self._manner.reference_from
        return limit is not None and file.status.st_size >= limit

    def _send_batch(self, batch: list[LocalFile]) -> None:
        first = batch[0]
        if self._manner == HARDLINK:
            self.store.link_file(first.path, first.checksum, first.status)
            self.stat_cache.put_linked(first.path, first.status, first.checksum, time.time_ns())
        elif self._by_reference(first):
            self.store.reference(os.path.abspath(first.path), first.checksum, first.status)
        elif len(batch) == 1:
            self.store.put_file(first.path, first.checksum)
        else:
            self.store.put_files([(file.path, file.checksum) for file in batch])


def send_new(store: Store, path: str) -> Hashed:
    """Store a file whose checksum is not known, hashing it on the way."""
    began, before = time.time_ns(), os.stat(path)
    checksum, size = store.put_file(path)
    after = os.stat(path)
    if size != after.st_size or not same_state(before, after):
        raise CommandError(f"{path} changed while it was uploaded: upload it again")
    return Hashed(checksum, after, began)


def _entry(hashed: Hashed) -> tuple[os.stat_result, Checksum, int]:
    return hashed.status, hashed.checksum, hashed.began


def local_store(context: Context, manner: TransferMode) -> LocalStore:
    """Return the configured store that is a directory of this host.

    Raises
    ------
    CommandError
        There is none.
    """
    from hashserver.storage.directory import LocalStore

    for store in (context.store, *getattr(context.store, "stores", ())):
        if isinstance(store, LocalStore):
            return store
    raise CommandError(
        f"--{manner.name} needs a store that is a directory of this host: name it with --store DIR"
        " (on the host where the hashserver keeps its buffers)"
    )
