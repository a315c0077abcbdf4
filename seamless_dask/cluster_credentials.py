"""Credentials that go to the processes of a cluster over Dask's own connections, and nowhere else.

Where they arrive they are in files of memory: no directory has them, and they are gone with their process,
however that ends.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, Self

from . import origins
from .origins import Credential

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hashserver.storage.options import StorageOptions

    from .config import Config


CREDENTIALS = "seamless_credentials"
"""Request by which workers and clients of a scheduler are given what it has."""

RENEWAL = "seamless_renewal"
"""Request by which a client has a scheduler use other places."""


class MemoryFile:
    """A file that its owner opens by its path, for as long as this object and its process live.

    Parameters
    ----------
    content
        What is in it.
    """

    def __init__(self, content: str) -> None:
        descriptor = os.memfd_create("seamless", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        os.fchmod(descriptor, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii", closefd=False) as file:
            file.write(content)
        self.path = f"/proc/{os.getpid()}/fd/{descriptor}"


class ClusterCredentials:
    """What opens the servers and stores of a configuration, by content.

    Pickling it takes the secrets along: only what goes to the scheduler, at once, may have one.

    Parameters
    ----------
    servers
        Origin, line of a token file and certificates of each server.
    options
        What fsspec is told about stores.
    """

    def __init__(
        self, servers: Sequence[tuple[str, str | None, str | None]], options: Sequence[StorageOptions] = ()
    ) -> None:
        self._servers = tuple(servers)
        self._options = tuple(options)
        self._files = {
            origin: [None if text is None else MemoryFile(text) for text in texts]
            for origin, *texts in servers
        }

    @classmethod
    def of(cls, config: Config, urls: Iterable[str]) -> Self:
        """Return what `config` has for these places, and for no others."""
        urls = tuple(urls)
        return cls.read(map(config.credential, urls), config.options_of(*urls))

    @classmethod
    def read(cls, credentials: Iterable[Credential], options: Sequence[StorageOptions] = ()) -> Self:
        """Return what these name, of a token file that line which opens most."""
        named = {one.origin: one for one in credentials if one.token_file or one.ca_file}
        servers = [
            (origin, _token(one.token_file), _text(one.ca_file))
            for origin, one in named.items()
            if origin is not None
        ]
        return cls(servers, options)

    def plus(self, other: ClusterCredentials) -> Self:
        """Return both together."""
        return type(self)((*self._servers, *other._servers), (*self._options, *other._options))

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Self:
        """Read what `to_message` gave."""
        from hashserver.storage.options import StorageOptions

        servers = [(origin, token, authority) for origin, token, authority in message["servers"]]
        return cls(servers, [StorageOptions(*one) for one in message["storage_options"]])

    def to_message(self) -> dict[str, Any]:
        """Return them, secrets and all, for a connection that is encrypted or does not leave this host."""
        return {
            "servers": [list(one) for one in self._servers],
            "storage_options": [list(one) for one in self._options],
        }

    def applied(self, config: Config) -> Config:
        """Return `config` with these credentials; they are good for as long as this object lives."""
        mine = {
            origin: Credential(origin, *(None if file is None else file.path for file in files))
            for origin, files in self._files.items()
        }
        others = tuple(one for one in config.credentials if one.origin not in mine)
        own = dict.fromkeys((*self._options, *config.storage_options))
        config = config._replace(credentials=(*others, *mine.values()), storage_options=tuple(own))
        named = mine.get(origins.origin(config.hashserver or "") or "")
        return config if named is None else config._replace(token_file=named[1], ca_file=named[2])

    def __bool__(self) -> bool:
        return bool(self._servers or self._options)

    def __repr__(self) -> str:
        return f"<credentials for {len(self._servers)} servers and {len(self._options)} stores>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_message, (self.to_message(),)


def _token(path: str | None) -> str | None:
    """Return the line of a token file that opens most."""
    if path is None:
        return None
    from hashserver.auth import WRITE, read_token_file

    best = read_token_file(path)[0]
    return f"{'read-write' if best.access == WRITE else 'read'} {best.secret}\n"


def _text(path: str | None) -> str | None:
    if path is None:
        return None
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()
