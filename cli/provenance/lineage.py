"""Runs upwards from a result to its sources, or downwards to all that was made from it.

A level at a time, so that a server is asked once for many. Bounded: what goes on for ever (a file that was
packed and unpacked) ends because each run is looked at once, what is huge at a number of runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashserver.namedtuple import NamedTuple
from seamless_dask.model.transformation import Value

from .documents import documents, index_in
from .history import parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hashserver.checksum import Checksum
    from hashserver.results.result import Run
    from seamless_dask.context import Context

    from .documents import Document

_USERS = 1000
"""Runs that are told of one buffer."""


class LineageStep(NamedTuple):
    """A run in a lineage.

    Attributes
    ----------
    tf : Checksum
        The transformation.
    run : Run or None
        What is on record of it.
    document : Document or None
        What it computes, if that is still in a store.
    inputs : dict
        What it was given, by name; its standard input too.
    """

    tf: Checksum
    run: Run | None
    document: Document | None
    inputs: dict[str, Value]


class Lineage(NamedTuple):
    """Runs, and how they follow from each other.

    Attributes
    ----------
    steps : dict
        The runs by transformation, in the order in which they were found.
    makers : dict
        Which run made a buffer, the last one where there are several; of those that are looked at upwards.
    members : dict
        Of directories that no run made: those of their files that one did, by path.
    users : dict
        Which runs used a buffer, or the result of a transformation; of those looked at downwards.
    complete : bool
        Whether that is all.
    """

    steps: dict[Checksum, LineageStep]
    makers: dict[Checksum, Checksum]
    members: dict[Checksum, dict[str, Checksum]]
    users: dict[Checksum, list[Checksum]]
    complete: bool


def upwards(context: Context, checksum: Checksum, limit: int) -> Lineage:
    """Return what a buffer, or the result of a transformation, was made from, up to the sources."""
    steps: dict[Checksum, LineageStep] = {}
    makers: dict[Checksum, Checksum] = {}
    members: dict[Checksum, dict[str, Checksum]] = {}
    known = context.database.lookup(checksum)
    if known is not None:
        makers[checksum] = known[0]
    frontier, complete = [checksum], True
    while frontier:
        makers |= _makers(context, [one for one in frontier if one not in makers])
        for whole in (one for one in frontier if one not in makers):
            members[whole] = _made_members(context, whole, makers)
        reached = [makers[one] for one in frontier if one in makers]
        reached += [makers[one] for whole in frontier for one in members.get(whole, {}).values()]
        new = [tf for tf in dict.fromkeys(reached) if tf not in steps]
        complete &= len(steps) + len(new) <= limit
        added = _steps(context, new[: limit - len(steps)])
        steps |= added
        given = {value.checksum: None for step in added.values() for value in step.inputs.values()}
        frontier = [one for one in given if one not in makers and one not in members]
    return Lineage(steps, makers, {whole: found for whole, found in members.items() if found}, {}, complete)


def downwards(context: Context, checksum: Checksum, limit: int) -> Lineage:
    """Return what was made from a buffer, or from the result of a transformation, down to the last."""
    steps: dict[Checksum, LineageStep] = {}
    users: dict[Checksum, list[Checksum]] = {}
    known = context.database.lookup(checksum)
    first = [checksum] if known is None else [known[1].checksum, *parts(context.store, known[1]).values()]
    frontier: list[tuple[Checksum, Sequence[Checksum]]] = [(checksum, first)]
    complete = True
    while frontier:
        found = {parent: context.database.uses(given, _USERS) for parent, given in frontier}
        users |= found
        new = [tf for tf in dict.fromkeys(tf for many in found.values() for tf in many) if tf not in steps]
        complete &= len(steps) + len(new) <= limit and all(len(many) < _USERS for many in found.values())
        added = _steps(context, new[: limit - len(steps)])
        steps |= added
        frontier = [(step.tf, _given_on(context, step)) for step in added.values()]
    return Lineage(steps, {}, {}, users, complete)


def _given_on(context: Context, step: LineageStep) -> Sequence[Checksum]:
    result = step.run and step.run.result
    return [result.checksum, *parts(context.store, result).values()] if result else []


def _makers(context: Context, checksums: Iterable[Checksum]) -> dict[Checksum, Checksum]:
    found = context.database.producers_of(list(checksums), 1)
    return {checksum: tfs[0] for checksum, tfs in found.items() if tfs}


def _made_members(context: Context, whole: Checksum, makers: dict[Checksum, Checksum]) -> dict[str, Checksum]:
    """Return those members of what may be a directory that a run made, which are added to `makers`."""
    index = index_in(context.store, whole) or {}
    makers |= _makers(context, {one for one in index.values() if one not in makers})
    return {path: one for path, one in index.items() if one in makers}


def _steps(context: Context, tfs: Sequence[Checksum]) -> dict[Checksum, LineageStep]:
    runs, known = context.database.runs(tfs), documents(context.store, tfs)
    return {tf: LineageStep(tf, runs.get(tf), known.get(tf), _inputs(known.get(tf))) for tf in tfs}


def _inputs(document: Document | None) -> dict[str, Value]:
    if document is None:
        return {}
    what = document.description
    given = {**what.inputs, "standard input": what.stdin}
    return {name: value for name, value in given.items() if isinstance(value, Value)}
