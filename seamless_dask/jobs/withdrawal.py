"""Asking no more for something that another thread waits for."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Withdrawal:
    """What one who waits looks at several times a second, and another thread may ask for.

    Attributes
    ----------
    over : threading.Event
        Nobody waits any more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked_for = False
        self._call: Callable[[], None] | None = None
        self.over = threading.Event()

    def ask(self) -> None:
        """Have the other thread ask no more."""
        with self._lock:
            call, self._call, self._asked_for = self._call, None, True
        if call is not None:
            call()

    def is_asked_for(self) -> bool:
        """Say whether somebody has called `ask`."""
        return self._asked_for

    def check(self) -> None:
        """Raise `Cancelled` once somebody has called `ask`."""
        if self._asked_for:
            raise Cancelled("whoever asked for it was interrupted")

    def when_asked(self, call: Callable[[], None]) -> None:
        """Have something called by `ask`, which wakes one who does not look for long."""
        with self._lock:
            if not self._asked_for:
                self._call = call
                return
        call()


begun: dict[str, Withdrawal] = {}
"""Of tasks that a scheduler of this process has given out, and that have not begun; by their keys."""


@contextmanager
def withdrawal_of(key: str) -> Iterator[Withdrawal | None]:
    """Return that of the task which this thread was given by a scheduler of this process, if it was."""
    withdrawal = begun.pop(key, None)
    try:
        if withdrawal is not None:
            withdrawal.check()
        yield withdrawal
    finally:
        if withdrawal is not None:
            withdrawal.over.set()
