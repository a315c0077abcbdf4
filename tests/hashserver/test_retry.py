from __future__ import annotations

from itertools import islice

import pytest

from hashserver import retry
from hashserver.retry import pauses


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(retry, "monotonic", found)
    return found


def test_they_grow_up_to_the_longest_and_go_on_for_ever() -> None:
    assert list(islice(pauses(1, 5), 5)) == [1, 2, 4, 5, 5]
    assert list(islice(pauses(1, 5, factor=1.5), 3)) == [1, 1.5, 2.25]


def test_they_are_all_the_same_where_one_is_given() -> None:
    assert list(islice(pauses(3), 3)) == [3, 3, 3]


def test_there_is_none_after_the_last_of_so_many_attempts() -> None:
    assert list(pauses(1, 100, times=3)) == [1, 2, 0]
    assert list(pauses(1, times=1)) == [0]


def test_the_last_attempt_is_made_when_the_time_is_over(clock: Clock) -> None:
    found = []
    for pause in pauses(4, seconds=10):
        found.append(pause)
        clock.now += pause
    assert found == [4, 4, 2, 0]


def test_an_attempt_that_takes_all_the_time_is_followed_by_one_more(clock: Clock) -> None:
    found = []
    for pause in pauses(4, seconds=10):
        found.append(pause)
        clock.now += 60
    assert found == [4, 0]


def test_without_time_there_is_one_attempt(clock: Clock) -> None:
    assert list(pauses(1, seconds=0)) == [0]
