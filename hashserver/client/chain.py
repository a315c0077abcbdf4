"""A server's database with further ones, kept in files, that are asked for what it does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashserver.client.database import DatabaseClient, KnownResult
from hashserver.results.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hashserver.checksum import Checksum
    from hashserver.results.database import Result, Run


class DatabaseChain(DatabaseClient):
    """As its base class, with look-ups that go on in files.

    What was contested at the server is not looked up elsewhere.

    Parameters
    ----------
    server : DatabaseClient
        Asked first, and the only one that is written to.
    paths : sequence of str
        Databases that are only read, in this order.
    """

    def __init__(self, server: DatabaseClient, paths: Sequence[str]) -> None:
        super().__init__(server._transport)
        self._files = [Database(path, read_only=True) for path in paths]

    def close(self) -> None:
        """Close all of them."""
        for file in self._files:
            file.close()
        super().close()

    def get(self, tf: Checksum) -> Result | None:
        """Return the current result of a transformation."""
        found = super().get(tf)
        if found is None:
            pair = self._elsewhere(tf)
            found = pair[1] if pair and pair[0] == tf else None
        return found

    def lookup(self, key: Checksum) -> tuple[Checksum, Result] | None:
        """Return transformation and current result of a key."""
        return super().lookup(key) or self._elsewhere(key)

    def get_inline(self, key: Checksum, limit: int) -> KnownResult | None:
        """Return the same with the bytes, if the server has them."""
        found = super().get_inline(key, limit)
        if found is None and (pair := self._elsewhere(key)):
            return KnownResult(*pair, present=False, data=None)
        return found

    def get_many(self, tfs: Iterable[Checksum]) -> dict[Checksum, Result]:
        """Return the current results of many transformations."""
        asked = list(tfs)
        found = super().get_many(asked)
        missing = [tf for tf in asked if tf not in found]
        return found | {tf: result for tf in missing if (result := self.get(tf))}

    def lookup_many(self, keys: Iterable[Checksum]) -> dict[Checksum, tuple[Checksum, Result]]:
        """Return the same for many keys."""
        asked = list(keys)
        found = super().lookup_many(asked)
        missing = [key for key in asked if key not in found]
        return found | {key: pair for key in missing if (pair := self._elsewhere(key))}

    def values_of(
        self, keys: Iterable[Checksum], limit: int
    ) -> tuple[dict[Checksum, tuple[str, Checksum]], dict[Checksum, bytes]]:
        """Return the values of many keys, and small bytes of those that the server knows."""
        asked = list(keys)
        values, buffers = super().values_of(asked, limit)
        missing = [key for key in asked if key not in values]
        others = ((key, pair[1]) for key in missing if (pair := self._elsewhere(key)))
        return values | {key: (known.format, known.checksum) for key, known in others}, buffers

    def producers(self, checksum: Checksum) -> list[Checksum]:
        """Return the transformations that gave a buffer."""
        found = super().producers(checksum)
        for file in self._files:
            found += file.producers(checksum)
        return list(dict.fromkeys(found))

    def runs(self, tfs: Iterable[Checksum]) -> dict[Checksum, Run]:
        """Return what is known of the runs of some transformations."""
        asked = list(tfs)
        found = super().runs(asked)
        for file in self._files:
            theirs = file.runs([tf for tf in asked if tf not in found])
            found |= {tf: _from(run, str(file.path)) for tf, run in theirs.items()}
        return found

    def uses(self, checksums: Iterable[Checksum], limit: int) -> list[Checksum]:
        """Return transformations that were given one of some buffers."""
        asked = list(checksums)
        found = super().uses(asked, limit)
        for file in self._files:
            found += file.uses(asked, limit)
        return list(dict.fromkeys(found))

    def producers_of(self, checksums: Iterable[Checksum], limit: int) -> dict[Checksum, list[Checksum]]:
        """Return the producers of each of some buffers."""
        asked = list(checksums)
        found = super().producers_of(asked, limit)
        for file in self._files:
            for checksum, tfs in file.producers_of(asked, limit).items():
                found[checksum] = list(dict.fromkeys((*found.get(checksum, ()), *tfs)))[:limit]
        return found

    def similar(self, code: Checksum, names: Sequence[str], limit: int) -> list[Checksum]:
        """Return transformations of the same code, and those that share a name."""
        found = super().similar(code, names, limit)
        for file in self._files:
            found += file.similar(code, names, limit)
        return list(dict.fromkeys(found))

    def _elsewhere(self, key: Checksum) -> tuple[Checksum, Result] | None:
        for file in self._files:
            pair = file.lookup(key)
            if pair is not None and not self.irreproducible(pair[0]):
                tf, result = pair
                return tf, result._replace(source=str(file.path))
        return None


def _from(run: Run, path: str) -> Run:
    return run._replace(result=run.result and run.result._replace(source=path))
