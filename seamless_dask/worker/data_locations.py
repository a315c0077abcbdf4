"""Where the workers of a scheduler find buffers and results: places only, never credentials."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.checksum import Checksum
from hashserver.errors import HashserverError
from seamless_dask.config import Config, load
from seamless_dask.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hashserver.storage.store import Store

logger = logging.getLogger("distributed.worker")


class DataLocations(NamedTuple):
    """What a scheduler tells its workers.

    Attributes
    ----------
    stores : tuple of str
        Places of buffers, in the order they are asked.
    database : str
        Path of the result database, or URL of a hashserver.
    isolation : str
        How commands are isolated.
    node_cache_size : int
        Bound of the node cache in bytes.
    host : str or None
        The host on which those of them that are paths mean something; None: on all (a shared file system).
    beacon : str or None
        Checksum of a buffer that is in all stores: where it is not seen, something is not mounted.
    """

    stores: tuple[str, ...]
    database: str
    isolation: str = "auto"
    node_cache_size: int = 20 << 30
    host: str | None = None
    beacon: str | None = None

    @classmethod
    def of(cls, config: Config) -> DataLocations:
        """Return the places of a configuration of this host."""
        host = os.uname().nodename
        return cls(config.stores, config.database, config.isolation, config.node_cache_size, host)

    def to_json(self) -> dict[str, Any]:
        """Return them as what JSON knows."""
        return {**self._asdict(), "stores": list(self.stores)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> DataLocations:
        """Read what `to_json` gave."""
        return cls(**{**document, "stores": tuple(document["stores"])})

    def config(self, environment: Mapping[str, str] | None = None) -> Config:
        """Return the configuration of a worker; what is said on its own host comes first.

        Raises
        ------
        UsageError
            When nothing of it can be reached from there.
        """
        here = self.host in (None, os.uname().nodename)
        stores = tuple(store for store in self.stores if here or "://" in store)
        defaults: dict[str, Any] = {"isolation": self.isolation, "node_cache_size": self.node_cache_size}
        if stores:
            defaults["store"] = stores
        if here or "://" in self.database:
            defaults["database"] = self.database
        config = load(directory="/", environment=environment, defaults=defaults)
        named = {"store", "database"} <= set(defaults) or config.hashserver or config.daskserver
        if not named:
            raise UsageError(
                f"{os.uname().nodename} cannot reach {self.database} on {self.host}: start a hashserver, and"
                " name it where the scheduler is started"
            )
        return config

    def visible(self, store: Store) -> Store:
        """Return those places of a store that this host really sees.

        Where a shared file system is not mounted there is an empty directory: results would get lost in it.
        """
        stores = getattr(store, "stores", ())
        if self.beacon is None or len(stores) < 2:
            return store
        from hashserver.storage.chain import StoreChain

        seen = [place for place in stores if place.url.startswith("http") or self._is_seen(place)]
        return StoreChain(seen) if seen else store

    def _is_seen(self, place: Store) -> bool:
        assert self.beacon is not None
        with suppress(HashserverError):
            if place.has([Checksum(self.beacon)])[0] >= 0:
                return True
        logger.warning("%s is not the scheduler's store here (is it mounted?): it is not used", place.url)
        return False
