"""Waiting for a turn at a store."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from hashserver.storage.patience import Silence, Turns, in_loop


def test_those_who_wait_for_their_turn_hear_of_silence_with_those_who_meet_it() -> None:
    met = []

    async def ask(turns: Turns, number: int) -> None:
        async with turns:
            met.append(number)
            await in_loop(lambda _: asyncio.Event().wait(), 0.1)

    async def ask_all() -> list[BaseException | None]:
        turns = Turns(2)
        answers = await asyncio.gather(*(ask(turns, number) for number in range(50)), return_exceptions=True)
        again = await asyncio.gather(ask(turns, 50), return_exceptions=True)
        return [*answers, *again]

    answers = asyncio.run(ask_all())
    assert all(isinstance(answer, Silence) for answer in answers)
    assert met == [0, 1, 50]  # who comes later tries


def test_an_answer_in_the_meantime_ends_that() -> None:
    async def ask_all() -> None:
        turns, silent = Turns(2), asyncio.Event()

        async def answered() -> None:
            async with turns:
                await silent.wait()

        async def meet() -> None:
            async with turns:
                await asyncio.sleep(0)  # `wait` waits now
                silent.set()  # `answered` goes on before whoever gets this turn
                raise Silence(1.0)

        async def wait() -> str:
            async with turns:
                return "a turn"

        results = await asyncio.gather(answered(), meet(), wait(), return_exceptions=True)
        assert isinstance(results[1], Silence)
        assert results[2] == "a turn"

    asyncio.run(ask_all())


async def closes_with_an_error(*_: object) -> None:
    """Wait for ever; who is not waited for any more finds the connection closed, as libraries do."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise OSError("the connection was closed") from None


async def failing(pause: float) -> None:
    await asyncio.sleep(pause)
    raise OSError("refused")


def complaints(work: Callable[[], Awaitable[object]], kind: type[BaseException]) -> list[str]:
    """Return what asyncio says of tasks whose errors nobody has taken ("was never retrieved")."""
    said: list[str] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
        with pytest.raises(kind):
            await work()
        await asyncio.sleep(0.01)
        gc.collect()

    asyncio.run(run())
    return said


def test_what_fails_after_it_was_given_up_is_not_told_by_asyncio() -> None:
    assert complaints(lambda: in_loop(closes_with_an_error, 0.05), Silence) == []


def test_nor_what_fails_after_its_caller_was_interrupted() -> None:
    async def interrupted() -> None:
        await asyncio.wait_for(in_loop(closes_with_an_error, 60), 0.05)

    assert complaints(interrupted, TimeoutError) == []


def test_nor_parts_of_a_transfer_that_fail_with_another() -> None:
    pytest.importorskip("s3fs")
    from hashserver.storage.s3 import _together

    works = [lambda: failing(0.01), closes_with_an_error, lambda: failing(0.01), lambda: failing(60)]
    assert complaints(lambda: _together(work() for work in works), OSError) == []
