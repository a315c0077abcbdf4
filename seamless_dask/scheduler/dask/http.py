"""The HTTP server of the scheduler and of workers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .assumptions import must

if TYPE_CHECKING:
    pass


def check_http(scheduler: Any) -> None:
    """Try what this section takes for granted.

    Raises
    ------
    NotAsAssumed
        It says what does not hold.
    """
    must(callable(getattr(scheduler.http_application, "add_handlers", None)), "pages are served otherwise")
    must(hasattr(scheduler.http_server, "request_callback"), "HTTP requests are answered otherwise")
    names = http_pages(scheduler)
    must(
        isinstance(names, list) and all(isinstance(name, str) for name in names), "the dashboard has no menu"
    )


def intercept_http(server: Any, wrap: Callable[[Any], Any]) -> None:
    """Have each request of a scheduler or worker go to what `wrap` makes of its application.

    ``http_server`` is a Tornado server, which asks its ``request_callback`` for each request.
    """
    must(hasattr(server.http_server, "request_callback"), "HTTP requests are answered otherwise")
    server.http_server.request_callback = wrap(server.http_server.request_callback)


def limit_http_silence(server: Any, seconds: float) -> None:
    """Bound the time in which a connection has to send the head of its next request."""
    server.http_server.conn_params.header_timeout = seconds


def http_prefix(scheduler: Any) -> str:
    """Return what stands before all paths of the dashboard, such as ``/cluster``.

    Bokeh's application, one of `RoutingApplication.applications`, was given it.
    """
    prefixes = [getattr(app, "prefix", "") for app in scheduler.http_application.applications]
    return next((prefix.rstrip("/") for prefix in prefixes if prefix), "")


def http_pages(scheduler: Any) -> list[str]:
    """Return the menu of Dask's dashboard; all pages share this list. It is empty without a dashboard.

    `Scheduler` imports this module when it has one; it is not imported here: 20 MiB, for Bokeh.
    """
    dashboard = sys.modules.get("distributed.dashboard.scheduler")
    if dashboard is None:
        return []
    pages: list[str] = dashboard.template_variables(scheduler)["pages"]
    return pages


def metrics_handler() -> Any:
    """Return the class that answers ``/metrics``; None when there are no figures for want of a package."""
    from distributed.http.prometheus import PrometheusNotAvailableHandler
    from distributed.http.scheduler.prometheus import routes

    handler = routes[0][1]
    return None if handler is PrometheusNotAvailableHandler else handler
