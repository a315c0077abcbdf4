"""Where the workers of a scheduler find buffers and results: places only, never credentials."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from seamless_dask.config import Config, load
from seamless_dask.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Places(NamedTuple):
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
    """

    stores: tuple[str, ...]
    database: str
    isolation: str = "auto"
    node_cache_size: int = 20 << 30
    host: str | None = None

    @classmethod
    def of(cls, config: Config) -> Places:
        """Return the places of a configuration of this host."""
        host = os.uname().nodename
        return cls(config.stores, config.database, config.isolation, config.node_cache_size, host)

    def to_json(self) -> dict[str, Any]:
        """Return them as what JSON knows."""
        return {**self._asdict(), "stores": list(self.stores)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Places:
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
