"""``seamless-run --qsubmit``: what is not known yet goes to the queue, which delivers it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from seamless_dask.jobs.entries import QueueEntry
from seamless_dask.jobs.queue import QueueStore
from seamless_dask.model.variables import of_submission

from ..console import OK, Console
from ..data.pending import announce, withdraw
from ..opening import SETTINGS
from .compute import store_inputs
from .job import CommandJob, names_environment, note_unserved, options_of
from .results import DeliveryOptions, check_targets, needs_bytes

if TYPE_CHECKING:
    from seamless_dask.context import Context
    from seamless_dask.model.options import Options

    from ..table import ParsedArguments


def enqueue(
    context: Context,
    job: CommandJob,
    arguments: ParsedArguments,
    manner: DeliveryOptions,
    console: Console,
) -> int:
    """Store what the command needs, and submit it.

    Raises
    ------
    NoQueue
        Nobody would run it: nothing has been stored.
    CommandError
        Its results could not be delivered.
    """
    spool = QueueStore(context.cache)
    spool.require_queue()
    check_targets(context, job.wanted, manner)
    options = options_of(arguments, job, context.config.isolation)
    note_unserved(options, context.config, console)
    store_inputs(context, job, arguments, console)
    fresh = arguments.same_environment and names_environment(arguments)
    results = [(item.local, item.name) for item in job.wanted if item.local is not None]
    entry = _entry(job, arguments, manner, options._replace(fresh=fresh))
    folders: list[str] = []
    try:
        # Before the entry: a queue that is quick must find it, to take it away.
        folders += announce(context, results, job.key, options)
        spool.add(entry)
    except BaseException:
        withdraw(context.config.cache, (path for path, _ in results), job.key, folders, own=True)
        raise
    console.detail(f"submitted ({job.key})")
    if console.json:
        console.facts({"key": job.key, "cached": False, "submitted": True})
    return OK


def _entry(
    job: CommandJob, arguments: ParsedArguments, manner: DeliveryOptions, options: Options
) -> QueueEntry:
    settings = {name: value for name in (*SETTINGS, "local") if (value := getattr(arguments, name, None))}
    return QueueEntry(
        key=job.key,
        text=job.text,
        directory=os.getcwd(),
        options=options.to_json(),
        priority=arguments.priority,
        wanted=[list(item) for item in job.wanted],
        manner=list(manner),
        need_bytes=arguments.fingertip or needs_bytes(job.wanted, manner),
        settings=settings,
        environment=of_submission(os.environ),
        upstream=sorted({reference.of for reference in job.transformation.references}),
    )
