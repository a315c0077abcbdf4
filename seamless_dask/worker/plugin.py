"""The worker plugin: equips each worker that connects to the scheduler."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin

from hashserver.checksum import Checksum
from seamless_dask.context import Context
from seamless_dask.execution import runners
from seamless_dask.execution.workdir import dismiss_caretaker, employ_caretaker, sweep, temporary_directory
from seamless_dask.graph.current_worker import EXTENSION
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

    from .data_locations import DataLocations

logger = logging.getLogger("distributed.worker")

PLENTY = 1e6
"""Of a resource that stands for a property: as many tasks as come may take their one."""

PATIENCE = 20.0
"""Seconds for which each request waits for a hashserver that is being started again: work would be lost."""

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
        self._equipment: DaskWorker | None = None
        self._end: asyncio.Task[None] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # by value: a worker without this package must be able to say so
        source = Path(__file__).with_name("bootstrap.py").read_text(encoding="utf-8")
        arguments = (self.places.to_json(), __version__, PROTOCOL)
        return eval, (_ARRIVE, {"source": source, "arguments": arguments})

    async def setup(self, worker: Worker) -> None:
        """Equip a worker, or say why that cannot be."""
        try:
            equipment = self._equipment = await asyncio.to_thread(self._equipped, worker)
        except Exception as error:  # whatever it is, tasks of others are none of our business
            self._refuse(worker, error)
            return
        employ_caretaker()
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
        equipment = worker.extensions.pop(EXTENSION, None)
        worker.metrics.pop(EXTENSION, None)
        if equipment is not None:
            internals.remove_handlers(worker, list(handlers_of(equipment)))
            await asyncio.to_thread(equipment.close)
            await asyncio.to_thread(runners.dismiss)
            await asyncio.to_thread(dismiss_caretaker)

    def transition(self, key: Any, start: Any, finish: Any, **_: Any) -> None:
        """Fetch what tasks of ours are going to need; forget what is known of those that are gone."""
        if self._equipment is None or (found := key_in(key)) is None:
            return
        if finish in ("ready", "constrained"):
            self._equipment.expect(key, Checksum(found))
        elif finish in ("released", "forgotten", "memory", "error"):
            self._equipment.forget(key)

    def _equipped(self, worker: Worker) -> DaskWorker:
        sweep(temporary_directory())  # what a killed worker has left running
        context = Context(self.places.config(), patience=PATIENCE)
        store = MeteredStore(self.places.visible(context.store))
        context.__dict__["store"] = store
        # opened here, by one thread
        _ = context.database, context.stat_cache, context.node_cache
        return DaskWorker(worker, context)

    @staticmethod
    def _refuse(worker: Worker, error: Exception) -> None:
        logger.error("this worker runs no transformations of seamless-dask: %s", error)
        event = {"action": "unequipped", "worker": worker.address, "version": __version__}
        worker.log_event(TOPIC, event | {"message": str(error)})


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
