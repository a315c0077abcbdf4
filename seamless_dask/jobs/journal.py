"""Who has asked the jobserver for what, on disk, so that a restart forgets nobody."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from hashserver.checksum import Checksum
from hashserver.errors import InvalidChecksum

from ..errors import SeamlessError
from ..model.options import Options
from .request import JobRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..model.outcomes import Outcome

logger = logging.getLogger(__name__)

FILE = "journal.db"
LOCK_SECONDS = 1.0
"""How long somebody else may have the file, a backup for example, before we go on without it."""
KEPT_SECONDS = 7 * 86400.0
"""How long an end is kept for one who does not come back to hear of it."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS askers (
    asker TEXT PRIMARY KEY, key TEXT NOT NULL, options TEXT NOT NULL,
    need_bytes INTEGER NOT NULL, fresh INTEGER NOT NULL, detached INTEGER NOT NULL,
    posted REAL NOT NULL, outcome TEXT
) WITHOUT ROWID
"""


NESTED = "nested."
"""Names of those who ask from within a command begin so: none of a process that others could look for."""


def is_nested(asker: str) -> bool:
    """Say whether a command has asked under this name."""
    return asker.startswith(NESTED)


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
        self._path, self._works = path, True
        try:
            self._file = _opened(path)
        except sqlite3.DatabaseError as error:
            if path is None or isinstance(error, sqlite3.OperationalError):
                raise
            aside = f"{path}.damaged"
            os.replace(path, aside)
            logger.warning("%s: %s: it is kept as %s, and who asked is forgotten", path, error, aside)
            self._file = _opened(path)

    def add(self, requests: Iterable[JobRequest]) -> None:
        """Note those who ask."""
        now = time.time()
        rows = [
            (one.asker, one.key, one.options.to_json(), one.need_bytes, one.fresh, one.detached, now)
            for one in requests
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

    def load(self) -> list[tuple[JobRequest, Outcome | None]]:
        """Return all who have not been told, with how it ended if it has; very old ends are forgotten."""
        self._write(
            "DELETE FROM askers WHERE outcome IS NOT NULL AND posted < ?", [(time.time() - KEPT_SECONDS,)]
        )
        rows: list[Any] = self._file.execute("SELECT * FROM askers ORDER BY posted").fetchall()
        return [found for row in rows if (found := _noted(row)) is not None]

    def find(self, asker: str) -> tuple[JobRequest, Outcome] | None:
        """Return one who has not been told how it ended; None while it has not, too."""
        wanted = "SELECT * FROM askers WHERE asker = ? AND outcome IS NOT NULL"
        try:
            row = self._file.execute(wanted, (asker,)).fetchone()
        except sqlite3.Error:
            return None
        request, outcome = (row and _noted(row)) or (None, None)
        return (request, outcome) if request is not None and outcome is not None else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        """Change the file; where that cannot be, jobs go on all the same."""
        if not rows:
            return
        try:
            with self._file:
                self._file.execute("BEGIN")
                self._file.executemany(statement, rows)
        except sqlite3.Error as error:
            if self._works:
                logger.warning("%s: %s: a restart would forget who has asked since", self._path, error)
            self._works = False
        else:
            self._works = True


def _opened(path: str | None) -> sqlite3.Connection:
    if path is not None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    file = sqlite3.connect(path or ":memory:", timeout=LOCK_SECONDS, isolation_level=None)
    try:
        file.execute("PRAGMA synchronous=OFF")
        # no write-ahead log: the directory may lie on a network file system, and there is one process only
        file.execute("PRAGMA journal_mode=TRUNCATE")
        file.execute(_SCHEMA)
        file.execute("SELECT * FROM askers LIMIT 1").fetchone()
    except BaseException:
        file.close()
        raise
    return file


def _noted(row: tuple[Any, ...]) -> tuple[JobRequest, Outcome | None] | None:
    """Read a row; None for one that another version has written."""
    try:
        asker, key, options, need_bytes, fresh, detached, _, outcome = row
        options = Options.from_json(options)._replace(fresh=bool(fresh))
        request = JobRequest(Checksum(key), options, bool(need_bytes), bool(detached), asker)
        return request, None if outcome is None else json.loads(outcome)
    except (ValueError, TypeError, SeamlessError, InvalidChecksum) as error:
        logger.warning("what %s has asked for is forgotten: %s", row[0], error)
        return None
