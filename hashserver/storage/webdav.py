"""fsspec's WebDAV file system: renames are one request, and each wait has a bound."""

from __future__ import annotations

import logging
import os
import ssl
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from webdav4.fsspec import WebdavFileSystem, translate_exceptions

if TYPE_CHECKING:
    from typing import Any

logging.getLogger("httpx").setLevel(logging.WARNING)  # else it tells of each request


class WebdavFiles(WebdavFileSystem):  # type: ignore[misc]
    """Files at the ``base_url`` that storage options name; what a URL says is the path below it."""

    def __init__(self, base_url: str, auth: Any = None, **options: Any) -> None:
        # what httpx takes has no form in TOML and JSON: a pair of user and password, and who vouches for TLS
        base_url, named = _without_user(base_url)
        auth = auth or named
        if isinstance(verify := options.get("verify"), str):
            options["verify"] = ssl.create_default_context(cafile=os.path.expanduser(verify))
        super().__init__(base_url, auth=tuple(auth) if isinstance(auth, list) else auth, **options)

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        """Give a file another name: one request, where fsspec copies, so that half a file may be seen."""
        with translate_exceptions():
            self.client.move(self._strip_protocol(path1), self._strip_protocol(path2), overwrite=True)

    def get_file(self, rpath: str, lpath: str, callback: Any = None, **_: Any) -> None:
        """Fetch a file, telling `callback` how it gets on."""
        with translate_exceptions(), open(lpath, "wb") as file:
            moved = None if callback is None else callback.relative_update
            self.client.download_fileobj(self._strip_protocol(rpath), file, callback=moved)

    def put_file(self, lpath: str, rpath: str, callback: Any = None, **_: Any) -> None:
        """Send a file, telling `callback` how it gets on; its directory must be there."""
        with translate_exceptions(), open(lpath, "rb") as file:
            moved = None if callback is None else callback.relative_update
            self.client.upload_fileobj(file, self._strip_protocol(rpath), overwrite=True, callback=moved)

    def hang_up(self) -> None:
        """Close all connections."""
        self.client.http.close()

    give_up = hang_up

    def is_lost(self) -> bool:
        """Whether it was closed."""
        return bool(self.client.http.is_closed)


def _without_user(url: str) -> tuple[str, list[str] | None]:
    """Return a URL without user and password, which others would be told with it, and these."""
    parts = urlsplit(url) if isinstance(url, str) else None  # httpx will say what it wants
    if parts is None or not parts.username:
        return url, None
    netloc = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=netloc).geturl(), [unquote(parts.username), unquote(parts.password or "")]


def connect(url: str, options: dict[str, Any], seconds: float) -> tuple[WebdavFiles, str]:
    """Return the file system that `options` name, and the path on it of a ``webdav://path`` URL."""
    if not isinstance(options.get("timeout", seconds), int | float):  # found out with each request only
        raise TypeError("timeout must be a number of seconds")
    fs = WebdavFiles(skip_instance_cache=True, **{"timeout": seconds, **options})
    return fs, fs._strip_protocol(url).rstrip("/")
