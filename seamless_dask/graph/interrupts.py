"""Ctrl-C and the interruption of a cell withdraw what threads of Dask's pool wait for.

They arrive in the thread that has called `dask.compute`, while those of the pool wait: without a word to
them what was started would go on, and a script would not end before it.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from dask.callbacks import Callback

from ..jobs.withdrawal import Withdrawal, begun
from .names import key_in

if TYPE_CHECKING:
    from collections.abc import Collection

PATIENCE = 6.0
"""Seconds for which it is waited until those threads have withdrawn; a second Ctrl-C does not wait."""


class _Interrupts(Callback):
    """Hears from Dask's local schedulers of each task that they give out, and how a computation ends."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._given_out: dict[int, dict[Any, Withdrawal]] = {}

    def _start_state(self, dsk: Any, state: Any) -> None:
        del dsk
        self._given_out[id(state)] = {}

    def _pretask(self, key: Any, dsk: Any, state: Any) -> None:
        del dsk
        if (name := key_in(key)) is not None:
            self._given_out[id(state)][key] = begun[name] = Withdrawal()

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        del result, dsk, worker_id
        if (withdrawal := self._given_out[id(state)].pop(key, None)) is not None:
            _forget(key, withdrawal)

    def _finish(self, dsk: Any, state: Any, errored: bool) -> None:
        del dsk
        left = self._given_out.pop(id(state), {})
        if errored and isinstance(sys.exception(), KeyboardInterrupt):
            _withdraw(left.values())
            return  # one that has not begun yet is to find that it need not
        for key, withdrawal in left.items():
            _forget(key, withdrawal)


def _forget(task: Any, withdrawal: Withdrawal) -> None:
    """Forget one that has not begun: another process runs its task."""
    name = key_in(task)
    if name is not None and begun.get(name) is withdrawal:
        del begun[name]


def _withdraw(waits: Collection[Withdrawal]) -> None:
    end = time.monotonic() + PATIENCE
    for withdrawal in waits:
        withdrawal.ask()
    for withdrawal in waits:
        withdrawal.over.wait(max(0.0, end - time.monotonic()))


_interrupts = _Interrupts()
_callbacks = _interrupts._callback


def hear_of_interrupts() -> None:
    """Have Dask's local schedulers tell of them from now on."""
    if _callbacks not in Callback.active:  # asked with each graph
        _interrupts.register()
