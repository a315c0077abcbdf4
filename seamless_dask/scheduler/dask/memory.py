"""Values in memory, and who holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import time
from typing import TYPE_CHECKING, Any

from distributed.core import Status
from distributed.protocol.serialize import (
    Serialized,
    ToPickle,
    serialize,
    to_serialize,
)

from hashserver.checksum import Checksum
from hashserver.errors import HashserverError

from ...model.transformation import Value
from .assumptions import Go, dask_scheduler
from .graphs import reading_objects, substituted

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, WorkerState


def make_holder(scheduler: Scheduler) -> WorkerState:
    """Return a worker state that holds what the database knows; it is never among `scheduler.workers`.

    Its address is the scheduler's own, which answers ``get_data`` as a worker does.
    """
    holder: WorkerState = dask_scheduler.WorkerState(
        address=scheduler.address or "seamless://database",
        status=Status.running,
        pid=0,
        name="seamless-database",
        nthreads=0,
        memory_limit=0,
        local_directory="",
        nanny=None,
        server_id="seamless-database",
        scheduler=scheduler,
    )
    # pages of the dashboard tell these of all holders of a task
    holder.metrics = {"memory": 0, "managed_bytes": 0, "spilled_bytes": {"memory": 0, "disk": 0}}
    return holder


def to_memory(scheduler: Any, holder: WorkerState, ts: Any, value: Any) -> Any:
    """Complete a task that has not begun; returns what a transition returns.

    One that has failed is ``released`` when this is called: Dask takes it there by itself on its way.
    """
    if ts.state == "queued":
        scheduler.queued.discard(ts)
    elif ts.state == "no-worker":
        scheduler.unrunnable.pop(ts, None)
    recommendations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    ts.waiting_on = None
    ts.priority = ts.priority or (0, 0, 0)
    _describe(ts, value)
    scheduler._add_to_memory(ts, holder, recommendations, messages, type=None, typename=ts.type)
    return recommendations, messages, {}


def only_revivable(ts: Any, go: Go) -> Any:
    """Answer the transition by which a failed task goes ``released``: what waits for others stays failed.

    Dask would have all that failed because of it wait, those too that need something else that has failed.
    """
    recommendations, to_clients, to_workers = go()
    for other in ts.dependents:
        failed = next((needed for needed in other.dependencies if needed.state == "erred"), None)
        if failed is not None and recommendations.pop(other.key, None) is not None:
            other.exception_blame = failed.exception_blame
    return recommendations, to_clients, to_workers


def keep_one_replica(scheduler: Any, holder: WorkerState) -> None:
    """Have a value leave its holder when a worker has it too.

    The Active Memory Manager takes for granted that all holders of what has several are workers.
    `Scheduler.add_replica` is looked up on the instance.
    """
    add = scheduler.add_replica

    def add_replica(ts: Any, ws: WorkerState) -> None:
        add(ts, ws)
        if ws is not holder and len(ts.who_has) > 1 and holder in ts.who_has:
            scheduler.remove_replica(ts, holder)

    scheduler.add_replica = add_replica


def restore_replicas(scheduler: Any) -> None:
    """Take back `keep_one_replica` and `send_values`."""
    for name in ("add_replica", "_task_to_msg"):
        scheduler.__dict__.pop(name, None)


def take_over(scheduler: Scheduler, holder: WorkerState, tasks: Iterable[Any]) -> None:
    """Hold values in the place of all workers that have them, as the Active Memory Manager moves them.

    `Scheduler.request_remove_replicas` counts a worker among the holders no longer when it returns; one that
    still needs a value says that it has it, and `keep_one_replica` takes the value from the holder.
    """
    stimulus_id = f"seamless-take-over-{time()}"
    removed: dict[str, list[Any]] = {}
    for ts in tasks:
        for ws in ts.who_has:
            removed.setdefault(ws.address, []).append(ts.key)
        scheduler.add_replica(ts, holder)
    for address, keys in removed.items():
        scheduler.request_remove_replicas(address, keys, stimulus_id=stimulus_id)


def intercept_retirement(scheduler: Any, interceptor: Callable[[list[WorkerState]], None]) -> None:
    """Have `interceptor` called with workers that are named for retirement, before they are.

    `Scheduler.retire_workers` is looked up on the instance by those who are in its process, clients reach it
    through ``handlers``. Without names Dask itself chooses, and asks plugins: `valid_workers_downscaling`.
    """
    original = scheduler.retire_workers

    async def retire_workers(workers: Any = None, *, names: Any = None, **options: Any) -> Any:
        addresses, called = set(workers or ()), {str(name) for name in names or ()}
        known = scheduler.workers.values()
        interceptor([ws for ws in known if ws.address in addresses or str(ws.name) in called])
        return await original(workers, names=names, **options)

    scheduler.retire_workers = scheduler.handlers["retire_workers"] = retire_workers


def restore_retirement(scheduler: Any) -> None:
    """Take `intercept_retirement` back."""
    scheduler.__dict__.pop("retire_workers", None)
    scheduler.handlers["retire_workers"] = scheduler.retire_workers


def _describe(ts: Any, value: Any) -> None:
    ts.set_nbytes(64)
    ts.type = type(value).__name__


def send_values(
    scheduler: Any, holder: WorkerState, values: Mapping[str, Any], is_ours: Callable[[Any], bool]
) -> None:
    """Have workers be sent the values that no worker holds inside the tasks that need them.

    Tasks that are not ours are sent such that what they read of ours they read as objects.
    The scheduler's own state stays what it is; that a worker reaches the scheduler's address, at which they
    could be fetched, is not sure. `SchedulerState._task_to_msg` is looked up on the instance.
    """
    to_message = scheduler._task_to_msg

    def task_to_message(ts: Any) -> Any:
        message = to_message(ts)
        node = ts.run_spec
        if not is_ours(ts.key) and (read := [other.key for other in ts.dependencies if is_ours(other.key)]):
            node = reading_objects(node, read)
            message["run_spec"] = ToPickle(node)
        held = {
            other.key: values[other.key]
            for other in ts.dependencies
            if other.key in values and holder in (other.who_has or ())
        }
        if held:
            message["run_spec"] = ToPickle(substituted(node, held))
            for what in ("who_has", "nbytes"):
                message[what] = {key: told for key, told in message[what].items() if key not in held}
        return message

    scheduler._task_to_msg = task_to_message


def settle(scheduler: Scheduler, keys: Iterable[str]) -> None:
    """Have tasks go into memory, through the interceptors."""
    scheduler.transitions(dict.fromkeys(keys, "memory"), f"seamless-hit-{time()}")


def one_pickle(values: Mapping[Any, Any]) -> Any:
    """Return values in a form that is packed once for all of them, not once for each."""
    return Serialized(*serialize(dict(values), serializers=("pickle",), iterate_collection=False))


def one_pickle_of(value: Any) -> Any:
    """Return a value in a form that is packed by itself."""
    return to_serialize(value)


async def send_data(comm: Any, values: Mapping[str, Any], serializers: Any) -> Any:
    """Answer ``get_data`` as a worker does: the values, then an acknowledgement is read."""
    data = {key: to_serialize(value) for key, value in values.items()}
    await comm.write({"status": "OK", "data": data}, serializers=serializers)
    await comm.read(deserializers=serializers)
    return Status.dont_reply


def reported_value(ts: Any) -> Value | None:
    """Return the value that a worker reported with a finished task.

    What a worker puts into the metadata of its task state travels with the message that it has finished.
    """
    try:
        format_, checksum = (ts.metadata or {})["seamless"]
        return Value(str(format_), Checksum(checksum))
    except (KeyError, TypeError, ValueError, HashserverError):
        return None
