"""Putting a jobserver on a scheduler, and taking it back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ...jobs.journal import FILE, Journal
from . import routes
from .jobserver import Jobserver
from .nested import Nested
from .watch import JobserverPlugin

if TYPE_CHECKING:
    from distributed import Scheduler


async def install(scheduler: Scheduler, plugin: Any, directory: str | None) -> Jobserver:
    """Start the jobserver of a running scheduler, on its HTTP server too; whoever asked before is remembered.

    Parameters
    ----------
    plugin
        Our scheduler plugin; its `context` is where documents and results are.
    directory
        Where the journal lies; None keeps it in memory.
    """
    await remove(scheduler)  # the one that came with the plugin
    journal = Journal(None if directory is None else os.path.join(directory, FILE))
    jobserver = _add(scheduler, plugin, journal)
    routes.offer_http(scheduler, jobserver)
    jobserver.resume()
    return jobserver


def offer(scheduler: Scheduler, plugin: Any) -> None:
    """Have a jobserver for those who speak to a scheduler in Dask's own protocol; it keeps no journal."""
    if JobserverPlugin.name not in scheduler.plugins:
        _add(scheduler, plugin, Journal(None))


async def remove(scheduler: Scheduler) -> None:
    """Take a jobserver back."""
    watch = scheduler.plugins.pop(JobserverPlugin.name, None)
    if isinstance(watch, JobserverPlugin):
        routes.withdraw_dask(scheduler)
        Nested.remove(scheduler)
        await watch.before_close()


def _add(scheduler: Scheduler, plugin: Any, journal: Journal) -> Jobserver:
    jobserver = Jobserver(scheduler, plugin.context, journal)
    nested = Nested(jobserver)
    scheduler.add_plugin(JobserverPlugin(jobserver, nested), idempotent=True, name=JobserverPlugin.name)
    routes.offer_dask(scheduler, jobserver)
    nested.install(scheduler)
    return jobserver
