"""The pauses between attempts: how they grow, and when one has tried for long enough."""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def pauses(
    first: float,
    longest: float | None = None,
    *,
    factor: float = 2.0,
    seconds: float = inf,
    times: float = inf,
) -> Iterator[float]:
    """Return how long to wait after each attempt; 0.0 after the last one.

    Whoever asks waits in its own way, which may be that of threads, of asyncio, or a bell with a time-out::

        waits = pauses(0.1, 5.0, seconds=60)
        while True:
            try:
                return attempt()
            except ServiceUnavailable:
                if not (pause := next(waits)):
                    raise
            time.sleep(pause)

    Parameters
    ----------
    first, longest
        Seconds, more than none; all pauses are as long as the first one where no other length is given.
    factor
        How many times as long as the one before a pause is.
    seconds
        After so many, from now on, there is one more attempt, the last.
    times
        How many attempts there are at most.
    """
    return _pauses(first, first if longest is None else longest, factor, monotonic() + seconds, times)


def _pauses(pause: float, longest: float, factor: float, end: float, times: float) -> Iterator[float]:
    while times > 1 and (left := end - monotonic()) > 0:
        yield min(pause, left)
        pause, times = min(factor * pause, longest), times - 1
    yield 0.0
