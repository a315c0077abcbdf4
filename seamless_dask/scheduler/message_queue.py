"""What clients say is acted upon in the order in which they said it, though graphs take their time.

A client's further messages that concern keys wait until its graph has passed. So does the client's removal:
it may have fired and forgotten.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .dask import clients

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

MESSAGES = (
    "cancel-keys",
    "update-data",
    "report-key",
    "publish_flush_batched_send",
)
"""Messages of a client that must not overtake its graphs, nor may what it releases."""

_acting: ContextVar[str | None] = ContextVar("acting", default=None)
"""For which client its messages are acted upon in this task."""

log = logging.getLogger("distributed.scheduler.seamless")


class Message:
    """What a client has said; it is acted upon when those before it have been.

    Parameters
    ----------
    act
        Called with the message; what it returns is awaited where that can be.
    keys
        Of the tasks that come into being by it.
    released
        Keys that the client gives up.
    lasts
        Whether it holds after a restart of the scheduler.
    leaving
        Dask's state of a client that leaves with this message.
    """

    __slots__ = ("act", "dropped", "keys", "lasts", "leaving", "released")

    def __init__(
        self,
        act: Callable[[Message], Any],
        keys: Collection[Any] = (),
        released: Collection[Any] = (),
        lasts: bool = False,
        leaving: Any = None,
    ) -> None:
        self.act, self.keys, self.released = act, keys, set(released)
        self.lasts, self.leaving, self.dropped = lasts, leaving, False


class MessageQueue:
    """One for a scheduler; its methods run in the scheduler's event loop.

    Attributes
    ----------
    queues : dict
        What each client has said that is not done, the message that is acted upon first.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self.queues: dict[str, deque[Message]] = {}
        self._drains: set[asyncio.Task[None]] = set()
        self._originals: dict[str, Callable[..., Any]] = {}

    def start(self, on_graph: Callable[..., Any]) -> Callable[..., Any]:
        """Come between clients and scheduler; returns what Dask itself does with a graph."""
        handlers = self._scheduler.stream_handlers
        names = ("update-graph", "close-client", "client-desires-keys", "client-releases-keys", *MESSAGES)
        self._originals = {name: handlers[name] for name in names if name in handlers}
        handlers |= {name: self._in_turn(handlers[name]) for name in MESSAGES if name in handlers}
        handlers["update-graph"] = on_graph
        handlers["client-releases-keys"] = self._on_release
        handlers["client-desires-keys"] = clients.intercept_desires(self._scheduler, self._on_desire)
        handlers["close-client"] = clients.intercept_removal(self._scheduler, self._on_removal)
        return self._originals["update-graph"]

    def close(self) -> None:
        """Step out of the way; what is under way is dropped with the scheduler."""
        self._scheduler.stream_handlers.update(self._originals)
        clients.restore_clients(self._scheduler)
        for drain in self._drains:
            drain.cancel()

    def client_came(self, client: str) -> None:
        """Drop what a client said over a connection that it has lost: it has given up all its futures.

        Where it had not been removed yet, Dask has made it a new state, and forgotten the one it had.
        """
        for message in self.queues.get(client, ()):
            message.dropped = True
            if message.leaving is not None:
                clients.forsake(self._scheduler, message.leaving)

    def restart(self) -> None:
        """Drop what clients asked for before a restart, as the scheduler forgets its tasks."""
        for waiting in self.queues.values():
            for message in waiting:
                message.dropped = message.dropped or not message.lasts

    def enqueue(self, client: str, message: Message) -> None:
        """Have a message acted upon after those that the client sent before."""
        waiting = self.queues.get(client)
        if waiting is not None:
            waiting.append(message)
            return
        waiting = self.queues[client] = deque([message])
        drain = asyncio.get_running_loop().create_task(self._drain(client, waiting))
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)

    def _in_turn(self, original: Callable[..., Any]) -> Callable[..., None]:
        def handler(client: str, **message: Any) -> None:
            if client in self.queues:
                self.enqueue(client, Message(lambda _: original(client=client, **message)))
            else:
                original(client=client, **message)

        return handler

    def _on_release(self, keys: Collection[Any], client: str) -> None:
        release = self._originals["client-releases-keys"]
        if client in self.queues:
            self.enqueue(
                client, Message(lambda this: release(keys=this.released, client=client), released=keys)
            )
        else:
            release(keys=keys, client=client)

    def _on_desire(self, keys: Collection[Any], client: str, desire: Callable[[], None]) -> None:
        """Let somebody want keys: at once, or when their graph is there.

        `fire_and_forget`, variables, queues and data sets want them in other names than that of the client
        who submits the graph. What a client wants again, say by a variable, it does not release any more.
        """
        if client != _acting.get():
            for message in self.queues.get(client, ()):
                message.released.difference_update(keys)
        tasks = self._scheduler.tasks
        unknown = {key for key in keys if key not in tasks} if self.queues else set()
        for waiting in self.queues.values() if unknown else ():
            if any(not unknown.isdisjoint(message.keys) for message in waiting):
                waiting.append(Message(lambda _: desire()))
                return
        desire()

    def _on_removal(self, client: str, remove: Callable[[], None]) -> None:
        """Let a client go once all that it said is done."""
        if client in self.queues:
            leaving = self._scheduler.clients.get(client)
            self.enqueue(client, Message(lambda _: remove(), lasts=True, leaving=leaving))
        else:
            remove()

    async def _drain(self, client: str, waiting: deque[Message]) -> None:
        _acting.set(client)
        with clients.activity(self._scheduler):
            while waiting:
                message = waiting[0]
                try:
                    result = None if message.dropped else message.act(message)
                    if asyncio.iscoroutine(result):
                        await result
                except Exception:
                    log.exception("a message of client %s was lost", client)
                waiting.popleft()
            del self.queues[client]
