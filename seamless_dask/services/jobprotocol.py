"""What the jobserver and its clients share."""

from __future__ import annotations

PROTOCOL = 1
"""Raised whenever the meaning of a request or an answer changes."""

JOBS = "/jobs"
JSON_TYPE = "application/json"
OVER = "X-Seamless-Over"
"""Header that says 1 once a command writes nothing more."""
