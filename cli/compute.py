"""A result that is not known: store what its command needs, run it, wait."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from seamless_dask.errors import ComputationFailed

from .console import CommandError, Console, count_text, show_tail, size_text
from .futures import announce, withdraw
from .job import Job, options_of
from .results import Manner, check_targets, needs_bytes
from .transfer import COPY, EMBEDDED_INPUT, Uploader

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from seamless_dask.context import Context
    from seamless_dask.transformation import Value

    from .identify import File

ASK_FILES, ASK_BYTES = 1000, 10**9


def compute(
    context: Context, job: Job, arguments: argparse.Namespace, manner: Manner, console: Console
) -> Value | None:
    """Run the job, or wait for the one that runs it already; None when it is only started (``--detach``).

    Its futures stay until its results are delivered, so that there is no moment without either.

    Raises
    ------
    CommandError
        Results could not be delivered, or too much would be stored unasked: nothing has been run.
    ComputationFailed
        The command failed; the tail of its stderr has been shown.
    """
    check_targets(context, job.wanted, manner)
    store_inputs(context, job, arguments, console)
    options = options_of(arguments, job, context.config.isolation)
    results = [(item.local, item.name) for item in job.wanted if item.local is not None]
    console.detail(f"no result is known: running it ({job.key})")
    from seamless_dask.jobs import run, submit

    wishes: dict[str, Any] = {
        "need_bytes": arguments.fingertip or needs_bytes(job.wanted, manner),
        "fresh": arguments.same_environment and bool(arguments.prologue or arguments.module),
    }
    folders: list[str] = []
    try:
        folders += announce(results, job.key, context.config.hashserver)
        if arguments.detach:
            submit(context, job.key, options, detached=True, **wishes)
            return None
        on_stderr = show_stderr if arguments.direct_print else None
        return run(context, job.key, options, on_stderr=on_stderr, **wishes)
    except BaseException as error:
        withdraw((path for path, _ in results), job.key, folders)
        if isinstance(error, ComputationFailed) and not arguments.direct_print:
            show_tail(error.stderr)
        raise


def store_inputs(context: Context, job: Job, arguments: argparse.Namespace, console: Console) -> None:
    """Store what the command reads, its text and its document."""
    by_reference = context.embedded and not arguments.copy_inputs and _is_local(context)
    uploader = Uploader(context, console, EMBEDDED_INPUT if by_reference else COPY)
    unnamed = uploader.missing(job.unnamed)
    if not arguments.yes:
        ask_for(unnamed, console)
    sent = uploader.send([*unnamed, *job.named], "inputs")
    if sent.files:
        console.detail(f"inputs: {sent} stored")
    for data in (*job.indices, job.text.encode(), job.document):
        context.store.put(data)


def _is_local(context: Context) -> bool:
    from hashserver.storage.local import LocalStore

    return isinstance(context.store, LocalStore)


def ask_for(files: Sequence[File], console: Console) -> None:
    """Ask before much is stored that nobody has named; without a terminal that takes ``-y``."""
    size = sum(file.status.st_size for file in files)
    if len(files) <= ASK_FILES and size <= ASK_BYTES:
        return
    what = f"{count_text(len(files), 'input file')} ({size_text(size)}) would be stored"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandError(f"{what}: -y does so, and seamless-upload gives them sidecars")
    if not console.confirm(f"{what}. Go on?"):
        raise CommandError("nothing was stored or run")


def show_stderr(data: bytes) -> None:
    """Pass on what the command writes to its standard error."""
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()
