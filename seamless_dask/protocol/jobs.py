"""What the jobserver and its clients share."""

from __future__ import annotations

from ..errors import SeamlessError

PROTOCOL = 1
"""Raised whenever the meaning of a request or an answer changes."""

JOBS = "/jobs"
JSON_TYPE = "application/json"
OVER = "X-Seamless-Over"
"""Header that says 1 once a command writes nothing more."""
NEXT = "X-Seamless-Next"
"""Header with the place where what it writes after this will begin: the first part of much is not kept."""
OPERATION = "seamless_jobs"
"""Name of requests that come by Dask's own protocol."""
NESTED_OPERATION = "seamless_nested"
"""The request of workers; metadata of the scheduler of this name tell that it is understood."""
MOST_JOBS = 10_000
"""In one request."""
LONGEST_WAIT = 60.0
"""Seconds for which an answer may be waited for."""

UNKNOWN = "nobody has asked"
"""How the error for a job begins that there is none of."""


class Refused(SeamlessError):
    """What a command asked for cannot be; as HTTP tells it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def unknown(key: str) -> Refused:
    """Return the error for a job that whoever asks about it has not asked for, or nobody."""
    return Refused(404, f"{UNKNOWN} for {key} here")
