"""The run on record that is most like a computation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashserver.checksum import Checksum, hash_bytes
from hashserver.namedtuple import NamedTuple
from hashserver.workspace.index import parse_index

from .differences import Difference, differences, distance
from .documents import documents, index_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hashserver.results.result import Run
    from seamless_dask.context import Context

    from .documents import Document

_CANDIDATES = 20
"""Runs of the same code, and of each name, that are looked at."""


class NearestRun(NamedTuple):
    """A run, and in what a computation differs from it; nothing is known of that without its document."""

    run: Run
    differences: list[Difference] | None


def nearest(
    context: Context, key: Checksum, document: Document, names: Iterable[str], indices: Iterable[bytes] = ()
) -> NearestRun | None:
    """Return the run that is most like a computation that is not known; None if nothing is like it.

    Of those of the same code, or else of those that share a name, it is the one with the fewest differences,
    and of these the newest.

    Parameters
    ----------
    indices
        Those of its input directories that the store may not have.
    """
    database = context.database
    similar = database.similar(document.description.code, list(names), _CANDIDATES)
    runs = database.runs([tf for tf in similar if tf != key])
    if not runs:
        return None
    known = documents(context.store, runs)
    newest_first = sorted(runs.values(), key=lambda run: run.begun, reverse=True)
    read = [run for run in newest_first if run.tf in known]
    if not read:
        return NearestRun(newest_first[0], None)
    run = min(read, key=lambda one: distance(known[one.tf], document))
    members = _members(context, indices)
    return NearestRun(run, differences(known[run.tf], document, members))


def _members(
    context: Context, indices: Iterable[bytes]
) -> Callable[[Checksum], Mapping[str, Checksum] | None]:
    here = {hash_bytes(data): data for data in indices}

    def members(checksum: Checksum) -> Mapping[str, Checksum] | None:
        data = here.get(checksum)
        return index_in(context.store, checksum) if data is None else parse_index(data)

    return members
