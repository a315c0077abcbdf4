"""Names of the Dask resources by which tasks find workers: with a prefix that nobody else uses.

Users give their own resources any names, ``cpus`` and ``memory`` among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "seamless:"
CPUS = f"{PREFIX}cpus"
MEMORY = f"{PREFIX}memory"
QUEUE = f"{PREFIX}queue:"
"""Before the name of a queue."""
NODE = f"{PREFIX}node:"
"""Before the name of a host."""
GPU = "GPU"
"""By the name that Dask's users give to it, since workers that have one are started by them."""


def told(resources: Mapping[str, float], separator: str = "=") -> str:
    """Return resources as people read them."""
    return ", ".join(
        f"{name.removeprefix(PREFIX)}{separator}{amount:g}" for name, amount in resources.items()
    )
