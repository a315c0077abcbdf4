"""One entry of the queue, in a process of its own: run as ``seamless-run`` would, and delivered."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from hashserver.checksum import Checksum
from hashserver.printable import one_line, visible
from seamless_dask.errors import ComputationFailed, SeamlessError
from seamless_dask.model.variables import put_in_force

from ..console import Console, error_text
from ..data.pending import stored_transformation, withdraw
from ..opening import SETTINGS, open_context, open_executor
from ..run.command import deliver
from ..run.compute import stderr_shower
from ..run.job import CommandJob
from ..run.results import DeliveryOptions, Known, OutputTarget
from ..table import ParsedArguments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seamless_dask.context import Context
    from seamless_dask.jobs.entries import QueueEntry
    from seamless_dask.jobs.queue import QueueStore
    from seamless_dask.model.transformation import Value

DONE, FAILED, KEPT = 0, 1, 75
"""Exit status of the process; what is kept stays in the queue."""


def perform(queue_store: QueueStore, entry: QueueEntry, failed: Mapping[str, str]) -> int:
    """Run an entry and deliver its results; returns the exit status of this process.

    Parameters
    ----------
    failed
        Why the jobs failed that this queue has run without success, by their keys.
    """
    put_in_force(entry.environment, os.environ)
    try:
        _perform(entry, failed)
    except KeyboardInterrupt:
        return KEPT
    except Exception as error:
        _fail(queue_store, entry, error)
        return FAILED
    queue_store.remove(entry.id)
    return DONE


def _perform(entry: QueueEntry, failed: Mapping[str, str]) -> None:
    directory, manner = entry.delivery.directory, DeliveryOptions(*entry.delivery.manner)
    try:
        os.chdir(directory)
    except OSError as error:
        raise SeamlessError(f"cannot work in {directory}, where it was submitted: {error.strerror}") from None
    said = dict.fromkeys((*SETTINGS, "local")) | entry.settings
    with closing(open_context(ParsedArguments(**said))) as context:
        _refuse_failed_upstream(context, entry, failed)
        job = _job(context, entry)
        value = _value(context, entry)
        known = Known(job.key, value, None)
        deliver(context, job, known, manner, Console("seamless-run"), cached=False)


def _refuse_failed_upstream(context: Context, entry: QueueEntry, failed: Mapping[str, str]) -> None:
    """Raise when what it needs has failed, unless somebody has made it by other means since."""
    for key in entry.upstream:
        if key in failed and context.database.lookup(Checksum(key)) is None:
            raise SeamlessError(f"it needs the result of {failed[key]}")


def _job(context: Context, entry: QueueEntry) -> CommandJob:
    transformation = stored_transformation(context, entry.key)
    wanted = tuple(OutputTarget(name, local) for name, local in entry.delivery.wanted)
    return CommandJob(transformation, b"", entry.key, entry.text, (), (), (), wanted, ())


def _value(context: Context, entry: QueueEntry) -> Value:
    on_stderr = stderr_shower() if entry.request.options.direct_print else None
    # as many run at a time as the queue has workers
    with open_executor(context, Console("seamless-run"), bounded=False) as executor:
        return executor.run(entry.request, on_stderr=on_stderr)


def _fail(queue_store: QueueStore, entry: QueueEntry, error: Exception) -> None:
    """Keep what is to be told of it, and take its futures away."""
    message, status = error_text(error), None
    if isinstance(error, ComputationFailed):
        status = error.exit_status
        if not entry.request.options.direct_print:
            sys.stderr.write(visible(error.stderr.rstrip("\n")) + "\n" if error.stderr else "")
    sys.stderr.write(one_line(f"seamless-run: {entry.text}: {message}") + "\n")
    sys.stderr.flush()
    paths = (local for _, local in entry.delivery.wanted if local is not None)
    withdraw(os.path.dirname(queue_store.path), paths, entry.key)
    queue_store.fail(entry, message, status)
