"""Where a scheduler that was named by its address keeps buffers and results: it is asked once in a while."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..config import embedded, is_address
from ..errors import UsageError
from ..private import private_directory

if TYPE_CHECKING:
    from ..config import Config

VALID_SECONDS = 600.0
"""How long an answer is believed: asking takes longer than finding a result."""


AGAIN_SECONDS = 5.0
"""After how long a scheduler that has none may have got some."""

_told: WeakKeyDictionary[Any, tuple[float, dict[str, Any] | None]] = WeakKeyDictionary()


def with_places(config: Config) -> Config:
    """Return `config` with the store and database of its scheduler, unless it names its own.

    Raises
    ------
    UsageError
        When the scheduler has none that can be reached from here.
    ServiceUnavailable
        When it cannot be reached.
    """
    server = config.daskserver
    if server is None or not is_address(server) or not _is_unplaced(config):
        return config
    path = _file(config, server)
    told = _remembered(path, server)
    if told is None:
        from .jobserver.daskclient import ask_places

        told = ask_places(server)
        remember(config, server, told)
    return placed(config, server, told)


def of_client(config: Config) -> Config:
    """Return `config` with the store and database of the scheduler that this process has a client of.

    Nothing changes where it names its own, where there is no such client, or its scheduler has none of ours.

    Raises
    ------
    UsageError
        When they cannot be reached from here.
    """
    distributed = sys.modules.get("distributed")
    if distributed is None or config.daskserver is not None or not _is_unplaced(config):
        return config
    client = _client_of(distributed)
    if client is None:
        return config
    asked, told = _told.get(client, (0.0, None))
    if told is None and time.monotonic() - asked > AGAIN_SECONDS:
        with suppress(OSError):  # it has no connection at the moment
            told = client.sync(client.scheduler.seamless_places)
        _told[client] = time.monotonic(), told
    return config if told is None else placed(config, client.scheduler.address, told)


def _client_of(distributed: Any) -> Any:
    """Return the client that Dask would take, if it can be asked from this thread."""
    with suppress(ValueError):
        client = distributed.Client.current()
        if client.status == "running" and not client.asynchronous:
            return client
    return None


def placed(config: Config, server: str, told: dict[str, Any]) -> Config:
    """Return `config` with the places that a scheduler has told of."""
    here = told.get("host") in (None, os.uname().nodename)
    stores = tuple(store for store in told["stores"] if here or "://" in store)
    database = told["database"]
    if not stores or not (here or "://" in database):
        raise UsageError(
            f"the store of {server} cannot be reached from here: name a hashserver, or store and database"
        )
    url = next((place for place in (database, *stores) if place.startswith("http")), None)
    return config._replace(stores=stores, database=database, hashserver=url)


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


def _is_unplaced(config: Config) -> bool:
    default = embedded(config)
    return config.stores == default.stores and config.database == default.database


def _file(config: Config, server: str) -> str:
    from hashserver.checksum import hash_bytes

    return os.path.join(config.cache, "places", f"{hash_bytes(server.encode())[:32]}.json")


def _remembered(path: str, server: str) -> dict[str, Any] | None:
    with suppress(OSError, ValueError, KeyError, TypeError), open(path, "rb") as file:
        if abs(time.time() - os.fstat(file.fileno()).st_mtime) < VALID_SECONDS:
            document = json.load(file)
            if document["server"] == server:
                told: dict[str, Any] = document["told"]
                return told
    return None
