"""The scheduler plugin: what is known is not run."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol.pickle import dumps

from hashserver.printable import visible

from ..cluster_credentials import CREDENTIALS, RENEWAL, ClusterCredentials
from ..context import RESTART_SECONDS
from ..scheduler.retries import is_ours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from distributed.scheduler import Scheduler

    from ..config import Config

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
    places : DataLocations, optional
        What workers are told instead, where they reach things by other ways than the scheduler.
    timeout : float
        Seconds after which the database has not answered and nothing counts as known.
    credentials : ClusterCredentials, optional
        What opens these places; workers ask for it, so that it is in nothing that Dask keeps or shows.

    Attributes
    ----------
    stepped_aside : str or None
        Why results are looked up by the workers only, which is slower and as right.
    """

    name = "seamless"
    idempotent = True

    def __init__(
        self,
        config: Mapping[str, Any] | Config | None = None,
        places: Any = None,
        timeout: float = 10.0,
        credentials: ClusterCredentials | None = None,
    ) -> None:
        self._given, self._places, self._timeout = config, places, timeout
        self._credentials = credentials
        self.stepped_aside: str | None = None
        self._in_use = False

    # ------------------------------------------------------------------ coming and going

    async def start(self, scheduler: Scheduler) -> None:
        """Take up work; what cannot be relied on is left to the workers."""
        from ..scheduler.cutoff import Cutoff
        from ..scheduler.dask import assumptions, self_test
        from ..scheduler.gate import Gate
        from ..scheduler.hit_store import HitStore
        from ..scheduler.lookups import Lookups
        from ..scheduler.retries import Retries
        from ..scheduler.statistics import Statistics
        from .jobserver import opening

        self.scheduler = scheduler
        self.context = self._open()
        self.lookups = Lookups(lambda keys: self.context.database.lookup_many(keys), self._timeout)
        self.holder = HitStore(scheduler)
        self.recovery = Retries(scheduler)
        self.cutoff = Cutoff(
            scheduler, self.context, self.lookups.find, self.holder, self.recovery, self._timeout
        )
        self.statistics = Statistics(self)
        self.gate = Gate(self, self.statistics)
        try:
            self_test.self_test(scheduler)
        except assumptions.NotAsAssumed as error:
            self._step_aside(str(error))
        else:
            self._take_part()
        self._in_use = True
        scheduler.handlers["seamless_places"] = self._tell_places
        scheduler.handlers["seamless_printed"] = self._printed
        scheduler.handlers[CREDENTIALS] = self._give_credentials
        scheduler.handlers[RENEWAL] = self._renew
        opening.offer(scheduler, self)
        self._show()
        # Dask adds a plugin once this has returned, and looks for its name before: a second one that came
        # while we wait for workers would take over as well, and one of the two would hear of nothing.
        scheduler.add_plugin(self, idempotent=True, name=self.name)
        await self._equip_workers()
        # workers may have answered already, and nobody hears before this has returned
        asyncio.get_running_loop().call_soon(self.recovery.catch_up)

    async def close(self) -> None:
        """Let go of everything."""
        if self._in_use:
            self._in_use = False
            await self._end_jobs()
            self._leave()
            self.lookups.close()
            self.cutoff.close()
            self.context.close()

    def _show(self) -> None:
        """Add the page and the figures; whatever is wrong with these, the rest goes on."""
        from ..scheduler.dask import assumptions
        from .web import page

        try:
            page.install(self.scheduler, self)
        except assumptions.NotAsAssumed as error:
            log.warning("there is no page /seamless: %s", error)

    async def _end_jobs(self) -> None:
        from .jobserver import opening

        await opening.remove(self.scheduler)

    async def _renew(self, places: dict[str, Any], credentials: dict[str, Any]) -> None:
        """Use other places, for a client that has found nobody to serve those that there were."""
        from ..worker.data_locations import DataLocations

        self._places = DataLocations.from_json(places)
        self._credentials = given = ClusterCredentials.from_message(credentials)
        config = given.applied(await asyncio.to_thread(self._places.config))
        self.context.close()
        self.context.config = config
        await self._equip_workers()

    async def _equip_workers(self) -> None:
        plugin = dumps(self._equipment())
        await self.scheduler.register_worker_plugin(None, plugin, "seamless", idempotent=False)

    def _open(self) -> Any:
        from ..config import Config, load
        from ..context import Context

        given = self._given
        if self._credentials is not None and not self.places.is_here:
            config = self._credentials.applied(self.places.config())
        else:
            config = given if isinstance(given, Config) else load(given)
        return Context(config, patience=RESTART_SECONDS)

    def _equipment(self) -> Any:
        from ..worker.plugin import Equipment

        return Equipment(self.places)

    @property
    def places(self) -> Any:
        """What workers are told of store and database."""
        from ..worker.data_locations import DataLocations

        return self._places or DataLocations.of(self.context.config)

    async def _tell_places(self) -> dict[str, Any]:
        """Answer a client that knows nothing but the scheduler's address; there are no credentials in it."""
        from ..protocol.discovery import without_secrets

        found: dict[str, Any] = self.places.to_json()
        return found | {"stores": [without_secrets(place) for place in found["stores"]]}

    async def _give_credentials(self) -> dict[str, Any]:
        """Answer a worker, or a client: who may ask this could run code as the owner of all of it anyway."""
        return (self._credentials or ClusterCredentials(())).to_message()

    def _printed(self, key: str, text: str) -> None:
        """Have what a task printed shown to those who wait for it; whoever asked the jobserver asks there."""
        from ..scheduler.dask import clients
        from .jobserver import ownclient

        # Dask's client prints it as it is, perhaps on a terminal
        shown = visible(text, "\n\t\r")
        clients.show(self.scheduler, key, shown, lambda name: not name.startswith(ownclient.PREFIX))

    def _step_aside(self, why: str) -> None:
        self.stepped_aside = why
        log.warning(
            "this release of distributed is not as seamless-dask knows it (%s): results are looked up by the"
            " workers only",
            why,
        )

    def _take_part(self) -> None:
        self.holder.start()
        self.gate.start()
        self.recovery.start()
        self.cutoff.start()

    def _leave(self) -> None:
        from ..scheduler.dask import transitions, workers

        for name in ("seamless_places", "seamless_printed", CREDENTIALS, RENEWAL):
            self.scheduler.handlers.pop(name, None)
        if self.stepped_aside is not None:
            return
        self.gate.order.close()
        self.holder.close()
        transitions.restore_transitions(self.scheduler)
        workers.restore_workers(self.scheduler)

    # ------------------------------------------------------------------ what happens on the scheduler

    def graph_arrived(self, keys: Sequence[Any]) -> None:
        """Hear that those tasks of a graph are there of which no result is known."""
        self.cutoff.graph(keys)

    def transition(
        self, key: Any, start: str, finish: str, *args: Any, stimulus_id: str = "", **details: Any
    ) -> None:
        """Hear of a task's new state."""
        del args
        if start == "memory":
            self.holder.values.pop(key, None)
        if self.stepped_aside is not None:
            return
        if finish == "no-worker":
            self.recovery.stranded(key)
        if is_ours(key):
            self.recovery.transition(key, start, finish, stimulus_id)
            self.cutoff.transition(key, start, finish)
            if finish == "memory":
                self.holder.arrived(key)
            self.statistics.transition(key, start, finish, details.get("worker"))
            if finish == "forgotten":
                self.gate.submissions.forget((key,))

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

    def valid_workers_downscaling(self, scheduler: Scheduler, workers: list[Any]) -> list[Any]:
        """Hear which workers may be closed: what the idle ones hold of ours shall not keep them."""
        del scheduler
        if self._in_use and self.stepped_aside is None:
            self.holder.relieve([ws for ws in workers if not ws.processing])
        return workers

    def add_client(self, scheduler: Scheduler, client: str) -> None:
        """Hear of a client, perhaps one that has lost its connection."""
        del scheduler
        if self._in_use:
            self.gate.order.client_came(client)

    def restart(self, scheduler: Scheduler) -> None:
        """Forget all tasks."""
        del scheduler
        if self._in_use:
            self.holder.values.clear()
            self.gate.submissions.forget(list(self.gate.submissions.keys))
            self.gate.order.restart()
            self.recovery.restart()
