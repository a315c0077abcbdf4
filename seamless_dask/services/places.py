"""Where a scheduler that was named by its address keeps buffers and results: it is asked once in a while."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..config import embedded, is_address, private_directory
from ..errors import UsageError

if TYPE_CHECKING:
    from ..config import Config

VALID_SECONDS = 600.0
"""How long an answer is believed: asking takes longer than finding a result."""


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
        from .daskclient import ask_places

        told = ask_places(server)
        remember(config, server, told)
    return placed(config, server, told)


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
