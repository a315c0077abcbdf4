"""A result that is not known: store what its command needs, run it, wait."""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from hashserver.errors import BufferMissing
from hashserver.printable import Filter
from seamless_dask.errors import ComputationFailed

from ..console import CommandError, Console, show_tail
from ..data.missing import input_path, named
from ..data.pending import announce, withdraw
from ..data.transfer import COPY, EMBEDDED_INPUT, Uploader
from ..text import count_text, size_text
from .job import CommandJob, names_environment, note_unserved, options_of
from .results import DeliveryOptions, check_targets, needs_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from seamless_dask.context import Context
    from seamless_dask.jobs.request import JobRequest
    from seamless_dask.model.transformation import Value

    from ..data.identify import LocalFile
    from ..table import ParsedArguments

ASK_FILES, ASK_BYTES = 1000, 10**9


def compute(
    context: Context,
    job: CommandJob,
    arguments: ParsedArguments,
    manner: DeliveryOptions,
    console: Console,
    known: bool = False,
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
    from ..opening import open_executor

    request = prepare(context, job, arguments, manner, console)
    # On record, but its bytes are gone, another environment is named, or a job is making it anew.
    console.detail(f"{'the result is made again' if known else 'no result is known: running it'} ({job.key})")
    try:
        with announced(context, job, request), open_executor(context, console) as executor:
            if arguments.detach:
                executor.submit(request)
                return None
            if arguments.direct_print:
                return executor.run(request, on_stderr=stderr_shower())
            with console.spinner(request.options.label or "job") as spinner:
                return executor.run(request, tick=spinner.state)
    except Exception as error:
        if isinstance(error, ComputationFailed) and not arguments.direct_print:
            show_tail(error.stderr)
        if isinstance(error, BufferMissing) and (path := _input_of(context, job, error)):
            raise named(context, error, path) from error
        raise


def prepare(
    context: Context,
    job: CommandJob,
    arguments: ParsedArguments,
    manner: DeliveryOptions,
    console: Console,
) -> JobRequest:
    """Store what the command needs, and return what is asked for; raises as `compute` does."""
    from seamless_dask.jobs.request import JobRequest

    check_targets(context, job.wanted, manner)
    options = options_of(arguments, job, context.config.isolation)
    note_unserved(options, context.config, console)
    store_inputs(context, job, arguments, console)
    fresh = arguments.same_environment and names_environment(arguments)
    need_bytes = arguments.fingertip or needs_bytes(job.wanted, manner)
    return JobRequest(job.key, options._replace(fresh=fresh), need_bytes)


@contextmanager
def announced(context: Context, job: CommandJob, request: JobRequest) -> Iterator[None]:
    """Ask for a job that has its futures by then; they go if that fails."""
    results = [(item.local, item.name) for item in job.wanted if item.local is not None]
    folders: list[str] = []
    try:
        folders += announce(context, results, job.key, request.options)
        yield
    except BaseException:
        withdraw(context.config.cache, (path for path, _ in results), job.key, folders, own=True)
        raise


def _input_of(context: Context, job: CommandJob, error: BufferMissing) -> str | None:
    stdin = {} if job.transformation.stdin is None else {"standard input": job.transformation.stdin}
    return input_path(context.store, job.transformation.inputs | stdin, error.checksum)


def store_inputs(context: Context, job: CommandJob, arguments: ParsedArguments, console: Console) -> None:
    """Store what the command reads, its text and its document."""
    by_reference = context.embedded and not arguments.copy_inputs and _is_local(context)
    uploader = Uploader(context, console, EMBEDDED_INPUT if by_reference else COPY)
    unnamed = uploader.missing(job.unnamed)
    if not arguments.yes:
        ask_for(unnamed, console)
    sent = uploader.send([*unnamed, *job.named], "inputs")
    if sent.files:
        console.detail(f"inputs: {sent} stored")
    context.store.put_many((*job.indices, job.text.encode(), job.document))


def _is_local(context: Context) -> bool:
    from hashserver.storage.directory import LocalStore

    return isinstance(context.store, LocalStore)


def ask_for(files: Sequence[LocalFile], console: Console) -> None:
    """Ask before much is stored that nobody has named; without a terminal that takes ``-y``."""
    size = sum(file.status.st_size for file in files)
    if len(files) <= ASK_FILES and size <= ASK_BYTES:
        return
    what = f"{count_text(len(files), 'input file')} ({size_text(size)}) would be stored"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandError(f"{what}: -y does so, and seamless-upload gives them sidecars")
    if not console.confirm(f"{what}. Go on?"):
        raise CommandError("nothing was stored or run")


def stderr_shower() -> Callable[[bytes], None]:
    """Return what passes on what a command writes to its standard error: exact unless to a terminal."""
    made_visible = Filter() if sys.stderr.isatty() else None

    def show(data: bytes) -> None:
        with suppress(OSError):  # nobody reads it any more: no reason to fail
            sys.stderr.buffer.write(made_visible(data) if made_visible else data)
            sys.stderr.buffer.flush()

    return show
