"""The two ways to the jobserver: plain HTTP, and Dask's own protocol.

Who may send requests is seen to elsewhere: HTTP has the guard of all that the scheduler's HTTP server
offers; who speaks to the scheduler itself can have it run anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tornado import web

from ...protocol.jobs import JSON_TYPE, OPERATION
from . import requests

if TYPE_CHECKING:
    from distributed import Scheduler

    from .jobserver import Jobserver


def offer_http(scheduler: Scheduler, jobserver: Jobserver) -> None:
    """Offer a jobserver on the scheduler's HTTP server."""
    route = (r"/jobs(?:/.*)?", Handler, {"jobserver": jobserver})
    scheduler.http_application.add_handlers(".*$", [route])


def offer_dask(scheduler: Scheduler, jobserver: Jobserver) -> None:
    """Offer a jobserver to those who speak to the scheduler."""

    async def answer(method: str, path: str, query: str, body: bytes = b"") -> dict[str, Any]:
        return (await requests.answer(jobserver, method, path, query, body))._asdict()

    scheduler.handlers[OPERATION] = answer


def withdraw_dask(scheduler: Scheduler) -> None:
    """Offer it no more."""
    scheduler.handlers.pop(OPERATION, None)


class Handler(web.RequestHandler):
    """Passes requests on."""

    def initialize(self, jobserver: Jobserver) -> None:
        """Take what `offer_http` gives."""
        self._jobserver = jobserver

    async def get(self) -> None:
        """Tell of jobs."""
        await self._pass_on()

    async def delete(self) -> None:
        """Withdraw from a job."""
        await self._pass_on()

    async def post(self) -> None:
        """Take jobs on."""
        # a form of another page cannot send this type without asking first
        if self.request.headers.get("Content-Type", "").partition(";")[0] != JSON_TYPE:
            raise web.HTTPError(415, f"the body must be of type {JSON_TYPE}")
        await self._pass_on()

    async def _pass_on(self) -> None:
        request = self.request
        found = await requests.answer(
            self._jobserver, request.method or "", request.path, request.query, request.body
        )
        if self._jobserver.closing:
            self.set_header("Connection", "close")
        for name, value in found.headers.items():
            self.set_header(name, value)
        self.set_status(found.status)
        self._finish(found.body, found.kind)

    def write_error(self, status_code: int, **facts: Any) -> None:
        """Answer with the reason, in one line of JSON."""
        import json

        error = facts.get("exc_info", (None, None))[1]
        reason = getattr(error, "log_message", None) or self._reason
        self._finish(json.dumps({"error": reason}).encode(), JSON_TYPE)

    def _finish(self, body: bytes, kind: str) -> None:
        self.set_header("Content-Type", kind)
        self.set_header("Cache-Control", "no-store")
        self.finish(body)
