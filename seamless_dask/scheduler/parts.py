"""What the parts of the scheduler plugin have of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Scheduler

    from ..context import Context
    from .cutoff import Cutoff
    from .hit_store import HitStore
    from .lookups import Lookups
    from .retries import Retries


class PluginParts(Protocol):
    """The plugin, as `Gate` and `Statistics` see it.

    Attributes
    ----------
    scheduler : Scheduler
        Of Dask.
    context : Context
        Store and database.
    lookups, holder, recovery, cutoff
        The other parts.
    stepped_aside : str or None
        Why the scheduler looks nothing up.
    """

    scheduler: Scheduler
    context: Context
    lookups: Lookups
    holder: HitStore
    recovery: Retries
    cutoff: Cutoff
    stepped_aside: str | None

    def graph_arrived(self, keys: Sequence[Any]) -> None:
        """Hear that those tasks of a graph are there of which no result is known."""
        ...
