"""The gate: what a client asks for is looked up before Dask sees the graph.

Hits that are asked for are in memory at once, held by no worker; hits that only others need are put into
their places; what only hits need never comes into being. The rest goes on to Dask as it came.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.checksum import make_checksum

from .. import handles
from . import internals
from .order import Message, Order
from .recovery import is_ours

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from hashserver.checksum import Checksum

    from .plugin import SeamlessScheduler

PIN = "seamless-gate"
"""The client that wants what must not go away while a graph passes."""
LATE = frozenset(("waiting", "queued", "no-worker", "erred", "released"))
"""States of a task that is completed when its result has appeared."""

log = logging.getLogger("distributed.scheduler.seamless")


class Plan(NamedTuple):
    """A graph, and what is known of it."""

    graph: dict[Any, Any]
    annotations: dict[str, dict[Any, Any]]
    hits: dict[Any, handles.Handle]


class Gate:
    """One for a scheduler; its methods run in the scheduler's event loop."""

    def __init__(self, plugin: SeamlessScheduler) -> None:
        self._plugin = plugin
        self.order = Order(plugin.scheduler)
        self._passing = asyncio.Lock()
        self._update_graph: Callable[..., Any]

    def start(self) -> None:
        """Come between clients and scheduler."""
        self._update_graph = self.order.start(self._on_graph)

    def _on_graph(self, client: str, **arguments: Any) -> None:
        """Take a graph; this returns at once, so that look-ups of several graphs share requests."""
        plan = asyncio.get_running_loop().create_task(self._plan(client, **arguments))

        async def pass_on(message: Message) -> None:
            found = await plan
            # of several clients one after the other: one graph may count on what another one changes
            async with self._passing:
                if not message.dropped:
                    await self._pass_on(client, found, arguments)

        self.order.enqueue(client, Message(pass_on, arguments["keys"]))

    # ------------------------------------------------------------------ what is known

    async def _plan(
        self, client: str, expr_ser: Any, keys: Collection[Any], **_: Any
    ) -> Plan | Exception | None:
        """Find out what is known; None: it cannot be said, an error: the graph is refused."""
        try:
            graph, annotations = await internals.materialize(expr_ser)
            refusal = self._plugin.recovery.refusal(graph.values())
            if refusal is not None:
                return refusal
            return Plan(graph, annotations, await self._hits(graph, keys))
        except Exception:
            log.debug("a graph of client %s goes on unseen", client, exc_info=True)
            return None

    async def _hits(self, graph: dict[Any, Any], keys: Collection[Any]) -> dict[Any, handles.Handle]:
        """Look up what is asked for, then what is still needed for the rest."""
        hits = await self._look_up(key for key in keys if not self._is_in_memory(key))
        rest = [key for key in keys if key not in hits and not self._is_in_memory(key)]
        if all(key in graph and not graph[key].dependencies for key in rest):
            return hits
        needed = reachable(graph, rest, lambda key: key in hits or self._is_in_memory(key))
        return hits | await self._look_up(needed.difference(keys))

    async def _look_up(self, keys: Iterable[Any]) -> dict[Any, handles.Handle]:
        asked = {key: checksum_of(key) for key in keys if can_be_known(key)}
        if not asked:
            return {}
        found = await self._plugin.lookups.find(asked.values())
        self._plugin.statistics.asked(len(asked), len(found))
        return {key: handles.of(*found[name][1]) for key, name in asked.items() if name in found}

    def _is_in_memory(self, key: Any) -> bool:
        ts = self._plugin.scheduler.tasks.get(key)
        return ts is not None and ts.state == "memory"

    # ------------------------------------------------------------------ passing on

    async def _pass_on(self, client: str, found: Plan | Exception | None, arguments: dict[str, Any]) -> None:
        keys = arguments["keys"]
        if isinstance(found, Exception):
            internals.report_error(self._plugin.scheduler, client, keys, found)
        elif found is None:
            await self._update_graph(client=client, **arguments)
        elif rest := self._complete(client, set(keys), found):
            await self._pass_rest(client, rest, found, arguments)
        else:
            self._plugin.statistics.passed(0, len(ours(found.graph) - set(keys)))

    def _complete(self, client: str, keys: set[Any], plan: Plan) -> set[Any]:
        """Hand over what is known; returns what is not in memory now."""
        scheduler, hits = self._plugin.scheduler, plan.hits
        tasks = scheduler.tasks
        late = {key: hits[key] for key in hits if key in tasks and tasks[key].state in LATE}
        if late:
            scheduler.client_desires_keys(keys=late, client=PIN)
            self._plugin.holder.complete(late)
            self._plugin.statistics.late_hits += len(late)
        self._plugin.holder.place({key: hits[key] for key in keys if key in hits and key not in tasks})
        done = {key for key in keys if self._is_in_memory(key)}
        scheduler.client_desires_keys(keys=done, client=client)
        if late:
            scheduler.client_releases_keys(keys=list(late), client=PIN)
        self._plugin.statistics.passed(len(hits) - len(late), 0)
        return keys - done

    async def _pass_rest(self, client: str, keys: set[Any], plan: Plan, arguments: dict[str, Any]) -> None:
        """Give Dask what is left of a graph."""
        scheduler = self._plugin.scheduler
        rest, pins = self._rest(keys, plan)
        scheduler.client_desires_keys(keys=pins, client=PIN)
        try:
            self._rerun_failed(rest)
            expression = internals.ready(rest, plan.annotations)
            await self._update_graph(client=client, **{**arguments, "expr_ser": expression, "keys": keys})
        finally:
            scheduler.client_releases_keys(keys=pins, client=PIN)
        self._plugin.graph_arrived(rest)

    def _rest(self, keys: set[Any], plan: Plan) -> tuple[dict[Any, Any], list[Any]]:
        """Return what is left of a graph, and those of the scheduler's tasks that it counts on.

        A task that the scheduler has already stays as it is there: another client's graph may have been
        filled with other values.
        """
        tasks, hits, graph = self._plugin.scheduler.tasks, plan.hits, plan.graph
        rest: dict[Any, Any] = {}
        pins = []
        stack = list(keys)
        seen = set(stack)
        while stack:
            key = stack.pop()
            ts = tasks.get(key)
            if ts is not None:
                pins.append(key)
            if ts is not None and ts.run_spec is not None and not ts.has_lost_dependencies:
                if ts.state != "memory":
                    rest[key] = ts.run_spec
                continue
            node = graph.get(key)
            if node is None:
                continue  # a future of an earlier graph, or lost: Dask sees to that
            node = rest[key] = self._filled(node, hits)
            new = [other for other in node.dependencies if other not in seen]
            seen.update(new)
            stack += new
        if hits:
            self._plugin.statistics.passed(0, len(ours(graph) - hits.keys() - rest.keys() - tasks.keys()))
        return rest, pins

    def _filled(self, node: Any, hits: dict[Any, handles.Handle]) -> Any:
        """Return a node with what is known in its place."""
        values = self._plugin.holder.values
        found = {}
        for key in node.dependencies:
            value = hits.get(key, values.get(key))
            if value is not None:
                found[key] = value
        return internals.substituted(node, found) if found else node

    def _rerun_failed(self, keys: Iterable[Any]) -> None:
        """Have transformations that failed earlier run again: a failure is not a result."""
        tasks = self._plugin.scheduler.tasks
        failed = [key for key in keys if is_ours(key) and key in tasks and tasks[key].state == "erred"]
        if failed:
            internals.retry(self._plugin.scheduler, failed, is_ours)


def reachable(graph: dict[Any, Any], keys: Iterable[Any], is_cut: Callable[[Any], bool]) -> set[Any]:
    """Return what `keys` need, themselves included, without what is only behind a cut."""
    stack = [key for key in keys if not is_cut(key)]
    seen = set(stack)
    while stack:
        node = graph.get(stack.pop())
        if node is None:
            continue
        for other in node.dependencies:
            if other not in seen and not is_cut(other):
                seen.add(other)
                stack.append(other)
    return seen


def ours(graph: Iterable[Any]) -> set[Any]:
    """Return the keys of transformations."""
    return {key for key in graph if is_ours(key)}


def can_be_known(key: Any) -> bool:
    """Whether a task has the key of a transformation, not one that is to run whatever is known."""
    return isinstance(key, str) and key[-68:-64] == "-tf-" and is_ours(key)


def checksum_of(key: str) -> Checksum:
    """Return the key of the transformation that a task is about."""
    return make_checksum(key[-64:])
