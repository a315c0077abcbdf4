"""Values in memory that no worker holds: those of hits, and those of workers that are to go."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..graph import handles
from ..graph.names import key_in
from .dask import graphs, memory, transitions
from .retries import is_ours

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from distributed import Scheduler

    from ..model.transformation import Value


class HitStore:
    """One for a scheduler; its methods run in the scheduler's event loop.

    Attributes
    ----------
    values : dict
        Handles by key: of all tasks that no worker holds, and of some that one does.
    worker : WorkerState
        What Dask takes for the worker that holds them; it is among nobody's workers.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.values: dict[str, handles.Handle] = {}
        self._known: Mapping[str, handles.Handle] = {}
        self._due: list[str] = []
        self._originals: dict[str, Any] = {}

    def start(self) -> None:
        """Hold what others complete, and hand it over."""
        scheduler = self._scheduler
        self.worker = memory.make_holder(scheduler)
        self._originals = {name: scheduler.handlers.get(name) for name in ("gather", "get_data")}
        scheduler.handlers |= {"gather": self._gather, "get_data": self._get_data}
        memory.keep_one_replica(scheduler, self.worker)
        memory.send_values(scheduler, self.worker, self.values, is_ours)
        transitions.intercept(scheduler, "released", "waiting", self._wait)
        for start in ("released", "waiting", "queued", "no-worker"):
            transitions.intercept(scheduler, start, "memory", self._to_memory)
        transitions.intercept(scheduler, "erred", "released", self._revive)
        memory.intercept_retirement(scheduler, self.relieve)

    def close(self) -> None:
        """Leave that to Dask again, all but the transitions."""
        for name, handler in self._originals.items():
            if handler is None:
                self._scheduler.handlers.pop(name, None)
            else:
                self._scheduler.handlers[name] = handler
        memory.restore_replicas(self._scheduler)
        memory.restore_retirement(self._scheduler)

    # ------------------------------------------------------------------ completing tasks

    @contextmanager
    def knowing(self, hits: Mapping[str, handles.Handle]) -> Iterator[None]:
        """Complete after this block what Dask would have given to a worker within it.

        Not at once: Dask, at the end of `update_graph`, would tell clients a second time of what is in memory
        by then, and they take that for news of what they ask for next.
        """
        self._known = hits
        try:
            yield
        finally:
            due, self._due, self._known = self._due, [], {}
            tasks = self._scheduler.tasks
            self.complete({key: hits[key] for key in due if transitions.is_open(tasks.get(key))})

    def is_known(self, ts: Any) -> bool:
        """Whether a task that Dask would give to a worker is about to be completed instead."""
        if ts.key not in self._known:
            return False
        self._due.append(ts.key)
        return True

    def _wait(self, ts: Any, stimulus_id: str, details: dict[str, Any], go: Any) -> Any:
        """Leave a task that is to be completed where it is, if nothing but a client waits for it."""
        del stimulus_id, details
        if transitions.is_alone(ts) and self.is_known(ts):
            return {}, {}, {}
        return go()

    def complete(self, hits: Mapping[str, handles.Handle]) -> None:
        """Put tasks into memory that have not begun, or have failed."""
        self.values.update(hits)
        memory.settle(self._scheduler, hits)

    def _revive(self, ts: Any, stimulus_id: str, details: dict[str, Any], go: Any) -> Any:
        """Have those fail on that need more than this task of ours to succeed."""
        del stimulus_id, details
        return memory.only_revivable(ts, go) if is_ours(ts.key) else go()

    def _to_memory(self, ts: Any, stimulus_id: str, details: dict[str, Any], go: Any) -> Any:
        """Complete a task whose value is known; a worker's late word about another one is none of ours."""
        del stimulus_id
        if "worker" in details or ts.key not in self.values:
            return go()
        return memory.to_memory(self._scheduler, self.worker, ts, self.values[ts.key])

    def finish(self, ts: Any, value: Value) -> Any:
        """Answer a transition from ``waiting`` by completing the task."""
        handle = self.values[ts.key] = handles.of(*value)
        return memory.to_memory(self._scheduler, self.worker, ts, handle)

    def relieve(self, workers: Collection[Any]) -> None:
        """Hold in the place of workers what only they have and only clients need, so that they can go."""
        leaving = set(workers)
        alone = {
            ts
            for ws in leaving
            for ts in ws.has_what
            if is_ours(ts.key) and leaving.issuperset(ts.who_has or ())
        }
        mine = [ts for ts in alone if not ts.waiters and self._knows(ts)]
        memory.take_over(self._scheduler, self.worker, mine)

    def arrived(self, key: str) -> None:
        """Hear that a task of ours is in memory: a worker that is being retired shall not stay for it."""
        leaving = [
            ws for ws in self._scheduler.tasks[key].who_has or () if ws.status.name == "closing_gracefully"
        ]
        if leaving:
            # Not now: Dask is in the midst of the transition that tells of it, and would go on with what it
            # knew of the task before. In the next round the worker may be gone, or the task be released:
            # `relieve` looks again.
            asyncio.get_running_loop().call_soon(self.relieve, leaving)

    def _knows(self, ts: Any) -> bool:
        """Have the value of a task that is in memory at hand, and say whether that can be."""
        if ts.key not in self.values and (value := memory.reported_value(ts)) is not None:
            found = graphs.arguments(ts)
            name = key_in(ts.key) if found is None else found.key
            if name is not None:
                self.values[ts.key] = handles.of(*value, name)
        return ts.key in self.values

    # ------------------------------------------------------------------ handing over

    async def _gather(self, keys: Any, serializers: Any = None) -> dict[str, Any]:
        """Hand over values; those that no worker has are packed all at once."""
        # taken now: while workers are asked for the rest, a value of ours may go with its last client
        mine = {key: self.values[key] for key in keys if key in self.values}
        rest = [key for key in keys if key not in mine]
        if not mine or rest:
            answer: dict[str, Any] = await self._originals["gather"](keys=rest, serializers=serializers)
            if answer["status"] == "OK":
                answer["data"].update({key: memory.one_pickle_of(value) for key, value in mine.items()})
            return answer
        return {"status": "OK", "data": memory.one_pickle(mine)}

    async def _get_data(
        self, comm: Any, keys: Any, who: Any = None, serializers: Any = None, **_: Any
    ) -> Any:
        """Answer as a worker does, to those who ask the holder of a value directly."""
        del who
        found = {key: self.values[key] for key in keys if key in self.values}
        return await memory.send_data(comm, found, serializers)
