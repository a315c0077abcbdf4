"""Figures for Prometheus, in its text format."""

from __future__ import annotations

import os
import time

_PREFIX = "hashserver_"
_HELP = {
    "requests_total": ("counter", "Requests by route and status."),
    "received_bytes_total": ("counter", "Bytes of buffers that arrived."),
    "sent_bytes_total": ("counter", "Bytes of buffers that were sent."),
    "lookups_total": ("counter", "Transformations looked up, by outcome."),
    "direct_hits_total": ("counter", "Known results that were asked for together with their bytes."),
    "corrupt_total": ("counter", "Buffers that were put into quarantine."),
    "start_time_seconds": ("gauge", "When the server started."),
    "resident_memory_bytes": ("gauge", "Memory of the server."),
}


class ServerMetrics:
    """Counters; all methods are for the thread of the event loop."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        self.sent = self.received = self.hits = self.misses = self.direct = self.corrupt = 0
        self._started = time.time()

    def request(self, route: str, status: int) -> None:
        """Count a request."""
        key = (route, status)
        self.requests[key] = self.requests.get(key, 0) + 1

    def text(self) -> bytes:
        """Return all figures as Prometheus reads them."""
        requests = {
            f'{{route="{route}",status="{status}"}}': count
            for (route, status), count in sorted(self.requests.items())
        }
        figures: dict[str, dict[str, float]] = {
            "requests_total": dict(requests),
            "received_bytes_total": {"": self.received},
            "sent_bytes_total": {"": self.sent},
            "lookups_total": {'{outcome="hit"}': self.hits, '{outcome="miss"}': self.misses},
            "direct_hits_total": {"": self.direct},
            "corrupt_total": {"": self.corrupt},
            "start_time_seconds": {"": self._started},
            "resident_memory_bytes": {"": _resident()},
        }
        return "".join(_family(name, values) for name, values in figures.items()).encode()


def _family(name: str, values: dict[str, float]) -> str:
    kind, text = _HELP[name]
    lines = [f"# HELP {_PREFIX}{name} {text}", f"# TYPE {_PREFIX}{name} {kind}"]
    lines += [f"{_PREFIX}{name}{labels} {value}" for labels, value in values.items()]
    return "\n".join(lines) + "\n"


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
