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
    import shutil

    found = next((path for path in _PLACES if os.access(path, os.X_OK)), None)
    found = found or shutil.which("bash", path=absolute_places(os.environ.get("PATH", "")))
    if found is None:
        raise UsageError(f"{os.uname().nodename} has no bash, which runs commands: install it there")
    return found


def absolute_places(path: str) -> str:
    """Return a search path without its relative places: a clone that one stands in holds programs, too."""
    return ":".join(part for part in path.split(":") if os.path.isabs(part))
