"""What this user has asked for: how it is asked for again when a job is gone that a ``.FUTURE`` stands for.

::

    <cache>/requests/<key>-<time>-<host>-<process>.json    one who has asked for the results of one job

A sidecar comes from wherever its directory does. It says which job makes a file, and nothing else; where that
was asked for, and how it is to be run, is told by what our own commands have written here, before they wrote
the sidecar. Each has a file of its own, which appears whole or not at all: hosts with one cache need no lock.
"""

from __future__ import annotations

import json
import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from hashserver.atomic import write_atomic

from ..errors import SeamlessError
from ..model.options import Options
from ..private import private_directory

if TYPE_CHECKING:
    from hashserver.checksum import Checksum

FOLDER = "requests"
MOST = 2000
"""How many are kept, those that came last: of what was never fetched nobody says that it is done."""
_LONGEST = 1 << 20


class LoggedRequest(NamedTuple):
    """What was asked for.

    Attributes
    ----------
    server : str or None
        The service that was asked; None: the host itself.
    host : str
        Where somebody asked.
    options : Options
        How it is to be run.
    """

    server: str | None
    host: str
    options: Options


def note(cache: str, key: Checksum, server: str | None, options: Options) -> None:
    """Write down that this process asks for a job."""
    folder = private_directory(os.path.join(private_directory(cache), FOLDER))
    document = {"server": server, "host": os.uname().nodename, "options": options.kept().to_json()}
    name = f"{key}-{time.time_ns():020}-{_asker()}.json"
    write_atomic(os.path.join(folder, name), json.dumps(document).encode(), 0o600)
    names = _names(cache)
    for old in sorted(names, key=lambda name: name[65:85])[: max(0, len(names) - MOST)]:
        _remove(cache, old)


def find(cache: str, key: Checksum) -> LoggedRequest | None:
    """Return how this user has asked for a job the last time; None: never, or that is done."""
    for name in sorted(_names(cache, key), reverse=True):
        found = _read(os.path.join(cache, FOLDER, name))
        if found is not None:
            return found
    return None


def forget(cache: str, key: Checksum, *, own: bool = False) -> None:
    """Forget who has asked for a job: it is done; with `own` this process only, while others wait."""
    for name in _names(cache, key):
        if not own or name.endswith(f"-{_asker()}.json"):
            _remove(cache, name)


def _asker() -> str:
    return f"{os.uname().nodename}-{os.getpid()}"


def _names(cache: str, key: str = "") -> list[str]:
    try:
        names = os.listdir(os.path.join(cache, FOLDER))
    except OSError:
        return []
    return [name for name in names if name.startswith(key) and name.endswith(".json") and name[64:65] == "-"]


def _remove(cache: str, name: str) -> None:
    with suppress(OSError):
        os.unlink(os.path.join(cache, FOLDER, name))


def _read(path: str) -> LoggedRequest | None:
    """Read a file of our own; None for what another account or version has written, or that has just gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return None
        try:
            document = json.loads(file.read(_LONGEST))
            server, host = document["server"], document["host"]
            if not isinstance(host, str) or not (server is None or isinstance(server, str)):
                return None
            return LoggedRequest(server, host, Options.from_json(document["options"]))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SeamlessError):
            return None
