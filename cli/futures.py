"""``.FUTURE`` sidecars: what stands for a result while its job runs, and what becomes of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hashserver.sidecar import (
    Future,
    read_future,
    remove_future,
    write_directory_sidecars,
    write_file_sidecar,
    write_future,
)

from .console import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hashserver.checksum import Checksum
    from seamless_dask.context import Context
    from seamless_dask.transformation import Transformation, Value


def announce(results: Iterable[tuple[str, str | None]], key: Checksum, server: str | None) -> list[str]:
    """Write futures.

    Parameters
    ----------
    results : iterable of (path, name)
        Where each result is to be delivered, and its name in the transformation (None: standard output).
    key : Checksum
        The transformation, which the store has.
    server : str or None
        The service that runs it.

    Returns
    -------
    list of str
        The paths that a future stands for now.
    """
    written = []
    for path, name in results:
        parent = os.path.dirname(path)
        if parent:
            os.makedirs(parent, exist_ok=True)
        write_future(path, Future(key, name, server, os.uname().nodename, os.getpid()))
        written.append(path)
    return written


def withdraw(paths: Iterable[str], key: Checksum) -> None:
    """Remove the futures of `key`; those that another job has written since stay."""
    for path in paths:
        remove_future(path, key)


def settle_future(context: Context, path: str) -> None:
    """Turn the future of `path` into a sidecar if its job is done.

    Raises
    ------
    CommandError
        The job is running, or it ended without a result.
    """
    future = read_future(path)
    if future is None:
        return
    known = context.database.lookup(future.key)
    if known is None:
        raise CommandError(_pending_text(context, path, future))
    from seamless_dask.transformation import Value

    result = known[1]
    value = pick(context, future, Value(result.format, result.checksum))
    write_sidecar_of(context, path, value)
    remove_future(path, future.key)


def pick(context: Context, future: Future, value: Value) -> Value:
    """Return the result that `future` stands for, out of what its transformation gave."""
    from seamless_dask.values import select

    spec = stored_transformation(context, future.key).result
    return select(spec, value, future.result, context.store.get, context.store.put)


def stored_transformation(context: Context, key: Checksum) -> Transformation:
    """Return the transformation whose document the store has under `key`."""
    from seamless_dask.transformation import parse

    return parse(context.store.get(key))


def write_sidecar_of(context: Context, path: str, value: Value) -> None:
    """Write the sidecar that says what `path` is."""
    if value.format == "directory":
        write_directory_sidecars(path, value.checksum, context.store.get(value.checksum))
    else:
        parent = os.path.dirname(path)
        if parent:
            os.makedirs(parent, exist_ok=True)
        write_file_sidecar(path, value.checksum)


def _pending_text(context: Context, path: str, future: Future) -> str:
    from seamless_dask.jobdir import JobDirectory

    if JobDirectory(context.config.cache, future.key).running():
        return f"{path} is still being computed (on {future.host}): try again when its job is done"
    return (
        f"the job that was to make {path} ended without a result:"
        f" seamless-run-transformation {future.key} runs it again and shows why"
    )
