"""What the scheduler keeps of its clients, and tells them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import contextmanager
from time import time
from typing import TYPE_CHECKING, Any

from distributed.protocol.pickle import dumps
from distributed.scheduler import ClientState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed.scheduler import Scheduler


@contextmanager
def activity(scheduler: Scheduler) -> Iterator[None]:
    """Keep the scheduler from counting as idle."""
    scheduler._active_graph_updates += 1
    try:
        yield
    finally:
        scheduler._active_graph_updates -= 1


def report_error(scheduler: Scheduler, client: str, keys: Iterable[Any], error: Exception) -> None:
    """Tell a client that keys have failed which the scheduler was not given."""
    from distributed.core import error_message

    told = error_message(error)
    for key in keys:
        message = {
            "op": "task-erred",
            "key": key,
            "exception": told["exception"],
            "traceback": told["traceback"],
        }
        # not by `report`, which tells all who want the key
        scheduler.client_comms[client].send(message)


def pin(scheduler: Scheduler, keys: Iterable[Any], name: str) -> None:
    """Keep tasks as those that a client of some name wants are kept.

    `Scheduler.client_desires_keys` tells everybody who wants a task that it has failed, also those who have
    just asked for it to be tried again: they would wake up, and find it waiting.
    """
    client = scheduler.clients.get(name)
    if client is None:
        client = scheduler.clients[name] = ClientState(name)
    for key in keys:
        ts = scheduler.tasks[key]
        if ts.who_wants is None:
            ts.who_wants = set()
        ts.who_wants.add(client)
        client.wants_what.add(ts)


def retry(scheduler: Scheduler, keys: Iterable[Any], may: Callable[[Any], bool]) -> None:
    """Have tasks that failed run again, with those that they failed because of, as far as these may."""
    roots: list[Any] = []
    stack, seen = list(keys), set()
    while stack:
        key = stack.pop()
        if key in seen:
            continue
        seen.add(key)
        failed = [other.key for other in scheduler.tasks[key].dependencies if other.state == "erred"]
        stack += failed
        if not failed and may(key):
            roots.append(key)
    scheduler.transitions(dict.fromkeys(roots, "waiting"), f"seamless-retry-{time()}")


def intercept_removal(
    scheduler: Any, interceptor: Callable[[str, Callable[[], None]], None]
) -> Callable[..., None]:
    """Have `interceptor` called with a client that leaves, and what removes it; returns what does that.

    `Scheduler.remove_client` is looked up on the instance when a connection ends.
    """
    original = scheduler.remove_client

    def remove_client(client: str, stimulus_id: str | None = None) -> None:
        interceptor(client, lambda: original(client, stimulus_id))

    scheduler.remove_client = remove_client
    return remove_client


def intercept_desires(
    scheduler: Any, interceptor: Callable[[Collection[Any], str, Callable[[], None]], None]
) -> Callable[..., None]:
    """Have `interceptor` called with keys, the client that wants them, and what makes a note of that.

    Extensions and the handler of graphs look `Scheduler.client_desires_keys` up on the instance; returns it.
    """
    original = scheduler.client_desires_keys

    def client_desires_keys(keys: Collection[Any], client: str) -> None:
        interceptor(keys, client, lambda: original(keys, client))

    scheduler.client_desires_keys = client_desires_keys
    return client_desires_keys


def forsake(scheduler: Any, client: Any) -> None:
    """Have a client's state want nothing any more, which is no longer among `Scheduler.clients`."""
    recommendations: dict[Any, Any] = {}
    keys = [ts.key for ts in client.wants_what]
    scheduler._client_releases_keys(keys, client, recommendations)
    scheduler.transitions(recommendations, f"seamless-client-left-{time()}")


def restore_clients(scheduler: Any) -> None:
    """Take back `intercept_removal` and `intercept_desires`."""
    for name in ("remove_client", "client_desires_keys"):
        scheduler.__dict__.pop(name, None)


def show(scheduler: Scheduler, key: Any, text: str, may: Callable[[str], bool]) -> None:
    """Have the clients that wait for a task show on standard error what it has printed.

    As `distributed.print` does for all clients, by the event that `Client._handle_event` knows.
    """
    shown = {"args": (text,), "sep": "", "end": "", "file": 2, "flush": True}
    message = {"op": "event", "topic": "print", "event": (time(), shown)}
    for client in _waiting_for(scheduler, key):
        comm = scheduler.client_comms.get(client)
        if comm is not None and may(client):
            comm.send(message)


def _waiting_for(scheduler: Scheduler, key: Any) -> set[str]:
    """Return the clients that want a task, or one that needs it."""
    found: set[str] = set()
    stack = [ts for ts in (scheduler.tasks.get(key),) if ts is not None]
    seen = set(stack)
    while stack and len(found) < len(scheduler.client_comms):
        ts = stack.pop()
        found |= {client.client_key for client in ts.who_wants or ()}
        new = [other for other in ts.dependents if other not in seen]
        seen.update(new)
        stack += new
    return found


def warn(scheduler: Scheduler, client: str, text: str) -> None:
    """Have one client show a warning."""
    comm = scheduler.client_comms.get(client)
    if comm is not None:
        comm.send({"op": "event", "topic": "warn", "event": (time(), {"message": dumps(text)})})


def warn_clients(scheduler: Scheduler, text: str) -> None:
    """Have all clients show a warning, of which they unpickle the text, as `distributed.worker.warn` does."""
    scheduler.log_event("warn", {"message": dumps(text)})
