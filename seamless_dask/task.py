"""The one function that every Dask task calls.

Its arguments are strings, so that nothing of the user's is unpickled on the way. What it needs besides, it
has from the process it runs in, which was told by `equip`.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from hashserver.checksum import Checksum
from hashserver.errors import AuthenticationFailed, BufferCorrupt, BufferMissing, ReadOnly, ServiceUnavailable

from . import records
from .errors import ComputationFailed, SeamlessError, WorkerLost
from .options import Options
from .transformation import Description, Value, parse
from .values import select

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .context import Context
    from .supervisor import Supervisor

FIRST_PAUSE = 0.2
"""Seconds before what failed by the system's fault is tried again; doubled each time."""


class Worker(Protocol):
    """The process that tasks run in."""

    context: Context

    def must_run(self, key: Checksum) -> bool:
        """Whether a result on record is not enough for this key."""
        ...

    def share(self, checksum: Checksum, key: Checksum, action: Callable[[Supervisor], Value]) -> Value:
        """Call `action`, or wait for another process that runs the same transformation.

        Parameters
        ----------
        checksum
            Of the transformation.
        key
            Under which it was asked for; the same if it was not deferred.
        """
        ...


_equipment: list[Worker] = []


def equip(worker: Worker | None) -> None:
    """Say what this process offers to tasks; None takes it back."""
    _equipment[:] = [] if worker is None else [worker]


def equipment() -> Worker:
    """Return what `equip` was told."""
    if not _equipment:
        raise SeamlessError("this process is not equipped to run transformations")
    return _equipment[0]


def run(
    key: str, options: str = "{}", upstream: tuple[str, ...] = (), *values: tuple[str, str]
) -> tuple[str, str]:
    """Run a transformation, unless its result is known once its references are resolved.

    Parameters
    ----------
    key : str
        Under which the transformation's document is stored.
    options : str
        `Options` as JSON.
    upstream : tuple of str
        Keys of the transformations it refers to.
    *values : tuple of str and str
        Format and checksum of the result of each of them.

    Returns
    -------
    tuple of str and str
        Format and checksum of the result.
    """
    worker = equipment()
    known = {
        Checksum(name): Value(value[0], Checksum(value[1]))
        for name, value in zip(upstream, values, strict=True)
    }
    name = Checksum(key)
    checksum, transformation = resolve(worker, name, known)
    value = perform(worker, name, checksum, transformation, Options.from_json(options))
    return value.format, value.checksum


def load(context: Context, key: Checksum) -> Description:
    """Return the transformation that is stored under a key."""
    try:
        return parse(context.store.get(key))
    except BufferMissing:
        raise BufferMissing(key, f"transformation {key} is not in the store: submit it again") from None


def resolve(
    worker: Worker, key: Checksum, upstream: Mapping[Checksum, Value]
) -> tuple[Checksum, Description]:
    """Put the results of others in the place of references, and record that.

    Returns
    -------
    Checksum and Description
        Without references any more; the document is stored.
    """
    from .fingertip import fetch

    context, document = worker.context, load(worker.context, key)
    if not document.deferred:
        return key, document
    known = {
        reference: select(
            load(context, reference.of).result,
            upstream[reference.of],
            reference.path,
            lambda checksum: fetch(worker, checksum),
            context.store.put,
        )
        for reference in document.references
    }
    resolved = document.resolve(known)
    checksum = context.store.put(resolved.canonical())
    used = {reference.of: upstream[reference.of] for reference in known}
    context.database.put_deferred(key, checksum, [(name, *value) for name, value in used.items()])
    return checksum, resolved


def perform(
    worker: Worker, key: Checksum, checksum: Checksum, transformation: Description, options: Options
) -> Value:
    """Return the result of a transformation, from the database or by running it."""
    fresh = worker.must_run(key)
    if not fresh and (value := known_result(worker, checksum)):
        return value

    def action(supervisor: Supervisor) -> Value:
        if not fresh and (value := known_result(worker, checksum)):
            return value  # another process has run it while we waited for the lock
        return execute(worker, checksum, transformation, options, supervisor)

    return worker.share(checksum, key, action)


def known_result(worker: Worker, checksum: Checksum) -> Value | None:
    """Return what the database knows."""
    found = worker.context.database.get(checksum)
    return None if found is None else Value(found.format, found.checksum)


def execute(
    worker: Worker,
    checksum: Checksum,
    transformation: Description,
    options: Options,
    supervisor: Supervisor,
) -> Value:
    """Run a transformation and record what comes of it, a result or a failure."""
    database = worker.context.database
    try:
        outcome = _patiently(worker, checksum, transformation, options, supervisor)
    except ComputationFailed as error:
        database.put_failure(checksum, records.failure(error, options))
        raise
    record = records.complete(outcome.record, options)
    database.put(checksum, outcome.value.format, outcome.value.checksum, record, outcome.members)
    return outcome.value


def _patiently(
    worker: Worker,
    checksum: Checksum,
    transformation: Description,
    options: Options,
    supervisor: Supervisor,
) -> records.Outcome:
    """Try again what fails by the system's fault; make again what inputs have lost."""
    from .execution import run_bash
    from .fingertip import ensure, needs, remake

    if options.isolation == "auto":
        options = options._replace(isolation=worker.context.config.isolation)
    pause, losses, remade = FIRST_PAUSE, [], set[str]()
    while True:
        ensure(worker, needs(transformation))
        try:
            return run_bash(transformation, worker.context, options, supervisor)
        except (BufferMissing, BufferCorrupt) as error:
            if error.checksum in remade:
                raise
            remade.add(error.checksum)
            if isinstance(error, BufferCorrupt):
                with suppress(BufferMissing):  # who read it may have put it aside already
                    worker.context.store.verify(Checksum(error.checksum))
            remake(worker, Checksum(error.checksum))
        except (AuthenticationFailed, ReadOnly):
            raise
        except (ServiceUnavailable, OSError) as error:
            losses.append(str(error))
            if len(losses) > options.retries:
                raise WorkerLost(f"{checksum} was given up after {_told(losses)}") from error
            time.sleep(pause)
            pause *= 2


def _told(losses: list[str]) -> str:
    """Say how often it was tried, where, and how it ended; what happened several times is told once."""
    numbers = {how: losses.count(how) for how in losses}
    ends = [how if number == 1 else f"{how} ({number} times)" for how, number in numbers.items()]
    attempts = "one attempt" if len(losses) == 1 else f"{len(losses)} attempts"
    return f"{attempts} on {os.uname().nodename}: {'; '.join(ends)}"
