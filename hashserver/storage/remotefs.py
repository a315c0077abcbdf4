"""How fsspec's file systems are opened, and what their errors mean."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from hashserver.errors import (
    AuthenticationFailed,
    HashserverError,
    InvalidRequest,
    NoSpace,
    ReadOnly,
    ServiceUnavailable,
)
from hashserver.storage.files import write_error
from hashserver.storage.options import secrets_in, without
from hashserver.storage.patience import Pulse, Silence, in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from hashserver.storage.asyncfs import AsyncFiles
    from hashserver.storage.syncfs import SyncFiles

    Files = AsyncFiles | SyncFiles

_CREDENTIALS = frozenset(
    {
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidSecurity"),
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
        *("UnauthorizedSSOTokenError", "TokenRetrievalError", "AuthenticationException"),
        *("BadAuthenticationType", "PasswordRequiredException", "ClientAuthenticationError", "HTTP 401"),
    }
)
_FORBIDDEN = frozenset({"ForbiddenOperation", "HTTP 403"})
_NO_STORE = frozenset(
    {
        *("zip", "tar", "libarchive", "reference", "data", "dir", "generic", "github", "git", "gist"),
        *(
            "simplecache",
            "filecache",
            "blockcache",
            "cached",
            "jupyter",
            "jlab",
            "asynclocal",
            "async_wrapper",
            "asyncwrapper",
            "dask",
        ),
    }
)


def check_url(url: str) -> None:
    """Raise `InvalidRequest` if there can be no store at `url`, whoever is asked."""
    scheme = url.partition("://")[0]
    if "::" in url:
        raise InvalidRequest(f"{shown(url)} is no store: a chain of file systems (::) cannot be written to")
    if scheme in _NO_STORE:
        raise InvalidRequest(
            f"{scheme}:// is no store: buffers cannot be added to it; s3:// or sftp:// can be one"
        )


def open_files(url: str, options: dict[str, Any], seconds: float) -> tuple[Files, str]:
    """Connect to `url`.

    Parameters
    ----------
    url
        Of the folder with the buffers.
    options
        Storage options of fsspec.
    seconds
        How long nothing may move in a request.

    Returns
    -------
    tuple of AsyncFiles or SyncFiles and str
        The file system, and the path of the store on it.

    Raises
    ------
    ServiceUnavailable, AuthenticationFailed
        When that is not possible; the message has no secrets.
    InvalidRequest
        When its options are missing or wrong.
    """
    known = in_force(url, options)
    try:
        return in_thread(
            lambda: _open(url, options, seconds), Pulse(seconds), discard=lambda opened: opened[0].close()
        )
    except ImportError as error:
        scheme = url.partition("://")[0]
        raise ServiceUnavailable(f"{scheme}:// needs a further package: {error}") from error
    except ValueError as error:
        text = f"{shown(url)} is not a store: {scrub(error, url, known)}"
        raise ServiceUnavailable(text) from hidden(error, known)
    except FileNotFoundError as error:  # nobody was asked yet: it is a key, a certificate
        raise InvalidRequest(
            f"{shown(url)}: a file that its options name is not there ({scrub(error, url, known)})"
        ) from hidden(error, known)
    except MISTAKES as error:
        raise wrong_options(error, url, known) from hidden(error, known)
    except Exception as error:
        raise translate(error, url, False, known) from hidden(error, known)


def _open(url: str, options: dict[str, Any], seconds: float) -> tuple[Files, str]:
    import fsspec

    from hashserver.storage.asyncfs import AsyncFiles
    from hashserver.storage.syncfs import SyncFiles

    scheme = url.partition("://")[0]
    if scheme in ("sftp", "ssh"):
        from hashserver.storage.sftp import connect

        fs, root = connect(url, options, seconds)
        return SyncFiles(fs, seconds), root
    if scheme in ("webdav", "dav"):
        from hashserver.storage import webdav

        fs, root = webdav.connect(url, options, seconds)
        return SyncFiles(fs, seconds), root
    if scheme in ("s3", "s3a"):
        options = {**options, "config_kwargs": _s3_config(options, seconds)}
    # a listing that is kept would hide what others store and delete
    fs, root = fsspec.core.url_to_fs(url, **{"use_listings_cache": False, **options})
    root = root.rstrip("/")
    if hasattr(fs, "_call_s3"):
        from hashserver.storage.s3 import S3Files

        return S3Files(fs, seconds), root
    return (AsyncFiles if fs.async_impl else SyncFiles)(fs, seconds), root


def _s3_config(options: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return what botocore shall do: try again, on a new connection, before our patience is over."""
    from fsspec.config import conf

    said = {**conf.get("s3", {}), **options}.get("config_kwargs", {})
    bounds = {"connect_timeout": seconds / 3, "read_timeout": seconds / 2, "max_pool_connections": 64}
    return {**bounds, **said}


def shown(url: str) -> str:
    """Return `url` without password, query and fragment: for messages and `repr`."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, user.partition(":")[0] + at + host, parts.path.rstrip("/"), "", ""))


MISTAKES = (TypeError, AttributeError, KeyError)
"""What libraries raise for options that they do not know, or that are of another kind."""


def wrong_options(error: BaseException, url: str, options: Mapping[str, Any]) -> InvalidRequest:
    """Return the error for a place that takes no such options, or lacks some."""
    place = shown(url)
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown is not None and unknown[1] in options:
        return InvalidRequest(f"{place} has no storage option {unknown[1]!r}: take it out")
    named = f"; it was given {', '.join(sorted(options))}" if options else ""
    return InvalidRequest(
        f"{place} needs other options ({scrub(error, url, options)}{named}): give them under"
        " [storage_options], to a hashserver by --storage-options, or in ~/.config/fsspec/conf.json"
    )


def in_force(url: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return all options of a place: fsspec's own configuration has some, too, and its secrets are secret."""
    try:
        from fsspec.config import conf
    except ImportError:
        return options
    found = conf.get(url.partition("://")[0], {})
    return {**found, **options} if isinstance(found, dict) else options


def hidden(error: Exception, options: Mapping[str, Any]) -> Exception | None:
    """Return what an error may say that it comes from: with options nothing, for it may quote them."""
    return None if options else error


def scrub(error: BaseException, url: str, options: Mapping[str, Any] | None = None) -> str:
    """Return the first line of an error's message without the secrets of `url` and `options`."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    parts = urlsplit(url)
    secret = parts.netloc.rpartition("@")[0].partition(":")[2]
    for word in (url, secret, parts.query):
        if word:
            text = text.replace(word, "***")
    text = without(text, secrets_in(options or {}))[:300]
    # signatures and keys that a library may quote with the address of a request
    return re.sub(
        r"(?i)((?:signature|credential|token|password|secret|key)[\w-]*=)[^&\s\"']+", r"\1***", text
    )


def translate(
    error: BaseException, url: str, writing: bool, options: Mapping[str, Any] | None = None
) -> HashserverError:
    """Return what a file system's error means in our terms."""
    if isinstance(error, HashserverError):
        return error
    place, names, said = shown(url), _names(error), scrub(error, url, options)
    if isinstance(error, Silence):
        return ServiceUnavailable(f"{place} does not answer: {error} (store-timeout bounds that)")
    if "UnknownHost" in names:
        host = urlsplit(url).hostname
        return AuthenticationFailed(
            f"{place}: the host is not among the known ones: `ssh {host}` shows its key and asks you"
        )
    if "BadHostKeyException" in names:
        host = urlsplit(url).hostname
        return AuthenticationFailed(f"the host key of {place} is not the known one: `ssh {host}` shows why")
    if names & _CREDENTIALS:
        return AuthenticationFailed(f"{place} does not accept your credentials: {said}")
    if isinstance(error, PermissionError) or names & _FORBIDDEN or (writing and "HTTP 405" in names):
        if writing:
            return ReadOnly(f"{place} cannot be written: {said}")
        return AuthenticationFailed(f"{place} may not be read with your credentials: {said}")
    if "InsufficientStorage" in names:
        return NoSpace(f"no room left in {place}")
    if isinstance(error, FileNotFoundError):
        return ServiceUnavailable(f"{place} does not exist: create it first ({said})")
    if writing and isinstance(error, OSError) and error.errno:
        meaning = write_error(error, place)
        if type(meaning) is not ServiceUnavailable:
            return meaning
    return ServiceUnavailable(f"{place} cannot be reached: {said}")


def _names(error: BaseException) -> set[str]:
    """Return the class names and service codes of an error and of what caused it."""
    names: set[str] = set()
    current: BaseException | None = error
    for _ in range(5):
        if current is None:
            break
        names.update(kind.__name__ for kind in type(current).__mro__)
        response = getattr(current, "response", None)
        if isinstance(response, dict):
            names.add(str(response.get("Error", {}).get("Code")))
        names.add(f"HTTP {getattr(response, 'status_code', None)}")
        current = current.__cause__ or current.__context__
    return names


def spool(directory: str | None = None) -> int:
    """Return a descriptor of a file without a name, for what is on its way; gone when it is closed."""
    import tempfile

    place = directory or tempfile.gettempdir()
    try:
        return os.open(place, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        fd, path = tempfile.mkstemp(dir=place)
        os.unlink(path)
        return fd
