"""What all routes of the server share: the store, the database, threads, figures, and limits."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from hashserver.auth import Authorization
from hashserver.errors import ReadOnly
from hashserver.server.metrics import ServerMetrics
from hashserver.storage.directory import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hashserver.auth import Token
    from hashserver.results.database import Database
    from hashserver.storage.store import Store

T = TypeVar("T")

_THREADS = 64
_UPLOADS = 1024
"""A long upload holds a thread while it lasts: they have their own, so that slow ones keep nobody waiting."""


class Service:
    """The state of one server.

    Parameters
    ----------
    store
        Where the buffers are.
    database
        Where the results are.
    tokens
        What opens the server.
    read_only
        Whether everything that writes is refused, whatever the token.
    max_size
        The longest buffer that is accepted, in bytes.
    """

    def __init__(
        self,
        store: Store,
        database: Database,
        tokens: Sequence[Token],
        read_only: bool = False,
        max_size: int | None = None,
    ) -> None:
        self.store, self.database = store, database
        self.gate = Authorization(list(tokens))
        self.read_only, self.max_size = read_only, max_size
        if read_only and isinstance(store, LocalStore):
            store.unpacks = False
        self.metrics = ServerMetrics()
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="hashserver")
        self.uploads = ThreadPoolExecutor(_UPLOADS, thread_name_prefix="upload")
        self._records = ThreadPoolExecutor(_THREADS, thread_name_prefix="records")

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)

    async def recall(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function of the database in a thread: none of these ever waits for a store that is far."""
        return await asyncio.get_running_loop().run_in_executor(self._records, function, *arguments)

    def demand_writable(self) -> None:
        """Raise `ReadOnly` if nothing may be written."""
        if self.read_only:
            raise ReadOnly("this server was started with --read-only: nothing can be changed by it")

    def close(self) -> None:
        """Wait for what the threads still do, and let go of store and database."""
        self.end_threads()
        self.database.close()
        self.store.close()

    def end_threads(self) -> None:
        """Wait for what the threads still do: store and database are somebody else's, who goes on."""
        for pool in (self.uploads, self.threads, self._records):
            pool.shutdown(wait=True, cancel_futures=True)
