"""What the queue keeps on disk."""

from __future__ import annotations

from typing import Any, NamedTuple


class QueueEntry(NamedTuple):
    """One submitted command.

    Attributes
    ----------
    key : str
        Of the transformation, whose document the store has.
    text : str
        The shell text, for people.
    directory : str
        Where it was submitted: what else is relative is so to this.
    options : str
        `Options` as JSON.
    priority : int
        What waits with a higher one runs first.
    wanted : list of [name, local]
        Where each result goes.
    manner : list of bool
        Download, scratch, overwrite.
    need_bytes : bool
        The bytes of the result are needed, not just its name.
    settings : dict
        What the command line said of the configuration.
    environment : dict
        The variables of the shell that count.
    upstream : list of str
        Keys of the jobs whose results it needs.
    id : str
        Its name among the entries; those that came first sort first.
    """

    key: str
    text: str
    directory: str
    options: str
    priority: int
    wanted: list[list[str | None]]
    manner: list[bool]
    need_bytes: bool
    settings: dict[str, Any]
    environment: dict[str, str]
    upstream: list[str]
    id: str = ""


class Failure(NamedTuple):
    """How an entry failed; `log` is the path of its log, `exit_status` that of the command if it ran."""

    id: str
    key: str
    text: str
    message: str
    exit_status: int | None
    log: str
