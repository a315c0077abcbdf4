"""The Seamless page beside Dask's dashboard: ``/seamless`` on the scheduler's HTTP server.

Nothing on it comes from another server. What users have written (labels, standard error) is only ever text.
"""

from __future__ import annotations

import gzip
import html
import json
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from tornado import web

from ...graph.names import label_in
from ...model import requirements
from ...scheduler.dask import http
from ...scheduler.retries import is_ours
from ...scheduler.statistics import counts
from . import prometheus, traffic
from .assets import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from distributed import Scheduler

NAME = "seamless"
"""Of the page, of its entry in the dashboard's menu and of what its application keeps."""
EVERY = 1.0
"""Seconds for which what was gathered is shown to everybody, and after which a page asks again."""
SHARE = 0.02
"""Of the scheduler's time that goes into gathering, at most."""
MOST = 200
"""Rows of one table."""
_FILES = {"page.js": "text/javascript", "page.css": "text/css", "icon.svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def install(scheduler: Scheduler, plugin: Any) -> None:
    """Add the page, its entry in Dask's menu, and the figures for Prometheus.

    It may be called again, also with another plugin.

    Raises
    ------
    NotAsAssumed
        If the HTTP server is not as this version of the package knows it.
    """
    http.check_http(scheduler)
    settings = scheduler.http_application.settings
    is_new = NAME not in settings
    counted = settings[NAME].traffic if not is_new else traffic.BufferTraffic(scheduler)
    before = settings.get(NAME)
    settings[NAME] = Gathering(scheduler, plugin, counted)
    settings[NAME].direct = before and before.direct
    if not is_new:
        return
    scheduler.add_plugin(counted)
    base = http.http_prefix(scheduler) + "/seamless"
    scheduler.http_application.add_handlers(
        r".*$",
        [
            (base, Page),
            (base + "/", web.RedirectHandler, {"url": base}),
            (base + r"/data\.json", Data),
            (base + f"/({'|'.join(_FILES)})", Asset),
        ],
    )
    pages = http.http_pages(scheduler)
    if NAME not in pages:
        pages.append(NAME)
    prometheus.install(scheduler, NAME)


class Gathering:
    """What the page shows, gathered at most once a second however many look at it."""

    def __init__(self, scheduler: Scheduler, plugin: Any, counted: traffic.BufferTraffic) -> None:
        self.scheduler, self.plugin, self.traffic = scheduler, plugin, counted
        self.direct: Callable[[], int] | None = None
        """Tells how many results were found without the scheduler, where that is known."""
        self._until, self._made, self._packed = 0.0, b"", b""

    def json(self, is_packed: bool) -> bytes:
        """Return the page's facts as JSON, packed by gzip on request: a hundred standard errors are long."""
        begin = time.monotonic()
        if begin >= self._until:
            self._made = json.dumps(self.facts()).encode()
            self._packed = gzip.compress(self._made, 1)
            end = time.monotonic()
            self._until = end + max(EVERY, (end - begin) / SHARE)
        return self._packed if is_packed else self._made

    def snapshot(self) -> dict[str, Any] | None:
        """Return what the plugin has seen; None before it has started."""
        statistics = getattr(self.plugin, "statistics", None)
        return None if statistics is None else statistics.snapshot()

    def facts(self) -> dict[str, Any]:
        """Return all that the page shows."""
        snapshot = self.snapshot() or {}
        running = sorted(snapshot.get("running", ()), key=lambda one: -one.get("wall", 0))
        waiting = [*snapshot.get("waiting", ()), *unmet(self.scheduler, snapshot.get("waiting", ()))]
        names = {address: str(ws.name) for address, ws in self.scheduler.workers.items()}
        failures = [_with_worker(one, names) for one in reversed(snapshot.get("failures", ()))]
        return {
            "time": time.time(),
            "since": snapshot.get("started"),
            "scheduler": self.scheduler.address,
            "workers": len(self.scheduler.workers),
            "threads": self.scheduler.total_nthreads,
            "stepped_aside": snapshot.get("stepped_aside"),
            "counts": counts(snapshot) | ({"direct": self.direct()} if self.direct else {}),
            "states": snapshot.get("states", {}),
            "database": {
                "trouble": snapshot.get("database_trouble"),
                "requests": snapshot.get("requests", 0),
                "keys": snapshot.get("keys_asked", 0),
            },
            "moved": self.traffic.total()._asdict(),
            "running": {"number": len(running), "rows": running[:MOST]},
            "waiting": waiting[:MOST],
            "failures": failures[:MOST],
            "nodes": nodes(self.scheduler),
            "unequipped": _unequipped(snapshot.get("unequipped", {}), names),
        }


def unmet(scheduler: Scheduler, told: Iterable[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """Yield the transformations that no worker can take for want of what they ask for.

    Parameters
    ----------
    told
        Those of which the reason is known already.
    """
    known = {one["key"] for one in told}
    for ts in islice(scheduler.unrunnable, MOST):
        key = str(ts.key)
        if is_ours(ts.key) and key not in known and ts.resource_restrictions:
            wants = requirements.told(ts.resource_restrictions, " ")
            why = f"no worker offers what it asks for: {wants}"
            yield {"key": key, "label": label_in(key), "why": why}


def nodes(scheduler: Scheduler) -> list[dict[str, Any]]:
    """Return the nodes that have workers of ours, each with its cache and its workers' traffic."""
    found: dict[str, dict[str, Any]] = {}
    for address, ws in scheduler.workers.items():
        told = ws.metrics.get("seamless")
        if told is None:
            continue
        # the workers of a node share its cache: whoever is asked says the same
        cache = {name: told.get(f"cache_{name}", 0) for name in ("bytes", "files", "limit")}
        node = found.setdefault(_node(ws), {"cache": cache, "workers": []})
        bytes_ = traffic.of(ws)
        facts = {"name": str(ws.name), "address": address, "running": len(told.get("running", ()))}
        node["workers"].append(facts | {"threads": ws.nthreads} | bytes_._asdict())
    return [{"node": name, **found[name]} for name in sorted(found)]


def _node(ws: Any) -> str:
    """Return the name of a worker's host, which it announces as a resource."""
    prefix = requirements.NODE
    names = [name.removeprefix(prefix) for name in ws.resources if name.startswith(prefix)]
    return names[0] if names else str(ws.host)


def _with_worker(failure: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    worker = failure.get("worker")
    return {**failure, "worker_name": names.get(worker or "", worker)}


def _unequipped(found: dict[str, Any], names: dict[str, str]) -> list[dict[str, str]]:
    return [
        {"worker": address, "name": names[address], "why": str(why)}
        for address, why in found.items()
        if address in names
    ]


class _Handler(web.RequestHandler):
    def set_default_headers(self) -> None:
        """Let a browser take nothing from elsewhere, and keep nothing."""
        for name, value in {
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Cache-Control": "no-store",
        }.items():
            self.set_header(name, value)

    @property
    def gathering(self) -> Gathering:
        found: Gathering = self.application.settings[NAME]
        return found


class Page(_Handler):
    """The page itself; a script fills it."""

    def get(self) -> None:
        """Send it, with the menu of Dask's dashboard."""
        pages = http.http_pages(self.gathering.scheduler)
        menu = "".join(
            f'<li><a href="{html.escape(name)}"{_current(name)}>{html.escape(name.title())}</a></li>'
            for name in pages or [NAME]
        )
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(text("page.html").replace("@EVERY@", str(EVERY)).replace("@MENU@", menu))


def _current(name: str) -> str:
    return ' aria-current="page"' if name == NAME else ""


class Data(_Handler):
    """What the script shows."""

    def get(self) -> None:
        """Send it."""
        is_packed = "gzip" in self.request.headers.get("Accept-Encoding", "")
        if is_packed:
            self.set_header("Content-Encoding", "gzip")
        self.set_header("Content-Type", "application/json")
        self.finish(self.gathering.json(is_packed))


class Asset(_Handler):
    """Script and style."""

    def get(self, name: str) -> None:
        """Send one."""
        self.set_header("Cache-Control", "no-cache")
        self.set_header("Content-Type", f"{_FILES[name]}; charset=utf-8")
        self.finish(text(name))
