"""A task gives its thread away while it waits, and takes one back without blocking."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from distributed.threadpoolexecutor import ThreadPoolExecutor, secede

from seamless_dask.worker import slot

SOON = 60.0


class Pool:
    """A worker's thread, and tasks that end when they are told to."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(1)
        self.ends: list[threading.Event] = []

    def busy(self) -> threading.Event:
        """Have a task run; its end."""
        begun, end = threading.Event(), threading.Event()
        self.ends.append(end)
        self.executor.submit(lambda: (begun.set(), end.wait(SOON)))
        assert begun.wait(SOON)
        return end

    def task(self, *steps: Callable[[], Any]) -> Iterator[Any]:
        """What steps of a task return, each done when the next is asked for."""
        asked: list[tuple[threading.Event, threading.Event]] = [
            (threading.Event(), threading.Event()) for _ in steps
        ]
        found: list[Any] = []

        def run() -> None:
            for step, (go, done) in zip(steps, asked, strict=True):
                go.wait(SOON)
                found.append(step())
                done.set()

        self.future = self.executor.submit(run)
        for number, (go, done) in enumerate(asked):
            go.set()
            assert done.wait(SOON)
            yield found[number]

    def works(self) -> bool:
        """Say whether a thread is left for other tasks."""
        return bool(self.executor.submit(bool, 1).result(SOON))


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    monkeypatch.setattr(slot, "secede", secede)  # that of Dask wants a worker, which it tells
    made = Pool()
    yield made
    for end in made.ends:
        end.set()
    made.executor.shutdown()


def test_the_next_thread_that_is_free_makes_way(pool: Pool) -> None:
    task = pool.task(slot.step_aside, slot.come_back, lambda: slot.come_back(SOON), lambda: None)
    next(task)
    other = pool.busy()
    assert next(task) is False
    third = pool.executor.submit(bool)
    other.set()
    assert next(task) is True
    assert not third.done()
    next(task)
    third.result(SOON)
    assert pool.works()


def test_one_that_ends_before_takes_nobodys_place(pool: Pool) -> None:
    task = pool.task(slot.step_aside, slot.come_back, slot.settle)
    next(task)
    other = pool.busy()
    assert next(task) is False
    next(task)
    pool.future.result(SOON)
    other.set()
    assert pool.works()


def test_one_that_waits_again_before_a_thread_was_free_asks_no_more(pool: Pool) -> None:
    task = pool.task(slot.step_aside, slot.come_back, slot.step_aside, lambda: None)
    next(task)
    other = pool.busy()
    assert next(task) is False
    next(task)
    other.set()
    assert pool.works()
    next(task)


def test_a_thread_that_has_made_way_in_the_last_moment_is_replaced(pool: Pool) -> None:
    task = pool.task(slot.step_aside, slot.come_back, slot.settle, lambda: None)
    next(task)
    other = pool.busy()
    next(task)
    threads = list(pool.executor._threads)
    other.set()
    for thread in threads:
        thread.join(SOON)
    next(task)
    next(task)
    pool.future.result(SOON)
    assert pool.works()
