"""Each transformation has one holder, whatever name it is asked for by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from hashserver.checksum import Checksum
from seamless_dask.model.transformation import Value
from seamless_dask.scheduler import claims as module
from seamless_dask.scheduler.claims import Claims

C, D = "c" * 64, "d" * 64
DIRECT = f"sort-tf-{C}"
STEP = f"sort-tf-{D}"
VALUE = Value("file", Checksum("e" * 64))
ONE, TWO = "tcp://one", "tcp://two"


class Office:
    """Claims, and what they say to the scheduler."""

    def __init__(self) -> None:
        self.begun: set[str] = set()
        self.withdrawn: list[str] = []
        self.ended: list[tuple[str, Value | None]] = []
        self.there: Callable[[str, str | None], bool] = lambda worker, task: True
        self.claims = Claims(
            lambda worker, task: self.there(worker, task),
            self.begun.__contains__,
            self._withdraw,
            lambda checksum, value: self.ended.append((checksum, value)),
        )

    def _withdraw(self, task: str) -> None:
        self.withdrawn.append(task)
        self.claims.end(C, task, None)

    async def claim(self, worker: str = ONE, key: str = D, task: str | None = None) -> dict[str, Any]:
        return await self.claims.claim(C, key, worker, task)

    async def waiting(self, **who: Any) -> asyncio.Task[dict[str, Any]]:
        """One who has asked and has no answer."""
        asked = asyncio.create_task(self.claim(**who))
        await asyncio.sleep(0)  # it has come to where it waits
        assert not asked.done()
        return asked


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 30))

    return run


@pytest.fixture
def office() -> Office:
    return Office()


@in_loop
async def test_what_nobody_runs_is_yours(office: Office) -> None:
    assert await office.claim() == {"status": "yours"}


@in_loop
async def test_the_second_waits_until_the_first_lets_go(office: Office) -> None:
    await office.claim(ONE)
    second = await office.waiting(worker=TWO, key=C)
    await office.claims.release(C, D)
    assert await second == {"status": "yours"}


@in_loop
async def test_the_second_is_told_what_came_of_it(office: Office) -> None:
    await office.claim(ONE)
    second = await office.waiting(worker=TWO, key=C)
    await office.claims.release(C, D, list(VALUE))
    assert await second == {"status": "known", "value": list(VALUE)}
    assert office.ended == [(C, VALUE)]


@in_loop
async def test_two_of_one_worker_are_two(office: Office) -> None:
    await office.claim(ONE, C)
    second = await office.waiting(worker=ONE, key=C)
    await office.claims.release(C, C)
    assert await second == {"status": "yours"}


@in_loop
async def test_of_many_who_wait_one_gets_it(office: Office) -> None:
    await office.claim(ONE)
    others = {await office.waiting(worker=TWO, key=C) for _ in range(3)}
    holder = D
    while others:
        await office.claims.release(C, holder)
        done, others = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        assert [asked.result() for asked in done] == [{"status": "yours"}]
        holder = C


@in_loop
async def test_a_worker_that_is_lost_lets_go(office: Office) -> None:
    await office.claim(ONE)
    second = await office.waiting(worker=TWO, key=C)
    office.claims.worker_left(ONE)
    assert await second == {"status": "yours"}


@in_loop
async def test_a_task_that_is_withdrawn_lets_go(office: Office) -> None:
    await office.claim(ONE, task=STEP)
    second = await office.waiting(worker=TWO, key=C, task="other")
    office.claims.task_left(STEP)
    assert await second == {"status": "yours"}


@in_loop
async def test_who_has_gone_away_gets_nothing_to_keep(office: Office) -> None:
    office.there = lambda worker, task: task != STEP
    await office.claim(ONE, task=STEP)
    assert await office.claim(TWO, C) == {"status": "yours"}


@in_loop
async def test_a_release_of_another_key_changes_nothing(office: Office) -> None:
    await office.claim(ONE)
    await office.claims.release(C, C)
    assert office.claims.holder(C, DIRECT) is not None


@in_loop
async def test_whoever_has_waited_long_is_told_to_ask_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    await office.claim(ONE)
    assert await office.claim(TWO, C) == {"status": "wait"}
    await office.claims.release(C, D)
    assert await office.claim(TWO, C) == {"status": "yours"}


@in_loop
async def test_a_task_that_has_begun_is_waited_for(office: Office) -> None:
    office.claims.begin(C, DIRECT)
    office.begun.add(DIRECT)
    second = await office.waiting(task=STEP)
    office.claims.end(C, DIRECT, VALUE)
    assert await second == {"status": "known", "value": list(VALUE)}


@in_loop
async def test_a_task_that_has_not_begun_gives_way(office: Office) -> None:
    """Its worker may be short of what the one who claims has: to wait for it might be for ever."""
    office.claims.begin(C, DIRECT)
    assert await office.claim(task=STEP) == {"status": "yours"}
    assert office.withdrawn == [DIRECT]
    assert office.claims.holder(C, DIRECT) == f"a task on {ONE}"


@in_loop
async def test_a_step_that_is_known_to_run_it_gets_its_own_claim(office: Office) -> None:
    office.claims.begin(C, STEP)
    office.begun.add(STEP)
    assert await office.claim(task=STEP) == {"status": "yours"}
    assert office.claims.holder(C, STEP) is None


@in_loop
async def test_a_step_is_recognised_by_its_key_alone(office: Office) -> None:
    office.claims.begin(C, STEP)
    office.begun.add(STEP)
    assert await office.claim() == {"status": "yours"}


@in_loop
async def test_the_first_of_two_tasks_is_the_holder(office: Office) -> None:
    office.claims.begin(C, DIRECT)
    office.claims.begin(C, STEP)
    assert office.claims.holder(C, STEP) == DIRECT
    assert office.claims.holder(C, DIRECT) is None
    office.claims.end(C, STEP, VALUE)
    assert office.claims.holder(C, STEP) == DIRECT
    office.claims.end(C, DIRECT, None)
    assert office.ended == [(C, None)]


@in_loop
async def test_closing_lets_those_go_who_wait(office: Office) -> None:
    await office.claim(ONE)
    second = await office.waiting(worker=TWO, key=C)
    office.claims.close()
    with pytest.raises(asyncio.CancelledError):
        await second


@in_loop
async def test_who_has_lost_a_claim_does_not_take_it_from_the_next(office: Office) -> None:
    await office.claim(worker=ONE, task="task")
    office.claims.task_left("task")
    await office.claim(worker=TWO, task="task")
    await office.claims.release(C, D, worker=ONE)
    await office.waiting(worker=ONE, key=C)


@in_loop
async def test_what_a_task_waits_for_can_be_told(office: Office) -> None:
    await office.claim(worker=ONE)
    asked = await office.waiting(worker=TWO, task=STEP)
    assert office.claims.wanted_by(STEP) == C
    await office.claims.release(C, D)
    await asked
    assert office.claims.wanted_by(STEP) is None
