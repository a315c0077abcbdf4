"""The place of a task among the threads of its worker, which it gives to others while it waits.

Dask's own way back blocks until a thread is free. A command cannot be halted meanwhile, and must be watched:
here it goes on, and the next thread that is free makes way for it instead of taking another task.
"""

from __future__ import annotations

import threading

from distributed import secede

from . import internals


class _Thread(threading.local):
    away = False
    seat: internals.Seat | None = None


_thread = _Thread()


def step_aside() -> None:
    """Give the thread of this task to others, since it waits for something."""
    settle()
    if not _thread.away and internals.has_seat():
        _thread.away = True
        secede()


def come_back(seconds: float = 0.0) -> bool:
    """Ask for a thread again; say whether there is one after some time."""
    if not _thread.away:
        return True
    seat = _thread.seat = _thread.seat or internals.Seat()
    if seat.wait(seconds):
        settle()
    return not _thread.away


def settle() -> None:
    """Ask for a thread no more; one that has made way already is replaced by this one."""
    seat, _thread.seat = _thread.seat, None
    if seat is not None and seat.take_or_leave():
        _thread.away = False
