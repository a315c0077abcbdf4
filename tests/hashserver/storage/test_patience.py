"""Waiting for a turn at a store."""

from __future__ import annotations

import asyncio

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
