"""How fsspec's file systems are opened, and what their errors mean."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from hashserver.errors import AuthenticationFailed, HashserverError, ReadOnly, ServiceUnavailable
from hashserver.storage.files import write_error

if TYPE_CHECKING:
    from typing import Any

_CREDENTIALS = frozenset(
    {
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidSecurity"),
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
        *("UnauthorizedSSOTokenError", "TokenRetrievalError", "AuthenticationException"),
        *("BadAuthenticationType", "PasswordRequiredException", "ClientAuthenticationError"),
    }
)
_HOST_KEYS = frozenset({"BadHostKeyException", "UnknownHost"})


def open_filesystem(url: str, options: dict[str, Any]) -> tuple[Any, str]:
    """Connect to `url`.

    Returns
    -------
    tuple of fsspec.AbstractFileSystem and str
        The file system, and the path of the store on it.

    Raises
    ------
    ServiceUnavailable, AuthenticationFailed
        When that is not possible; the message has no secrets.
    """
    import fsspec

    scheme = url.partition("://")[0]
    try:
        if scheme in ("sftp", "ssh"):
            from hashserver.storage.sftp import connect

            return connect(url, options)
        # a listing that is kept would hide what others store and delete
        fs, root = fsspec.core.url_to_fs(url, **{"use_listings_cache": False, **options})
    except ImportError as error:
        raise ServiceUnavailable(f"{scheme}:// needs a further package: {error}") from error
    except ValueError as error:
        raise ServiceUnavailable(f"{shown(url)} is not a store: {scrub(error, url)}") from error
    except TypeError:
        raise  # a mistake in the options
    except Exception as error:
        raise translate(error, url, writing=False) from error
    return fs, root.rstrip("/")


def shown(url: str) -> str:
    """Return `url` without password, query and fragment: for messages and `repr`."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, user.partition(":")[0] + at + host, parts.path.rstrip("/"), "", ""))


def scrub(error: BaseException, url: str) -> str:
    """Return the first line of an error's message without the secrets of `url`."""
    text = (str(error) or type(error).__name__).splitlines()[0][:300]
    parts = urlsplit(url)
    secret = parts.netloc.rpartition("@")[0].partition(":")[2]
    for word in (url, secret, parts.query):
        if word:
            text = text.replace(word, "***")
    # signatures and keys that a library may quote with the address of a request
    return re.sub(
        r"(?i)((?:signature|credential|token|password|secret|key)[\w-]*=)[^&\s\"']+", r"\1***", text
    )


def translate(error: BaseException, url: str, writing: bool) -> HashserverError:
    """Return what a file system's error means in our terms."""
    if isinstance(error, HashserverError):
        return error
    place, names = shown(url), _names(error)
    if names & _HOST_KEYS:
        host = urlsplit(url).hostname
        return AuthenticationFailed(f"the host key of {place} is not the known one: `ssh {host}` shows why")
    if names & _CREDENTIALS:
        return AuthenticationFailed(f"{place} does not accept your credentials: {scrub(error, url)}")
    if isinstance(error, PermissionError):
        if writing:
            return ReadOnly(f"{place} cannot be written: {scrub(error, url)}")
        return AuthenticationFailed(f"{place} may not be read with your credentials: {scrub(error, url)}")
    if isinstance(error, FileNotFoundError):
        return ServiceUnavailable(f"{place} does not exist: create it first ({scrub(error, url)})")
    if writing and isinstance(error, OSError) and error.errno:
        meaning = write_error(error, place)
        if type(meaning) is not ServiceUnavailable:
            return meaning
    return ServiceUnavailable(f"{place} cannot be reached: {scrub(error, url)}")


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
