"""Local files and directories on their way into the store."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from hashserver.checksum import hash_bytes
from hashserver.system_text import to_system

from ..errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hashserver.checksum import Checksum
    from hashserver.workspace.tree import Identity

    from ..context import Context

BY_REFERENCE = 64 << 20
"""What is larger is not copied into a store of this host: a local run must not triple a data set."""


class LocalInput:
    """A local path: what it is, found out once, and whether its bytes have been stored.

    Parameters
    ----------
    path : str
        A file or directory, relative to the current directory of this moment.
    kind : str
        Which of both it must be.
    """

    def __init__(self, path: str, kind: str) -> None:
        self.path, self.kind = os.path.abspath(path), kind
        self._identity: Identity | None = None
        self._kept: list[Context] = []
        self._lock = threading.Lock()

    def identify(self, context: Context) -> Checksum:
        """Return the checksum.

        Raises
        ------
        UsageError
            There is nothing of that kind.
        MemberPending
            A job of `seamless-run` is making it.
        """
        with self._lock:
            return self._identified(context).checksum

    def keep(self, context: Context) -> None:
        """See to it that the store has the bytes."""
        keep_all(context, [self])

    def missing_from(self, context: Context) -> bool:
        """Say whether the bytes have not been seen to yet."""
        return not any(known is context for known in self._kept)

    def kept(self, context: Context) -> None:
        """Note that the store has the bytes."""
        self._kept.append(context)

    def index(self, context: Context) -> bytes | None:
        """Return the index of a directory, where a store need not have it."""
        return self._identified(context).data

    def files(self, context: Context) -> list[tuple[str, Checksum, os.stat_result | None]]:
        """Return the files that are here."""
        identity = self._identified(context)
        if not identity.present:
            return []
        if identity.tree is None:
            return [(self.path, identity.checksum, None)]
        tree = identity.tree
        return [
            (os.path.join(self.path, to_system(name)), tree.index[name], status)
            for name, status in tree.scan.files
        ]

    def _identified(self, context: Context) -> Identity:
        if self._identity is None:
            from hashserver.errors import MemberPending
            from hashserver.workspace.pending import read_future
            from hashserver.workspace.tree import identify

            if read_future(self.path) is not None:  # what lies there is of the last time
                raise MemberPending([self.path])
            found = identify(self.path, context.stat_cache, context.store.get)
            if found is None:
                raise UsageError(f"{self.path}: no such file or directory, and no sidecar beside it")
            if found.kind != self.kind:
                raise UsageError(f"{self.path} is a {found.kind}: say {found.kind.title()}({self.path!r})")
            self._identity = found
        return self._identity


def keep_all(context: Context, sources: Iterable[LocalInput], buffers: Iterable[bytes] = ()) -> None:
    """Store local paths and buffers, as far as the store has them not: it is asked once for all of them."""
    waiting = [source for source in dict.fromkeys(sources) if source.missing_from(context)]
    files: dict[Checksum, Any] = {}
    data = {hash_bytes(buffer): buffer for buffer in buffers}
    for source in waiting:
        files |= {checksum: (path, status) for path, checksum, status in source.files(context)}
        index = source.index(context)
        if index is not None:
            data[hash_bytes(index)] = index
    asked = [*files, *data]
    if asked:
        sizes = context.store.has(asked)
        absent = {checksum for checksum, size in zip(asked, sizes, strict=True) if size < 0}
        context.store.put_many([buffer for checksum, buffer in data.items() if checksum in absent])
        _put_files(context, {checksum: found for checksum, found in files.items() if checksum in absent})
    for source in waiting:
        source.kept(context)


def _put_files(context: Context, files: dict[Checksum, Any]) -> None:
    copied = []
    for checksum, (path, status) in files.items():
        if context.embedded and os.path.getsize(path) > BY_REFERENCE:
            context.store.reference(path, checksum, status)
        else:
            copied.append((path, checksum))
    if copied:
        context.store.put_files(copied)
