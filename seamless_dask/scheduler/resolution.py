"""What a deferred transformation becomes when the results it waits for are known, as far as that is cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import BufferFailure, HashserverError

from ..errors import SeamlessError
from ..model.transformation import Value, parse
from ..model.values import select

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..context import Context
    from ..model.transformation import Description

KEPT = 20_000
"""Documents that are kept in memory."""
AT_ONCE = 500
LARGEST = 1 << 20
"""Bytes of a result that are looked into; beyond that it is left to the worker."""


class Resolved(NamedTuple):
    """A transformation without references."""

    key: Checksum
    checksum: Checksum
    document: bytes
    upstream: tuple[tuple[Checksum, Value], ...]


def record(context: Context, steps: Sequence[Resolved]) -> None:
    """Keep the documents of some steps and what their keys resolved to, as workers do."""
    context.store.put_many([step.document for step in steps])
    for step in steps:
        rows = [(of, *value) for of, value in step.upstream]
        context.database.put_deferred(step.key, step.checksum, rows)


class Resolver:
    """Resolves many at once; used by several threads.

    Parameters
    ----------
    context
        Whose store has the documents.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._documents: dict[Checksum, Description] = {}

    def fetch(self, keys: Iterable[Checksum]) -> None:
        """Have the documents of some keys at hand; what is not there is left out."""
        wanted = [key for key in dict.fromkeys(keys) if key not in self._documents]
        for start in range(0, len(wanted), AT_ONCE):
            found = self._get(wanted[start : start + AT_ONCE])
            for key, data in found.items():
                try:
                    self._documents[key] = parse(data)
                except SeamlessError:
                    continue  # the worker says what is wrong with it
        while len(self._documents) > KEPT:
            self._documents.pop(next(iter(self._documents)), None)

    def resolve(self, steps: Sequence[tuple[Checksum, Mapping[Checksum, Value]]]) -> list[Resolved | None]:
        """Return what each key becomes, given the results of those it refers to; None: not known here."""
        self.fetch(key for step, upstream in steps for key in (step, *upstream))
        inside = self._look_inside(steps)
        return [self._resolve(key, upstream, inside) for key, upstream in steps]

    def _resolve(
        self, key: Checksum, upstream: Mapping[Checksum, Value], inside: Mapping[Checksum, bytes]
    ) -> Resolved | None:
        document = self._documents.get(key)
        if document is None:
            return None
        kept: list[bytes] = []

        def keep(data: bytes) -> Checksum:
            kept.append(data)
            return hash_bytes(data)

        try:
            known = {
                reference: select(
                    self._documents[reference.of].result,
                    upstream[reference.of],
                    reference.path,
                    inside.__getitem__,
                    keep,
                )
                for reference in document.references
            }
        except (KeyError, SeamlessError, HashserverError):
            return None
        if kept:  # an index that must be in the store: a worker sees to that
            return None
        canonical = document.resolve(known).canonical()
        used = {reference.of: upstream[reference.of] for reference in document.references}
        return Resolved(key, hash_bytes(canonical), canonical, tuple(used.items()))

    def _look_inside(
        self, steps: Sequence[tuple[Checksum, Mapping[Checksum, Value]]]
    ) -> dict[Checksum, bytes]:
        """Return the bytes of results of which a part is meant, asked for together."""
        wanted: dict[Checksum, None] = {}
        for key, upstream in steps:
            document = self._documents.get(key)
            for reference in document.references if document else ():
                spec, value = self._documents.get(reference.of), upstream.get(reference.of)
                if spec is None or value is None:
                    continue
                whole = reference.path is None or reference.path in (*spec.result.paths, *spec.result.globs)
                if spec.result.number > 1 or not whole:
                    wanted[value.checksum] = None
        if not wanted:
            return {}
        sizes = self._context.store.has(list(wanted))
        return self._get([name for name, size in zip(wanted, sizes, strict=True) if 0 <= size <= LARGEST])

    def _get(self, checksums: list[Checksum]) -> dict[Checksum, bytes]:
        found: dict[Checksum, bytes] = {}
        try:
            for checksum, data in self._context.store.get_many(checksums):
                found[checksum] = data
        except BufferFailure:
            pass  # those that are there come first
        return found
