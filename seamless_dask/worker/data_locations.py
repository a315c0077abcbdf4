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

_OF_OTHERS = ("databases", "hashserver", "token_file", "ca_file", "storage_options")
"""What a worker's environment says of these was meant for another host."""


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
    server: str | None = None
    """A hashserver by which other hosts reach what is a path on `host`."""
    of_client: bool = False
    """Whether a client has said so for a cluster of its own: it counts before what a worker's own host says
    of places, of which batch systems pass on what was meant for the submitting host; and the scheduler has
    the credentials."""
    cache: str | None = None
    """Cache directory on hosts other than `host`."""
    node_cache: str | None = None
    """Directory of the node cache, unless it is in the cache."""

    @classmethod
    def of(cls, config: Config) -> DataLocations:
        """Return the places of a configuration of this host."""
        host = os.uname().nodename
        return cls(config.stores, config.database, config.isolation, config.node_cache_size, host)

    @classmethod
    def of_submitter(cls, config: Config, server: str | None, cache: str | None) -> DataLocations:
        """Return the places of a configuration of this host for a cluster that was started from here."""
        node_cache = None if config.node_cache == os.path.join(config.cache, "node") else config.node_cache
        places = cls.of(config)
        return places._replace(server=server, of_client=True, cache=cache, node_cache=node_cache)

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
        places = self.reached()
        defaults: dict[str, Any] = {"isolation": self.isolation, "node_cache_size": self.node_cache_size}
        if self.of_client and len(places) == 2:
            return self._config_of_client(
                places, defaults, os.environ if environment is None else environment
            )
        config = load(directory="/", environment=environment, defaults=defaults | places)
        if len(places) < 2 and not (config.hashserver or config.daskserver):
            raise UsageError(
                f"{os.uname().nodename} cannot reach {self.database} on {self.host}: start a hashserver, and"
                " name it where the scheduler is started"
            )
        return config

    @property
    def is_here(self) -> bool:
        """Whether paths mean something on this host."""
        return self.host in (None, os.uname().nodename)

    def reached(self) -> dict[str, Any]:
        """Return ``store`` and ``database`` as far as this host reaches them."""
        stores = tuple(store for store in self.stores if self.is_here or "://" in store)
        database: str | None = self.database if self.is_here or "://" in self.database else None
        if self.server is not None and not self.is_here:
            stores, database = (*stores, self.server), database or self.server
        return ({"store": stores} if stores else {}) | ({"database": database} if database else {})

    def _config_of_client(
        self, places: dict[str, Any], defaults: dict[str, Any], environment: Mapping[str, str]
    ) -> Config:
        said = dict(places)
        if not self.is_here:
            environment = {name: text for name, text in environment.items() if name != "SEAMLESS_PROFILE"}
            said["cache"] = self.cache or f"/tmp/seamless-{_user()}"  # noqa: S108 - made private, or refused
        if self.node_cache is not None:
            said["node_cache"] = self.node_cache
        config = load(said, "/", environment, defaults, remote=False, ignore=_OF_OTHERS)
        servers = (place for place in (config.database, *config.stores) if place.startswith("http"))
        return config._replace(hashserver=next(servers, None))

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


def _user() -> str:
    import pwd

    with suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return str(os.geteuid())
