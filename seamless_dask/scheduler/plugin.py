"""The scheduler plugin: what is known is not run."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol.pickle import dumps

from .. import handles
from .recovery import is_ours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed.scheduler import Scheduler

    from ..config import Config
    from ..transformation import Value

log = logging.getLogger("distributed.scheduler.seamless")


class SeamlessScheduler(SchedulerPlugin):
    """Looks up what clients ask for before it is dispatched, and equips the workers.

    Add it with ``dask scheduler --preload seamless_dask.scheduler``, or to a scheduler that runs already with
    ``client.register_plugin(SeamlessScheduler())``.

    Parameters
    ----------
    config : mapping or Config, optional
        Where store and database are, by the names of `seamless_dask.config.KEYS`; by default what the
        environment and the files of the scheduler's host say.
    places : Places, optional
        What workers are told instead, where they reach things by other ways than the scheduler.
    timeout : float
        Seconds after which the database has not answered and nothing counts as known.

    Attributes
    ----------
    stepped_aside : str or None
        Why results are looked up by the workers only, which is slower and as right.
    values : dict
        Handles of the tasks in memory that no worker holds, by key.
    """

    name = "seamless"
    idempotent = True

    def __init__(
        self, config: Mapping[str, Any] | Config | None = None, places: Any = None, timeout: float = 10.0
    ) -> None:
        self._given, self._places, self._timeout = config, places, timeout
        self.stepped_aside: str | None = None
        self.values: dict[str, handles.Handle] = {}
        self._in_use = False

    # ------------------------------------------------------------------ coming and going

    async def start(self, scheduler: Scheduler) -> None:
        """Take up work; what cannot be relied on is left to the workers."""
        from . import internals
        from .cutoff import Cutoff
        from .gate import Gate
        from .lookups import Lookups
        from .recovery import Recovery
        from .statistics import Statistics

        self.scheduler = scheduler
        self.context = self._open()
        self.lookups = Lookups(self.context.database.lookup_many, self._timeout)
        self.recovery = Recovery(scheduler)
        self.cutoff = Cutoff(
            scheduler,
            self.context,
            self.lookups.find,
            self.values,
            self._finish,
            self.recovery,
            self._timeout,
        )
        self.statistics = Statistics(self)
        self.gate = Gate(self)
        try:
            internals.self_test(scheduler)
        except internals.NotAsAssumed as error:
            self._step_aside(str(error))
        else:
            self._take_part()
        self._in_use = True
        scheduler.handlers["seamless_places"] = self._tell_places
        self._show()
        await scheduler.register_worker_plugin(None, dumps(self._equipment()), "seamless", idempotent=False)
        # workers may have answered already, and nobody hears before this has returned
        asyncio.get_running_loop().call_soon(self.recovery.catch_up)

    async def close(self) -> None:
        """Let go of everything."""
        if self._in_use:
            self._in_use = False
            self._leave()
            self.lookups.close()
            self.cutoff.close()
            self.context.close()

    def _show(self) -> None:
        """Add the page and the figures; whatever is wrong with these, the rest goes on."""
        from ..services import page
        from . import internals

        try:
            page.install(self.scheduler, self)
        except internals.NotAsAssumed as error:
            log.warning("there is no page /seamless: %s", error)

    def _open(self) -> Any:
        from ..config import Config, load
        from ..context import Context

        given = self._given
        return Context(given if isinstance(given, Config) else load(given))

    def _equipment(self) -> Any:
        from ..worker.plugin import Equipment

        return Equipment(self.places)

    @property
    def places(self) -> Any:
        """What workers are told of store and database."""
        from ..worker.places import Places

        return self._places or Places.of(self.context.config)

    async def _tell_places(self) -> dict[str, Any]:
        """Answer a client that knows nothing but the scheduler's address; there are no credentials in it."""
        found: dict[str, Any] = self.places.to_json()
        return found

    def _step_aside(self, why: str) -> None:
        self.stepped_aside = why
        log.warning(
            "this release of distributed is not as seamless-dask knows it (%s): results are looked up by the"
            " workers only",
            why,
        )

    def _take_part(self) -> None:
        from . import internals

        scheduler = self.scheduler
        self.holder = internals.make_holder(scheduler)
        self._originals: dict[str, Any] = {
            name: scheduler.handlers.get(name) for name in ("gather", "get_data")
        }
        scheduler.handlers |= {"gather": self._gather, "get_data": self._get_data}
        internals.keep_one_replica(scheduler, self.holder)
        for start in ("released", "waiting", "queued", "no-worker"):
            internals.intercept(scheduler, start, "memory", self._to_memory)
        internals.intercept(scheduler, "erred", "released", self._revive)
        self.gate.start()
        self.recovery.start()
        self.cutoff.start()

    def _leave(self) -> None:
        from . import internals

        self.scheduler.handlers.pop("seamless_places", None)
        if self.stepped_aside is not None:
            return
        self.gate.close()
        for name, handler in self._originals.items():
            if handler is None:
                self.scheduler.handlers.pop(name, None)
            else:
                self.scheduler.handlers[name] = handler
        internals.keep_replicas(self.scheduler)
        internals.restore_transitions(self.scheduler)
        internals.restore_workers(self.scheduler)

    # ------------------------------------------------------------------ completing tasks

    def place(self, hits: Mapping[str, handles.Handle]) -> None:
        """Put hits into memory that the scheduler has no tasks for; somebody must want them next."""
        from . import internals

        self.values.update(hits)
        for key, handle in hits.items():
            internals.place(self.scheduler, self.holder, key, handle)

    def complete(self, hits: Mapping[str, handles.Handle]) -> None:
        """Put tasks into memory that have not begun, or have failed."""
        from . import internals

        self.values.update(hits)
        self.statistics.late_hits += len(hits)
        internals.settle(self.scheduler, hits)

    def _revive(self, ts: Any, stimulus_id: str, details: dict[str, Any], go: Any) -> Any:
        """Have those fail on that need more than this task of ours to succeed."""
        from . import internals

        del stimulus_id, details
        return internals.only_revivable(ts, go) if is_ours(ts.key) else go()

    def _to_memory(self, ts: Any, stimulus_id: str, details: dict[str, Any], go: Any) -> Any:
        """Complete a task whose value is known; a worker's late word about another one is none of ours."""
        from . import internals

        del stimulus_id
        if "worker" in details or ts.key not in self.values:
            return go()
        return internals.to_memory(self.scheduler, self.holder, ts, self.values[ts.key])

    def _finish(self, ts: Any, value: Value) -> Any:
        from . import internals

        handle = self.values[ts.key] = handles.of(*value)
        return internals.to_memory(self.scheduler, self.holder, ts, handle)

    # ------------------------------------------------------------------ handing over

    async def _gather(self, keys: Any, serializers: Any = None) -> dict[str, Any]:
        """Hand over values; those that no worker has are packed all at once."""
        from . import internals

        mine = {key: self.values[key] for key in keys if key in self.values}
        rest = [key for key in keys if key not in mine]
        if not mine or rest:
            answer: dict[str, Any] = await self._originals["gather"](keys=rest, serializers=serializers)
            if answer["status"] == "OK":
                answer["data"].update({key: internals.one_pickle_of(value) for key, value in mine.items()})
            return answer
        return {"status": "OK", "data": internals.one_pickle(mine)}

    async def _get_data(
        self, comm: Any, keys: Any, who: Any = None, serializers: Any = None, **_: Any
    ) -> Any:
        """Answer as a worker does, to those who ask the holder of a value directly."""
        from . import internals

        del who
        found = {key: self.values[key] for key in keys if key in self.values}
        return await internals.send_data(comm, found, serializers)

    # ------------------------------------------------------------------ what happens on the scheduler

    def graph_arrived(self, graph: Mapping[Any, Any]) -> None:
        """Hear that a graph's tasks are there."""
        self.cutoff.graph(list(graph))

    def transition(
        self, key: Any, start: str, finish: str, *args: Any, stimulus_id: str = "", **details: Any
    ) -> None:
        """Hear of a task's new state."""
        del args
        if start == "memory":
            self.values.pop(key, None)
        if self.stepped_aside is None and is_ours(key):
            self.recovery.transition(key, start, finish, stimulus_id)
            self.cutoff.transition(key, start, finish)
            self.statistics.transition(key, start, finish, details.get("worker"))

    def log_event(self, topic: str, msg: Any) -> None:
        """Hear what is logged: workers tell of their commands that way."""
        if self._in_use:
            self.recovery.event(topic, msg)
            self.statistics.event(topic, msg)

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Hear that a worker is gone."""
        del scheduler
        if self._in_use:
            self.recovery.worker_left(worker)
            self.cutoff.worker_left(worker)

    def add_client(self, scheduler: Scheduler, client: str) -> None:
        """Hear of a client, perhaps one that has lost its connection."""
        del scheduler
        if self._in_use:
            self.gate.client_came(client)

    def restart(self, scheduler: Scheduler) -> None:
        """Forget all tasks."""
        del scheduler
        self.values.clear()
        if self._in_use:
            self.gate.restart()
            self.recovery.restart()
