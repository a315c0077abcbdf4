"""Where a scheduler that was named by its address keeps buffers and results: it is asked once in a while."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from hashserver.errors import ServiceUnavailable

from ..cluster_credentials import CREDENTIALS, ClusterCredentials
from ..config import embedded, is_address
from ..errors import UsageError
from ..origins import Credential
from ..private import private_directory

if TYPE_CHECKING:
    from ..config import Config

PLACES = "seamless_places"
VALID_SECONDS = 600.0
"""How long an answer is believed: asking takes longer than finding a result."""


AGAIN_SECONDS = 5.0
"""After how long a scheduler that has none may have got some."""

_told: WeakKeyDictionary[Any, tuple[float, dict[str, Any] | None]] = WeakKeyDictionary()
_whole: WeakKeyDictionary[Any, tuple[Config, Config]] = WeakKeyDictionary()
"""The configuration that was asked for last, and what it is with a client's scheduler."""

_adopted: WeakSet[Any] = WeakSet()
"""Clients whose scheduler's host has what this process's configuration names."""

_credentials: WeakKeyDictionary[Any, ClusterCredentials] = WeakKeyDictionary()
"""What a client's scheduler has given it for places of another client's."""


def with_places(config: Config) -> Config:
    """Return `config` with the store and database of its scheduler, unless it names its own.

    Raises
    ------
    UsageError
        When the scheduler has none that can be reached from here, or with what this process has.
    ServiceUnavailable
        When it cannot be reached.
    """
    server = config.daskserver
    if server is None or not is_address(server) or is_placed(config):
        return config
    path = _file(config, server)
    told = _remembered(path, server)
    if told is None:
        told = ask_places(server)
        remember(config, server, told)
    found = placed(config, server, told)
    if told["server"] is not None and found.hashserver == told["server"] and found.token_file is None:
        raise UsageError(
            f"the cluster at {server} was equipped from {told['host']}, and commands are not given the token"
            " of its hashserver: use seamless_dask.Client in Python, or name a hashserver that both reach"
        )
    return found


def ask_places(address: str) -> dict[str, Any]:
    """Ask a scheduler where its buffers and results are.

    Raises
    ------
    ServiceUnavailable
        When it does not answer, or has no plugin of ours.
    """
    from .scheduler import Scheduler

    scheduler = Scheduler(address)
    try:
        return checked(scheduler.call(PLACES), address)
    finally:
        scheduler.close()


def of_client(config: Config) -> Config:
    """Return `config` with the store and database of the scheduler that this process has a client of.

    Nothing changes where it names its own, where there is no such client, or its scheduler has none of ours.

    Raises
    ------
    UsageError
        When they cannot be reached from here.
    """
    if "distributed" not in sys.modules or config.daskserver is not None:
        return config
    if is_placed(config) and not _adopted:
        return config
    client = client_of_process()
    if client is None or (is_placed(config) and client not in _adopted):
        return config
    if (places := getattr(client, "places", None)) is not None:
        found: Config = places.config
        return found
    asked, told = _told.get(client, (0.0, None))
    if told is None and time.monotonic() - asked > AGAIN_SECONDS:
        with suppress(OSError):  # it has no connection at the moment
            told = client.sync(client.scheduler.seamless_places)
        _told[client] = time.monotonic(), told
    if told is None:
        return config
    before, whole = _whole.get(client, (None, config))
    if before is not config:
        whole = _of_told(config, client, told)
        _whole[client] = config, whole
    return whole


def _of_told(config: Config, client: Any, told: dict[str, Any]) -> Config:
    server = client.scheduler.address
    whole = placed(config, server, checked(told, server))
    if told.get("of_client") is not True:
        return whole
    if client not in _credentials:
        message = client.sync(getattr(client.scheduler, CREDENTIALS))
        _credentials[client] = ClusterCredentials.from_message(message)
    return _credentials[client].applied(whole)


def adopt(client: Any) -> None:
    """Take the places of a client's scheduler for those that this process names: it has sent it there."""
    _adopted.add(client)


def forget(client: Any) -> None:
    """Ask a client's scheduler anew: its places are about to be others."""
    _told.pop(client, None)
    _whole.pop(client, None)
    _credentials.pop(client, None)


async def ask_once(client: Any) -> None:
    """Ask the scheduler of a client now, in the client's event loop; one that does not tell has nothing."""
    with suppress(Exception):  # a plain scheduler of any version may say so in any way
        _told[client] = time.monotonic(), await client.scheduler.seamless_places()


def ask_in_its_loop(client: Any) -> None:
    """Ask the scheduler of a client now, where its event loop must wait: over a connection of its own."""
    from .scheduler import Scheduler

    if client in _told:
        return
    scheduler = Scheduler(client.scheduler.address, client.security)
    with suppress(ServiceUnavailable), closing(scheduler):
        told = scheduler.call(PLACES)
        if told.get("of_client") is True:
            _credentials[client] = ClusterCredentials.from_message(scheduler.call(CREDENTIALS))
        _told[client] = time.monotonic(), told


def client_of_process() -> Any:
    """Return the client that Dask would take, if it can be asked from this thread."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    # another thread may be importing it at the moment: then there is no client either
    with suppress(ValueError, AttributeError):
        client = distributed.Client.current()
        if client.status == "running" and (not client.asynchronous or _told.get(client, (0, None))[1]):
            return client
    return None


def placed(config: Config, server: str, told: dict[str, Any]) -> Config:
    """Return `config` with the places that a scheduler has told of."""
    here = told.get("host") in (None, os.uname().nodename)
    stores = tuple(store for store in told["stores"] if here or "://" in store)
    database, served = told["database"], told.get("server")
    if served is not None and not here:
        stores, database = (*stores, served), database if "://" in database else served
    if not stores or not (here or "://" in database):
        raise UsageError(
            f"the store of {server} cannot be reached from here: name a hashserver, or store and database"
        )
    url = next((place for place in (database, *stores) if place.startswith("http")), None)
    config = config._replace(stores=stores, database=database, hashserver=url)
    if url is None:
        return config
    found = _of_the_scheduler(config, server, url)
    others = tuple(one for one in config.credentials if one.origin != found.origin)
    return config._replace(credentials=(*others, found), token_file=found.token_file, ca_file=found.ca_file)


def _of_the_scheduler(config: Config, server: str, url: str) -> Credential:
    """Return what opens a hashserver that a scheduler has told of.

    A token that was named beside the scheduler's address goes there only if the scheduler is known to be the
    right one: without TLS anybody may answer in its place, and name a server of his own.
    """
    found = config.credential(url)
    beside = next((one for one in config.credentials if one.origin == server), Credential(None))
    token_file = beside.token_file if server.startswith("tls://") else None
    return found._replace(token_file=found.token_file or token_file, ca_file=found.ca_file or beside.ca_file)


def checked(told: object, server: str) -> dict[str, Any]:
    """Return what a scheduler has told of its places, if it is that.

    Raises
    ------
    ServiceUnavailable
        It is something else.
    """
    if isinstance(told, dict):
        stores, database, host = told.get("stores"), told.get("database"), told.get("host")
        listed = stores if isinstance(stores, (list, tuple)) else [None]
        served = told.get("server")
        places = (*listed, database, *([] if served is None else [served]))
        if all(map(_is_place, places)) and isinstance(host, str | None):
            return {"stores": list(listed), "database": database, "host": host, "server": served}
    raise ServiceUnavailable(f"the scheduler at {server} does not tell where its buffers and results are")


def _is_place(text: object) -> bool:
    return isinstance(text, str) and text.isprintable() and (os.path.isabs(text) or "://" in text)


def without_secrets(place: str) -> str:
    """Return a place that others may be told of: passwords in URLs are for those who were given them."""
    if "://" not in place or not {"@", "?"} & set(place):
        return place
    from hashserver.storage.remotefs import shown

    return shown(place)


def remember(config: Config, server: str, told: dict[str, Any]) -> None:
    """Keep what a scheduler has told for the next command."""
    from hashserver.atomic import write_atomic

    path = _file(config, server)
    private_directory(config.cache)
    private_directory(os.path.dirname(path))
    write_atomic(path, json.dumps({"server": server, "told": told}).encode(), 0o600)


def is_placed(config: Config) -> bool:
    """Say whether a configuration names a store or a database."""
    default = embedded(config)
    return config.stores != default.stores or config.database != default.database


def _file(config: Config, server: str) -> str:
    from hashserver.checksum import hash_bytes

    return os.path.join(config.cache, "places", f"{hash_bytes(server.encode())[:32]}.json")


def _remembered(path: str, server: str) -> dict[str, Any] | None:
    wrong = OSError, ValueError, KeyError, TypeError, RecursionError, ServiceUnavailable
    with suppress(*wrong), open(path, "rb") as file:
        if abs(time.time() - os.fstat(file.fileno()).st_mtime) < VALID_SECONDS:
            document = json.load(file)
            if document["server"] == server:
                return checked(document["told"], server)
    return None
