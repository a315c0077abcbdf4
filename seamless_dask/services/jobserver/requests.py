"""What can be asked of the jobserver, whichever way the question comes.

::

    POST   /jobs                    {"protocol": 1, "jobs": [{"key", "asker", "options", ...}]}
    GET    /jobs                    all that is under way, and what has ended last
    GET    /jobs/KEY?asker&wait&after     state of a job, once it is another one than `after`
    GET    /jobs/KEY/stderr?start&wait    what it writes to its standard error, from a place on
    DELETE /jobs/KEY?asker          one asks no more; without a name: nobody does

Who may ask is seen to by those who pass the questions on.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

from hashserver.checksum import Checksum
from hashserver.errors import InvalidChecksum

from ...errors import UsageError
from ...jobs.request import requests_in
from ...protocol.jobs import JSON_TYPE, LONGEST_WAIT, NEXT, OVER, PROTOCOL, Refused, unknown
from . import waits
from .waits import refuse_closing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...jobs.registry import Job
    from .jobserver import Jobserver

MOST_BYTES = 32 << 20

_PATH = re.compile(r"/jobs(?:/([^/]+)(/stderr)?)?")


class JobAnswer(NamedTuple):
    """Status as in HTTP, body and its type, further headers."""

    status: int
    body: bytes
    kind: str = JSON_TYPE
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


async def answer(jobserver: Jobserver, method: str, path: str, query: str, body: bytes) -> JobAnswer:
    """Answer one request.

    Parameters
    ----------
    method, path, query
        As in HTTP, the query without its question mark.
    body
        Of a post.
    """
    try:
        return await _Request(jobserver, query).answer(method, path, body)
    except Refused as error:
        return _json({"error": str(error)}, error.status)


class _Request:
    """One request."""

    def __init__(self, jobserver: Jobserver, query: str) -> None:
        self._jobserver = jobserver
        self._query = {name: values[-1] for name, values in parse_qs(query).items()}
        self._asker = self._query.get("asker")

    async def answer(self, method: str, path: str, body: bytes) -> JobAnswer:
        refuse_closing(self._jobserver)
        found = _PATH.fullmatch(path)
        key, stderr = found.groups() if found else ("", None)
        if method == "POST" and key is None:
            return _json(self._post(body))
        if method == "GET" and key is None:
            return _json({"protocol": PROTOCOL, "jobs": self._jobserver.facts_of_all()})
        if method == "GET" and key:
            job = self._job(key)
            return await self._stderr(job) if stderr else _json(await self._state(job))
        if method == "DELETE" and key and not stderr:
            return _json(self._delete(self._job(key)))
        raise Refused(405, f"{method} {path} is nothing that a jobserver does")

    def _post(self, body: bytes) -> dict[str, Any]:
        """Take jobs on."""
        if len(body) > MOST_BYTES:
            raise Refused(413, f"more than {MOST_BYTES} bytes at once: send fewer jobs")
        requests = requests_in(body)
        try:
            placed = self._jobserver.post(requests)
        except UsageError as error:
            raise Refused(400, str(error)) from None
        pairs = zip(placed, requests, strict=True)
        jobs = [waits.facts(self._jobserver, job, one.asker, brief=True) for job, one in pairs]
        return {"protocol": PROTOCOL, "jobs": jobs}

    async def _state(self, job: Job) -> dict[str, Any]:
        seconds, after = self._number("wait", LONGEST_WAIT), self._query.get("after", "")
        return await waits.changed_facts(self._jobserver, job, self._asker, after, seconds)

    def _delete(self, job: Job) -> dict[str, Any]:
        """Let one ask no more, or everybody; the answer names those who are left."""
        if self._asker is None:
            return {"cancelled": self._jobserver.cancel(job), "askers": []}
        self._jobserver.withdraw(job, self._asker)
        left = [name for name, request in job.waiting.items() if not request.detached]
        return {"cancelled": job.outcome is not None, "askers": left}

    async def _stderr(self, job: Job) -> JobAnswer:
        """Send what a command has written from a place on, as soon as there is something."""
        start = int(self._number("start", 1 << 62))
        found = await waits.stderr(self._jobserver, job, start, self._number("wait", LONGEST_WAIT))
        size = job.stream.size if job.stream is not None else 0
        headers = {OVER: "1" if waits.is_over(job) else "0", NEXT: str(max(start, size))}
        return JobAnswer(200, found, "application/octet-stream", headers)

    def _number(self, name: str, most: float) -> float:
        """Return an argument that is a number from 0 on."""
        try:
            value = float(self._query.get(name, "0"))
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise Refused(400, f"{name} must be a number")
        return min(value, most)

    def _job(self, text: str) -> Job:
        try:
            key = Checksum(text)
        except InvalidChecksum as error:
            raise Refused(400, str(error)) from None
        job = self._jobserver.registry.find(key, self._asker)
        if job is None:
            raise unknown(key)
        return job


def _json(document: Mapping[str, Any], status: int = 200) -> JobAnswer:
    return JobAnswer(status, json.dumps(document).encode())
