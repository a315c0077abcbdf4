"""Reading the documents of results that were recorded without what they were made from.

An earlier version of this program has recorded them, or somebody who did not say. Step by step: whoever
records a result in the meantime waits for a short transaction at most.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from hashserver.checksum import Checksum
from hashserver.results import runs, schema
from hashserver.storage.store import get_present

if TYPE_CHECKING:
    import sqlite3

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
        names = {tf: Checksum.from_digest(tf) for tf in labels}
        documents = get_present(store, names.values(), _LONGEST_DOCUMENT)
        read = [
            (tf, runs.provenance_of(documents.get(names[tf], b""), label)) for tf, label in labels.items()
        ]
        file.write(partial(runs.enter_read, read=read))
    return True


def _is_behind(connection: sqlite3.Connection) -> bool:
    """Say whether anything is to be read, which a file that is up to date is asked by two quick look-ups."""
    if not schema.has_runs(connection):
        return True
    statement = "SELECT EXISTS (SELECT 1 FROM runs WHERE code IS NULL) OR EXISTS (SELECT 1 FROM backlog)"
    return bool(connection.execute(statement).fetchone()[0])
