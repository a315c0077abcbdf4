"""Steps whose inputs are known are resolved and looked up, beside the event loop."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.checksum import Checksum
from hashserver.errors import HashserverError

from .dask import clients, graphs
from .lookups import Thread
from .resolution import Resolved, Resolver, record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from ..context import Context
    from ..model.transformation import Value

    Known = Mapping[Checksum, tuple[Checksum, Value]]
    Find = Callable[[Sequence[Checksum]], Awaitable[Known]]

PAUSE = 30.0
"""Seconds for which nothing more is asked, or recorded, where that has failed."""

log = logging.getLogger("distributed.scheduler.seamless")


class Step(NamedTuple):
    """A task of ours that Dask would dispatch now; `upstream` is empty unless it is deferred."""

    task: str
    key: Checksum
    upstream: tuple[tuple[Checksum, Value], ...]


def step_of(ts: Any, value_of: Callable[[Any], Value | None]) -> Step | None:
    """Return what a task is about; None if that cannot be told, and for one that is to run anyway.

    Parameters
    ----------
    value_of
        From a reference to another task to its value, if that is known.
    """
    found = graphs.arguments(ts)
    if found is None or ts.key[-64:] != found.key:
        return None
    try:
        upstream = []
        for name, argument in zip(found.upstream, found.values, strict=True):
            value = graphs.value_of(argument) or value_of(argument)
            if value is None:
                return None
            upstream.append((Checksum(name), value))
        return Step(ts.key, Checksum(found.key), tuple(upstream))
    except (HashserverError, AttributeError, TypeError, ValueError):
        return None  # not what our collections make: the worker says what is wrong


class PendingLookups:
    """One for a scheduler; made and used in its event loop.

    Parameters
    ----------
    scheduler
        Dask's, which is not idle while something is looked up.
    context
        Whose store has the documents, and whose database keeps what is found out.
    find
        Looks up many keys at once; misses on failure.
    settle
        Called with steps, what those of them became that could be resolved, and what is known of these.
    timeout
        Seconds after which a store has not answered.
    """

    def __init__(
        self,
        scheduler: Any,
        context: Context,
        find: Find,
        settle: Callable[[list[Step], dict[str, Resolved], Known], None],
        timeout: float = 10.0,
    ) -> None:
        self._scheduler, self._context, self._find, self._settle = scheduler, context, find, settle
        self._timeout = timeout
        self._reading, self._writing = Thread("seamless-steps"), Thread("seamless-records")
        self.resolver = Resolver(context)
        self._asked: set[str] = set()
        self._this_turn: list[tuple[Step, Resolved | None]] = []
        self._background: set[asyncio.Task[Any]] = set()
        self._unrecorded: list[Resolved] = []
        self._idle_until: dict[Thread, float] = {}
        self._without = {
            self._reading: "steps are not looked up before they are dispatched",
            self._writing: "that steps have been found is not recorded",
        }

    def __contains__(self, task: str) -> bool:
        """Whether a task is being looked up."""
        return task in self._asked

    def ask(self, step: Step, resolved: Resolved | None = None) -> None:
        """Look a step up, together with all others of this turn of the loop."""
        if not self._this_turn:
            asyncio.get_running_loop().call_soon(self._ask_all)
        self._this_turn.append((step, resolved))
        self._asked.add(step.task)

    def forget(self, task: str) -> None:
        """Forget that a task was asked for."""
        self._asked.discard(task)

    def expect(self, keys: Iterable[Checksum]) -> None:
        """Have the documents of keys at hand that are going to be asked for."""
        wanted = list(keys)
        if wanted and not self._has_failed(self._reading):
            self._run(self._in(self._reading, lambda: self.resolver.fetch(wanted), self._timeout))

    def record(self, resolved: Resolved) -> None:
        """Keep what a step has become, as a worker would."""
        if self._has_failed(self._writing):
            return
        if not self._unrecorded:
            self._run(self._record_all())
        self._unrecorded.append(resolved)

    def close(self) -> None:
        """Stop looking up."""
        for running in self._background:
            running.cancel()
        self._reading.close()
        self._writing.close()

    def _ask_all(self) -> None:
        asked, self._this_turn = self._this_turn, []
        self._run(self._look_up(asked))

    async def _look_up(self, asked: list[tuple[Step, Resolved | None]]) -> None:
        resolved: dict[str, Resolved] = {}
        found: Known = {}
        try:
            with clients.activity(self._scheduler):
                resolved = await self._resolve(asked)
                names = [
                    resolved[step.task].checksum if step.task in resolved else step.key for step, _ in asked
                ]
                found = await self._find(list(dict.fromkeys(names)))
        except Exception:
            log.exception("a look-up failed; its tasks go to workers")
        steps = [step for step, _ in asked]
        self._asked.difference_update(step.task for step in steps)
        self._settle(steps, resolved, found)

    async def _resolve(self, asked: list[tuple[Step, Resolved | None]]) -> dict[str, Resolved]:
        """Resolve what is not resolved yet; what cannot be is left out."""
        resolved = {step.task: known for step, known in asked if known is not None}
        open_ = [step for step, known in asked if known is None and step.upstream]
        if open_ and not self._has_failed(self._reading):
            pairs = [(step.key, dict(step.upstream)) for step in open_]
            answers = await self._in(self._reading, lambda: self.resolver.resolve(pairs), self._timeout)
            resolved |= {
                step.task: answer for step, answer in zip(open_, answers or (), strict=False) if answer
            }
        return resolved

    async def _record_all(self) -> None:
        """Record what there is, and what has come meanwhile, however long it takes: nobody waits for it.

        A thousand steps that are found at once take longer than a store may take to answer; that must not
        make it count as silent.
        """
        while self._unrecorded:
            steps = list(self._unrecorded)
            await self._in(self._writing, lambda: record(self._context, steps), None)  # noqa: B023 - awaited
            del self._unrecorded[: len(steps)]

    async def _in(self, thread: Thread, action: Callable[[], Any], timeout: float | None) -> Any:
        """Return what a thread finds out; None when it fails or takes too long."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                return await thread.call(action)
        except (TimeoutError, HashserverError, OSError) as error:
            why = str(error) or f"no answer within {timeout:g} s"
            if not self._has_failed(thread):
                log.warning("%s: %s", self._without[thread], why)
            self._idle_until[thread] = loop.time() + PAUSE
        except Exception:
            log.exception(self._without[thread])
        return None

    def _has_failed(self, thread: Thread) -> bool:
        return asyncio.get_running_loop().time() < self._idle_until.get(thread, 0.0)

    def _run(self, work: Any) -> None:
        running = asyncio.get_running_loop().create_task(work)
        self._background.add(running)
        running.add_done_callback(self._background.discard)
