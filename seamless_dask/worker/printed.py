"""What a command writes to its standard error, on its way to the clients of Dask that wait for it."""

from __future__ import annotations

import codecs
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from .scheduler_rpc import SchedulerRequest, Unanswered

if TYPE_CHECKING:
    from distributed import Worker

MOST = 1 << 20
"""Bytes of one run that go through the scheduler; the end of it all is kept with the record."""
_CHUNK = 64 << 10
_PATIENCE = 5.0  # seconds that a task which has ended waits for a scheduler that does not listen
_CUT = "\n[what follows is not shown; its end is kept with the record]\n"


class PrintedText:
    """What one command has written, passed on piece by piece: the next one when the last has arrived.

    Parameters
    ----------
    worker : Worker
        Of Dask.
    key : str
        Name of the task.
    path : str
        The file that grows.
    """

    def __init__(self, worker: Worker, key: str, path: str) -> None:
        self._worker, self._key, self._path = worker, key, path
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._read = 0
        self._under_way: SchedulerRequest | None = None

    def pass_on(self) -> None:
        """Pass on what there is, unless the scheduler is still busy with the last piece."""
        if self._under_way is not None:
            if not self._under_way.is_answered():
                return
            self._under_way = None
        if text := self._next():
            request = {"key": self._key, "text": text}
            self._under_way = SchedulerRequest(self._worker, "seamless_printed", request)

    def finish(self) -> None:
        """Pass on the rest, before the scheduler hears that the task has ended."""
        end = time.monotonic() + _PATIENCE
        with suppress(Unanswered, OSError):
            while True:
                if self._under_way is not None:
                    self._under_way.wait(lambda: time.monotonic() < end)
                    self._under_way = None
                self.pass_on()
                if self._under_way is None:
                    return

    def _next(self) -> str:
        if self._read >= MOST:
            return ""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._read)
                data = file.read(min(_CHUNK, MOST - self._read))
        except FileNotFoundError:  # most commands write nothing
            return ""
        self._read += len(data)
        return self._decoder.decode(data) + (_CUT if self._read >= MOST else "")
