"""``seamless-queue --workers N``: run what ``seamless-run --qsubmit`` submits."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from ..console import OK, CommandError, Console, guarded
from ..run.option_table import count
from ..start import entry_point
from ..table import USUAL, CommandTable, flag, group, value

if TYPE_CHECKING:
    from seamless_dask.jobs.queue import QueueStore

    from ..table import ParsedArguments


NAME = "seamless-queue"
START_LIMIT = 30.0
"""Seconds until a detached queue has begun."""
TABLE = CommandTable(
    "Run what seamless-run --qsubmit submits, until seamless-queue-finish.",
    (
        group(
            "Manner",
            value(
                "--workers",
                metavar="N",
                help="commands at a time (the processors of this host)",
                convert=count,
            ),
            flag("-d", "--detach", help="start it and return"),
        ),
        *USUAL,
    ),
    examples=("seamless-queue --workers 8 --detach",),
    notes="Ctrl-C cancels what runs and ends the queue; what is left waits for the next one.",
)


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Be the queue, or start it."""
    from seamless_dask.jobs.queue import QueueStore
    from seamless_dask.private import private_directory

    from ..opening import load_config

    queue_store = QueueStore(private_directory(load_config(arguments).cache))
    workers = arguments.workers or len(os.sched_getaffinity(0))
    if arguments.detach:
        return _detach(queue_store, workers, console)
    return _serve(queue_store, workers, console, take(queue_store, workers))


def take(queue_store: QueueStore, workers: int) -> int:
    """Become the queue and return the descriptor of its lock; raises `CommandError` if there is one."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal is no reason to end
    lock = queue_store.take(workers)
    if lock is None:
        facts = queue_store.queue()
        who = f" (process {facts['pid']} on {facts['host']}, {facts['workers']} at a time)" if facts else ""
        raise CommandError(f"a queue is running already{who}: seamless-queue-finish ends it")
    return lock


def _serve(queue_store: QueueStore, workers: int, console: Console, lock: int) -> int:
    from .server import QueueServer

    left = len(queue_store.ids())
    if left:
        console.note(f"{left} submitted before are carried on")
    return QueueServer(queue_store, workers, console, lock).serve()


def _detach(queue_store: QueueStore, workers: int, console: Console) -> int:
    """Start the queue as a process of its own; returns when it has become the one."""
    from seamless_dask import daemon
    from seamless_dask.private import private_directory

    def serves(pid: int) -> int | None:
        facts = queue_store.queue()
        return pid if facts and (facts["pid"], facts["host"]) == (pid, os.uname().nodename) else None

    words = daemon.command(__name__, os.path.dirname(queue_store.path), str(workers), str(console.verbosity))
    try:
        child = daemon.start(
            "the queue",
            words,
            os.path.join(private_directory(queue_store.path), "output"),
            serves,
            START_LIMIT,
        )
    except daemon.DaemonFailed as error:
        raise CommandError(error.said.removeprefix(f"{NAME}: ") or str(error)) from None
    console.note(f"queue started: process {child}, {workers} at a time; seamless-queue-finish ends it")
    if console.json:
        console.facts({"pid": child, "workers": workers, "directory": queue_store.path})
    return OK


def detached(cache: str, workers: str, verbosity: str) -> int:
    """Be the queue that `_detach` starts; what it says goes to a file beside its entries."""
    from seamless_dask.jobs.queue import QueueStore

    queue_store, console = QueueStore(cache), Console(NAME, int(verbosity))
    return guarded(
        lambda: _serve(queue_store, int(workers), console, take(queue_store, int(workers))), console
    )


main = entry_point(TABLE, execute, NAME)


if __name__ == "__main__":
    sys.exit(detached(*sys.argv[1:]))
