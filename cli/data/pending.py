"""``.FUTURE`` sidecars: what stands for a result while its job runs, and what becomes of it."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING

from hashserver.errors import BufferMissing, HashserverError
from hashserver.workspace.sidecar import (
    Future,
    read_future,
    remove_future,
    write_atomic,
    write_directory_sidecars,
    write_file_sidecar,
    write_future,
)
from seamless_dask.errors import SeamlessError
from seamless_dask.model.transformation import Value

from ..console import CommandError, Console

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hashserver.checksum import Checksum
    from seamless_dask.config import Config
    from seamless_dask.context import Context
    from seamless_dask.jobs.request_log import LoggedRequest
    from seamless_dask.model.options import Options
    from seamless_dask.model.transformation import Description

LOCK = "deliveries.lock"


@contextmanager
def alone(context: Context, path: str) -> Iterator[None]:
    """Look at or change `path` and its sidecar while no other command of this cache does.

    Between the two steps of a delivery the one does not fit the other. The lock is a byte of one file: it
    goes with the process, and leaves nothing behind. Where locks do not work nobody is kept waiting.
    """
    import fcntl

    from hashserver.checksum import hash_bytes

    place = int(hash_bytes(os.fsencode(os.path.abspath(path)))[:15], 16)
    with ExitStack() as stack:
        with suppress(OSError):
            fd = os.open(os.path.join(context.cache, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, fd)
            fcntl.lockf(fd, fcntl.LOCK_EX, 1, place)
        yield


def announce(
    context: Context, results: Sequence[tuple[str, str | None]], key: Checksum, options: Options
) -> list[str]:
    """Write down what is asked for, and then futures.

    Parameters
    ----------
    context : Context
        Where it is computed.
    results : sequence of (path, name)
        Where each result is to be delivered, and its name in the transformation (None: standard output).
    key : Checksum
        The transformation, which the store has.
    options : Options
        How it is to be run, also when the job is gone by the time that somebody finds a future.

    Returns
    -------
    list of str
        The directories that were made for them, the innermost first.
    """
    made: list[str] = []
    server = _server(context)
    if results:
        from seamless_dask.jobs import request_log

        request_log.note(context.cache, key, server, options)
    future = Future(key, None, server, os.uname().nodename, os.getpid())
    for path, name in results:
        made = _make_folders(os.path.dirname(path)) + made
        write_future(path, future._replace(result=name))
    return made


def _make_folders(folder: str) -> list[str]:
    """Make a directory and those above it; return what was not there, the innermost first."""
    made = []
    while folder and not os.path.isdir(folder):
        made.append(folder)
        folder = os.path.dirname(folder)
    for missing in reversed(made):
        os.makedirs(missing, exist_ok=True)
    return made


def _server(context: Context) -> str | None:
    """Return the service that runs what is computed in `context`; None: this host does."""
    return context.config.daskserver or context.config.hashserver


def withdraw(
    cache: str, paths: Iterable[str], key: Checksum, folders: Iterable[str] = (), *, own: bool = False
) -> None:
    """Remove the futures of `key`, but not those that another job has written since.

    With them go `folders`, which were made for them, unless something else is in there by now, and what was
    written down of those who have asked; with `own` only of this process.
    """
    from seamless_dask.jobs import request_log

    request_log.forget(cache, key, own=own)
    for path in paths:
        remove_future(path, key)
    for folder in folders:
        with suppress(OSError):
            os.rmdir(folder)


def settle_future(context: Context, path: str, console: Console | None = None) -> None:
    """Put the result of its job in the place of the future of `path`; nothing is done without one.

    A local copy of an older result is replaced. The job is found by a look-up; one that is under way is
    waited for, where it is; one that ended without a result is run again, as this user had asked for it.

    Raises
    ------
    CommandError
        What is at `path` is the user's own: its bytes are not those of its sidecar. Or nobody here has asked
        for the job.
    ComputationFailed
        The job failed.
    """
    future = read_future(path)
    if future is None:
        return
    value = result_of(context, future, console or Console())
    from seamless_dask.jobs import request_log

    with alone(context, path):
        _replace_local_copy(context, path, value)
        write_sidecar_of(context, path, value)
        remove_future(path, future.key)
    request_log.forget(context.config.cache, future.key)


def _replace_local_copy(context: Context, path: str, value: Value) -> None:
    from hashserver.workspace.tree import directory_state

    from .deliver import deliver_directory, deliver_file

    if value.format == "directory":
        if directory_state(path) == "present":
            deliver_directory(context, value.checksum, path, Console())
    elif os.path.lexists(path):
        deliver_file(context, value.checksum, path)


def result_of(context: Context, future: Future, console: Console) -> Value:
    """Return what a future stands for: known, under way where that may be, or to be made as it was asked for.

    What comes from another server is brought over.
    """
    found = known_result(context, future)
    if found is not None:
        return found
    from seamless_dask.jobs import request_log

    request = request_log.find(context.config.cache, future.key)
    with other_context(context, request) as there:
        if request is not None and there is not None and _is_the_place(there, context, future.key, request):
            where = request.server or request.host
            console.detail(f"{future.key} is asked for at {where}, where it was submitted")
            value = _run(there, future, request, console)
            _bring(context, there, value)
            return value
    require_asker(context, future, request)
    return _run(context, future, request, console)


def known_result(context: Context, future: Future) -> Value | None:
    """Return what a future stands for, if it is on record."""
    known = context.database.lookup(future.key)
    return None if known is None else pick(context, future, Value(known[1].format, known[1].checksum))


def require_asker(context: Context, future: Future, request: LoggedRequest | None) -> None:
    """Raise unless this user has asked for the job of a future, here or of a server that settings name."""
    from seamless_dask.executors.opening import executor
    from seamless_dask.jobs.info import UNDER_WAY

    if request is not None:
        return
    with closing(executor(context)) as opened:
        if opened.state(future.key) in UNDER_WAY:
            return
    where = _server(context) or "this host"
    raise CommandError(
        f"job {future.key} is neither on record nor under way at {where}, and was not asked for from here"
        f" (its .FUTURE comes from {future.host}): run the command that makes it, or delete the .FUTURE"
    )


def _run(context: Context, future: Future, request: LoggedRequest | None, console: Console) -> Value:
    """Have a job run, or wait for it, and return the result that a future stands for."""
    from seamless_dask.jobs.request import JobRequest
    from seamless_dask.model.options import Options

    from ..opening import open_executor

    options = Options(isolation=context.config.isolation) if request is None else request.options
    with open_executor(context, console) as own, console.spinner(options.label or "job") as spinner:
        return pick(context, future, own.run(JobRequest(future.key, options), tick=spinner.state))


def is_elsewhere(context: Context, key: Checksum, request: LoggedRequest | None) -> bool:
    """Say whether a job is none that can be waited for where `context` computes."""
    with other_context(context, request) as there:
        return request is not None and there is not None and _is_the_place(there, context, key, request)


def _is_the_place(there: Context, context: Context, key: Checksum, request: LoggedRequest) -> bool:
    """Say whether a job is to be asked for where it was submitted: it is known there, or only there."""
    from seamless_dask.executors.opening import executor
    from seamless_dask.jobs.info import UNDER_WAY

    try:
        if there.database.lookup(key) is not None:
            return True
        with closing(executor(there)) as opened:
            return opened.state(key) in UNDER_WAY or context.store.has([key])[0] < 0
    except (SeamlessError, HashserverError, OSError) as error:
        if context.store.has([key])[0] >= 0:
            return False
        where = request.server or request.host
        raise CommandError(
            f"a result of job {key} is made at {where}, which does not answer: {error}"
        ) from None


def _bring(context: Context, there: Context, value: Value) -> None:
    """Copy the bytes of a value from another server, as far as they are there."""
    from seamless_dask.model.values import missing

    tried: set[Checksum] = set()
    while gone := set(missing(context.store, [value])) - tried:
        tried |= gone
        for checksum in gone:
            with suppress(BufferMissing):
                context.store.put_stream(there.store.read(checksum), checksum)


@contextmanager
def other_context(context: Context, request: LoggedRequest | None) -> Iterator[Context | None]:
    """Offer the context of the service that this user has asked; None: that of `context`, or unknown."""
    config = None if request is None else _other_config(context, request)
    if config is None:
        yield None
        return
    from seamless_dask.context import Context

    with Context(config) as there:
        yield there


def _other_config(context: Context, request: LoggedRequest) -> Config | None:
    from seamless_dask.config import embedded, load
    from seamless_dask.protocol.discovery import with_places

    server, own = request.server, context.config
    if server == _server(context):
        return None
    if server is None:
        return embedded(own) if request.host == os.uname().nodename else None
    if server.startswith("http"):  # it only kept results: whoever asked ran the job itself
        return None
    try:
        return with_places(load({"daskserver": server}))
    except (SeamlessError, HashserverError, OSError):
        return None


def pick(context: Context, future: Future, value: Value) -> Value:
    """Return the result that `future` stands for, out of what its transformation gave."""
    from seamless_dask.model.values import select

    spec = stored_transformation(context, future.key).result
    return select(spec, value, future.result, context.store.get, context.store.put)


def stored_transformation(context: Context, key: Checksum) -> Description:
    """Return the transformation whose document the store has under `key`."""
    from seamless_dask.model.transformation import parse

    return parse(context.store.get(key))


def write_sidecar_of(context: Context, path: str, value: Value) -> None:
    """Write the sidecar that says what `path` is."""
    if value.format != "directory":
        parent = os.path.dirname(path)
        if parent:
            os.makedirs(parent, exist_ok=True)
        write_file_sidecar(path, value.checksum)
        return
    try:
        write_directory_sidecars(path, value.checksum, context.store.get(value.checksum))
    except BufferMissing:  # scratch: the index is not kept either
        os.makedirs(path, exist_ok=True)
        write_atomic(os.path.join(path, ".CHECKSUM"), f"{value.checksum}\n".encode())
