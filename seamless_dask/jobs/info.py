"""What people are told of a job."""

from __future__ import annotations

from typing import NamedTuple

UNDER_WAY = ("looking up", "queued", "waiting", "running", "retrying", "lost")
"""States of a computation that has not ended."""


class JobInfo(NamedTuple):
    """A computation that somebody asked for.

    Attributes
    ----------
    key : str
        Key of the transformation.
    state : str
        One of `UNDER_WAY`, or how it ended: ``done``, ``failed``, ``cancelled``.
    label : str or None
        What people call it.
    worker, node : str or None
        Who runs it, and on which host.
    started : str or None
        When it began there, ISO 8601, UTC.
    askers : int
        How many have asked for it.
    pid : int or None
        The process that runs it, where that is one of this host.
    position : int or None
        How soon its turn comes, where it waits for room: 1 is next.
    stderr_size : int or None
        Bytes that it has written to its standard error, as far as that is known.
    """

    key: str
    state: str
    label: str | None
    worker: str | None
    node: str | None
    started: str | None
    askers: int
    pid: int | None = None
    position: int | None = None
    stderr_size: int | None = None
