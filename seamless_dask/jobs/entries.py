"""What the queue keeps on disk."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hashserver.checksum import Checksum

from ..model.options import Options
from .request import JobRequest


class QueueDelivery(NamedTuple):
    """Where the results of a command go, and how.

    Attributes
    ----------
    directory : str
        Where it was submitted: what else is relative is so to this.
    wanted : list of [name, local]
        Where each result goes.
    manner : list of bool
        Download, scratch, overwrite.
    """

    directory: str
    wanted: list[list[str | None]]
    manner: list[bool]


class QueueEntry(NamedTuple):
    """One submitted command.

    Attributes
    ----------
    request : JobRequest
        What is asked for; the store has the document of the transformation.
    delivery : QueueDelivery
        What becomes of the results.
    text : str
        The shell text, for people.
    settings : dict
        What the command line said of the configuration.
    environment : dict
        The variables of the shell that count.
    upstream : list of str
        Keys of the jobs whose results it needs.
    id : str
        Its name among the entries; those that came first sort first.
    """

    request: JobRequest
    delivery: QueueDelivery
    text: str
    settings: dict[str, Any]
    environment: dict[str, str]
    upstream: list[str]
    id: str = ""

    @property
    def key(self) -> Checksum:
        """Of the transformation."""
        return self.request.key

    def to_file(self) -> bytes:
        """Return what stands in its file."""
        request, (directory, wanted, manner) = self.request, self.delivery
        options = request.options
        asked = [request.key, self.text, directory, options.to_json(), options.priority]
        return json.dumps([*asked, wanted, manner, request.need_bytes, *self[3:]]).encode()

    @classmethod
    def from_file(cls, data: bytes) -> QueueEntry:
        """Read what `to_file` returned.

        Raises
        ------
        ValueError, TypeError, UsageError, InvalidChecksum
            It is none.
        """
        key, text, directory, options, _, wanted, manner, need_bytes, *others = json.loads(data)
        request = JobRequest(Checksum(key), Options.from_json(options), need_bytes)
        return cls(request, QueueDelivery(directory, wanted, manner), text, *others)


class Failure(NamedTuple):
    """How an entry failed; `log` is the path of its log, `exit_status` that of the command if it ran."""

    id: str
    key: str
    text: str
    message: str
    exit_status: int | None
    log: str
