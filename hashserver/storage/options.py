"""Storage options: what fsspec is told about places, by the beginnings of their URLs.

They may be secrets: they are kept in files that only their owner reads, and shown nowhere.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from hashserver.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

_SERVERS = ("http", "https", "unix")
_IN_THE_OPTIONS = frozenset({"s3", "s3a", "gs", "gcs", "oss", "oci", "tos", "obs", "webdav", "dav", "memory"})
"""Schemes of which the options, and not the URL, say which server it is."""
_OURS = frozenset(
    {"url", "seconds", "client", "asynchronous", "loop", "use_listings_cache", "skip_instance_cache"}
)
_WITH_PASSWORD = frozenset({"sftp", "ssh", "ftp", "smb"})
"""Schemes whose URLs may have a password, which is an option of that name."""
_PUBLIC = frozenset(
    {"base_url", "endpoint_url", "region_name", "host", "username", "user", "key_filename", "verify"}
)
"""What a message may show: where a place is, and where a file."""
_SHORT = 4


class StorageOptions(NamedTuple):
    """What is told about the places at a URL and below it.

    Attributes
    ----------
    prefix : str
        The URL.
    document : str
        The options, as JSON.
    own : bool
        Whether the user says so, and not a project's file.
    """

    prefix: str
    document: str
    own: bool = True

    def __repr__(self) -> str:
        return f"StorageOptions({self.prefix!r})"

    @property
    def arguments(self) -> dict[str, Any]:
        """The options."""
        import json

        found: dict[str, Any] = json.loads(self.document)
        return found

    @classmethod
    def of(cls, prefix: str, arguments: Mapping[str, Any], own: bool = True) -> StorageOptions:
        """Return what a table says."""
        import json

        return cls(prefix, json.dumps(arguments, sort_keys=True), own)


def find(options: Iterable[StorageOptions], url: str) -> StorageOptions | None:
    """Return what counts for a store: the longest prefix of the user's, else the longest of a project's.

    The one table counts and nothing is put together from two: who says where requests go says with which
    secrets, too.
    """
    found = [one for one in options if _is_below(url, one.prefix)]
    return max(found, key=lambda one: (one.own, len(one.prefix)), default=None)


def _is_below(url: str, prefix: str) -> bool:
    """Say whether a URL is another one or leads to something below it, part by part."""
    parts, first = _parts(url), _parts(prefix)
    return ".." not in parts and (parts[: len(first)] == first or first == (parts[0], ""))


def _parts(url: str) -> tuple[str, ...]:
    """Return scheme, host or bucket, and folders of a URL, without a password."""
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("?")[0].partition("/")
    user, at, host = host.rpartition("@")
    return (scheme.lower(), user.partition(":")[0] + at + host, *filter(None, path.split("/")))


def check(prefix: str, table: object, source: str) -> dict[str, Any]:
    """Return what a table says, if it is one of storage options.

    Parameters
    ----------
    prefix
        The URL that it is for.
    source
        The file, for messages.

    Raises
    ------
    InvalidRequest
        It names file, table and key, and shows no value.
    """
    scheme, separator, rest = prefix.partition("://")
    name = f'{source}: [storage_options."{_shown(prefix)}"]'
    if not separator or scheme.lower() == "file":
        raise InvalidRequest(f"{name}: options are for URLs such as s3://bucket; a directory takes none")
    if scheme.lower() in _SERVERS:
        raise InvalidRequest(f"{name}: a hashserver takes none; its token belongs under [credentials]")
    if not scheme.isalnum() or not prefix.isprintable() or "::" in prefix or ".." in _parts(prefix):
        raise InvalidRequest(f"{name}: that is no URL of a store such as s3://bucket")
    if "@" in rest and ":" in rest.partition("@")[0]:
        raise InvalidRequest(f"{name}: the password belongs into the table, not into its name")
    if not _parts(prefix)[1] and scheme.lower() not in _IN_THE_OPTIONS:
        raise InvalidRequest(f"{name}: name the host ({scheme}://host), or any host would get these options")
    if not isinstance(table, dict):
        raise InvalidRequest(f"{name}: this must be a table of options")
    for key, value in table.items():
        if not key.isidentifier() or key in _OURS:
            raise InvalidRequest(f"{name}: {_shown(key)} is no option that can be set")
        if not _is_plain(value):
            raise InvalidRequest(
                f"{name}: {_shown(key)} must be a text, a number, true, false, a list or a table of these"
            )
    return table


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(one) for key, one in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _shown(text: str) -> str:
    """Return a name as a message shows it, without the password of a URL."""
    before, at, after = text.partition("://")[2].rpartition("@")
    text = text.replace(before + at + after, before.partition(":")[0] + at + after) if at else text
    return (text if text.isprintable() else ascii(text))[:120]


# ---------------------------------------------------------------------- files


def read(path: str) -> tuple[StorageOptions, ...]:
    """Return what a file says: a JSON object of tables by URL, which only its owner can read.

    Raises
    ------
    InvalidRequest
        It cannot be read, others can read it, or it says something else.
    """
    import json

    from hashserver.regular_file import open_secret

    try:
        with os.fdopen(open_secret(path, "the storage options in", InvalidRequest), "rb") as file:
            document = json.loads(file.read())
    except OSError as error:
        raise InvalidRequest(f"cannot read the storage options in {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        text = f'{path} must be JSON such as {{"s3://bucket": {{"key": "…", "secret": "…"}}}}'
        raise InvalidRequest(text) from None
    return tuple(StorageOptions.of(url, check(url, table, path)) for url, table in document.items())


def write(path: str, options: Iterable[StorageOptions]) -> str | None:
    """Write a file for `read`, mode 0600, and return its path; without options there is none."""
    import json
    from contextlib import suppress

    from hashserver.atomic import write_atomic

    tables = {one.prefix: one.arguments for one in options}
    if tables:
        write_atomic(path, json.dumps(tables).encode(), 0o600)
        return path
    with suppress(FileNotFoundError):
        os.unlink(path)
    return None


# ---------------------------------------------------------------------- what nobody may see


def without_password(url: str, options: tuple[StorageOptions, ...]) -> tuple[str, tuple[StorageOptions, ...]]:
    """Return a URL as it may stand in an argument, and the options of its place with the password in it."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    user, _, host = host.rpartition("@")
    name, colon, password = user.partition(":")
    if scheme.lower() not in _WITH_PASSWORD or not colon:
        return url, options
    bare = f"{scheme}{separator}{name}@{host}{slash}{path}"
    arguments = options[0].arguments if options else {}
    return bare, (StorageOptions.of(bare, {"password": password} | arguments),)


def secrets_in(options: object, name: str = "") -> Iterator[str]:
    """Yield all texts that options have, but for those that say where a place is."""
    if isinstance(options, dict):
        for key, value in options.items():
            yield from secrets_in(value, key)
    elif isinstance(options, list | tuple):
        for value in options:
            yield from secrets_in(value, name)
    elif isinstance(options, str) and options:
        if name not in _PUBLIC:
            yield options
        elif "@" in options:
            yield options.partition("://")[2].rpartition("@")[0]


def without(text: str, secrets: Iterable[str]) -> str:
    """Return a message with what is secret made unreadable."""
    import re
    from urllib.parse import quote

    for secret in sorted(secrets, key=len, reverse=True):
        for form in {secret, quote(secret, safe=""), repr(secret)[1:-1]}:
            if len(form) >= _SHORT:
                text = text.replace(form, "***")
            else:  # a part of other words, too
                text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", "***", text)
    return text
