"""``seamless_dask.equip(client)``: a cluster of the user's own finds what is known, and runs the rest."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ..cluster_credentials import RENEWAL, ClusterCredentials
from ..config import is_address, load
from ..errors import UsageError
from ..graph.handles import forget_default
from ..protocol import discovery
from ..version import __version__
from ..worker.data_locations import DataLocations
from .plugin import SeamlessScheduler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from distributed import Client, Scheduler

    from ..config import Config

ENCRYPTED = ("tls", "wss")
LOCAL = ("inproc",)
NEAR_SECONDS, FAR_SECONDS = 2.0, 60.0
"""For how long a scheduler that has let go of us is waited for, on this host and on another one."""
SERVED_SECONDS = 5.0
PAGE = "docs/own-cluster.md"


class SchedulerFacts(NamedTuple):
    """What a scheduler says when it is looked at."""

    host: str
    version: str
    addresses: tuple[str, ...]
    """Of itself and of its workers."""
    equipped: bool
    served: bool
    """Whether somebody answers where its workers are sent for what is a file on some host."""


def equip(client: Client, *, insecure: bool = False) -> Awaitable[None] | None:
    """Have the cluster of a client run transformations and find what is known.

    Done once, it is done, until the process that did it ends before the cluster: then another may.

    The store and the database are those of this process's configuration. Where they are paths, and the
    cluster has other hosts, a hashserver of its own serves them from here until the cluster ends; from the
    scheduler's host, where only that has them.

    Parameters
    ----------
    client : distributed.Client
        Of any cluster; with an asynchronous one this is awaited.
    insecure : bool
        Let credentials, and all data, go over connections that others may read.

    Raises
    ------
    UsageError
        Dask's connections leave the host and are not encrypted; or the scheduler lacks this package.
    """
    found: Awaitable[None] | None = client.sync(_equip, client, insecure)
    return found


async def _equip(client: Client, insecure: bool) -> None:
    facts = await _look(client)
    if facts.equipped and facts.served:
        return
    exposed = [address for address in facts.addresses if _leaves_host(address)]
    if not insecure:
        _refuse_plain(exposed)
    config = await asyncio.to_thread(_configuration)
    if not exposed:
        places = DataLocations.of_submitter(config, None, None)
        credentials = ClusterCredentials.of(config, _urls(config))
        await _register(client, facts, config, places, credentials)
        return
    _refuse_unserved(config)
    await _equip_hosts(client, facts, config, exposed[0])


async def _equip_hosts(client: Client, facts: SchedulerFacts, config: Config, address: str) -> None:
    """Equip a cluster of several hosts, with a hashserver if they reach the database by that only."""
    import dask.config

    credentials = ClusterCredentials.of(config, _urls(config))
    server, url, host = None, None, os.uname().nodename
    if "://" not in config.database and not _opens(config):
        url, message = await client.run_on_scheduler(serve, config.stores[0], config.database)
        credentials, host = credentials.plus(ClusterCredentials.from_message(message)), facts.host
    elif "://" not in config.database:
        from .cluster_hashserver import ClusterHashserver

        server = ClusterHashserver(config, _own_address(address))
        url, own = await asyncio.to_thread(server.start)
        credentials = credentials.plus(own)
    try:
        cache = dask.config.get("seamless.worker-cache", None)
        places = DataLocations.of_submitter(config, url, cache)._replace(host=host)
        await _register(client, facts, config, places, credentials)
    except BaseException:
        if server is not None:
            await asyncio.to_thread(server.stop)
        raise
    if server is not None:
        near = facts.host == os.uname().nodename
        arguments = client.security.get_connection_args("client")
        server.end_with(address, arguments, NEAR_SECONDS if near else FAR_SECONDS)


async def _register(
    client: Client,
    facts: SchedulerFacts,
    config: Config,
    places: DataLocations,
    credentials: ClusterCredentials,
) -> None:
    discovery.forget(client)
    if not places.is_here:
        discovery.adopt(client)
        forget_default()
    if facts.equipped:
        renew = getattr(client.scheduler, RENEWAL)
        await renew(places=places.to_json(), credentials=credentials.to_message())
        return
    # Two who equip it at once both found that it was not: the second one's plugin is not installed, and the
    # places of the first hold for both.
    await client.register_plugin(SeamlessScheduler(config, places, credentials=credentials))


def _configuration() -> Config:
    """Return where this process has store and database; a daskserver that is named computes nothing here."""
    config = load()
    if config.daskserver is not None and is_address(config.daskserver):
        config = discovery.with_places(config)
    return config._replace(daskserver=None)


def _opens(config: Config) -> bool:
    """Whether a store and a database that are files can be opened here; else they may be the scheduler's."""
    paths = [place for place in (config.stores[0], config.database) if "://" not in place]
    return not discovery.is_placed(config) or all(os.path.isdir(os.path.dirname(path)) for path in paths)


def _urls(config: Config) -> Iterable[str]:
    return [place for place in (config.database, *config.stores) if "://" in place]


def _refuse_plain(exposed: list[str]) -> None:
    plain = [address for address in exposed if address.partition("://")[0] not in ENCRYPTED]
    if plain:
        raise UsageError(
            f"Dask's connections are not encrypted, and {plain[0]} is on the network: give the cluster"
            f" security=… (security=True where all nodes share a directory; {PAGE} shows certificates), or"
            " write seamless_dask.equip(client, insecure=True)"
        )


def _refuse_unserved(config: Config) -> None:
    """Refuse places that nobody could serve to other hosts."""
    paths = [place for place in config.stores if "://" not in place]
    if "://" in config.database and paths and len(paths) == len(config.stores):
        raise UsageError(
            f"the cluster's hosts cannot reach the store {paths[0]}: name the hashserver as a store, too"
            f" (SEAMLESS_STORE='{paths[0]} {config.database}')"
        )
    if "://" not in config.database and set(paths) - {config.stores[0]}:
        raise UsageError(
            f"the cluster's hosts cannot reach {paths[-1]}: beside a database that is a file"
            " only the first of several stores may be a directory"
        )


def _leaves_host(address: str) -> bool:
    scheme, _, rest = address.partition("://")
    host = rest.rpartition(":")[0].strip("[]")
    return scheme not in LOCAL and not host.startswith("127.") and host not in ("::1", "localhost")


def _own_address(address: str) -> str:
    """Return the address of this host by which one with that address reaches it."""
    from distributed.comm.addressing import get_address_host
    from distributed.utils import get_ip

    return str(get_ip(get_address_host(address).strip("[]")))


async def _look(client: Client) -> SchedulerFacts:
    try:
        found: SchedulerFacts = SchedulerFacts(*await client.run_on_scheduler(look))
    except (ImportError, AttributeError) as error:
        assert client.scheduler is not None
        raise UsageError(
            f"the scheduler at {client.scheduler.address} has no usable seamless-dask ({error}):"
            f" install seamless-dask {__version__} there"
        ) from None
    if found.version != __version__:
        raise UsageError(
            f"the scheduler on {found.host} has seamless-dask {found.version}, this process {__version__}:"
            " install the same version on both"
        )
    return found


async def look(dask_scheduler: Scheduler) -> tuple[Any, ...]:
    """Return `SchedulerFacts`, as what any version can unpickle."""
    addresses = [listener.contact_address for listener in dask_scheduler.listeners]
    addresses += list(dask_scheduler.workers)
    plugin: Any = dask_scheduler.plugins.get(SeamlessScheduler.name)
    served = plugin is not None and await _is_served(plugin.places.server)
    return os.uname().nodename, __version__, tuple(addresses), plugin is not None, served


async def serve(store: str, database: str, dask_scheduler: Scheduler) -> tuple[str, dict[str, Any]]:
    """Start a hashserver beside a scheduler, with what is there; return its address and what opens it."""
    from .cluster_hashserver import ClusterHashserver

    config = load({"store": store, "database": database}, "/", remote=False)
    address = dask_scheduler.listeners[0].contact_address
    server = ClusterHashserver(config, _own_address(address))
    url, own = await asyncio.to_thread(server.start)
    server.end_with(address, dask_scheduler.security.get_connection_args("client"), NEAR_SECONDS)
    return url, own.to_message()


async def _is_served(url: str | None) -> bool:
    """Whether somebody listens at the address of a hashserver of a client's; True where there is none."""
    if url is None:
        return True
    host, _, port = url.partition("://")[2].rpartition(":")
    try:
        opening = asyncio.open_connection(host.strip("[]"), int(port))
        _, writer = await asyncio.wait_for(opening, SERVED_SECONDS)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
