"""What the plugin has seen: for the page, for ``seamless-status`` and for Prometheus."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from ..graph.names import label_in
from .retries import TOPIC, is_ours

if TYPE_CHECKING:
    from .parts import PluginParts

KEPT = 100
"""Failures, and transformations that ended, of which the particulars are kept."""
TAIL = 4096
"""Characters of a standard error that are kept."""


class Statistics:
    """One for a scheduler.

    Attributes
    ----------
    hits, misses : int
        Transformations that were known, or not, when their graph came.
    late_hits : int
        Those of which the result appeared while they waited: asked for again, or found by a worker. In the
        snapshot those too that waited for another run of the same.
    pruned : int
        Tasks that never came into being, because only what is known needs them.
    done, failed : int
        Transformations that workers have run.
    """

    def __init__(self, plugin: PluginParts) -> None:
        self._plugin = plugin
        self.hits = self.misses = self.late_hits = self.pruned = self.done = self.failed = 0
        self.started = time.time()
        self._failures: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._told: dict[str, dict[str, Any]] = {}
        self._found: set[str] = set()

    def asked(self, number: int, found: int) -> None:
        """Count look-ups of a graph's transformations."""
        self.misses += number - found

    def passed(self, hits: int, pruned: int) -> None:
        """Count what became of a graph."""
        self.hits += hits
        self.pruned += max(pruned, 0)

    def event(self, topic: str, event: Any) -> None:
        """Hear what workers tell."""
        if topic != TOPIC or not isinstance(event, dict):
            return
        key = event.get("key")
        if not isinstance(key, str) or not self._is_running(key):
            return
        if event.get("action") == "hit":
            self._found.add(key)
        elif event.get("action") == "failed":
            self._told[key] = event

    def _is_running(self, key: str) -> bool:
        ts = self._plugin.scheduler.tasks.get(key)
        return ts is not None and ts.state == "processing"

    def transition(self, key: str, start: str, finish: str, worker: str | None) -> None:
        """Hear that a task of ours has changed its state."""
        if start != "processing":
            return
        told, was_found = self._told.pop(key, {}), key in self._found
        self._found.discard(key)
        if finish == "memory":
            self.late_hits += was_found
            self.done += not was_found
        elif finish == "erred":
            self._failed(key, worker, told)

    def _failed(self, key: str, worker: str | None, told: dict[str, Any]) -> None:
        self.failed += 1
        ts = self._plugin.scheduler.tasks[key]
        message = told.get("message") or getattr(ts, "exception_text", "") or ""
        self._failures.append(
            {
                "key": key,
                "label": label_in(key),
                "worker": worker,
                "time": time.time(),
                "exit_status": told.get("exit_status"),
                "message": str(message)[:TAIL],
                "stderr": str(told.get("stderr") or "")[-TAIL:],
            }
        )

    def snapshot(self) -> dict[str, Any]:
        """Return all of it as JSON knows it."""
        plugin = self._plugin
        lookups = plugin.lookups
        return {
            "started": self.started,
            "stepped_aside": plugin.stepped_aside,
            "hits": self.hits,
            "misses": self.misses,
            "late_hits": self.late_hits + plugin.cutoff.late,
            "cut": plugin.cutoff.cut,
            "pruned": self.pruned,
            "done": self.done,
            "failed": self.failed,
            "requests": lookups.requests,
            "keys_asked": lookups.keys,
            "database_trouble": lookups.trouble,
            "unequipped": dict(plugin.recovery.unequipped),
            "states": self._states(),
            "running": self._running(),
            "waiting": self._waiting(),
            "failures": list(self._failures),
        }

    def _states(self) -> dict[str, int]:
        states: dict[str, int] = {}
        for key, ts in self._plugin.scheduler.tasks.items():
            if is_ours(key):
                states[ts.state] = states.get(ts.state, 0) + 1
        return states

    def _running(self) -> list[dict[str, Any]]:
        found = []
        for address, ws in self._plugin.scheduler.workers.items():
            for facts in ws.metrics.get("seamless", {}).get("running", ()):
                more = {
                    "worker": address,
                    "worker_name": str(ws.name),
                    "label": label_in(facts.get("key", "")),
                }
                found.append({**facts, **more})
        return found

    def _waiting(self) -> list[dict[str, Any]]:
        """Return those that are held back for a reason that is ours, a hundred at most."""
        plugin, found = self._plugin, []
        for key, ts in plugin.scheduler.tasks.items():
            if ts.state not in ("waiting", "no-worker") or not is_ours(key):
                continue
            why = plugin.cutoff.held(key) or plugin.recovery.why_no_worker(key)
            if why is not None:
                found.append({"key": key, "label": label_in(str(key)), "why": why})
                if len(found) == KEPT:
                    break
        return found


def counts(snapshot: dict[str, Any]) -> dict[str, int]:
    """Return the plugin's counters."""
    names = ("hits", "misses", "late_hits", "cut", "pruned", "done", "failed")
    return {name: int(snapshot.get(name, 0)) for name in names}
