"""The one function that every Dask task calls.

Its arguments are texts and handles, so that nothing of the user's is unpickled on the way. What it needs
besides, it has from the process it runs in: a worker of Dask that our plugin equipped, or one that was told
by `equip`. In any other process the computation is asked for as the command line does.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hashserver.checksum import Checksum
from hashserver.errors import (
    AuthenticationFailed,
    BufferCorrupt,
    BufferMissing,
    HashserverError,
    NoSpace,
    ReadOnly,
    ServiceUnavailable,
)

from . import records
from .errors import ComputationFailed, NoRoomThere, SeamlessError, WorkerLost
from .handles import of as handle_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..context import Context
    from ..execution.supervisor import Supervisor
    from .handles import Handle

PROTOCOL = 1
"""Number of the arguments of `run` and `restore`; raised whenever their meaning changes."""

FIRST_PAUSE = 0.2
"""Seconds before what failed by the system's fault is tried again; doubled each time."""
RECORDING = 8
"""How often it is tried again to record a result: the work has been done, and is worth a wait of a minute."""

T = TypeVar("T")


class Worker(Protocol):
    """The process that tasks run in.

    Attributes
    ----------
    context : Context
        Store and database.
    asked : Checksum or None
        The one key that its askers have named: a failure of another one is told with the name of the step.
    """

    context: Context
    asked: Checksum | None

    def share(
        self,
        checksum: Checksum,
        key: Checksum,
        action: Callable[[Supervisor], Value],
        known: Callable[[], Value | None],
        options: Options,
    ) -> Value:
        """Call `action`, or wait for another process that runs the same transformation.

        Parameters
        ----------
        checksum
            Of the transformation.
        key
            Under which it was asked for; the same if it was not deferred.
        known
            Tells, after a wait, whether nothing is left to do.
        options
            How it was asked for.
        """
        ...

    def is_unknown(self, checksum: Checksum) -> bool:
        """Say whether it was looked up a moment ago, in vain."""
        ...

    def excuse(self, error: ComputationFailed) -> None:
        """Raise something else if a failure was not the command's own doing and is not to be told."""
        ...

    def tell(self, value: Value, hit: bool) -> None:
        """Let others know what a task gave, and whether it was found instead of computed."""
        ...


EXTENSION = "seamless"
"""Name of the `Worker` among the extensions of a Dask worker."""

_equipment: list[Worker] = []


def equip(worker: Worker | None) -> None:
    """Say what this process offers to tasks; None takes it back."""
    _equipment[:] = [] if worker is None else [worker]


def equipped() -> Worker | None:
    """Return what this thread's Dask worker, or else this process, offers to tasks."""
    worker = dask_worker()
    if worker is not None:
        found: Worker | None = worker.extensions.get(EXTENSION)
        return found
    return _equipment[0] if _equipment else None


def dask_worker() -> Any:
    """Return the Dask worker whose task runs in this thread; several of them may live in one process."""
    module = sys.modules.get("distributed.worker")
    if module is not None:
        # another thread may be importing it at the moment: then this one runs no task
        with suppress(ValueError, AttributeError):
            return module.get_worker()
    return None


def run(
    protocol: int, key: str, options: str = "{}", upstream: tuple[str, ...] = (), *handles: Handle
) -> Handle:
    """Run a transformation, unless its result is known once its references are resolved.

    Parameters
    ----------
    protocol : int
        `PROTOCOL` of whoever made the graph.
    key : str
        Under which the transformation's document is stored.
    options : str
        `Options` as JSON.
    upstream : tuple of str
        Keys of the transformations it refers to; without those whose results are to be found out here.
    *handles : Handle
        The result of each of them.

    Returns
    -------
    Handle
        The result.
    """
    check_protocol(protocol)
    worker, name, wishes = equipped(), Checksum(key), Options.from_json(options)
    if worker is None:
        return _elsewhere(name, wishes)
    known = {Checksum(of): handle.value for of, handle in zip(upstream, handles, strict=True)}
    checksum, transformation = patiently(name, wishes.retries, lambda: resolve(worker, name, known, wishes))
    try:
        value = perform(worker, name, checksum, transformation, wishes)
    except ComputationFailed as error:
        if worker.asked == name:
            raise
        raise _step(worker.context, name, transformation, wishes.label, error) from None
    return handle_of(*value)


def restore(protocol: int, format: str, checksum: str) -> Handle:  # noqa: A002 - the field's word
    """See to it that the bytes of a value are in the store, made again if need be; parameters as `run`."""
    from .fingertip import ensure, fingertip_value
    from .handles import contexts_of_process

    check_protocol(protocol)
    worker, value = equipped(), Value(format, Checksum(checksum))
    if worker is None:
        fingertip_value(contexts_of_process()[0], value)
    else:
        patiently(value.checksum, Options().retries, lambda: ensure(worker, [value]))
    return handle_of(format, checksum)


def check_protocol(protocol: object, here: str = "worker") -> None:
    """Raise `SeamlessError` for a graph that another version made; `here` is who has been given it."""
    if protocol != PROTOCOL:
        number = protocol if isinstance(protocol, int) else 0
        raise SeamlessError(
            f"the client speaks protocol {number} of seamless-dask, this {here} {PROTOCOL}:"
            " install the same version on both"
        )


def _elsewhere(key: Checksum, options: Options) -> Handle:
    """Ask for a computation as `seamless-run` does, in a process that is no worker of ours."""
    from ..executors.opening import Embedded, executor
    from .handles import contexts_of_process

    asking = dask_worker()
    if asking is not None and asking.status.name in ("closing", "closed", "failed"):
        from distributed import Reschedule

        raise Reschedule  # what is started now would outlive whoever may stop it
    contexts = contexts_of_process()
    holders = (context for context in contexts[:-1] if context.store.has([key])[0] >= 0)
    context = next(holders, contexts[-1])
    known = None if options.fresh else context.database.lookup(key)
    if known is not None:
        return handle_of(known[1].format, known[1].checksum)
    # a worker of Dask's must not ask the scheduler that waits for it
    runs = executor(context) if asking is None else Embedded(context)
    try:
        return handle_of(*runs.run(key, options, fresh=options.fresh))
    except ComputationFailed as error:
        if _names_step(str(error)):
            raise
        raise _step(context, key, load(context, key), options.label, error) from None
    finally:
        runs.close()


def load(context: Context, key: Checksum) -> Description:
    """Return the transformation that is stored under a key."""
    try:
        return parse(context.store.get(key))
    except BufferMissing:
        raise BufferMissing(key, f"transformation {key} is not in the store: submit it again") from None


def load_many(context: Context, keys: Sequence[Checksum]) -> dict[Checksum, Description]:
    """Return the transformations that are stored under some keys, asked for in one go."""
    if len(keys) < 2:
        return {key: load(context, key) for key in keys}
    try:
        return {key: parse(data) for key, data in context.store.get_many(keys)}
    except BufferMissing as error:
        return {Checksum(error.checksum): load(context, Checksum(error.checksum))}  # which says what to do


def resolve(
    worker: Worker, key: Checksum, upstream: Mapping[Checksum, Value], options: Options
) -> tuple[Checksum, Description]:
    """Put the results of others in the place of references, and record that.

    A task whose result was known when its graph was made has come without what it needs. Where it is to run
    all the same (`Client.retry`, after its result was contested), what is not known of that is computed here.

    Returns
    -------
    Checksum and Description
        Without references any more; the document is stored.
    """
    from .fingertip import fetch

    context, document = worker.context, load(worker.context, key)
    if not document.deferred:
        return key, document
    upstream = {
        of: upstream[of] if of in upstream else _computed_here(worker, of, options)
        for of in dict.fromkeys(reference.of for reference in document.references)
    }
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
    context.database.put_deferred(key, checksum, [(name, *value) for name, value in upstream.items()])
    return checksum, resolved


def _computed_here(worker: Worker, key: Checksum, options: Options) -> Value:
    from .collection import compute

    return compute(worker.context, key, options.of_upstream(key))


def perform(
    worker: Worker, key: Checksum, checksum: Checksum, transformation: Description, options: Options
) -> Value:
    """Return the result of a transformation, from the database or by running it."""

    def known() -> Value | None:
        return None if options.fresh else known_result(worker, checksum)

    value = None if worker.is_unknown(checksum) else patiently(checksum, options.retries, known)
    hit = value is not None
    if value is None:
        value = worker.share(
            checksum,
            key,
            lambda supervisor: execute(worker, checksum, transformation, options, supervisor),
            known,
            options,
        )
    worker.tell(value, hit)
    return value


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
    context = worker.context
    try:
        outcome = _computed(worker, checksum, transformation, options, supervisor)
    except ComputationFailed as error:
        worker.excuse(error)
        failure = records.failure(error, options)
        with suppress(WorkerLost):  # that it failed must be told all the same
            patiently(checksum, options.retries, lambda: context.database.put_failure(checksum, failure))
        raise
    record, value = records.complete(outcome.record, options), outcome.value
    patiently(
        checksum,
        max(options.retries, RECORDING),
        lambda: context.record(checksum, value, record, outcome.members, outcome.buffers),
    )
    return value


def _computed(
    worker: Worker,
    checksum: Checksum,
    transformation: Description,
    options: Options,
    supervisor: Supervisor,
) -> records.Outcome:
    """Run a transformation; make again what its inputs have lost, which only the attempt shows."""
    from ..execution import run_bash
    from .fingertip import ensure, needs, remake

    if options.isolation == "auto":
        options = options._replace(isolation=worker.context.config.isolation)
    remade: set[str] = set()
    while True:
        try:
            return patiently(
                checksum,
                options.retries,
                lambda: _with_room(lambda: run_bash(transformation, worker.context, options, supervisor)),
            )
        except (BufferMissing, BufferCorrupt) as error:
            if error.checksum in remade:
                raise
            remade.add(error.checksum)
            if isinstance(error, BufferCorrupt):
                with suppress(BufferMissing):  # who read it may have put it aside already
                    worker.context.store.verify(Checksum(error.checksum))
            remake(worker, Checksum(error.checksum))
            ensure(worker, needs(transformation))


def _with_room(action: Callable[[], T]) -> T:
    """Do what needs room for temporary files; where there is none it is not tried again."""
    try:
        return action()
    except NoSpace as error:
        raise NoRoomThere(str(error)) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise NoRoomThere(str(error)) from error


def patiently(checksum: Checksum, retries: int, action: Callable[[], T]) -> T:
    """Try again what fails by the system's fault.

    Raises
    ------
    WorkerLost
        When it has failed more often than `retries`.
    """
    pause, losses = FIRST_PAUSE, []
    while True:
        try:
            return action()
        except (AuthenticationFailed, ReadOnly):
            raise
        except (ServiceUnavailable, OSError) as error:
            losses.append(str(error))
            if len(losses) > retries:
                raise WorkerLost(f"{checksum} was given up after {_told(losses)}") from error
            time.sleep(pause)
            pause *= 2


_names_step = re.compile(r"\S+ \([0-9a-f]{8}\): ").match
"""Tells whether a message begins as `_step` has it, because a step further up failed."""


def _step(
    context: Context, key: Checksum, transformation: Description, named: str | None, error: ComputationFailed
) -> ComputationFailed:
    """Return the error with the name of the step that failed, as the user or its code calls it."""
    from .collection import LABEL, label_of

    label = named or LABEL
    with suppress(HashserverError):
        label = named or label_of(context.store.get(transformation.code).decode("utf-8", "surrogateescape"))
    told = type(error)(f"{label} ({key[:8]}): {error}", error.exit_status, error.stderr)
    told.record = error.record
    return told


def _told(losses: list[str]) -> str:
    """Say how often it was tried, where, and how it ended; what happened several times is told once."""
    numbers = {how: losses.count(how) for how in losses}
    ends = [how if number == 1 else f"{how} ({number} times)" for how, number in numbers.items()]
    attempts = "one attempt" if len(losses) == 1 else f"{len(losses)} attempts"
    return f"{attempts} on {os.uname().nodename}: {'; '.join(ends)}"
