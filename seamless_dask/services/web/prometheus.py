"""What the plugin has seen, among the figures that Dask's scheduler has for Prometheus at ``/metrics``.

They are written after Dask's own and are not registered anywhere, so that several schedulers in one process
each tell of themselves. Without the package ``prometheus_client`` Dask has no figures, and neither have we.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...scheduler.dask import http
from ...scheduler.statistics import counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Scheduler

_COUNTERS = {
    "hits": "Transformations that were known when their graph came.",
    "misses": "Transformations that were not known when their graph came.",
    "late_hits": "Transformations whose result appeared while they waited.",
    "cut": "Transformations that turned out to be known once their inputs were.",
    "pruned": "Tasks that only what is known would have needed.",
    "done": "Transformations that workers have run.",
    "failed": "Transformations that workers have run and that failed.",
}


def install(scheduler: Scheduler, setting: str) -> None:
    """Add the figures to those of a scheduler.

    Parameters
    ----------
    setting
        The name by which the scheduler's HTTP application keeps the page's `Gathering`.
    """
    base: Any = http.metrics_handler()
    if base is None:
        return

    class MetricsPage(base):  # type: ignore[misc]
        """Dask's figures and ours."""

        def get(self) -> None:
            """Send them."""
            super().get()
            self.write(text(self.application.settings[setting]))

    path = http.http_prefix(scheduler) + "/metrics"
    scheduler.http_application.add_handlers(r".*$", [(path, MetricsPage, {"dask_server": scheduler})])


def text(gathering: Any) -> bytes:
    """Return our figures in the format of Prometheus."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(gathering))
    return generate_latest(registry)


class _Collector:
    def __init__(self, gathering: Any) -> None:
        self._gathering = gathering

    def collect(self) -> Iterator[Any]:
        """Return the figures; none before the plugin has started."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        snapshot = self._gathering.snapshot()
        if snapshot is None:
            return
        numbers = counts(snapshot)
        for name, meaning in _COUNTERS.items():
            yield CounterMetricFamily(f"seamless_{name}", meaning, value=numbers[name])
        for name, value in self._gathering.traffic.total()._asdict().items():
            yield CounterMetricFamily(
                f"seamless_{name}_bytes", f"Bytes of buffers that workers have {name}.", value=value
            )
        yield CounterMetricFamily(
            "seamless_lookup_requests", "Requests to the result database.", value=snapshot.get("requests", 0)
        )
        yield GaugeMetricFamily(
            "seamless_running", "Commands that run.", value=len(snapshot.get("running", ()))
        )
        yield GaugeMetricFamily(
            "seamless_database_up",
            "Whether the result database answers.",
            value=float(snapshot.get("database_trouble") is None),
        )
