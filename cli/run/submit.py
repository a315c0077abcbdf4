"""``seamless-run --qsubmit``: what is not known yet goes to the queue, which delivers it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from seamless_dask.jobs.entries import QueueDelivery, QueueEntry
from seamless_dask.jobs.queue import QueueStore
from seamless_dask.model.variables import of_submission

from ..console import OK, Console
from ..opening import SETTINGS
from .compute import announced, prepare

if TYPE_CHECKING:
    from seamless_dask.context import Context
    from seamless_dask.jobs.request import JobRequest

    from ..table import ParsedArguments
    from .job import CommandJob
    from .results import DeliveryOptions


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
    queue_store = QueueStore(context.cache)
    queue_store.require_queue()
    request = prepare(context, job, arguments, manner, console)
    with announced(context, job, request):  # before the entry: a queue that is quick is to take it away
        queue_store.add(_entry(request, job, arguments, manner))
    console.detail(f"submitted ({job.key})")
    if console.json:
        console.facts({"key": job.key, "cached": False, "submitted": True})
    return OK


def _entry(
    request: JobRequest, job: CommandJob, arguments: ParsedArguments, manner: DeliveryOptions
) -> QueueEntry:
    settings = {name: value for name in (*SETTINGS, "local") if (value := getattr(arguments, name, None))}
    return QueueEntry(
        request=request,
        delivery=QueueDelivery(os.getcwd(), [list(item) for item in job.wanted], list(manner)),
        text=job.text,
        settings=settings,
        environment=of_submission(os.environ),
        upstream=sorted({reference.of for reference in job.transformation.references}),
    )
