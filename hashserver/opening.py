"""The store that a URL names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hashserver.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from hashserver.client.database import DatabaseClient
    from hashserver.results.database import Database
    from hashserver.storage.store import Path, Store

_OF_HASHSERVERS = ("token_file", "ca_file", "patience")


def open_store(url: Path, **options: Any) -> Store:
    """Return the store at `url`.

    Parameters
    ----------
    url
        A path or ``file://`` URL, an ``http(s)://`` or ``unix://`` URL of a hashserver, or any URL that
        fsspec knows.
    **options
        For a hashserver ``token_file``, ``ca_file`` and ``patience``, as of
        `hashserver.client.store.connect`; for others the storage options of fsspec. A store on this host
        takes none and ignores those of a hashserver.
    """
    text = os.fspath(url)
    scheme, separator, rest = text.partition("://")
    if not text or (scheme == "file" and separator and not rest.startswith("/")):
        raise InvalidRequest(f"a store is a directory, file:///DIRECTORY or another URL, not {text!r}")
    if not separator and "::" in text.partition("/")[0]:
        raise InvalidRequest(f"{text} is no store: a chain of file systems (::) cannot be written to")
    if not separator or scheme == "file":
        from hashserver.storage.directory import LocalStore

        return LocalStore(rest if separator else text)
    if scheme in ("http", "https", "unix"):
        from hashserver.client.store import connect

        return connect(text, **options)
    from hashserver.storage.fsspec import FsspecStore

    return FsspecStore(text, **{k: v for k, v in options.items() if k not in _OF_HASHSERVERS})


def open_database(file: Path, *, read_only: bool = False, others: Sequence[Path] = ()) -> Database:
    """Return the result database in a file, which is made where there is none.

    Parameters
    ----------
    file
        The path.
    read_only
        It is somebody else's: nothing is written, and it must be there.
    others
        Further databases that are asked for what this one does not know.
    """
    from hashserver.results.database import Database

    return Database(file, read_only, others)


def connect(
    url: str, token: str | None = None, *, token_file: str | None = None, ca_file: str | None = None
) -> tuple[Store, DatabaseClient]:
    """Return the store and the database of a hashserver; nothing is asked of it yet.

    Parameters
    ----------
    url
        ``http://host:port`` or ``https://host:port``.
    token
        What opens the server; it is taken for one that writes.
    token_file
        A file with such a token instead.
    ca_file
        Certificates to trust instead of the system's.

    Raises
    ------
    AuthenticationFailed
        If the token file cannot be used.
    """
    from hashserver.auth import WRITE, Token
    from hashserver.client.database import DatabaseClient
    from hashserver.client.store import StoreClient, find_token

    client = StoreClient(url, Token(WRITE, token) if token else find_token(token_file), ca_file)
    return client, DatabaseClient(client.transport)
