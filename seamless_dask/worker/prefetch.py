"""What tasks that wait in a worker need is fetched meanwhile: documents, code, small inputs, look-ups."""

from __future__ import annotations

import queue
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from heapq import nsmallest
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.client.chain import DatabaseChain
from seamless_dask.model.transformation import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from hashserver.checksum import Checksum
    from seamless_dask.context import Context

LARGEST = 64 << 10
INPUT, INPUTS = 4 << 10, 4 << 20
"""Bytes of an input that is fetched before its task runs, at most, and of all that are at once."""
ROOM = 16 << 20
"""Bytes of small buffers that are kept."""
MOMENT = 1.0
"""Seconds for which a look-up in vain holds: about as long as from a look-up to the start of a command."""

MOST_RENEWED = 1000
"""Look-ups that are repeated in one request, at most."""


class Small:
    """Small buffers in memory, the least recently used out first; may be used from many threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Checksum, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, checksum: Checksum) -> bytes | None:
        """Return a buffer that is here."""
        with self._lock:
            if checksum in self._kept:
                self._kept.move_to_end(checksum)
            return self._kept.get(checksum)

    def put(self, checksum: Checksum, data: bytes) -> None:
        """Keep a buffer, if it is small."""
        if len(data) > LARGEST:
            return
        with self._lock:
            if checksum not in self._kept:
                self._size += len(data)
            self._kept[checksum] = data
            while self._size > ROOM:
                self._size -= len(self._kept.popitem(last=False)[1])

    def lacking(self, checksums: Iterable[Checksum]) -> list[Checksum]:
        """Return which of them are not here."""
        return [checksum for checksum in checksums if checksum not in self._kept]


class _Miss(NamedTuple):
    """A look-up in vain, for a task by its name in Dask."""

    task: str
    asked: float

    def holds(self) -> bool:
        """Say whether that was a moment ago."""
        return time.monotonic() - self.asked < MOMENT


class Prefetch:
    """Fetches in a thread of its own, many at once; what fails is left to the task that needs it.

    Parameters
    ----------
    context : Context
        Where buffers and results are.
    small : Small
        Where buffers go.
    waits : callable
        Returns the priority of a task, by its name in Dask, if it still waits: the lowest is next.
    """

    def __init__(self, context: Context, small: Small, waits: Callable[[str], Any]) -> None:
        self._context, self._small, self._waits = context, small, waits
        self._misses: dict[Checksum, _Miss] = {}
        self._told = 0
        self._tasks: queue.SimpleQueue[tuple[str, Checksum] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="seamless-prefetch", daemon=True)
        self._thread.start()

    def add(self, task: str, key: Checksum) -> None:
        """Fetch what a task needs that has come to wait here."""
        self._tasks.put((task, key))

    def is_unknown(self, key: Checksum) -> bool:
        """Say whether a key was looked up a moment ago, in vain; only the first one who asks is told.

        One that has waited for longer is looked up again, in one request with those that are next.
        """
        miss = self._misses.get(key)
        if miss is not None and not miss.holds():
            self._renew(miss.task, key)
        found = self._misses.pop(key, None) is not None
        self._told += found
        return found

    def _renew(self, task: str, key: Checksum) -> None:
        # No more of them than are likely to have their turn within a moment: as many as had it since the
        # last time, and as many again, should they become faster.
        number, self._told = 2 * self._told, 0
        self._misses.pop(key, None)
        old = [(other, miss.task) for other, miss in list(self._misses.items()) if not miss.holds()]
        waiting = [(priority, *item) for item in old if (priority := self._waits(item[1]))]
        following = nsmallest(min(number, MOST_RENEWED), waiting, itemgetter(0))
        tasks = {key: task} | {other: name for _, other, name in following}
        for each in tasks:
            self._misses.pop(each, None)
        with suppress(Exception):  # the task looks it up itself, and is told
            asked = time.monotonic()
            self._remember(tasks, set(self._context.database.lookup_many(tasks)), asked)

    def close(self) -> None:
        """Fetch no more."""
        self._tasks.put(None)

    def _work(self) -> None:
        while waiting := self._next():
            tasks = {key: task for task, key in waiting if self._waits(task)}
            keys = list(tasks)
            with suppress(Exception):  # the task that needs it meets it again, and is told
                if keys and not self._in_one_request(tasks):
                    documents = [parse(data) for data in self._fetch(keys)]
                    self._fetch([document.code for document in documents])
                    asked = time.monotonic()
                    self._remember(tasks, set(self._context.database.lookup_many(keys)), asked)
                self._fetch_inputs(keys)

    def _in_one_request(self, tasks: Mapping[Checksum, str]) -> bool:
        """Ask for everything at once, if one server has it all."""
        server = self._context.server
        if server is None or isinstance(server, DatabaseChain):
            return False
        asked = time.monotonic()
        known, buffers = server.lookup_with_documents(list(tasks), LARGEST)
        for checksum, data in buffers.items():
            self._small.put(checksum, data)
        self._remember(tasks, known, asked)
        return True

    def _fetch_inputs(self, keys: Sequence[Checksum]) -> None:
        """Fetch what is small of what those need that are not known."""
        found = [self._small.get(key) for key in keys if key in self._misses]
        documents = [parse(data) for data in found if data is not None]
        inputs = dict.fromkeys(value.checksum for document in documents for value in document.values)
        lacking = self._small.lacking(inputs)
        sizes = self._context.store.has(lacking) if lacking else []
        small = [checksum for checksum, size in zip(lacking, sizes, strict=True) if 0 <= size <= INPUT]
        self._fetch(small[: INPUTS // INPUT])

    def _next(self) -> list[tuple[str, Checksum]]:
        """Wait for tasks, and return all that are there; none when it is over."""
        waiting = [self._tasks.get()]
        with suppress(queue.Empty):
            while waiting[-1] is not None:
                waiting.append(self._tasks.get_nowait())
        found = [item for item in waiting if item is not None]
        return found if len(found) == len(waiting) else []

    def _fetch(self, checksums: Sequence[Checksum]) -> list[bytes]:
        lacking = self._small.lacking(dict.fromkeys(checksums))
        if len(lacking) == 1:
            self._small.put(lacking[0], self._context.store.get(lacking[0]))
        elif lacking:
            for checksum, data in self._context.store.get_many(lacking):
                self._small.put(checksum, data)
        kept = (self._small.get(checksum) for checksum in checksums)
        return [data for data in kept if data is not None]

    def _remember(self, tasks: Mapping[Checksum, str], known: set[Checksum], asked: float) -> None:
        """Remember which keys have no result, as of a moment; what no task waits for is forgotten."""
        old = [(key, miss.task) for key, miss in list(self._misses.items()) if not miss.holds()]
        for key, task in old:
            if not self._waits(task):
                self._misses.pop(key, None)
        self._misses.update((key, _Miss(task, asked)) for key, task in tasks.items() if key not in known)
