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
    """Yield, before each attempt, how long to wait after it; 0.0 before the last one.

    Whoever asks waits in its own way, which may be that of threads, of asyncio, or a bell with a time-out::

        for pause in pauses(0.1, 5.0, seconds=60):
            try:
                return attempt()
            except ServiceUnavailable:
                if not pause:
                    raise
            time.sleep(pause)

    Parameters
    ----------
    first, longest
        Seconds; all pauses are as long as the first one where no other length is given.
    factor
        How many times as long as the one before a pause is.
    seconds
        After so many there is one more attempt, the last. The clock starts before the first one.
    times
        How many attempts there are at most.
    """
    end, pause, most = monotonic() + seconds, first, first if longest is None else longest
    count = 1
    while count < times and (left := end - monotonic()) > 0:
        yield min(pause, left)
        pause, count = min(factor * pause, most), count + 1
    yield 0.0
