"""What all routes of the server share: the store, the database, threads, figures, and limits."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from hashserver.auth import Gate
from hashserver.errors import ReadOnly
from hashserver.server.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hashserver.auth import Token
    from hashserver.results.database import Database
    from hashserver.storage.store import Store

T = TypeVar("T")

_THREADS = 64
"""Each upload holds one while it lasts; they mostly wait."""


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
        self.gate = Gate(list(tokens))
        self.read_only, self.max_size = read_only, max_size
        self.metrics = Metrics()
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="hashserver")

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)

    def demand_writable(self) -> None:
        """Raise `ReadOnly` if nothing may be written."""
        if self.read_only:
            raise ReadOnly("this server was started with --read-only: it takes no data and no results")

    def close(self) -> None:
        """Wait for what the threads still do, and let go of store and database."""
        self.threads.shutdown(wait=True, cancel_futures=True)
        self.database.close()
        self.store.close()
