"""The scheduler's side: ``dask scheduler --preload seamless_dask.scheduler``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Scheduler

    from ..services.plugin import SeamlessScheduler

__all__ = ["SeamlessScheduler", "dask_setup"]


def __getattr__(name: str) -> Any:
    if name == "SeamlessScheduler":
        from ..services.plugin import SeamlessScheduler

        return SeamlessScheduler
    raise AttributeError(name)


def dask_setup(scheduler: Scheduler) -> None:
    """Add the plugin to a scheduler that preloads this package, and that starts its plugins afterwards."""
    from ..services.plugin import SeamlessScheduler

    scheduler.add_plugin(SeamlessScheduler(), idempotent=True)
