"""The result database: what every transformation gave, and what may be believed of it.

One file, `seamless.db`, that many processes and threads use at once, with further ones that are only read.

Rules
-----
- A transformation has at most one *current* result. The same result again is no change (a newer record
  replaces the older one). Another result never replaces it: it is kept as irreproducible.
- Contesting moves the current result to the irreproducible ones, so that the next request runs the
  transformation. A run that gives the contested result again makes it current: it has been
  reproduced. A run that gives another makes that one current. Undoing makes the result contested last
  current again; one that has become current in the meantime goes to the irreproducible ones.
- A deferred row counts while its upstream pairs are current (see `hashserver.results.deferred`).
- Further databases are asked for what the own one does not know, in their order. A transformation contested
  in the own one is not looked up in them. One that cannot be used is left out, with a line in `warnings`.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from hashserver.checksum import Checksum
from hashserver.errors import DatabaseError, HashserverError, ReadOnly
from hashserver.results import queries
from hashserver.results import result as results
from hashserver.results.files import WritableDatabase
from hashserver.results.result import Provenance, Put, Record, Result, Run
from hashserver.results.sources import ReadOnlyDatabase

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    from hashserver.errors import Irreproducible
    from hashserver.results.deferred import Row, Value
    from hashserver.storage.store import Store

T = TypeVar("T")

__all__ = ["Database", "Provenance", "Put", "Record", "Result", "Run"]


class Database:
    """A result database. Safe in threads and across forks; opened when first used.

    Parameters
    ----------
    path
        The own file; made when it is not there.
    read_only
        Change nothing, make nothing: what would write raises `ReadOnly`.
    others
        Further database files, only read.

    Attributes
    ----------
    warnings : list of str
        Lines for the user, complete once the databases have been asked: the file is on a network file
        system; a further database was left out and why.

    Raises
    ------
    DatabaseError
        From every method: the own file is damaged, newer, not ours, a directory.
    NoSpace, ReadOnly, ServiceUnavailable
        From every method: the device is full, may not be written, is locked for minutes. Nothing is
        recorded by half.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        read_only: bool = False,
        others: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        self.warnings: list[str] = []
        self.read_only = read_only
        self.path = _absolute(path)
        self._own: WritableDatabase | ReadOnlyDatabase = (
            ReadOnlyDatabase(self.path) if read_only else WritableDatabase(self.path, self.warnings)
        )
        paths = dict.fromkeys(_absolute(other) for other in others)
        self._others = [ReadOnlyDatabase(other) for other in paths if not _same(other, self.path)]
        self._left_out: set[str] = set()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Database({self.path!r})"

    def close(self) -> None:
        """Close all files; a later use opens them again."""
        for file in (self._own, *self._others):
            file.close()

    # What is known

    def get(self, tf: Checksum) -> Result | None:
        """Return the current result of a transformation, with its record."""
        digest = tf.digest
        row = self._own.ask(lambda connection: queries.result(connection, digest))
        if row is not None:
            return results.result(row, None)
        if not self._others:
            return None
        from hashserver.results import foreign

        for source in self._others_for(digest):
            result = self._ask(source, partial(foreign.result_of, tf=digest, path=source.path))
            if result is not None:
                return result
        return None

    def get_many(self, tfs: Iterable[Checksum]) -> dict[Checksum, Result]:
        """Return the current results of those transformations that have one, without records."""
        asked = {tf.digest: tf for tf in tfs}
        found, sources = self._results(list(asked))
        return {asked[digest]: results.plain(value, sources.get(digest)) for digest, value in found.items()}

    def lookup(self, key: Checksum) -> tuple[Checksum, Result] | None:
        """Return transformation checksum and current result of a key, structural or not, with its record."""
        result = self.get(key)
        if result is not None:
            return key, result
        found = self._current([key.digest]).get(key.digest)
        if found is None:
            return None
        tf = Checksum.from_digest(found[0])
        result = self.get(tf)
        return None if result is None else (tf, result)

    def find(self, key: Checksum) -> Result | None:
        """Return the current result of a key, structural or not; its record may be left out."""
        digest = key.digest
        value = self._own.ask(lambda connection: queries.value(connection, digest))
        if value is not None:
            return results.plain(value, None)
        found = self.lookup(key)
        return None if found is None else found[1]

    def lookup_many(self, keys: Iterable[Checksum]) -> dict[Checksum, tuple[Checksum, Result]]:
        """Return the same for those of many keys that have a current result, without records."""
        asked = {key.digest: key for key in keys}
        values, sources = self._results(list(asked))
        answer = {
            asked[tf]: (asked[tf], results.plain(value, sources.get(tf))) for tf, value in values.items()
        }
        rest = [digest for digest in asked if digest not in values]
        for digest, (tf, value, source) in self._current(rest).items():
            answer[asked[digest]] = (Checksum.from_digest(tf), results.plain(value, source))
        return answer

    def irreproducible(self, tf: Checksum) -> list[Result]:
        """Return the results of a transformation that are not current: contested, or at odds with it."""
        digest = tf.digest
        return [
            results.result(row, None) for row in self._own.read(lambda c: queries.irreproducible(c, digest))
        ]

    def failures(self, tf: Checksum) -> list[Record]:
        """Return the records of the last failed runs of a transformation, oldest first."""
        digest = tf.digest
        return [json.loads(record) for record in self._own.read(lambda c: queries.failures(c, digest))]

    def producers(self, checksum: Checksum) -> list[Checksum]:
        """Return the transformations that gave a buffer, or a whole that it is a member of.

        Those of which it is the current result come first, then those that gave it once.
        """
        from hashserver.results import foreign

        return self._from_all(partial(foreign.producers, checksum=checksum.digest))

    def runs(self, tfs: Iterable[Checksum]) -> dict[Checksum, Run]:
        """Return what is known of the runs of those transformations that have a current result."""
        from hashserver.results import known_runs

        asked = {tf.digest: tf for tf in tfs}
        found = self._own.read(lambda c: known_runs.runs_of(c, list(asked), None))
        for source in self._others:
            rest = [tf for tf in asked if tf not in found]
            found |= self._ask(source, partial(known_runs.runs_of, tfs=rest, path=source.path)) or {}
        return {asked[digest]: run for digest, run in found.items()}

    def recent(self, limit: int) -> list[Run]:
        """Return the last runs that were recorded in the own file, newest first, failed ones too."""
        from hashserver.results import known_runs

        return self._own.read(lambda c: known_runs.recent(c, limit))

    def uses(self, checksums: Iterable[Checksum], limit: int) -> list[Checksum]:
        """Return transformations that were given one of some buffers or a result it lies in, newest first."""
        from hashserver.results import known_runs

        digests = [checksum.digest for checksum in checksums]
        return self._from_all(partial(known_runs.uses, checksums=digests, limit=limit))

    def producers_of(self, checksums: Iterable[Checksum], limit: int) -> dict[Checksum, list[Checksum]]:
        """Return up to `limit` producers of each of some buffers that have any, newest first."""
        from hashserver.results import known_runs

        digests = list(dict.fromkeys(checksum.digest for checksum in checksums))
        found = self._own.read(lambda c: known_runs.producers_of(c, digests, limit, self.path))
        for source in self._others:
            ask = partial(known_runs.producers_of, checksums=digests, limit=limit, path=source.path)
            for digest, tfs in (self._ask(source, ask) or {}).items():
                found[digest] = list(dict.fromkeys((*found.get(digest, ()), *tfs)))[:limit]
        return {
            Checksum.from_digest(digest): [Checksum.from_digest(tf) for tf in tfs]
            for digest, tfs in found.items()
        }

    def similar(self, code: Checksum, names: Sequence[str], limit: int) -> list[Checksum]:
        """Return transformations of the same code, then those that share a name; up to `limit` of each."""
        from hashserver.results import known_runs

        return self._from_all(partial(known_runs.similar, code=code.digest, names=names, limit=limit))

    def counts(self) -> dict[str, int]:
        """Return how many results, irreproducible results, deferred keys and failures the own file holds."""
        return self._own.read(queries.counts)

    # What is to be known

    def put(
        self,
        tf: Checksum,
        format: str,  # noqa: A002
        checksum: Checksum,
        record: Record | None = None,
        members: Sequence[Checksum] = (),
        provenance: Provenance | None = None,
    ) -> None:
        """Record a result.

        Parameters
        ----------
        members
            Checksums within the result (files of a directory, several results) by which `producers` finds it.
        provenance
            What it was made from, by which `uses` and `similar` find it; without it, `catch_up` reads that.

        Raises
        ------
        Irreproducible
            Another result is current; this one is kept beside it.
        """
        for error in self.put_many([Put(tf, format, checksum, record, members, provenance)]):
            raise error

    def put_many(self, puts: Iterable[Put]) -> list[Irreproducible]:
        """Record many results in one transaction; return an error for each that differs from a known one."""
        from hashserver.results import runs, writes

        listed = list(puts)
        entries = [results.entry(put) for put in listed]
        elsewhere, _ = self._from_others([entry[0] for entry in entries])

        def operation(connection: sqlite3.Connection) -> list[Irreproducible]:
            for put in listed:
                runs.enter(connection, put.tf.digest, put.provenance)
            known = [(entry, writes.put(connection, *entry, elsewhere)) for entry in entries]
            return [
                results.irreproducible(entry[0], value, entry[1])
                for entry, value in known
                if value is not None
            ]

        return self._write(operation)

    def put_deferred(
        self, key: Checksum, tf: Checksum, upstream: Sequence[tuple[Checksum, str, Checksum]]
    ) -> None:
        """Record that a structural key resolved to a transformation when its upstream keys had these results.

        Parameters
        ----------
        upstream
            Key, format and checksum of every result that was put in for a reference.
        """
        if key == tf:  # no references in it: the results say it all
            return
        from hashserver.results import writes

        pairs = sorted({(up.digest, (format_, checksum.digest)) for up, format_, checksum in upstream})
        name = hashlib.sha256(b"\n".join(up + value[1] + value[0].encode() for up, value in pairs)).digest()
        self._write(lambda c: writes.put_deferred(c, key.digest, name, tf.digest, pairs))

    def put_failure(self, tf: Checksum, record: Record) -> None:
        """Record a failed run. It is never an answer to `get`; the last ten of a transformation are kept."""
        from hashserver.results import writes

        text = results.dumps(record)
        self._write(lambda c: writes.put_failure(c, tf.digest, text))

    def catch_up(self, store: Store, seconds: float) -> bool:
        """Enter in the index of runs what was recorded without it, from the documents in a store.

        Parameters
        ----------
        seconds
            Nothing more is begun after that; each step is a short transaction of its own.

        Returns
        -------
        bool
            Whether that was all.
        """
        from hashserver.results import catching_up

        if not isinstance(self._own, WritableDatabase):
            return True
        return catching_up.catch_up(self._own, store, seconds)

    def contest(self, tf: Checksum, undo: bool = False) -> Result | None:
        """Contest the current result, or take the last contest back.

        Return the result that was moved, None if there is none. One that only a further database knows is
        contested in the own one.
        """
        from hashserver.results import writes

        digest = tf.digest
        if undo:
            value = self._write(lambda c: writes.undo(c, digest))
        else:
            elsewhere, _ = self._from_others([digest])
            value = self._write(lambda c: writes.contest(c, digest, elsewhere.get(digest)))
        return None if value is None else results.plain(value, None)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the own file that stands alone, at one point in time, while others go on writing.

        It replaces `path` at the end, in one step. It needs no companion files and opens on read-only media.
        """
        from hashserver.results.export import export

        self._own.read(lambda connection: None)  # opened, checked, made
        export(self.path, path)

    # How

    def _write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        if not isinstance(self._own, WritableDatabase):
            raise ReadOnly(f"{self.path} is open for reading only")
        return self._own.write(operation)

    def _ask(self, source: ReadOnlyDatabase, operation: Callable[[sqlite3.Connection], T]) -> T | None:
        """Ask a further database; one that cannot answer is left out from then on."""
        if source.path in self._left_out:
            return None
        try:
            return source.read(operation)
        except HashserverError as error:
            self._left_out.add(source.path)
            self.warnings.append(f"left out: {error}")
            return None

    def _others_for(self, tf: bytes) -> list[ReadOnlyDatabase]:
        """Return the further databases that may be asked for a transformation."""
        if not self._others:
            return []
        contested = self._own.read(lambda connection: queries.contested(connection, [tf]))
        return [] if contested else self._others

    def _from_all(self, operation: Callable[..., list[bytes]]) -> list[Checksum]:
        """Return the transformations that the own database and the further ones name, each once."""
        found = self._own.read(lambda connection: operation(connection, path=self.path))
        for source in self._others:
            found += self._ask(source, partial(operation, path=source.path)) or []
        return [Checksum.from_digest(tf) for tf in dict.fromkeys(found)]

    def _results(self, tfs: Sequence[bytes]) -> tuple[dict[bytes, Value], dict[bytes, str]]:
        """Return current results, and where those come from that the own database does not know."""
        found = self._own.read(lambda connection: queries.results(connection, tfs))
        if not self._others:
            return found, {}
        values, sources = self._from_others([tf for tf in tfs if tf not in found])
        found.update(values)
        return found, sources

    def _from_others(self, tfs: Sequence[bytes]) -> tuple[dict[bytes, Value], dict[bytes, str]]:
        """Return what the further databases know of transformations not contested, and which one does."""
        found: dict[bytes, Value] = {}
        sources: dict[bytes, str] = {}
        if not self._others:
            return found, sources
        from hashserver.results import foreign

        contested = self._own.read(lambda connection: queries.contested(connection, tfs))
        for source in self._others:
            asked = [tf for tf in tfs if tf not in contested and tf not in found]
            known = self._ask(source, partial(foreign.results_of, tfs=asked, path=source.path)) or {}
            found.update(known)
            sources.update(dict.fromkeys(known, source.path))
        return found, sources

    def _rows(self, keys: Sequence[bytes]) -> dict[bytes, list[Row]]:
        from hashserver.results import foreign

        found = self._own.read(lambda connection: queries.rows(connection, keys))
        for source in self._others:
            theirs = self._ask(source, partial(foreign.rows, keys=keys, path=source.path)) or {}
            for key, rows in theirs.items():
                found.setdefault(key, []).extend(rows)
        return found

    def _current(self, keys: Sequence[bytes]) -> dict[bytes, tuple[bytes, Value, str | None]]:
        """Return transformation, value and source of structural keys that have a current result."""
        from hashserver.results import deferred

        sources: dict[bytes, str] = {}

        unknown = set(keys)

        def results_of(tfs: Sequence[bytes]) -> dict[bytes, Value]:
            found, named = self._results([tf for tf in tfs if tf not in unknown])
            sources.update(named)
            return found

        found = deferred.current(keys, results_of, self._rows)
        return {key: (tf, value, sources.get(tf)) for key, (tf, value) in found.items()}


def _absolute(path: str | os.PathLike[str]) -> str:
    text = os.path.abspath(os.fsdecode(path))
    if "\0" in text:
        raise DatabaseError(f"not a file name: {text!r}")
    return text


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
