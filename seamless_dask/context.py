"""The store and the database that a configuration names, opened when they are first used."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Self

from . import origins
from .config import Config, is_address, load
from .private import is_mine_to_write, private_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hashserver.checksum import Checksum
    from hashserver.client.database import DatabaseClient
    from hashserver.client.transport import Patience
    from hashserver.errors import Irreproducible
    from hashserver.results.database import Database, Provenance, Put
    from hashserver.statcache import NullStatCache
    from hashserver.storage.cache import NodeCache
    from hashserver.storage.store import Store

    from .model.records import Record
    from .model.transformation import Value

RESTART_SECONDS = 60.0
"""How long the hashserver of a daskserver is waited for: within half a minute it is started again."""


class Context:
    """Everything that commands and tasks need of the outside world.

    Parameters
    ----------
    config : Config, optional
        That of the current directory by default.
    tell : callable, optional
        Gets what a person who waits should know.
    patience : float, optional
        Seconds for which a hashserver that does not answer is waited for; by default not long, but for that
        of a daskserver, which starts it again.
    complete : callable, optional
        Returns the places of a configuration that names a scheduler only; nobody is asked before a place
        is needed.
    """

    def __init__(
        self,
        config: Config | None = None,
        tell: Callable[[str], None] | None = None,
        patience: float | None = None,
        complete: Callable[[Config], Config] | None = None,
    ) -> None:
        self._config = load() if config is None else config
        self._complete = complete
        self._tell, self._patience = tell, patience

    @property
    def config(self) -> Config:
        """The configuration, with all places."""
        if self._complete is not None:
            self._config = self._complete(self._config)
            self._complete = None
        return self._config

    @config.setter
    def config(self, config: Config) -> None:
        self._config, self._complete = config, None

    def __repr__(self) -> str:
        from hashserver.storage.remotefs import shown

        stores = tuple(shown(place) if "://" in place else place for place in self.config.stores)
        return f"Context(stores={stores!r}, database={self.config.database!r})"

    @property
    def embedded(self) -> bool:
        """Whether no server is involved: jobs run on this host, watched through files in the cache."""
        return not _is_url(self.config.database)

    @property
    def alone_writes(self) -> bool:
        """Whether nobody but this user can write to the database: to one of a server others may."""
        return self.embedded and is_mine_to_write(self.config.database)

    @cached_property
    def cache(self) -> str:
        """The cache directory, made with mode 0700."""
        return private_directory(self._config.cache)

    @cached_property
    def store(self) -> Store:
        """The one store, or all of them in order."""
        stores = [self._open_store(url) for url in self.config.stores]
        if len(stores) == 1:
            return stores[0]
        from hashserver.storage.chain import StoreChain

        return StoreChain(stores)

    @cached_property
    def database(self) -> Database | DatabaseClient:
        """The result database; a file or a server."""
        if _is_url(self.config.database):
            from hashserver.client.database import connect_database

            url = self.config.database
            found = self.config.credential(url)
            server = connect_database(url, found.token_file, found.ca_file, self._patient())
            if not self.config.databases:
                return server
            from hashserver.client.chain import DatabaseChain

            return DatabaseChain(server, self.config.databases)
        from hashserver.results.database import Database

        self._make_parent(self.config.database)
        return Database(self.config.database, others=self.config.databases)

    @cached_property
    def stat_cache(self) -> NullStatCache:
        """What is known of files that have not changed."""
        from hashserver.statcache import stat_cache

        return stat_cache(self.cache)

    @cached_property
    def node_cache(self) -> NodeCache:
        """Inputs on the local disk, shared by the tasks of a node."""
        from hashserver.storage.cache import NodeCache

        directory = self.config.node_cache
        self._make_parent(directory)
        private_directory(directory, "SEAMLESS_NODE_CACHE")
        return NodeCache(directory, self.config.node_cache_size, self.store)

    def record(
        self,
        tf: Checksum,
        value: Value,
        record: Record,
        members: Sequence[Checksum] = (),
        buffers: Sequence[bytes] = (),
        provenance: Provenance | None = None,
    ) -> None:
        """Record a result whose small buffers are not stored yet; in one request where one server keeps both.

        Parameters
        ----------
        tf
            The transformation.
        value, record, members, buffers
            As in `seamless_dask.model.records.Outcome`.
        provenance
            What it was made from.

        Raises
        ------
        Irreproducible
            Another result is known. The buffers are stored all the same.
        """
        if (server := self.server) is not None:
            server.put(tf, *value, record, members, buffers, provenance)
            return
        if buffers:
            self.store.put_many(buffers)
        self.database.put(tf, *value, record, members, provenance=provenance)

    def record_many(self, puts: Sequence[Put], buffers: Sequence[bytes]) -> list[Irreproducible]:
        """Record many results, no two of one transformation; return an error for each that differs.

        Parameters
        ----------
        puts
            The results.
        buffers
            Those small ones of them that are not stored yet.
        """
        if (server := self.server) is not None:
            return server.put_many(puts, buffers)
        if buffers:
            self.store.put_many(buffers)
        return self.database.put_many(puts)

    @property
    def server(self) -> DatabaseClient | None:
        """The server that keeps the results, if it is the first place of buffers as well."""
        database, config = self.database, self.config
        if config.stores[0] != config.database:
            return None
        from hashserver.client.database import DatabaseClient

        return database if isinstance(database, DatabaseClient) else None

    def move(self, before: str, now: str) -> None:
        """Use a hashserver at its new address; what is open is opened again when it is next used."""

        def moved(place: str) -> str:
            return now if place == before else place

        config = self.config
        self.close()
        found = config.credential(before)._replace(origin=origins.origin(now))
        self.config = config._replace(
            stores=tuple(map(moved, config.stores)),
            database=moved(config.database),
            hashserver=moved(config.hashserver or "") or None,
            credentials=(*(one for one in config.credentials if one.origin != found.origin), found),
        )

    def close(self) -> None:
        """Close what has been opened."""
        for name in ("node_cache", "stat_cache", "database", "store"):
            opened = self.__dict__.pop(name, None)
            if opened is not None and hasattr(opened, "close"):
                opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_store(self, url: str) -> Store:
        from hashserver.opening import open_store

        if "://" not in url:
            self._make_parent(url)
            return open_store(url)
        if not _is_url(url):
            told = self.config.options_of(url)
            return open_store(url, seconds=self.config.store_timeout, **(told[0].arguments if told else {}))
        found = self.config.credential(url)
        return open_store(url, token_file=found.token_file, ca_file=found.ca_file, patience=self._patient())

    def _patient(self) -> Patience:
        from hashserver.client.transport import Patience

        if self._patience is not None:
            return Patience(self._patience, self._tell)
        place = self.config.daskserver
        if place is None or is_address(place):
            return Patience(0.0)
        return Patience(RESTART_SECONDS, self._tell, lambda: _is_up(place))

    def _make_parent(self, path: str) -> None:
        """Make the cache before what lies in it, so that its mode is right."""
        if os.path.dirname(path) == self._config.cache:
            self.cache  # noqa: B018 - made by looking at it


def _is_up(place: str) -> bool:
    """Say whether a daskserver may be there that starts its hashserver again."""
    from . import connection
    from .errors import UsageError

    try:
        return connection.read(place).is_here is False or connection.is_held(place)
    except UsageError:
        return connection.is_held(place)


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://", "unix://"))
