"""All private API of Dask that a worker's side needs; each function says what it assumes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from distributed import Worker


def is_wanted(worker: Worker, key: str) -> bool:
    """Say whether the scheduler still wants a task that runs here.

    `Worker.state.tasks` holds it in one of these states for as long; one that was released meanwhile is
    ``cancelled``, and ``resumed`` when it is wanted as an input only. Reading it from a thread is safe.
    """
    task = worker.state.tasks.get(key)
    return task is not None and task.state in ("executing", "long-running", "resumed")


def is_waiting(worker: Worker, key: str) -> bool:
    """Say whether a task has come to a worker and waits for its turn."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state in ("waiting", "ready", "constrained")


def is_closing(worker: Worker) -> bool:
    """Say whether a worker is on its way out; one that is being retired finishes what it runs."""
    return worker.status.name in ("closing", "closed", "failed")


def has_scheduler(worker: Worker) -> bool:
    """Say whether the connection to the scheduler stands.

    `Worker.batched_stream` holds it; its ``comm`` is None before the registration.
    """
    stream = worker.batched_stream
    return bool(stream and stream.comm and not stream.comm.closed())


def tell_value(worker: Worker, key: str, format_: str, checksum: str) -> None:
    """Let the scheduler know what a task gave, with the message that says it has finished.

    `metadata` of a task of the worker's state travels with that message.
    """
    task = worker.state.tasks.get(key)
    if task is not None:
        task.metadata["seamless"] = [format_, checksum]


def add_handlers(worker: Worker, handlers: dict[str, Callable[..., Any]]) -> None:
    """Answer requests under these names.

    `Server.handlers` is looked into at each request; ``comm`` is the first argument of a handler.
    """
    worker.handlers.update(handlers)


def remove_handlers(worker: Worker, names: list[str]) -> None:
    """Answer them no more."""
    for name in names:
        worker.handlers.pop(name, None)


async def announce(worker: Worker, resources: dict[str, float]) -> None:
    """Add resources to those that a worker was started with.

    The scheduler looks at tasks that no worker could take when the status of one changes to running, and not
    when its resources do.
    """
    known = worker.state.total_resources
    fresh = {name: amount for name, amount in resources.items() if name not in known}
    if not fresh:
        return
    await worker.set_resources(**fresh)
    if worker.status.name == "running":
        from distributed.core import Status

        worker.status = Status.paused
        worker.status = Status.running


def call_scheduler(worker: Worker, operation: str, arguments: dict[str, Any]) -> Awaitable[Any]:
    """Ask the scheduler; to be awaited in the worker's event loop.

    `Worker.scheduler` offers each handler of the scheduler as a method.
    """
    found: Awaitable[Any] = getattr(worker.scheduler, operation)(**arguments)
    return found


def event_loop(worker: Worker) -> asyncio.AbstractEventLoop:
    """Return the event loop of a worker, which Tornado wraps."""
    loop: asyncio.AbstractEventLoop = worker.loop.asyncio_loop  # type: ignore[attr-defined]
    return loop


def current_key(worker: Worker) -> str | None:
    """Return the key of the task that runs in this thread."""
    with suppress(KeyError):
        return str(worker.get_current_task())
    return None
