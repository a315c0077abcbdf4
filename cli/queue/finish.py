"""``seamless-queue-finish``: wait until the queue has drained, end it, and report what failed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..console import ERROR, OK, CommandError, Console, show_tail
from ..start import entry_point
from ..table import USUAL, CommandTable
from ..text import count_text

if TYPE_CHECKING:
    from seamless_dask.jobs.entries import Failure
    from seamless_dask.jobs.queue import QueueStore

    from ..table import ParsedArguments

PAUSE = 0.05
TAIL = 64 << 10


TABLE = CommandTable(
    "Wait until all that was submitted is done, end the queue, and report what failed.",
    USUAL,
    examples=("seamless-queue-finish -v",),
    notes="Exit status: 0, or 1 if anything failed. With -v the end of what failed commands wrote to standard"
    " error is shown.",
)


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Wait, and report."""
    from seamless_dask.jobs.queue import QueueStore
    from seamless_dask.private import private_directory

    from ..opening import load_config

    queue_store = QueueStore(private_directory(load_config(arguments).cache))
    running = queue_store.queue() is not None
    if running:
        _wait(queue_store, console)
    failures = queue_store.failures()
    _report(queue_store, failures, console)
    if left := len(queue_store.ids()):
        raise CommandError(
            f"no queue is running and {count_text(left, 'command')} left:"
            " seamless-queue --workers N carries them on"
        )
    if not running and not failures:
        raise CommandError("no queue is running, and nothing is left of one")
    return ERROR if failures else OK


def _wait(queue_store: QueueStore, console: Console) -> None:
    """Ask the queue to end, and wait until it has, whatever the reason."""
    line = console.line()
    try:
        queue_store.finish()
        while queue_store.queue() is not None:
            line.show(f"{count_text(len(queue_store.ids()), 'command')} left")
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        queue_store.go_on()
        raise
    finally:
        line.clear()


def _report(queue_store: QueueStore, failures: list[Failure], console: Console) -> None:
    """Tell what failed; it has then been told."""
    for failure in failures:
        console.error(f"failed: {failure.text}: {failure.message} (log: {failure.log})")
        if console.verbosity > 0:
            show_tail(_tail(failure.log))
    if console.json:
        console.facts({"failures": [failure._asdict() for failure in failures]})
    for failure in failures:
        queue_store.forget(failure.id)


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


main = entry_point(TABLE, execute, "seamless-queue-finish")
