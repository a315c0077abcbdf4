"""What answers a command of this host that asks for computations: this process, and others that it starts."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hashserver.auth import WRITE, Token
from hashserver.checksum import Checksum
from hashserver.client.store import find_token
from hashserver.results.database import Database
from hashserver.server.application import HashserverApplication
from hashserver.server.service import Service
from seamless_dask.jobs.command_requests import answered, start_of, wait_of, withdrawn
from seamless_dask.jobs.confinement import confined
from seamless_dask.jobs.local import PATIENCE, LocalRequest
from seamless_dask.jobs.request import requests_in
from seamless_dask.jobs.withdrawal import Withdrawal
from seamless_dask.model import outcomes
from seamless_dask.model.options import Options
from seamless_dask.protocol.jobs import PROTOCOL, unknown

from .gateway import PAUSE, Gateway, bounds_of, serve
from .http import CommandApplication, Hashserver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from hashserver.server.connection import Protocols
    from seamless_dask.context import Context
    from seamless_dask.jobs.request import JobRequest

    from .command_socket import CommandSocket
    from .http import AnswersRequests, Ask

MOST_STDERR = 16 << 20
"""Bytes of what a job writes that are kept for the command."""


class Serving:
    """An event loop in a thread, and what answers in it.

    Parameters
    ----------
    context, bounded, outer, given, place
        As of `seamless_dask.worker.nested.local.LocalGateway`.
    """

    def __init__(
        self, context: Context, bounded: bool, outer: Checksum, given: Options, place: CommandSocket
    ) -> None:
        self._context = context
        self._service: Service | None = None
        self._loop = asyncio.new_event_loop()
        self._jobs = NestedJobs(context, outer, bounded, self._loop)
        runs = "", outer, bounds_of(given)
        self.gateway = Gateway(self._loop, self._jobs.request, self._protocols, runs, place)
        self._listen()
        self._thread = threading.Thread(target=serve, args=(self._loop,), name="seamless-nested", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all of it; what nobody else waits for is stopped by then, as far as that goes quickly."""
        self._loop.call_soon_threadsafe(self._loop.remove_reader, self.gateway.fileno())
        self.gateway.close()
        self._jobs.withdraw()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        if self._service is not None:
            self._service.end_threads()

    def _listen(self) -> None:
        self._loop.add_reader(self.gateway.fileno(), self._accept)

    def _accept(self) -> None:
        if not self.gateway.accept():  # it has as many connections as it may have
            self._loop.remove_reader(self.gateway.fileno())
            self._loop.call_later(PAUSE, self._listen)

    def _protocols(self, token: str, ask: Ask) -> Protocols:
        return CommandApplication(token, self._hashserver(token), ask).protocols()

    def _hashserver(self, token: str) -> AnswersRequests:
        config, database = self._context.config, self._context.database
        if not isinstance(database, Database):
            found = config.credential(config.database)
            known = find_token(found.token_file)
            return Hashserver(config.database, None if known is None else known.secret, found.ca_file)
        self._service = Service(self._context.store, database, [Token(WRITE, token)])
        return OwnHashserver(self._service)


class OwnHashserver:
    """The store and the database of this process, as a hashserver.

    Parameters
    ----------
    service
        Both of them.
    """

    def __init__(self, service: Service) -> None:
        self._handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
        self._handle = HashserverApplication(service).handle

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        return await self._handle(request)


class NestedJobs:
    """The jobs that the command of one run has asked for, as a jobserver has them.

    Parameters
    ----------
    context
        Store and database.
    outer
        The job whose command it is.
    bounded
        As of `LocalRequest`.
    loop
        In which requests are answered.
    """

    def __init__(
        self, context: Context, outer: Checksum, bounded: bool, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._context, self._outer, self._bounded, self._loop = context, outer, bounded, loop
        self._asked: dict[str, NestedJob] = {}

    async def request(
        self,
        method: str,
        key: str = "",
        asker: str = "",
        body: bytes = b"",
        sandboxed: bool = True,
        given: str = "{}",
        **facts: Any,
    ) -> dict[str, Any]:
        """Answer a command; parameters and answer as of a scheduler's jobserver for commands."""

        async def answer() -> dict[str, Any]:
            if method == "POST":
                return {"body": self._post(body, Options.from_json(given) if sandboxed else None)}
            return await self._about(method, Checksum(key), asker, facts)

        told = await answered(answer())
        return {**told, "waiting": any(job.is_waited_for for job in self._asked.values())}

    def withdraw(self) -> None:
        """Ask no more for what the command has waited for."""
        end, jobs = time.monotonic() + PATIENCE, list(self._asked.values())
        for job in jobs:
            if job.is_waited_for:
                job.withdrawal.ask()
        for job in jobs:  # one that is not waited for may not have been started yet
            job.withdrawal.over.wait(max(0.0, end - time.monotonic()))

    def _post(self, body: bytes, bounds: Options | None) -> dict[str, Any]:
        asked = requests_in(body, "who runs the command")
        if bounds is not None:
            asked = [one._replace(options=confined(one.options, bounds)) for one in asked]
        jobs = []
        for one in asked:
            if one.asker not in self._asked:
                self._asked[one.asker] = self._start(one)
            jobs.append(self._asked[one.asker].facts())
        return {"protocol": PROTOCOL, "jobs": jobs}

    def _start(self, asked: JobRequest) -> NestedJob:
        shows = asked.options.direct_print  # its standard error, that is
        options = asked.options._replace(direct_print=False)
        asked = asked._replace(asker="", options=options, outer=self._outer)
        request = LocalRequest(self._context, asked, bounded=self._bounded, kept=True)
        return NestedJob(request, self._loop, shows)

    async def _about(self, method: str, key: Checksum, asker: str, facts: dict[str, Any]) -> dict[str, Any]:
        job = self._asked.get(asker)
        if job is None or job.key != key:
            raise unknown(key)
        if method == "DELETE":
            del self._asked[asker]
            job.withdrawal.ask()
            return withdrawn(job.outcome is not None)
        if method == "STDERR":
            start = start_of(facts)
            await job.changes(lambda: job.outcome is not None or len(job.stderr) > start, wait_of(facts))
            return {"body": bytes(job.stderr[start:]), "over": job.outcome is not None}
        after = str(facts.get("after", ""))
        await job.changes(lambda: job.state != after, wait_of(facts))
        return {"body": job.facts()}


class NestedJob:
    """A job that a command has asked for, and the thread that waits for it.

    Parameters
    ----------
    request
        The one who asks in its place.
    loop
        In which others are told of what has changed.
    shows
        Whether the command wants to see what it writes to its standard error.

    Attributes
    ----------
    state : str
        ``running``, ``queued``, or how it ended.
    outcome : dict or None
        How it ended.
    stderr : bytearray
        What it has written there.
    """

    def __init__(self, request: LocalRequest, loop: asyncio.AbstractEventLoop, shows: bool) -> None:
        self.key, self.state = request.request.key, "running"
        self.outcome: outcomes.Outcome | None = None
        self.stderr = bytearray()
        self.withdrawal = Withdrawal()
        self._request, self._loop, self._shows = request, loop, shows
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._wait, name="seamless-nested-job", daemon=True)
        self._thread.start()

    @property
    def is_waited_for(self) -> bool:
        """Whether the command waits for it."""
        return self.outcome is None and not self._request.request.detached

    def facts(self) -> dict[str, Any]:
        """Return what whoever waits is told."""
        return {"key": self.key, "state": self.state, "outcome": self.outcome}

    async def changes(self, has_changed: Callable[[], bool], seconds: float) -> None:
        """Return when something holds, or after some time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not has_changed():
                    self._changed.clear()
                    await self._changed.wait()

    def _wait(self) -> None:
        show = self._write if self._shows else None
        try:
            if self._request.request.detached:
                self._request.start()
                return
            outcome = outcomes.success(self._waited(show))
        except Exception as error:
            outcome = outcomes.failure(error)
        finally:
            self.withdrawal.over.set()
        self._tell(lambda: self._end(outcome))

    def _waited(self, show: Callable[[bytes], None] | None) -> Any:
        """Return the value, having withdrawn if the command does not wait any more."""
        request = self._request
        try:
            self.withdrawal.check()
            return request.start().wait(show, self._change, self.withdrawal)
        finally:
            if self.withdrawal.is_asked_for():
                request.withdraw()

    def _write(self, data: bytes) -> None:
        def add() -> None:
            self.stderr.extend(data[: MOST_STDERR - len(self.stderr)])
            self._changed.set()

        self._tell(add)

    def _change(self, state: str) -> None:
        def change() -> None:
            self.state = state
            self._changed.set()

        self._tell(change)

    def _end(self, outcome: outcomes.Outcome) -> None:
        self.outcome, self.state = outcome, "done" if "value" in outcome else "failed"
        self._changed.set()

    def _tell(self, change: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody asks any more
            self._loop.call_soon_threadsafe(change)
