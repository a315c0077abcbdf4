"""The worker plugin: equips each worker that connects to the scheduler."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Status, WorkerPlugin

from hashserver.checksum import Checksum
from hashserver.client.store import find_token
from hashserver.client.transport import Transport
from hashserver.errors import HashserverError
from hashserver.retry import pauses
from seamless_dask.cluster_credentials import CREDENTIALS, ClusterCredentials
from seamless_dask.context import Context
from seamless_dask.execution import runners
from seamless_dask.execution.workdir import close_pool, open_pool, sweep, temporary_directory
from seamless_dask.graph.current_worker import EXTENSION
from seamless_dask.graph.dask_client import hand_over_in_tasks
from seamless_dask.graph.names import key_in
from seamless_dask.graph.task import PROTOCOL
from seamless_dask.model.requirements import CPUS, MEMORY, NODE, QUEUE
from seamless_dask.version import __version__

from . import claim, internals
from .metered_store import MeteredStore
from .metrics import WorkerMetrics
from .services import DaskWorker
from .supervisor import TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Worker

    from seamless_dask.config import Config
    from seamless_dask.origins import Credential

    from .data_locations import DataLocations

logger = logging.getLogger("distributed.worker")

PLENTY = 1e6
"""Of a resource that stands for a property: as many tasks as come may take their one."""

PATIENCE = 20.0
"""Seconds for which each request waits for a hashserver that is being started again: work would be lost."""

REACH_SECONDS = 3.0
"""For how long a worker that has come tries to reach a hashserver until it says that it cannot."""

_ARRIVE = "exec(source, globals()) or arrive(*arguments)"


class Equipment(WorkerPlugin):
    """Gives a worker what transformations need: store, database, node cache, claims, events and requests.

    Parameters
    ----------
    places : DataLocations
        Where they are; what a worker's own environment and files say comes first.
    """

    name = "seamless"

    def __init__(self, places: DataLocations) -> None:
        self.places = places
        self._credentials: ClusterCredentials | None = None
        self._equipment: DaskWorker | None = None
        self._end: asyncio.Task[None] | None = None
        self._arrival: asyncio.Task[None] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # by value: a worker without this package must be able to say so
        source = Path(__file__).with_name("bootstrap.py").read_text(encoding="utf-8")
        arguments = (self.places.to_json(), __version__, PROTOCOL)
        return eval, (_ARRIVE, {"source": source, "arguments": arguments})

    async def setup(self, worker: Worker) -> None:
        """Equip a worker, or say why that cannot be."""
        try:
            if self.places.of_client:
                told = await internals.call_scheduler(worker, CREDENTIALS, {})
                self._credentials = ClusterCredentials.from_message(told)
            config = await asyncio.to_thread(self._config)
            why = await asyncio.to_thread(unreachable, config)
            if why is not None:
                self._refuse(worker, why)
                self._arrival = asyncio.create_task(self._arrive_later(worker, config))
                return
            await self._arrive(worker, config)
        except Exception as error:  # whatever it is, tasks of others are none of our business
            self._refuse(worker, str(error))

    async def _arrive_later(self, worker: Worker, config: Config) -> None:
        """Equip a worker once it reaches what it could not reach when it came."""
        for pause in pauses(0.5, 10.0):
            await asyncio.sleep(pause)
            if await asyncio.to_thread(unreachable, config) is None:
                break
        try:
            await self._arrive(worker, config)
        except Exception as error:
            self._refuse(worker, str(error))

    async def _arrive(self, worker: Worker, config: Config) -> None:
        equipment = await asyncio.to_thread(self._equipped, worker, config)
        if worker.status in (Status.closing, Status.closed, Status.failed):
            await asyncio.to_thread(equipment.close)  # nobody takes it back: that has been done meanwhile
            return
        self._equipment = equipment
        hand_over_in_tasks()  # which may ask a client of this worker for results
        open_pool()
        runners.employ()
        self._end = asyncio.create_task(internals.let_go_at_exit(worker))
        worker.extensions[EXTENSION] = equipment
        worker.metrics[EXTENSION] = WorkerMetrics(equipment)
        claim.begin(worker)
        internals.add_handlers(worker, handlers_of(equipment))
        await internals.announce(worker, resources(worker))
        event = {"action": "equipped", "worker": worker.address, "version": __version__}
        worker.log_event(TOPIC, event)

    async def teardown(self, worker: Worker) -> None:
        """Take everything back; what runs goes on to its end, unless the worker is closing."""
        if self._arrival is not None:
            self._arrival.cancel()
        equipment = worker.extensions.pop(EXTENSION, None)
        worker.metrics.pop(EXTENSION, None)
        if equipment is not None:
            internals.remove_handlers(worker, list(handlers_of(equipment)))
            await asyncio.to_thread(equipment.close)
            await asyncio.to_thread(runners.dismiss)
            await asyncio.to_thread(close_pool)

    def transition(self, key: Any, start: Any, finish: Any, **_: Any) -> None:
        """Fetch what tasks of ours are going to need; forget what is known of those that are gone."""
        if self._equipment is None or (found := key_in(key)) is None:
            return
        if finish in ("ready", "constrained"):
            self._equipment.expect(key, Checksum(found))
        elif finish in ("released", "forgotten", "memory", "error"):
            self._equipment.forget(key)

    def _config(self) -> Config:
        config = self.places.config()
        return config if self._credentials is None else self._credentials.applied(config)

    def _equipped(self, worker: Worker, config: Config) -> DaskWorker:
        sweep(temporary_directory())  # what a killed worker has left running
        context = Context(config, patience=PATIENCE)
        store = MeteredStore(self.places.visible(context.store))
        context.__dict__["store"] = store
        # opened here, by one thread
        _ = context.database, context.stat_cache, context.node_cache
        return DaskWorker(worker, context)

    @staticmethod
    def _refuse(worker: Worker, why: str) -> None:
        logger.error("this worker runs no transformations of seamless-dask: %s", why)
        event = {"action": "unequipped", "worker": worker.address, "version": __version__}
        worker.log_event(TOPIC, event | {"message": why})


def unreachable(config: Config) -> str | None:
    """Return why a hashserver that a worker needs is of no use to it; None: all can be used.

    One attempt after the other for a moment, each of which ends soon: whoever waits wants to know.
    """
    why: str | None = None
    for place in dict.fromkeys((config.database, *config.stores)):
        if not place.startswith(("http://", "https://", "unix://")):
            continue
        found = config.credential(place)
        for pause in pauses(0.1, 0.5, seconds=REACH_SECONDS):
            why = _refused_by(place, found)
            if why is None:
                break
            time.sleep(pause)
        if why is not None:
            return f"{os.uname().nodename} cannot use {place}: {why}"
    return None


def _refused_by(url: str, credential: Credential) -> str | None:
    try:
        token = find_token(credential.token_file)
        transport = Transport(
            url, token.secret if token else None, credential.ca_file, idle_seconds=REACH_SECONDS
        )
        with closing(transport), transport.request("GET", "/metrics", replay=False) as response:
            response.read()
            return "it does not take the token" if response.status in (401, 403) else None
    except (HashserverError, OSError) as error:
        return str(error)


def resources(worker: Worker) -> dict[str, float]:
    """Return the Dask resources by which tasks find this worker."""
    cpus = os.environ.get("SEAMLESS_WORKER_CPUS", "")
    queue = os.environ.get("SEAMLESS_WORKER_QUEUE")
    found = {
        CPUS: float(cpus) if cpus.replace(".", "", 1).isdecimal() else float(worker.state.nthreads),
        MEMORY: float(1 << 62),  # bytes; a worker of a daskserver is started with what it really has
        f"{NODE}{os.uname().nodename}": PLENTY,
    }
    return found | ({f"{QUEUE}{queue}": PLENTY} if queue else {})


def handlers_of(equipment: DaskWorker) -> dict[str, Callable[..., Any]]:
    """Return what others may ask a worker, by the names of the requests."""

    async def stderr(key: str, start: int = 0) -> dict[str, Any]:
        return await asyncio.to_thread(equipment.stderr, key, start)

    def askers(key: str, askers: dict[str, str]) -> str:
        equipment.set_askers(key, askers)
        return "OK"

    return {"seamless_stderr": stderr, "seamless_askers": askers}
