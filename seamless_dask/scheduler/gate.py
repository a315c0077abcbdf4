"""The gate: what a client asks for is looked up before Dask sees the graph.

Dask makes tasks of all of it, as it always does, and what is known is complete when it would be given to a
worker. Only what nobody but hits needs never comes into being. A graph without transformations goes to Dask
as it came, at once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import SeamlessError, UsageError
from ..graph import handles
from ..graph.dask_client import hand_over_objects
from .dask import clients, graphs
from .message_queue import Message, MessageQueue
from .retries import can_be_known, checksum_of, is_ours
from .submissions import MARK, Adopted, Submissions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from hashserver.checksum import Checksum

    from .parts import PluginParts
    from .statistics import Statistics

PIN = "seamless-gate"
"""The client that wants what must not go away while a graph passes."""
MARKS = (b"-tf-", b"restore-", MARK)
"""Parts of the names of our tasks, and of functions of ours."""
LATE = frozenset(("waiting", "queued", "no-worker", "erred", "released"))
"""States of a task that is completed when its result has appeared."""

log = logging.getLogger("distributed.scheduler.seamless")


class GraphPlan(NamedTuple):
    """A graph, what is known of it, and what was not asked about because it was in memory."""

    adopted: Adopted
    hits: dict[Any, handles.Handle]
    there: set[Any]

    @property
    def graph(self) -> dict[Any, Any]:
        """Nodes by key."""
        return self.adopted.found.graph


class Gate:
    """One for a scheduler; its methods run in the scheduler's event loop."""

    def __init__(self, plugin: PluginParts, statistics: Statistics) -> None:
        self._plugin, self._statistics = plugin, statistics
        self.order = MessageQueue(plugin.scheduler)
        self._arriving, self._passing = asyncio.Lock(), asyncio.Lock()
        self.submissions = Submissions(plugin.context)
        self._update_graph: Callable[..., Any]

    def start(self) -> None:
        """Come between clients and scheduler."""
        self._update_graph = self.order.start(self._on_graph)

    async def _on_graph(self, client: str, **arguments: Any) -> None:
        """Take a graph; with one of ours this returns at once, so that look-ups of several share requests."""
        if client not in self.order.queues and not graphs.mentions(arguments["expr_ser"], MARKS):
            await self._update_graph(client=client, **arguments)
            return
        plan = asyncio.get_running_loop().create_task(self._plan(client, **arguments))

        async def pass_on(message: Message) -> None:
            found = await plan
            # Of several clients one after the other. All pin with one name: while Dask awaits what A's graph
            # consists of, B would release the pins that it has in common with A, and A's graph would find
            # tasks forgotten that it was told are there.
            async with self._passing:
                if not message.dropped:
                    await self._pass_on(client, found, arguments)

        # In the client's own order: it may compute, release, and compute again, all before the first look-up
        # has an answer; a release that went past its graph would be one of nothing, and the graph stay.
        self.order.enqueue(client, Message(pass_on, arguments["keys"]))

    # ------------------------------------------------------------------ what is known

    async def _plan(
        self, client: str, expr_ser: Any, keys: Collection[Any], **_: Any
    ) -> GraphPlan | Exception | None:
        """Find out what is known; None: nothing that can be said is ours, an error: the graph is refused."""
        try:
            # One after the other, as they came: what one names may be an argument in the next.
            async with self._arriving:
                adopted = await self._adopted(client, expr_ser)
            graph = adopted.found.graph
            if not any(map(is_ours, graph)) and not any(map(is_ours, keys)):
                return None
            hand_over_objects()  # to clients in this process, of what others have computed, too
            refusal = self._plugin.recovery.refusal(graph.values())
            if refusal is not None:
                return refusal
            return await self._planned(adopted, keys)
        except SeamlessError as error:
            return error
        except Exception:
            log.debug("a graph of client %s goes on unseen", client, exc_info=True)
            return None

    async def _adopted(self, client: str, expr_ser: Any) -> Adopted:
        """Return a graph with tasks of ours in the place of calls of functions.

        Raises
        ------
        SeamlessError
            A call is not what its name says, or an argument is nothing that a scheduler can read.
        """
        has_calls = "compression" not in expr_ser.header and graphs.mentions(expr_ser, (MARK,))
        try:
            found = await graphs.materialize(expr_ser)
        except SeamlessError:
            raise
        except Exception as error:
            if not has_calls:
                raise  # Dask tells of it
            raise UsageError(
                f"the scheduler cannot read an argument ({type(error).__name__}: {error}): pass put(value) in"
                " its place, which travels by name"
            ) from None
        if has_calls and (size := graphs.size(expr_ser)) > graphs.most_bytes():
            clients.warn(
                self._plugin.scheduler,
                client,
                f"arguments of {size / 1e6:.0f} MB go through the scheduler with each call: put(value) of"
                " seamless_dask stores them once, and what it returns is passed in their place",
            )
        return await self.submissions.adopted(found)

    async def _planned(self, adopted: Adopted, keys: Collection[Any]) -> GraphPlan:
        plan = GraphPlan(adopted, *await self._known(adopted.found.graph, keys))
        done = plan.hits.keys() | plan.there
        await self.submissions.store([call for key, call in adopted.calls.items() if key not in done])
        return plan

    async def _known(
        self, graph: dict[Any, Any], keys: Collection[Any]
    ) -> tuple[dict[Any, handles.Handle], set[Any]]:
        """Look up what is asked for, then what is still needed for the rest."""
        there = set(filter(self._is_in_memory, keys))
        hits = await self._look_up(graph, (key for key in keys if key not in there))
        rest = [key for key in keys if key not in hits and key not in there]
        if all(key in graph and not self._needs(graph, key) for key in rest):
            return hits, there

        def is_cut(key: Any) -> bool:
            if self._is_in_memory(key):
                there.add(key)
            return key in hits or key in there

        needed = reachable(lambda key: self._needs(graph, key), rest, is_cut)
        return hits | await self._look_up(graph, needed.difference(keys)), there

    def _needs(self, graph: Mapping[Any, Any], key: Any) -> Iterable[Any]:
        """Return what a task of a graph waits for.

        A client has put what it found to be known into its tasks. One of an earlier graph may wait for that
        all the same, and goes on when it is completed.
        """
        node = graph.get(key)
        if node is None:
            return ()
        needed: frozenset[Any] = node.dependencies
        ts = self._plugin.scheduler.tasks.get(key)
        if ts is None or not is_ours(key):
            return needed
        return {*needed, *(other.key for other in ts.dependencies)}

    async def _look_up(self, graph: Mapping[Any, Any], keys: Iterable[Any]) -> dict[Any, handles.Handle]:
        """Return what is known by now; else what was known when the graph was made."""
        asked = {key: name for key in keys if (name := self._key_of(graph, key)) is not None}
        if not asked:
            return {}
        found = await self._plugin.lookups.find(asked.values())
        self._statistics.asked(len(asked), len(found))
        hits = {key: handles.of(*found[name][1], name) for key, name in asked.items() if name in found}
        missing = asked.keys() - hits.keys()
        return hits | {key: told for key in missing if (told := graphs.handle_in(graph.get(key))) is not None}

    def _key_of(self, graph: Mapping[Any, Any], key: Any) -> Checksum | None:
        """Return what a task is looked up under; None: it is to run in any case, or only it can tell."""
        if key in self.submissions.keys:
            return None if graphs.is_fresh(graph.get(key)) else self.submissions.keys[key]
        return checksum_of(key) if can_be_known(key) else None

    def _is_in_memory(self, key: Any) -> bool:
        ts = self._plugin.scheduler.tasks.get(key)
        return ts is not None and ts.state == "memory"

    # ------------------------------------------------------------------ passing on

    async def _pass_on(
        self, client: str, found: GraphPlan | Exception | None, arguments: dict[str, Any]
    ) -> None:
        if isinstance(found, Exception):
            clients.report_error(self._plugin.scheduler, client, arguments["keys"], found)
        elif found is None:
            await self._update_graph(client=client, **arguments)
        else:
            await self._pass_known(client, await self._renewed(found, arguments["keys"]), arguments)

    async def _renewed(self, plan: GraphPlan, keys: Collection[Any]) -> GraphPlan:
        """Look up anew what has left memory since: an earlier message of the same client may release it."""
        while not all(map(self._is_in_memory, plan.there)):
            plan = await self._planned(plan.adopted, keys)
        return plan

    async def _pass_known(self, client: str, plan: GraphPlan, arguments: dict[str, Any]) -> None:
        """Give Dask a graph, and have what is known complete."""
        scheduler, holder, adopted = self._plugin.scheduler, self._plugin.holder, plan.adopted
        self.submissions.note(adopted)  # again: those of an earlier graph may have been forgotten since
        annotations = adopted.annotations(arguments.get("annotations"))
        self._complete_late(plan.hits)
        rest, pins = self._rest(set(arguments["keys"]), plan)
        clients.pin(scheduler, pins, PIN)
        try:
            self._rerun_failed(rest)
            with holder.knowing(plan.hits):
                graph = graphs.graph_arguments(rest, annotations)
                # there may be more tasks than the client put in order
                if not rest.keys() <= (arguments.get("internal_priority") or rest).keys():
                    graph.setdefault("internal_priority", None)
                await self._update_graph(client=client, **arguments | graph)
        finally:
            scheduler.client_releases_keys(keys=pins, client=PIN)
            self.submissions.forget([key for key in adopted.names if key not in scheduler.tasks])
        self._plugin.graph_arrived([key for key in rest if key not in plan.hits])

    def _complete_late(self, hits: dict[Any, handles.Handle]) -> None:
        """Complete those of the scheduler's tasks of which the result has appeared."""
        scheduler = self._plugin.scheduler
        tasks = scheduler.tasks
        late = {key: hits[key] for key in hits if key in tasks and tasks[key].state in LATE}
        if late:
            # pinned: one that is completed lets go of what only it was waiting for, which may be the next one
            # of these, and Dask would have forgotten that before its turn came
            clients.pin(scheduler, late, PIN)
            self._plugin.holder.complete(late)
            self._statistics.late_hits += len(late)
            scheduler.client_releases_keys(keys=list(late), client=PIN)
        self._statistics.passed(len(hits) - len(late), 0)

    def _rest(self, keys: set[Any], plan: GraphPlan) -> tuple[dict[Any, Any], list[Any]]:
        """Return what Dask is given of a graph, and those of the scheduler's tasks that it counts on.

        What is not ours is what it was. Of ours the scheduler's tasks stay as they are there: an earlier
        graph may have had them without what they need.
        """
        tasks, hits, graph = self._plugin.scheduler.tasks, plan.hits, plan.graph
        rest: dict[Any, Any] = {}
        pins = []
        stack = list(keys)
        seen = set(stack)
        while stack:
            key = stack.pop()
            node, ts = graph.get(key), tasks.get(key)
            if is_ours(key):
                if ts is not None:
                    pins.append(key)
                if ts is not None and ts.run_spec is not None and not ts.has_lost_dependencies:
                    if ts.state != "memory":
                        rest[key] = ts.run_spec
                    continue
                if key in hits and node is not None:
                    node = graphs.alone(node, hits[key])
            if node is None:
                continue  # a future of an earlier graph, or lost: Dask sees to that
            rest[key] = node
            new = [other for other in node.dependencies if other not in seen]
            seen.update(new)
            stack += new
        if hits:
            left_out = (key for key in graph if not (key in rest or key in hits or key in tasks))
            self._statistics.passed(0, sum(map(is_ours, left_out)))
        return rest, pins

    def _rerun_failed(self, keys: Iterable[Any]) -> None:
        """Have transformations that failed earlier run again: a failure is not a result."""
        tasks = self._plugin.scheduler.tasks
        failed = [key for key in keys if is_ours(key) and key in tasks and tasks[key].state == "erred"]
        if failed:
            clients.retry(self._plugin.scheduler, failed, is_ours)


def reachable(
    needs: Callable[[Any], Iterable[Any]], keys: Iterable[Any], is_cut: Callable[[Any], bool]
) -> set[Any]:
    """Return what `keys` need, themselves included, without what is only behind a cut."""
    stack = [key for key in keys if not is_cut(key)]
    seen = set(stack)
    while stack:
        for other in needs(stack.pop()):
            if other not in seen and not is_cut(other):
                seen.add(other)
                stack.append(other)
    return seen
