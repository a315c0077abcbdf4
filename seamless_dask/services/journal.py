"""Who has asked the jobserver for what, on disk, so that a restart forgets nobody."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.checksum import Checksum

from ..options import Options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..outcomes import Outcome

FILE = "journal.db"
KEPT_SECONDS = 7 * 86400.0
"""How long an end is kept for one who does not come back to hear of it."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS askers (
    asker TEXT PRIMARY KEY, key TEXT NOT NULL, options TEXT NOT NULL,
    need_bytes INTEGER NOT NULL, fresh INTEGER NOT NULL, detached INTEGER NOT NULL,
    posted REAL NOT NULL, outcome TEXT
) WITHOUT ROWID
"""


class Asked(NamedTuple):
    """What one asker has asked for.

    Attributes
    ----------
    asker : str
        The name it gave itself.
    key : Checksum
        Of the transformation.
    options : Options
        How it is to be run, with this one's limits.
    need_bytes : bool
        It needs the bytes of the result.
    fresh : bool
        A result on record is not enough.
    detached : bool
        It will not come back to hear how it ended.
    """

    asker: str
    key: Checksum
    options: Options = Options()
    need_bytes: bool = False
    fresh: bool = False
    detached: bool = False


class Journal:
    """The file; only the event loop of the daskserver uses it.

    A killed process loses nothing that was written; a host that loses power may lose the last moments,
    after which clients ask again by themselves.

    Parameters
    ----------
    path : str
        Made, readable by its owner alone, when it is not there; None keeps everything in memory.
    """

    def __init__(self, path: str | None) -> None:
        if path is not None:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._file = sqlite3.connect(path or ":memory:", isolation_level=None)
        self._file.execute("PRAGMA synchronous=OFF")
        # no write-ahead log: the directory may lie on a network file system, and there is one process only
        self._file.execute("PRAGMA journal_mode=TRUNCATE")
        self._file.execute(_SCHEMA)

    def add(self, asked: Iterable[Asked]) -> None:
        """Note those who ask."""
        now = time.time()
        rows = [
            (one.asker, one.key, one.options.to_json(), one.need_bytes, one.fresh, one.detached, now)
            for one in asked
        ]
        self._write("INSERT OR REPLACE INTO askers VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", rows)

    def end(self, askers: Iterable[str], outcome: Outcome) -> None:
        """Note how it ended for some."""
        text, now = json.dumps(outcome), time.time()
        rows = [(text, now, asker) for asker in askers]
        self._write("UPDATE askers SET outcome = ?, posted = ? WHERE asker = ?", rows)

    def remove(self, askers: Iterable[str]) -> None:
        """Forget those who have been told, or have withdrawn."""
        self._write("DELETE FROM askers WHERE asker = ?", [(asker,) for asker in askers])

    def load(self) -> list[tuple[Asked, Outcome | None]]:
        """Return all who have not been told, with how it ended if it has; very old ends are forgotten."""
        self._file.execute(
            "DELETE FROM askers WHERE outcome IS NOT NULL AND posted < ?", (time.time() - KEPT_SECONDS,)
        )
        rows: list[Any] = self._file.execute("SELECT * FROM askers ORDER BY posted").fetchall()
        return [(_asked(row), None if row[-1] is None else json.loads(row[-1])) for row in rows]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        if not rows:
            return
        self._file.execute("BEGIN")
        try:
            self._file.executemany(statement, rows)
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")


def _asked(row: tuple[Any, ...]) -> Asked:
    asker, key, options, need_bytes, fresh, detached, _, _ = row
    return Asked(
        asker, Checksum(key), Options.from_json(options), bool(need_bytes), bool(fresh), bool(detached)
    )
