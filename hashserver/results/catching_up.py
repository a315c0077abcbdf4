"""Reading the documents of results that were recorded without what they were made from.

An earlier version of this program has recorded them, or somebody who did not say. Step by step: whoever
records a result in the meantime waits for a short transaction at most.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from hashserver.checksum import Checksum
from hashserver.errors import BufferCorrupt, BufferMissing, OriginalChanged
from hashserver.results import runs, schema

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from hashserver.results.files import WritableDatabase
    from hashserver.storage.store import Store

_STEP = 500
_LONGEST_DOCUMENT = 16 << 20


def catch_up(file: WritableDatabase, store: Store, seconds: float) -> bool:
    """Enter what is still to be read, for so long at most; return whether that was all."""
    deadline = time.monotonic() + seconds
    while file.read(_is_behind):
        if time.monotonic() > deadline:
            return False
        labels = dict(file.write(lambda connection: runs.unread(connection, _STEP)))
        documents = _read(store, [Checksum.from_digest(tf) for tf in labels])
        origins = [(tf, runs.origin_of(documents.get(tf, b""), label)) for tf, label in labels.items()]
        file.write(partial(runs.enter_read, origins=origins))
    return True


def _is_behind(connection: sqlite3.Connection) -> bool:
    """Say whether anything is to be read, which a file that is up to date is asked by two quick look-ups."""
    if not schema.has_runs(connection):
        return True
    statement = "SELECT EXISTS (SELECT 1 FROM runs WHERE code IS NULL) OR EXISTS (SELECT 1 FROM backlog)"
    return bool(connection.execute(statement).fetchone()[0])


def _read(store: Store, tfs: Sequence[Checksum]) -> dict[bytes, bytes]:
    there = [tf for tf, size in zip(tfs, store.has(tfs), strict=True) if 0 <= size <= _LONGEST_DOCUMENT]
    try:
        return {tf.digest: data for tf, data in store.get_many(there)}
    except (BufferMissing, BufferCorrupt, OriginalChanged):
        return {tf.digest: data for tf in there if (data := _get(store, tf)) is not None}


def _get(store: Store, tf: Checksum) -> bytes | None:
    try:
        return store.get(tf)
    except (BufferMissing, BufferCorrupt, OriginalChanged):
        return None
