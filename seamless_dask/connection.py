"""The connection file: where a daskserver is, and which files open it.

It lies in the daskserver's own directory, which nobody else can enter, together with what it names.
Commands that only look for a result read it on their way: this module imports next to nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.regular_file import open_secret
from hashserver.system_text import each, to_system

from .errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = "connection.json"
VERSION = 1
LOCK, STARTING = "lock", "start.lock"
"""Held by the process of a daskserver; by whoever starts or stops it."""
START_SECONDS = 90.0
"""How long a daskserver that is being started is waited for."""
SILENT = 3.0
"""Seconds of that before a person is told."""


class ConnectionFile(NamedTuple):
    """What a connection file says; all paths are absolute."""

    name: str
    host: str
    """The host that the daskserver runs on."""
    pid: int
    started: float
    """Seconds since the epoch."""
    jobserver: str
    """Base URL of the scheduler's HTTP server: jobs, dashboard, page."""
    scheduler: str
    """Address for Dask's own protocol."""
    hashserver: str
    store: str
    """Where buffers are, as the host of the daskserver sees it."""
    token_file: str
    hashserver_token_file: str
    """The same file, unless the hashserver is one that somebody else runs."""
    hashserver_ca_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure: bool = False

    @property
    def is_here(self) -> bool:
        """Whether the daskserver is on this host, so that its paths and processes are ours."""
        return self.host == os.uname().nodename


def directory_of(cache: str, name: str) -> str:
    """Return the directory of the daskserver called `name`."""
    return os.path.join(cache, "daskserver", name)


def read(path: str) -> ConnectionFile:
    """Read a connection file.

    Raises
    ------
    UsageError
        If there is none, others may read it, or it is not one.
    """
    try:
        with os.fdopen(open_secret(path, "the connection file", UsageError), "rb") as file:
            data = file.read()
    except OSError as error:
        reason = (
            "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        )
        raise UsageError(
            f"the connection file {path} {reason}; seamless-daskserver start writes one"
        ) from None
    return parse(path, data)


def read_when_started(path: str, tell: Callable[[str], None] | None = None) -> ConnectionFile:
    """Read a connection file; one whose daskserver is being started is waited for.

    Parameters
    ----------
    path
        The file.
    tell
        Gets what a person who waits should know.

    Raises
    ------
    UsageError
        As of `read`.
    """
    import time

    begun, told = time.monotonic(), False
    while True:
        try:
            return read(path)
        except UsageError:
            waited = time.monotonic() - begun
            if os.path.exists(path) or waited > START_SECONDS or not is_held(path):
                return read(path)  # it may have come since
        if tell is not None and not told and waited > SILENT:
            tell("waiting for the daskserver, which is being started (Ctrl-C gives up)")
            told = True
        time.sleep(0.05)


def is_held(path: str) -> bool:
    """Say whether on this host the daskserver of a connection file runs, or somebody is starting it."""
    from .locks import is_locked

    directory = os.path.dirname(path)
    return any(is_locked(os.path.join(directory, name)) for name in (STARTING, LOCK))


def write(path: str, connection: ConnectionFile) -> None:
    """Write a connection file, for nobody else to read.

    Under ``address``, which ``distributed.Client(scheduler_file=…)`` reads, stands the way to the scheduler;
    where that takes certificates, by way of this file (`seamless_dask.client.backend`).
    """
    import json

    from hashserver.atomic import write_atomic

    place = connection.scheduler.partition("://")[2]
    address = connection.scheduler if connection.insecure else f"seamless://{place}{os.path.abspath(path)}"
    document = {"version": VERSION, "address": address} | connection._asdict()
    write_atomic(path, json.dumps(document, indent=2).encode() + b"\n", 0o600)


def parse(path: str, data: bytes) -> ConnectionFile:
    """Return what the content of a connection file says.

    Parameters
    ----------
    path
        What an error calls it.
    data
        The content.

    Raises
    ------
    UsageError
        It says nothing usable.
    """
    import json

    try:
        document = each(json.loads(data), to_system)
        version = document["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UsageError(f"{path} is not a connection file of a daskserver") from None
    if version != VERSION:
        raise UsageError(
            f"{path} is of version {version}, this seamless-dask reads {VERSION}:"
            " install the same on both sides"
        )
    missing = [name for name in ConnectionFile._fields if not _fits(name, document.get(name))]
    if missing:
        raise UsageError(f"{path} says nothing usable about {missing[0]!r}: start the daskserver again")
    return ConnectionFile(**{name: document.get(name, _default(name)) for name in ConnectionFile._fields})


def _default(name: str) -> Any:
    return ConnectionFile._field_defaults.get(name)


def _fits(name: str, value: object) -> bool:
    if value is None:
        return name in ConnectionFile._field_defaults
    if name == "insecure":
        return isinstance(value, bool)
    if name in ("pid", "started"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, str) and value != ""
