"""Which deferred rows still hold.

A row says: this structural key resolved to that transformation, when its upstream keys had those results. It
holds while every one of them is still the current result of its key, which for a key that is itself
structural is asked the same way. Nothing is ever deleted: a contested upstream result makes the row
fall, the same result found again (by a new run, by undoing the contest) makes it stand again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Value = tuple[str, bytes]
    """Format, digest."""

    Row = tuple[bytes, list[tuple[bytes, Value]]]
    """A transformation, and the (key, value) pairs under which a structural key resolved to it."""


def current(
    keys: Iterable[bytes],
    results_of: Callable[[Sequence[bytes]], Mapping[bytes, Value]],
    rows_of: Callable[[Sequence[bytes]], Mapping[bytes, Sequence[Row]]],
) -> dict[bytes, tuple[bytes, Value]]:
    """Return transformation and current value of each key that has one.

    Parameters
    ----------
    keys
        Structural keys and transformation checksums alike.
    results_of, rows_of
        Current results of transformations, and rows of structural keys (preferred first), many at a time.
    """
    wanted = list(keys)
    results, rows = _gather(wanted, results_of, rows_of)
    known: dict[bytes, tuple[bytes, Value] | None] = {tf: (tf, value) for tf, value in results.items()}
    for key in wanted:
        _settle(key, known, rows)
    return {key: found for key in wanted if (found := known[key]) is not None}


def _gather(
    keys: Sequence[bytes],
    results_of: Callable[[Sequence[bytes]], Mapping[bytes, Value]],
    rows_of: Callable[[Sequence[bytes]], Mapping[bytes, Sequence[Row]]],
) -> tuple[dict[bytes, Value], dict[bytes, Sequence[Row]]]:
    """All results and rows that the keys can depend on, a level of the graph at a time."""
    results: dict[bytes, Value] = {}
    rows: dict[bytes, Sequence[Row]] = {}
    seen = set(keys)
    frontier = list(seen)
    while frontier:
        results.update(results_of(frontier))
        level = rows_of([key for key in frontier if key not in results])
        rows.update(level)
        reached = {tf for many in level.values() for tf, _ in many}
        reached.update(key for many in level.values() for _, pairs in many for key, _ in pairs)
        frontier = list(reached - seen)
        seen |= reached
    return results, rows


def _settle(
    key: bytes, known: dict[bytes, tuple[bytes, Value] | None], rows: Mapping[bytes, Sequence[Row]]
) -> None:
    """Decide `key` after all it depends on. A loop, not a recursion: chains may be thousands of steps long.

    Honest keys cannot form a cycle (each is a hash over the others); in a forged one nothing holds.
    """
    stack, entered = [key], set()
    while stack:
        top = stack[-1]
        if top not in known and top not in entered:
            entered.add(top)
            stack.extend(up for row in rows.get(top, ()) for up, _ in row[1] if up not in known)
            continue
        stack.pop()
        if top not in known:
            known[top] = _first_holding(rows.get(top, ()), known)


def _first_holding(
    rows: Sequence[Row], known: Mapping[bytes, tuple[bytes, Value] | None]
) -> tuple[bytes, Value] | None:
    for tf, pairs in rows:
        result = known.get(tf)
        if result is not None and all(
            (found := known.get(key)) is not None and found[1] == value for key, value in pairs
        ):
            return result
    return None
