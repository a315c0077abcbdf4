"""The gate: what a client asks for is looked up before Dask sees the graph.

Hits that are asked for are in memory at once, held by no worker; hits that only others need are put into
their places; what only hits need never comes into being. The rest goes on to Dask as it came. A client's
further messages that concern keys wait until its graph has passed, in their order.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.checksum import make_checksum

from .. import handles
from . import internals
from .recovery import is_ours

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from hashserver.checksum import Checksum

    from .plugin import SeamlessScheduler

ORDERED = (
    "client-releases-keys",
    "client-desires-keys",
    "cancel-keys",
    "update-data",
    "report-key",
    "publish_flush_batched_send",
)
"""Messages of a client that must not overtake its graphs."""
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


class Message:
    """What a client has said; it is acted upon when those before it have been."""

    __slots__ = ("act", "dropped", "keys", "lasts")

    def __init__(
        self, act: Callable[[Message], Any], keys: Collection[Any] = (), lasts: bool = False
    ) -> None:
        self.act, self.keys, self.lasts, self.dropped = act, keys, lasts, False


class Gate:
    """One for a scheduler; its methods run in the scheduler's event loop."""

    def __init__(self, plugin: SeamlessScheduler) -> None:
        self._plugin = plugin
        self._queues: dict[str, deque[Message]] = {}
        self._drains: set[asyncio.Task[None]] = set()
        self._originals: dict[str, Callable[..., Any]] = {}
        self._passing = asyncio.Lock()

    def start(self) -> None:
        """Come between clients and scheduler."""
        scheduler = self._plugin.scheduler
        handlers = scheduler.stream_handlers
        self._originals = {
            name: handlers[name] for name in ("update-graph", "close-client", *ORDERED) if name in handlers
        }
        handlers |= {name: self._ordered(self._originals[name]) for name in ORDERED if name in handlers}
        handlers["update-graph"] = self._on_graph
        handlers["close-client"] = internals.intercept_removal(scheduler, self._on_removal)
        internals.intercept_desires(scheduler, self._on_desire)

    def close(self) -> None:
        """Step out of the way; what is under way is dropped with the scheduler."""
        self._plugin.scheduler.stream_handlers.update(self._originals)
        internals.restore_clients(self._plugin.scheduler)
        for drain in self._drains:
            drain.cancel()

    def client_came(self, client: str) -> None:
        """Drop what a client said over a connection that it has lost: it has given up all its futures."""
        for message in self._queues.get(client, ()):
            message.dropped = True

    def restart(self) -> None:
        """Drop what clients asked for before a restart, as the scheduler forgets its tasks."""
        for waiting in self._queues.values():
            for message in waiting:
                message.dropped = not message.lasts

    # ------------------------------------------------------------------ order

    def _ordered(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def handler(client: str, **message: Any) -> None:
            if client in self._queues:
                self._queues[client].append(Message(lambda _: original(client=client, **message)))
            else:
                original(client=client, **message)

        return handler

    def _on_desire(self, keys: Collection[Any], desire: Callable[[], None]) -> None:
        """Let somebody want keys once their graph is there.

        `fire_and_forget`, variables, queues and data sets want them in other names than that of the client
        who submits the graph.
        """
        tasks = self._plugin.scheduler.tasks
        unknown = {key for key in keys if key not in tasks} if self._queues else set()
        for waiting in self._queues.values() if unknown else ():
            if any(not unknown.isdisjoint(message.keys) for message in waiting):
                waiting.append(Message(lambda _: desire()))
                return
        desire()

    def _on_graph(self, client: str, **arguments: Any) -> None:
        """Take a graph; this returns at once, so that look-ups of several graphs share requests."""
        plan = asyncio.get_running_loop().create_task(self._plan(client, **arguments))

        async def pass_on(message: Message) -> None:
            found = await plan
            if not message.dropped:
                await self._pass_on(client, found, arguments)

        self._enqueue(client, Message(pass_on, arguments["keys"]))

    def _on_removal(self, client: str, remove: Callable[[], None]) -> None:
        """Let a client go once all that it said is done: it may have fired and forgotten."""
        if client in self._queues:
            self._enqueue(client, Message(lambda _: remove(), lasts=True))
        else:
            remove()

    def _enqueue(self, client: str, message: Message) -> None:
        waiting = self._queues.get(client)
        if waiting is not None:
            waiting.append(message)
            return
        waiting = self._queues[client] = deque([message])
        drain = asyncio.get_running_loop().create_task(self._drain(client, waiting))
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)

    async def _drain(self, client: str, waiting: deque[Message]) -> None:
        with internals.activity(self._plugin.scheduler):
            while waiting:
                message = waiting[0]
                try:
                    result = None if message.dropped else message.act(message)
                    if asyncio.iscoroutine(result):
                        await result
                except Exception:
                    log.exception("a message of client %s was lost", client)
                waiting.popleft()
            del self._queues[client]

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
            await self._originals["update-graph"](client=client, **arguments)
        elif rest := self._complete(client, set(keys), found):
            async with self._passing:
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
            self._plugin.complete(late)
        self._plugin.place({key: hits[key] for key in keys if key in hits and key not in tasks})
        done = {key for key in keys if self._is_in_memory(key)}
        scheduler.client_desires_keys(keys=done, client=client)
        if late:
            scheduler.client_releases_keys(keys=list(late), client=PIN)
        self._plugin.statistics.passed(len(hits), 0)
        return keys - done

    async def _pass_rest(self, client: str, keys: set[Any], plan: Plan, arguments: dict[str, Any]) -> None:
        """Give Dask what is left of a graph; of several clients one after the other, as it does itself."""
        scheduler = self._plugin.scheduler
        rest, pins = self._rest(keys, plan)
        scheduler.client_desires_keys(keys=pins, client=PIN)
        try:
            self._rerun_failed(rest)
            expression = internals.ready(rest, plan.annotations)
            await self._originals["update-graph"](
                client=client, **{**arguments, "expr_ser": expression, "keys": keys}
            )
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
        values = self._plugin.values
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
