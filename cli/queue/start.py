"""``seamless-queue --workers N``: run what ``seamless-run --qsubmit`` submits."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from hashserver.printable import visible

from ..console import OK, CommandError, Console
from ..run.option_table import count
from ..start import start
from ..table import COMMON, CONFIGURATION, CommandTable, OptionGroup, flag, value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seamless_dask.jobs.queue import QueueStore

    from ..table import ParsedArguments


TABLE = CommandTable(
    "Run what seamless-run --qsubmit submits, until seamless-queue-finish.",
    (
        OptionGroup(
            "Manner",
            (
                value("--workers", metavar="N", help="commands at a time (the processors of this host)",
                    convert=count),
                flag("-d", "--detach", help="start it and return"),
            ),
        ),
        COMMON,
        CONFIGURATION,
    ),
    examples=("seamless-queue --workers 8 --detach",),
    notes="Ctrl-C cancels what runs and ends the queue; what is left waits for the next one.",
)  # fmt: skip


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Be the queue, or start it."""
    from seamless_dask.jobs.queue import QueueStore
    from seamless_dask.private import private_directory

    from ..opening import load_config

    spool = QueueStore(private_directory(load_config(arguments).cache))
    workers = arguments.workers or len(os.sched_getaffinity(0))
    if arguments.detach:
        return _detach(spool, workers, console)
    return _serve(spool, workers, console, take(spool, workers))


def take(spool: QueueStore, workers: int) -> int:
    """Become the queue and return the descriptor of its lock; raises `CommandError` if there is one."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal is no reason to end
    lock = spool.take(workers)
    if lock is None:
        facts = spool.queue()
        who = f" (process {facts['pid']} on {facts['host']}, {facts['workers']} at a time)" if facts else ""
        raise CommandError(f"a queue is running already{who}: seamless-queue-finish ends it")
    return lock


def _serve(spool: QueueStore, workers: int, console: Console, lock: int) -> int:
    from .server import QueueServer

    left = len(spool.ids())
    if left:
        console.note(f"{left} submitted before are carried on")
    return QueueServer(spool, workers, console, lock).serve()


def _detach(spool: QueueStore, workers: int, console: Console) -> int:
    """Start the queue in a session of its own; returns when it has become the one."""
    ready, ready_end = os.pipe()
    if child := os.fork():
        os.close(ready_end)
        with os.fdopen(ready, "rb") as file:
            said = file.read()
        if said != b"ready":
            os.waitpid(child, 0)
            raise CommandError(said.decode() or f"the queue did not start: {spool.path}/output says why")
        console.note(f"queue started: process {child}, {workers} at a time; seamless-queue-finish ends it")
        if console.json:
            console.facts({"pid": child, "workers": workers, "directory": spool.path})
        return OK
    os.close(ready)
    os._exit(_detached(spool, workers, console, ready_end))


def _detached(spool: QueueStore, workers: int, console: Console, ready: int) -> int:
    """Be the queue that was started; what it says goes to a file of the spool."""
    os.setsid()
    try:
        lock = take(spool, workers)
    except CommandError as error:
        os.write(ready, str(error).encode())
        return 1
    output = os.open(os.path.join(spool.path, "output"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, fd in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, fd)
    os.close(output)
    os.close(nothing)
    os.write(ready, b"ready")
    os.close(ready)
    try:
        return _serve(spool, workers, console, lock)
    except BaseException:
        import traceback

        sys.stderr.write(visible(traceback.format_exc()))
        return 1
    finally:
        sys.stderr.flush()


def main(argv: Sequence[str] | None = None, prog: str = "seamless-queue") -> int:
    """Entry point."""
    return start(TABLE, execute, argv, prog)
