"""HTTP requests to the jobserver.

::

    POST   /jobs                    {"protocol": 1, "jobs": [{"key", "asker", "options", ...}]}
    GET    /jobs                    all that is under way, and what has ended last
    GET    /jobs/KEY?asker&wait&after     state of a job, once it is another one than `after`
    GET    /jobs/KEY/stderr?start&wait    what it writes to its standard error, from a place on
    DELETE /jobs/KEY?asker          one asks no more; without a name: nobody does

Who may send requests is seen to elsewhere, for everything that the scheduler's HTTP server offers.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

from tornado import web

from hashserver.checksum import Checksum
from hashserver.errors import InvalidChecksum

from ..errors import UsageError
from ..options import Options
from .jobprotocol import JSON_TYPE, OVER, PROTOCOL
from .journal import Asked

if TYPE_CHECKING:
    from distributed import Scheduler

    from .board import Job
    from .jobserver import Jobserver

MOST_JOBS = 10_000
MOST_BYTES = 32 << 20
LONGEST_WAIT = 60.0

_ASKER = re.compile(r"[\w.:+-]{1,200}")


def install(scheduler: Scheduler, jobserver: Jobserver) -> None:
    """Offer a jobserver on the scheduler's HTTP server."""
    given = {"jobserver": jobserver}
    routes = [
        (r"/jobs", Jobs, given),
        (r"/jobs/([^/]+)", OneJob, given),
        (r"/jobs/([^/]+)/stderr", Stderr, given),
    ]
    scheduler.http_application.add_handlers(".*$", routes)


class Handler(web.RequestHandler):
    """What all of them have in common: errors are one line of JSON."""

    def initialize(self, jobserver: Jobserver) -> None:
        """Take what `install` gives."""
        self.jobserver = jobserver

    def prepare(self) -> None:
        """Send everybody away who comes too late."""
        self.stay()

    def stay(self) -> None:
        """Raise an error once the jobserver is being closed: whoever waits is to look for the next one."""
        if self.jobserver.closing:
            raise self.refuse(503, "the daskserver is being stopped")

    async def change(self, job: Job, seconds: float) -> None:
        """Wait for a change of a job."""
        await job.changed(seconds)
        self.stay()

    def write_error(self, status_code: int, **facts: Any) -> None:
        """Answer with the reason."""
        error = facts.get("exc_info", (None, None))[1]
        reason = getattr(error, "log_message", None) or self._reason
        if self.jobserver.closing:
            self.set_header("Connection", "close")
        self.answer({"error": reason})

    def answer(self, document: object) -> None:
        """Answer with JSON."""
        self.set_header("Content-Type", JSON_TYPE)
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(document))

    def refuse(self, status: int, reason: str) -> web.HTTPError:
        """Return the error to raise."""
        return web.HTTPError(status, reason.replace("%", "%%"))

    def number(self, name: str, most: float) -> float:
        """Return an argument that is a number from 0 on."""
        try:
            value = float(self.get_query_argument(name, "0"))
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise self.refuse(400, f"{name} must be a number")
        return min(value, most)

    def job(self, text: str, asker: str | None = None) -> Job:
        """Return the job that a request is about."""
        try:
            key = Checksum(text)
        except InvalidChecksum as error:
            raise self.refuse(400, str(error)) from None
        job = self.jobserver.board.find(key, asker)
        if job is None:
            raise self.refuse(404, f"nobody has asked for {key} here")
        return job

    def facts(self, job: Job, asker: str | None = None) -> dict[str, Any]:
        """Return what there is to say of a job."""
        return job.facts("" if job.outcome else self.jobserver.state(job), asker)


class Jobs(Handler):
    """All jobs."""

    def get(self) -> None:
        """Tell of all."""
        self.answer({"protocol": PROTOCOL, "jobs": [self.facts(job) for job in self.jobserver.board.all()]})

    def post(self) -> None:
        """Take jobs on."""
        # a form of another page cannot send this type without asking first
        if self.request.headers.get("Content-Type", "").partition(";")[0] != JSON_TYPE:
            raise self.refuse(415, f"the body must be of type {JSON_TYPE}")
        if len(self.request.body) > MOST_BYTES:
            raise self.refuse(413, f"more than {MOST_BYTES} bytes at once: send fewer jobs")
        try:
            document = json.loads(self.request.body)
            jobs = document["jobs"]
            asked = [asked_of(one) for one in jobs] if self._speaks(document.get("protocol")) else []
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self.refuse(400, f"not a request of the jobserver: {error!r}") from None
        except (UsageError, InvalidChecksum) as error:
            raise self.refuse(400, str(error)) from None
        if len(asked) > MOST_JOBS:
            raise self.refuse(413, f"more than {MOST_JOBS} jobs at once: send fewer")
        placed = self.jobserver.post(asked)
        pairs = zip(placed, asked, strict=True)
        self.answer({"protocol": PROTOCOL, "jobs": [self.facts(job, one.asker) for job, one in pairs]})

    def _speaks(self, protocol: object) -> bool:
        if protocol != PROTOCOL:
            number = protocol if isinstance(protocol, int) else 0
            raise self.refuse(
                409,
                f"the client speaks protocol {number} of the jobserver, this daskserver {PROTOCOL}:"
                " install the same version of seamless-dask on both",
            )
        return True


class OneJob(Handler):
    """One job."""

    async def get(self, text: str) -> None:
        """Tell its state, as soon as it is another one."""
        asker = self.get_query_argument("asker", None)
        wait, after = self.number("wait", LONGEST_WAIT), self.get_query_argument("after", "")
        job = self.job(text, asker)
        facts = self.facts(job, asker)
        loop = asyncio.get_running_loop()
        end = loop.time() + wait
        while facts["state"] == after and loop.time() < end:
            await self.change(job, end - loop.time())
            facts = self.facts(job, asker)
        if facts["outcome"] and asker is not None:
            self.jobserver.board.told(asker)
        self.answer(facts)

    def delete(self, text: str) -> None:
        """Let one ask no more, or everybody; the answer names those who are left."""
        asker = self.get_query_argument("asker", None)
        job = self.job(text, asker)
        if asker is None:
            self.answer({"cancelled": self.jobserver.cancel(job), "askers": []})
        else:
            self.jobserver.withdraw(job, asker)
            left = [name for name, asked in job.waiting.items() if not asked.detached]
            self.answer({"cancelled": job.outcome is not None, "askers": left})


class Stderr(Handler):
    """What a job writes to its standard error."""

    async def get(self, text: str) -> None:
        """Send what there is from a place on, as soon as there is something."""
        asker = self.get_query_argument("asker", None)
        start, wait = int(self.number("start", 1 << 62)), self.number("wait", LONGEST_WAIT)
        job = self.job(text, asker)
        loop = asyncio.get_running_loop()
        end = loop.time() + wait
        while not (found := written(job, start)) and not is_over(job) and loop.time() < end:
            await self.change(job, end - loop.time())
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header(OVER, "1" if is_over(job) else "0")
        self.finish(found)


def written(job: Job, start: int) -> bytes:
    """Return what a job has written to its standard error from a place on."""
    return job.stream.read(start) if job.stream is not None else b""


def is_over(job: Job) -> bool:
    """Say whether it writes nothing more."""
    return job.outcome is not None or (job.stream is not None and job.stream.over)


def asked_of(one: Any) -> Asked:
    """Read one job of a post."""
    wishes = {name: one.get(name, False) for name in ("need_bytes", "fresh", "detached")}
    if not all(isinstance(value, bool) for value in wishes.values()):
        raise TypeError("need_bytes, fresh and detached are true or false")
    if not isinstance(one["asker"], str) or not _ASKER.fullmatch(one["asker"]):
        raise TypeError("a name of an asker has up to 200 letters, digits and .:+-_")
    options = Options.from_json(json.dumps(one.get("options", {})))
    return Asked(one["asker"], Checksum(one["key"]), options, **wishes)
