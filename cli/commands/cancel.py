"""``seamless-cancel CHECKSUM|PATH…``: cancel computations for everybody who waits for them."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from hashserver.checksum import Checksum
from hashserver.errors import InvalidChecksum

from ..console import ERROR, OK, CommandError, Console
from ..opening import open_context, open_executor
from ..start import entry_point
from ..table import JOB, USUAL, Argument, CommandTable, flag, group

if TYPE_CHECKING:
    from hashserver.workspace.pending import Future
    from seamless_dask.context import Context

    from ..table import ParsedArguments


TABLE = CommandTable(
    "Cancel computations that are waiting or running, whoever has asked for them. A path stands for the job"
    " that makes it (its .FUTURE).",
    (
        group("Where", flag("--local", help="those that run on this host without a server")),
        *USUAL,
    ),
    (
        Argument(
            "jobs",
            "CHECKSUM|PATH",
            "key of a transformation, or a result that is made",
            many=True,
            completes=JOB,
        ),
    ),
    examples=("seamless-cancel table.txt",),
)


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Cancel them; 1 when one of them was not under way."""
    status, facts = OK, []
    with closing(open_context(arguments, console.note)) as context:
        from seamless_dask.jobs import request_log

        for text in arguments.jobs:
            text = _subject(text)
            key, future = meant(text)
            done = _cancel(context, key, future, console)
            if not done and future is not None:
                _refuse_distant(text, future)
            facts.append({"key": key, "cancelled": done})
            if done:
                console.note(f"{text} is cancelled")
            else:
                console.error(f"{text} is not under way: there is nothing to cancel")
                status = ERROR
            if future is not None:
                from hashserver.workspace.pending import remove_future

                remove_future(text, key)
            if done:
                request_log.forget(context.config.cache, key)
    if console.json:
        console.facts(facts)
    return status


def _subject(text: str) -> str:
    """Return the path whose job is meant, where one of its sidecars was named."""
    from hashserver.workspace.pending import read_future

    for suffix in (".CHECKSUM", ".FUTURE"):
        stem = text.removesuffix(suffix).rstrip("/")
        if text.endswith(suffix) and stem and read_future(text) is None and read_future(stem) is not None:
            return stem
    return text


def meant(text: str) -> tuple[Checksum, Future | None]:
    """Return the key that an argument means, with the future that it comes from.

    Raises
    ------
    CommandError
        It is neither a checksum nor a path with a future.
    """
    try:
        return Checksum(text), None
    except InvalidChecksum:
        pass
    from hashserver.workspace.pending import read_future

    future = read_future(text)
    if future is None:
        raise CommandError(f"{text}: neither a checksum (64 lower-case hex digits) nor made by a pending job")
    return future.key, future


def _cancel(context: Context, key: Checksum, future: Future | None, console: Console) -> bool:
    from seamless_dask.jobs import request_log
    from seamless_dask.jobs.queue import QueueStore

    from ..data.pending import other_context, withdraw

    # before what runs, or the queue would start it again
    queued = QueueStore(context.config.cache).cancel(key)
    for entry in queued:
        paths = (os.path.join(entry.delivery.directory, local) for _, local in entry.delivery.wanted if local)
        withdraw(context.config.cache, paths, key)
    with ExitStack() as stack:
        # a sidecar may name any server: only where this user has asked for the job somebody is told to stop
        request = request_log.find(context.config.cache, key) if future is not None else None
        there = stack.enter_context(other_context(context, request))
        executor = stack.enter_context(open_executor(there or context, console))
        return executor.cancel(key) or bool(queued)


def _refuse_distant(text: str, future: Future) -> None:
    """Raise when a job runs on another host by itself: nobody here can tell whether it does."""
    if future.server is None and future.host != os.uname().nodename:
        raise CommandError(f"{text} is made on {future.host}: run seamless-cancel there")


main = entry_point(TABLE, execute, "seamless-cancel")
