"""Running a transformation where tasks run: resolved, found or executed, recorded; lost inputs made again.

A result on record names bytes; it does not say that they are still there. They may never have been kept
(scratch), or have been evicted or quarantined since. Whoever needs them has the producer run again, to any
depth.
"""

from __future__ import annotations

import errno
import os
import shlex
import threading
import time
from contextlib import suppress
from graphlib import TopologicalSorter
from math import inf
from typing import TYPE_CHECKING, TypeVar

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
from hashserver.results.runs import provenance_of_document
from hashserver.retry import pauses

from ..errors import ArgumentNotKept, ComputationFailed, NoRoomThere, WorkerLost
from ..model import records
from ..model.options import Options
from ..model.records import environment_of
from ..model.transformation import Description, Value, parse
from ..model.values import missing, select
from .arguments import check_kept, with_handed
from .current_worker import is_about
from .names import LABEL, label_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..context import Context
    from ..execution.supervisor import Supervisor
    from .current_worker import Worker

FIRST_PAUSE = 0.2
"""Seconds before what failed by the system's fault is tried again; doubled each time."""
RECORDING = 8
"""How often it is tried again to record a result: the work has been done, and is worth a wait of a minute."""

T = TypeVar("T")

_threads = threading.local()


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
) -> tuple[Checksum, Description, tuple[str, ...]]:
    """Put the results of others in the place of references, and record that.

    A task whose result was known when its graph was made has come without what it needs. Where it is to run
    all the same (`Client.retry`, after its result was contested), what is not known of that is computed here.

    Returns
    -------
    Checksum and Description
        Without references any more; the document is stored.
    tuple of str
        Inputs of a function that no database of ours has named.
    """
    context, document = worker.context, load(worker.context, key)
    if not document.deferred:
        return key, document, ()
    upstream = {
        of: upstream[of] if of in upstream else compute(worker, of, options.of_upstream(of))
        for of in document.upstream
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
    foreign = _foreign(context, document, upstream)
    context.database.put_deferred(key, checksum, [(name, *value) for name, value in upstream.items()])
    return checksum, resolved, foreign


def _foreign(context: Context, document: Description, upstream: Mapping[Checksum, Value]) -> tuple[str, ...]:
    """Return the inputs of a function whose values are not results that a database of ours names."""
    if document.language == "bash":  # which loads nothing
        return ()
    found = context.database.lookup_many(list(upstream))
    ours = {
        of
        for of, (_, result) in found.items()
        if result.source is None and Value(result.format, result.checksum) == upstream[of]
    }
    deferred = ((name, value) for name, value in document.inputs.items() if not isinstance(value, Value))
    return tuple(name for name, value in deferred if value.of not in ours)


def run_step(worker: Worker, key: Checksum, upstream: Mapping[Checksum, Value], options: Options) -> Value:
    """Resolve a transformation and perform it; a failure is told with the name of the step.

    Parameters
    ----------
    upstream
        Results of those that it refers to; what is missing is computed here.
    """
    checksum, transformation, foreign = patiently(
        key, options.retries, lambda: resolve(worker, key, upstream, options)
    )
    options = options._replace(foreign=foreign)
    try:
        return perform(worker, key, checksum, transformation, options)
    except ComputationFailed as error:
        if worker.asked == key:
            raise
        raise in_step(worker.context, key, transformation, options.label, error) from None


def compute(worker: Worker, key: Checksum, options: Options) -> Value:
    """Compute what a transformation refers to, however deep, and then itself, as far as it is not known."""
    known, documents = unknown_below(worker.context, key, fresh=options.fresh)
    steps = TopologicalSorter({of: document.upstream for of, document in documents.items()})
    for of in steps.static_order():
        if of not in known:
            known[of] = run_step(worker, of, known, options if of == key else options.of_upstream(of))
    return known[key]


def unknown_below(
    context: Context, key: Checksum, *, fresh: bool
) -> tuple[dict[Checksum, Value], dict[Checksum, Description]]:
    """Look up a transformation and, layer by layer, what those refer to that are not known.

    Parameters
    ----------
    fresh
        `key` itself counts as unknown.

    Returns
    -------
    The results that are known, and the documents of the others.
    """
    known: dict[Checksum, Value] = {}
    documents: dict[Checksum, Description] = {}
    layer = [key]
    while layer:
        found = context.database.lookup_many([name for name in layer if not fresh or name != key])
        known |= {name: Value(result.format, result.checksum) for name, (_, result) in found.items()}
        documents |= load_many(context, [name for name in layer if name not in known])
        upstream = {of: None for name in layer if name in documents for of in documents[name].upstream}
        layer = [name for name in upstream if name not in known and name not in documents]
    return known, documents


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
            lambda supervisor: execute(
                worker, checksum, transformation, options, supervisor, last=is_about(key)
            ),
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
    *,
    last: bool = False,
) -> Value:
    """Run a transformation and record what comes of it, a result or a failure.

    Parameters
    ----------
    last
        Whether this thread has nothing to do after that.
    """
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
    provenance = provenance_of_document(transformation.document(), options.label)
    patiently(
        checksum,
        max(options.retries, RECORDING),
        lambda: worker.record(checksum, outcome._replace(record=record), provenance, last=last),
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
    from ..execution import run

    if options.isolation == "auto":
        options = options._replace(isolation=worker.context.config.isolation)
    if not worker.runs_here:
        options = options._replace(run="process")
    remade: set[str] = set()
    context = with_handed(worker.context, [options.handed, *supervisor.handed()])
    while True:
        try:
            return patiently(
                checksum,
                options.retries,
                lambda: _with_room(lambda: run(transformation, context, options, supervisor)),
            )
        except (BufferMissing, BufferCorrupt) as error:
            if error.checksum in remade:
                raise
            check_kept(worker.context, checksum, transformation, options, Checksum(error.checksum))
            remade.add(error.checksum)
            if isinstance(error, BufferCorrupt):
                with suppress(BufferMissing):  # who read it may have put it aside already
                    worker.context.store.verify(Checksum(error.checksum))
            remake(worker, Checksum(error.checksum))
            ensure(worker, needs(transformation))


def needs(transformation: Description) -> list[Value]:
    """Return all values whose bytes a run needs, the code among them."""
    return [Value("text", transformation.code), *transformation.values]


def ensure(worker: Worker, values: Sequence[Value]) -> None:
    """Make again what of some values is gone (in a process that runs tasks)."""
    tried: set[Checksum] = set()
    while gone := [checksum for checksum in missing(worker.context.store, values) if checksum not in tried]:
        tried.add(gone[0])
        remake(worker, gone[0])


def fetch(worker: Worker, checksum: Checksum) -> bytes:
    """Return the bytes of a checksum, made again if need be (in a process that runs tasks)."""
    try:
        return worker.context.store.get(checksum)
    except (BufferMissing, BufferCorrupt):
        remake(worker, checksum)
        return worker.context.store.get(checksum)


def remake(worker: Worker, checksum: Checksum) -> None:
    """Run a producer of a checksum again (in a process that runs tasks)."""

    def there(producer: Checksum) -> Value | None:
        return known_result(worker, producer) if worker.context.store.has([checksum])[0] >= 0 else None

    def again(producer: Checksum, options: Options) -> None:
        transformation = load(worker.context, producer)
        worker.share(
            producer,
            producer,
            lambda supervisor: execute(worker, producer, transformation, options, supervisor),
            lambda: there(producer),
            options,
        )

    remake_by(worker.context, checksum, again)


def remake_by(context: Context, checksum: Checksum, again: Callable[[Checksum, Options], None]) -> None:
    """Have a producer of a checksum run again, by a function that does so.

    Raises
    ------
    BufferMissing
        When they are gone and no computation is known that made them.
    """
    in_progress: list[str] = _threads.__dict__.setdefault("in_progress", [])
    if checksum in in_progress:
        raise BufferMissing(checksum, f"buffer {checksum} is gone, and needs itself to be made again")
    producers = context.database.producers(checksum)
    unknown = []
    images: dict[Checksum, str] = {}
    not_kept: ArgumentNotKept | None = None
    in_progress.append(checksum)
    try:
        for producer in producers:
            if context.store.has([producer])[0] < 0:
                unknown.append(producer)
                continue
            options = _as_it_was(context, producer)
            if options.image is not None and not context.alone_writes:
                images[producer] = options.image
                continue
            try:
                _again(checksum, producer, options, again)
            except ArgumentNotKept as error:
                not_kept = error
            if context.store.has([checksum])[0] >= 0:
                return
    finally:
        in_progress.pop()
    if not_kept is not None:
        raise ArgumentNotKept(checksum, f"buffer {checksum} is gone, and cannot be made again: {not_kept}")
    with suppress(BufferMissing):
        context.store.read(checksum)  # `OriginalChanged`, where that is why it is gone
    raise _gone(checksum, producers, unknown, images)


def _again(
    checksum: Checksum, producer: Checksum, options: Options, again: Callable[[Checksum, Options], None]
) -> None:
    try:
        again(producer, options)
    except ComputationFailed as error:
        message = (
            f"buffer {checksum} is gone, and transformation {producer}, which made it, failed now: {error}"
        )
        raise ComputationFailed(message, error.exit_status, error.stderr, error.exception) from error


def _as_it_was(context: Context, producer: Checksum) -> Options:
    """Return how a result is to be made again.

    A record was written by whoever may write to its database. It names the environment, but does not lead out
    of the sandbox; from a database that is not ours not even the environment is taken. An image does lead
    out: the network is there, and its programs run. It counts where nobody else can have named it.
    """
    known = context.database.get(producer)
    if known is None or known.source is not None:
        return Options()
    environment = environment_of(known.record)
    return records.beside_of(known.record)._replace(
        prologue=tuple(environment.get("prologue", ())),
        modules=tuple(environment.get("modules", ())),
        conda=environment.get("conda"),
        image=environment.get("image"),
    )


def _gone(
    checksum: Checksum,
    producers: Sequence[Checksum],
    unknown: Sequence[Checksum],
    images: Mapping[Checksum, str],
) -> BufferMissing:
    message = f"buffer {checksum} is in none of the stores, and "
    if not producers:
        message += "no transformation is known that made it: upload it again"
    elif images:
        producer, image = next(iter(images.items()))
        message += (
            f"a record that others may have written says that transformation {producer} made it in the image"
            f" {image}: its command with --same-environment --image {shlex.quote(image)} makes it again"
        )
    elif unknown:
        message += f"the transformation that made it is gone too: {unknown[0]}"
    else:
        message += f"transformation {producers[0]} did not bring it back"
    return BufferMissing(checksum, message)


def in_step(
    context: Context, key: Checksum, transformation: Description, named: str | None, error: ComputationFailed
) -> ComputationFailed:
    """Return the error with the name of the step that failed, as the user or its code calls it."""
    label = named or LABEL
    with suppress(HashserverError):
        label = named or label_of(context.store.get(transformation.code).decode("utf-8", "surrogateescape"))
    told = type(error)(f"{label} ({key[:8]}): {error}", error.exit_status, error.stderr, error.exception)
    told.record = error.record
    return told


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
    waits = pauses(FIRST_PAUSE, inf, times=retries + 1)
    losses: list[str] = []
    while True:
        try:
            return action()
        except (AuthenticationFailed, ReadOnly):
            raise
        except (ServiceUnavailable, OSError) as error:
            losses.append(str(error))
            if not (pause := next(waits)):
                raise WorkerLost(f"{checksum} was given up after {_told(losses)}") from error
            time.sleep(pause)


def _told(losses: list[str]) -> str:
    """Say how often it was tried, where, and how it ended; what happened several times is told once."""
    numbers = {how: losses.count(how) for how in losses}
    ends = [how if number == 1 else f"{how} ({number} times)" for how, number in numbers.items()]
    attempts = "one attempt" if len(losses) == 1 else f"{len(losses)} attempts"
    return f"{attempts} on {os.uname().nodename}: {'; '.join(ends)}"
