"""What the jobserver and its clients share."""

from __future__ import annotations

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
