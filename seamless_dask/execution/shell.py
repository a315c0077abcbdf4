"""The Bash that runs commands: the system's own, whatever search path a command has."""

from __future__ import annotations

import os
from functools import cache

from seamless_dask.errors import UsageError

_PLACES = ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash", "/run/current-system/sw/bin/bash")


@cache
def system_shell() -> str:
    """Return the path of Bash on this host, looked for once.

    Raises
    ------
    UsageError
        If it is in none of its places, nor on the search path of this process.
    """
    found = next((path for path in _PLACES if os.access(path, os.X_OK)), None)
    found = found or find_program("bash", os.environ.get("PATH", ""))
    if found is None:
        raise UsageError(f"{os.uname().nodename} has no bash, which runs commands: install it there")
    return found


def find_program(name: str, path: str) -> str | None:
    """Return where a search path has a program; None: nowhere.

    Relative places do not count: a clone that one stands in holds programs, too.
    """
    places = (f"{part}/{name}" for part in path.split(":") if os.path.isabs(part))
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), None)
