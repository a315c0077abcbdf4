"""How a daskserver is: what ``seamless-daskserver status`` shows, and whether anything goes on."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from distributed.diagnostics.plugin import SchedulerPlugin
from tornado.web import RequestHandler

from hashserver.errors import HashserverError

from .client import PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Scheduler

    from hashserver.client.transport import Transport

logger = logging.getLogger(__name__)

REMEMBERED = 20
STATES = ("processing", "waiting", "queued", "no-worker", "memory", "erred")
_OWN_CLIENTS = ("fire-and-forget", "Client-seamless-jobserver")
_OWN_ROUTES = ('route="metrics"', 'route="healthcheck"')


class Losses(SchedulerPlugin):
    """Takes note of workers that were lost: not told to go, and gone."""

    name = "seamless-losses"

    def __init__(self) -> None:
        self._found: list[LostWorker] = []
        self._names: dict[str, str] = {}

    @property
    def found(self) -> list[tuple[float, str]]:
        """When, and what to say."""
        return [(loss.when, str(loss)) for loss in self._found]

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Take note of what it is called."""
        self._names[worker] = str(scheduler.workers[worker].name)

    def log_event(self, topic: str, msg: Any) -> None:
        """Take note of a removal that nobody asked for."""
        if topic != "all" or not isinstance(msg, dict) or msg.get("action") != "remove-worker":
            return
        worker = str(msg.get("worker"))
        name = self._names.pop(worker, worker)
        if msg.get("expected"):
            return
        self._found.append(LostWorker(time.time(), worker, name, len(msg.get("processing-tasks") or ())))
        del self._found[:-REMEMBERED]

    def tell(self, name: str, how: str) -> None:
        """Say how a worker came to its end."""
        self._found = [loss._replace(how=how) if loss.name == name else loss for loss in self._found]


class LostWorker(NamedTuple):
    """One worker that was lost."""

    when: float
    worker: str
    name: str
    tasks: int
    how: str | None = None

    def __str__(self) -> str:
        cause = f" ({self.how})" if self.how else ""
        return f"worker {self.worker} was lost{cause} with {self.tasks} tasks assigned"


def install(scheduler: Scheduler, facts: Callable[[], dict[str, Any]], stop: Callable[[], None]) -> None:
    """Have the scheduler's HTTP server answer `PATH` with what `facts` returns, and DELETE with `stop`."""
    scheduler.http_application.add_handlers(r".*", [(PATH, _Facts, {"facts": facts, "stop": stop})])


class _Facts(RequestHandler):
    def initialize(self, facts: Callable[[], dict[str, Any]], stop: Callable[[], None]) -> None:
        """Keep what to ask."""
        self._facts, self._stop = facts, stop

    def get(self) -> None:
        """Answer with JSON."""
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(self._facts()))

    def delete(self) -> None:
        """End the daskserver; the guard lets those pass who may."""
        self.set_status(202)
        self.finish()
        self._stop()


def scheduler_facts(scheduler: Scheduler) -> dict[str, Any]:
    """Return what the scheduler has to do, and with whom."""
    tasks = dict.fromkeys(STATES, 0)
    for prefix in scheduler.task_prefixes.values():
        for state, number in prefix.states.items():
            if state in tasks:
                tasks[state] += number
    return {
        "address": scheduler.address,
        "tasks": tasks,
        "clients": sum(not name.startswith(_OWN_CLIENTS) for name in scheduler.clients),
        "workers": len(scheduler.workers),
        "threads": scheduler.total_nthreads,
    }


class Traffic:
    """Whether a hashserver is in use, by its own figures.

    Parameters
    ----------
    transport
        To ask it.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._seen = ""

    async def changed(self) -> bool:
        """Say whether anybody has asked it for anything since the last call; no answer is no traffic."""
        try:
            figures = await asyncio.to_thread(self._ask)
        except (HashserverError, OSError):
            return False
        before, self._seen = self._seen, figures
        return figures != before

    def _ask(self) -> str:
        with self._transport.request("GET", "/metrics") as response:
            lines = response.read().decode().splitlines()
        return "\n".join(
            line
            for line in lines
            if line.startswith(("hashserver_requests", "hashserver_received", "hashserver_sent"))
            and not any(route in line for route in _OWN_ROUTES)
        )


async def until_idle(
    limit: float, busy: Callable[[], bool], traffic: Traffic | None, scheduler: Scheduler
) -> None:
    """Return when nothing has gone on for `limit` seconds.

    Parameters
    ----------
    limit
        In seconds.
    busy
        Whether something waits that the scheduler does not know of.
    traffic
        Use of the hashserver; None for one that others use too.
    scheduler
        Knows since when it has had nothing to do.
    """
    last = time.time()
    while time.time() - last < limit:
        await asyncio.sleep(min(limit / 4, 5.0))
        if busy() or (traffic is not None and await traffic.changed()):
            last = time.time()
        else:
            last = max(last, scheduler.idle_since or time.time())
    logger.info("nothing to do for %.0f s: ending", limit)
