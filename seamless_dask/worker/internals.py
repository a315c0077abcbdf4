"""All private API of Dask that a worker's side needs; each function says what it assumes."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from distributed.threadpoolexecutor import thread_state

from seamless_dask.graph.names import key_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distributed import Worker


def is_wanted(worker: Worker, key: str) -> bool:
    """Say whether the scheduler still wants a task that runs here.

    `Worker.state.tasks` holds it in one of these states for as long; one that was released meanwhile is
    ``cancelled``, and ``resumed`` when it is wanted as an input only. Reading it from a thread is safe.
    """
    task = worker.state.tasks.get(key_of(key))
    return task is not None and task.state in ("executing", "long-running", "resumed")


def is_known(worker: Worker, key: str) -> bool:
    """Say whether a worker has a task, in whatever state; of its going `WorkerPlugin.transition` hears."""
    return key_of(key) in worker.state.tasks


def is_waiting(worker: Worker, key: str) -> tuple[int, ...] | None:
    """Return the priority of a task that has come to a worker and waits for its turn."""
    task = worker.state.tasks.get(key_of(key))
    if task is None or task.state not in ("waiting", "ready", "constrained"):
        return None
    return task.priority


def has_more(worker: Worker) -> bool:
    """Say whether tasks wait for a thread of a worker.

    `WorkerState.ready` and `WorkerState.constrained` hold them; a thread may ask for their lengths.
    """
    return bool(worker.state.ready or worker.state.constrained)


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
    task = worker.state.tasks.get(key_of(key))
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


async def let_go_at_exit(worker: Worker) -> None:
    """Have nobody wait for the end of a worker whose event loop ends before it has closed.

    `asyncio.run` cancels all tasks at its end, `Worker.close` among them. `Worker.handle_scheduler` closes
    the worker in its ``finally``, and where that is under way waits for `_event_finished`, for ever.
    """
    try:
        await worker.finished()
    except asyncio.CancelledError:
        worker._event_finished.set()
        raise


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
    """Return the key of the task that runs in this thread, as text: `key_of` has it back."""
    with suppress(KeyError):
        return str(worker.get_current_task())
    return None


def called(worker: Worker) -> Any:
    """Return the function that is the task which runs in this thread; None: there is none, or it is several.

    `TaskState.run_spec` is a `dask._task_spec.Task` with a ``func``, unless Dask has fused some into one.
    """
    task = worker.state.tasks.get(key_of(current_key(worker) or ""))
    return None if task is None else getattr(task.run_spec, "func", None)


def has_seat() -> bool:
    """Say whether this thread is one of those of a worker: a task may have started others.

    `ThreadPoolExecutor` names itself in `thread_state` of its own threads only.
    """
    return hasattr(thread_state, "executor")


class Seat:
    """A place that a thread which has seceded asks for among those of its worker.

    `ThreadPoolExecutor._rejoin_list` holds a thread and an event for each that asks. The next one that is
    free takes them out under `_rejoin_lock`, puts the thread in its own place, sets the event and ends. A
    thread whose `thread_state.proceed` is false ends with its task.
    """

    def __init__(self) -> None:
        self._executor, self._granted = thread_state.executor, threading.Event()
        self._entry = (threading.current_thread(), self._granted)
        with self._executor._rejoin_lock:
            self._executor._rejoin_list.append(self._entry)
        with suppress(RuntimeError):  # the worker is closing
            self._executor.submit(bool)  # wakes a thread that waits for work

    def wait(self, seconds: float) -> bool:
        """Say whether a thread has made way."""
        return self._granted.wait(seconds)

    def take_or_leave(self) -> bool:
        """Take the place, and say so; where there is none yet do without it for good."""
        with self._executor._rejoin_lock:
            if not self._granted.is_set():
                self._executor._rejoin_list.remove(self._entry)
                return False
        thread_state.proceed = True
        return True
