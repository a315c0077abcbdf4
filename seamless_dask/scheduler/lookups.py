"""Look-ups in the result database from the scheduler's event loop.

Those that come while another one is under way share the next request. A database that is slow or absent
means misses, never a failure: that is told once, and from then on it is waited for as long only as a healthy
one takes to answer.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ..model.transformation import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hashserver.checksum import Checksum
    from hashserver.results.result import Result

    Known = dict[Checksum, tuple[Checksum, Value]]
    Ask = Callable[[list[Checksum]], Mapping[Checksum, tuple[Checksum, Result]]]

WINDOW = 0.002
"""Seconds in which look-ups gather for one request."""
PAUSE = 2.0
"""Seconds after which a database that did not answer is tried again."""
PROBE = 100
"""Keys with which it is tried."""
PROBE_SECONDS = 1.0
"""How long look-ups wait for the answer to that, in all."""

log = logging.getLogger("distributed.scheduler.seamless")


class LookupBatch(NamedTuple):
    """Keys that share a request, and what will be known of them."""

    keys: dict[Checksum, None]
    answer: asyncio.Future[Known]


class Lookups:
    """One for a scheduler; made and used in its event loop.

    Parameters
    ----------
    ask
        Looks up many keys at once; called in a thread.
    timeout
        Seconds after which a database has not answered.

    Attributes
    ----------
    requests, keys : int
        How many requests were made, and for how many keys in all.
    trouble : str or None
        Why the database does not count as there.
    """

    def __init__(self, ask: Ask, timeout: float = 10.0) -> None:
        self._ask, self._timeout = ask, timeout
        self._thread = Thread("seamless-lookup")
        self._gathering: LookupBatch | None = None
        self._sending: asyncio.Task[None] | None = None
        self._trying: asyncio.Future[Known] | None = None
        self._try_again = self._tried_since = 0.0
        self.requests = self.keys = 0
        self.trouble: str | None = None

    async def find(self, keys: Iterable[Checksum]) -> Known:
        """Return the transformation and the value of each key that is known.

        Keys and checksums share one space: see `Database.lookup`.
        """
        asked = dict.fromkeys(keys)
        if not asked:
            return {}
        if self.trouble is not None and not await self._answers_again(list(asked)[:PROBE]):
            return {}
        if self._gathering is None:
            self._gathering = LookupBatch({}, asyncio.get_running_loop().create_future())
            if self._sending is None:
                self._sending = asyncio.get_running_loop().create_task(self._send())
        batch = self._gathering
        batch.keys.update(asked)
        found = await asyncio.shield(batch.answer)
        return {key: found[key] for key in asked if key in found}

    def close(self) -> None:
        """Stop; what is under way ends as misses."""
        if self._sending is not None:
            self._sending.cancel()
        self._thread.close()

    async def _send(self) -> None:
        """Make one request after the other, for as long as there is something to ask."""
        try:
            while self._gathering is not None:
                await asyncio.sleep(WINDOW)
                batch, self._gathering = self._gathering, None
                found: Known = {}
                try:
                    found = await self._request(list(batch.keys))
                finally:
                    batch.answer.set_result(found)
        finally:
            self._sending = None
            if self._gathering is not None:
                self._gathering.answer.set_result({})
                self._gathering = None

    async def _request(self, keys: list[Checksum]) -> Known:
        if self.trouble is not None:
            return {}
        for last in (False, True):
            answer = self._start(keys)
            done, _ = await asyncio.wait([answer], timeout=self._timeout)
            if not done:
                # the thread may hang for long; what it waits for shows when the database is there again
                self._watch(answer)
                self._lose(f"it has not answered for {self._timeout:g} s")
                return {}
            error = answer.exception()
            if error is None:
                return answer.result()
            if last:  # whatever it is, a scheduler must go on
                self._lose(str(error) or type(error).__name__)
        return {}

    def _start(self, keys: list[Checksum]) -> asyncio.Future[Known]:
        self.requests += 1
        self.keys += len(keys)
        return self._thread.call(lambda: self._values(keys))

    def _values(self, keys: list[Checksum]) -> Known:
        return {
            key: (transformation, Value(result.format, result.checksum))
            for key, (transformation, result) in self._ask(keys).items()
        }

    def _lose(self, why: str) -> None:
        log.warning("the result database does not answer, so that nothing counts as known: %s", why)
        self.trouble = why
        self._try_again = time.monotonic() + PAUSE

    async def _answers_again(self, keys: list[Checksum]) -> bool:
        """Try a database that did not answer, and say whether it does now."""
        if self._trying is None and time.monotonic() >= self._try_again:
            self._watch(self._start(keys))
        if self._trying is not None:
            left = self._tried_since + PROBE_SECONDS - time.monotonic()
            if left > 0:
                await asyncio.wait([self._trying], timeout=left)
        return self.trouble is None

    def _watch(self, answer: asyncio.Future[Known]) -> None:
        self._trying, self._tried_since = answer, time.monotonic()
        answer.add_done_callback(self._tried)

    def _tried(self, answer: asyncio.Future[Known]) -> None:
        self._trying = None
        self._try_again = time.monotonic() + PAUSE
        if not answer.cancelled() and answer.exception() is None:
            self.trouble = None
            log.info("the result database answers again")


class Thread:
    """A thread that calls functions for the event loop, one after the other.

    Unlike those of `concurrent.futures`, nobody waits for it when the interpreter ends.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def call(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Call a function in the thread; the future holds what it returns or raises."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._calls.put((function, future))
        return future

    def close(self) -> None:
        """End the thread after what it does now."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            self._make(*call)
            del call  # else the answer would stay until the next one comes

    def _make(self, function: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        if future.cancelled():  # whoever asked has lost patience
            return
        try:
            self._tell(future, future.set_result, function())
        except Exception as error:
            self._tell(future, future.set_exception, error)

    def _tell(self, future: asyncio.Future[Any], tell: Callable[..., None], what: object) -> None:
        def told() -> None:
            if not future.done():
                tell(what)

        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(told)
