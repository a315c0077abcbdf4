"""Look-ups share requests, and never fail."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from hashserver.checksum import Checksum
from hashserver.errors import ServiceUnavailable
from hashserver.results.result import Result
from seamless_dask.model.transformation import Value
from seamless_dask.scheduler.lookups import Lookups

KEYS = [Checksum(f"{number:064x}") for number in range(200)]


class Database:
    """It knows everything, and answers as it is told to."""

    def __init__(self) -> None:
        self.requests: list[list[Checksum]] = []
        self.answers = threading.Event()
        self.answers.set()
        self.error: Exception | None = None
        self.asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def lookup_many(self, keys: list[Checksum]) -> dict[Checksum, tuple[Checksum, Result]]:
        self.requests.append(keys)
        self._loop.call_soon_threadsafe(self.asked.set)
        assert self.answers.wait(60)
        if self.error is not None:
            raise self.error
        return {key: (key, Result("file", key)) for key in keys}


Case = Callable[[Database, Callable[..., Lookups]], Coroutine[Any, Any, None]]


def run(case: Case) -> None:
    """Run a test in an event loop."""

    async def main() -> None:
        made: list[Lookups] = []
        database = Database()

        def make(**options: Any) -> Lookups:
            made.append(Lookups(database.lookup_many, **options))
            return made[-1]

        try:
            await case(database, make)
        finally:
            database.answers.set()
            for lookups in made:
                lookups.close()

    asyncio.run(main())


async def until(happened: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not happened():
            await asyncio.sleep(0.005)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_is_known_comes_with_its_transformation() -> None:
    async def case(database: Database, make: Any) -> None:
        found = await make().find(KEYS[:3])
        assert found == {key: (key, Value("file", key)) for key in KEYS[:3]}

    run(case)


def test_those_that_come_during_a_request_share_the_next_one() -> None:
    async def case(database: Database, make: Any) -> None:
        lookups = make()
        database.answers.clear()
        first = asyncio.create_task(lookups.find(KEYS[:1]))
        await database.asked.wait()
        others = [asyncio.create_task(lookups.find([key, KEYS[0]])) for key in KEYS[1:]]
        await asyncio.sleep(0)
        database.answers.set()
        assert list(await first) == KEYS[:1]
        assert [set(found) for found in await asyncio.gather(*others)] == [{key, KEYS[0]} for key in KEYS[1:]]
        assert [len(request) for request in database.requests] == [1, 200]
        assert (lookups.requests, lookups.keys) == (2, 201)

    run(case)


def test_an_answer_that_was_taken_is_kept_by_nobody() -> None:
    class Known(Checksum):
        """One that can be referred to weakly."""

    async def case(database: Database, make: Callable[..., Lookups]) -> None:
        known = Known("5" * 64)
        seen = weakref.ref(known)
        await make().find([known])
        database.requests.clear()
        del known
        await until(lambda: gc.collect() is not None and seen() is None)

    run(case)


def test_nobody_is_asked_about_nothing() -> None:
    async def case(database: Database, make: Any) -> None:
        assert await make().find([]) == {}
        assert database.requests == []

    run(case)


def test_an_error_means_misses_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def case(database: Database, make: Any) -> None:
        database.error = ServiceUnavailable("the server does not answer")
        lookups = make()
        found = await asyncio.gather(lookups.find(KEYS[:1]), lookups.find(KEYS[1:2]))
        assert found == [{}, {}]
        for key in KEYS:
            assert await lookups.find([key]) == {}
        assert lookups.trouble == "the server does not answer"
        assert len(database.requests) == 2  # a batch is not given up for one error

    run(case)
    assert len(told(caplog)) == 1
    assert "the server does not answer" in told(caplog)[0]


def test_an_answer_that_does_not_come_means_misses(caplog: pytest.LogCaptureFixture) -> None:
    async def case(database: Database, make: Any) -> None:
        database.answers.clear()
        lookups = make(timeout=0.05)
        first = asyncio.create_task(lookups.find(KEYS[:1]))
        await database.asked.wait()
        second = asyncio.create_task(lookups.find(KEYS[1:2]))
        assert await first == {}
        assert await second == {}
        assert await lookups.find(KEYS) == {}
        assert len(database.requests) == 1
        database.answers.set()
        await until(lambda: lookups.trouble is None)
        assert list(await lookups.find(KEYS[:2])) == KEYS[:2]

    run(case)
    assert len(told(caplog)) == 1


def test_a_database_that_is_there_again_is_asked_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seamless_dask.scheduler.lookups.PAUSE", 0.0)

    async def case(database: Database, make: Any) -> None:
        lookups = make()
        for _ in range(2):
            database.error = OSError("gone")
            assert await lookups.find(KEYS[:1]) == {}
            assert lookups.trouble
            assert await lookups.find(KEYS[:1]) == {}
            assert lookups._trying is None
            assert lookups.trouble
            database.error = None
            # whoever comes first is not the one who pays for it
            assert list(await lookups.find(KEYS)) == KEYS
            assert lookups.trouble is None

    run(case)
    assert len(told(caplog)) == 2  # once each time that it was lost


def test_one_error_does_not_make_known_results_unknown() -> None:
    async def case(database: Database, make: Any) -> None:
        lookups = make()
        database.error = OSError("the connection was closed")
        answer = lookups._ask

        def once(keys: list[Checksum]) -> Any:
            try:
                return answer(keys)
            finally:
                database.error = None

        lookups._ask = once
        assert list(await lookups.find(KEYS)) == KEYS
        assert lookups.trouble is None

    run(case)


def test_a_probe_that_hangs_keeps_look_ups_waiting_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seamless_dask.scheduler.lookups.PROBE_SECONDS", 0.05)

    async def case(database: Database, make: Any) -> None:
        database.answers.clear()
        lookups = make(timeout=0.05)
        assert await lookups.find(KEYS[:1]) == {}
        assert await lookups.find(KEYS[:1]) == {}
        waiting = asyncio.create_task(lookups.find(KEYS[:1]))
        await asyncio.sleep(0)  # one round of the loop is enough from now on
        await asyncio.sleep(0)
        assert waiting.done()

    run(case)


def test_what_is_under_way_ends_as_misses_when_it_closes() -> None:
    async def case(database: Database, make: Any) -> None:
        lookups = make()
        database.answers.clear()
        first = asyncio.create_task(lookups.find(KEYS[:1]))
        await database.asked.wait()
        second = asyncio.create_task(lookups.find(KEYS[1:2]))
        await asyncio.sleep(0)
        lookups.close()
        assert [await first, await second] == [{}, {}]

    run(case)


def test_one_who_gives_up_does_not_take_the_others_along() -> None:
    async def case(database: Database, make: Any) -> None:
        lookups = make()
        database.answers.clear()
        first, second = (asyncio.create_task(lookups.find(KEYS[:1])) for _ in range(2))
        await database.asked.wait()
        first.cancel()
        database.answers.set()
        assert list(await second) == KEYS[:1]

    run(case)
