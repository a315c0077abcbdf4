"""Bytes that are gone are made again by the computations they came from, to any depth.

A result on record names bytes; it does not say that they are still there. They may never have been kept
(scratch), or have been evicted or quarantined since. Whoever needs them has the producer run again.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.errors import BufferCorrupt, BufferMissing

from ..errors import ComputationFailed
from ..model.options import Options
from ..model.records import environment_of
from ..model.transformation import Description, Value
from ..model.values import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hashserver.checksum import Checksum
    from hashserver.results.result import Result

    from ..context import Context
    from ..executors.opening import Executor
    from .task import Worker

_threads = threading.local()


def fingertip(
    context: Context,
    checksum: Checksum,
    executor: Executor | None = None,
    *,
    on_stderr: Callable[[bytes], None] | None = None,
    tick: Callable[[str], None] | None = None,
) -> None:
    """See to it that the bytes of a checksum are in the store, by running their producer if need be.

    Parameters
    ----------
    executor
        Runs it; that of `context` by default.
    on_stderr, tick
        As for `Executor.run`.

    Raises
    ------
    BufferMissing
        When they are gone and no computation is known that made them.
    Irreproducible
        When that computation gave other bytes this time.
    """
    if context.store.has([checksum])[0] >= 0:
        return
    from ..executors import opening

    runs = executor or opening.executor(context)

    def again(producer: Checksum, options: Options) -> None:
        runs.run(producer, options, need_bytes=True, fresh=True, on_stderr=on_stderr, tick=tick)

    try:
        _remake(context, checksum, again)
    finally:
        if executor is None:
            runs.close()


def fingertip_value(
    context: Context,
    value: Value,
    executor: Executor | None = None,
    *,
    on_stderr: Callable[[bytes], None] | None = None,
    tick: Callable[[str], None] | None = None,
) -> None:
    """See to it that all bytes of a value are there, those of a directory's files included."""
    tried: set[Checksum] = set()
    while gone := [checksum for checksum in missing(context.store, [value]) if checksum not in tried]:
        tried.add(gone[0])
        fingertip(context, gone[0], executor, on_stderr=on_stderr, tick=tick)


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
    from .task import execute, known_result, load

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

    _remake(worker.context, checksum, again)


def _remake(context: Context, checksum: Checksum, again: Callable[[Checksum, Options], None]) -> None:
    in_progress: list[str] = _threads.__dict__.setdefault("in_progress", [])
    if checksum in in_progress:
        raise BufferMissing(checksum, f"buffer {checksum} is gone, and needs itself to be made again")
    producers = context.database.producers(checksum)
    unknown = []
    in_progress.append(checksum)
    try:
        for producer in producers:
            if context.store.has([producer])[0] < 0:
                unknown.append(producer)
                continue
            _again(context, checksum, producer, again)
            if context.store.has([checksum])[0] >= 0:
                return
    finally:
        in_progress.pop()
    with suppress(BufferMissing):
        context.store.read(checksum)  # `OriginalChanged`, where that is why it is gone
    raise _gone(checksum, producers, unknown)


def _again(
    context: Context, checksum: Checksum, producer: Checksum, again: Callable[[Checksum, Options], None]
) -> None:
    known = context.database.get(producer)
    options = _as_it_was(known) if known else Options()
    try:
        again(producer, options)
    except ComputationFailed as error:
        message = (
            f"buffer {checksum} is gone, and transformation {producer}, which made it, failed now: {error}"
        )
        raise ComputationFailed(message, error.exit_status, error.stderr) from error


def _as_it_was(known: Result) -> Options:
    """Return how a result is to be made again.

    A record was written by whoever may write to its database. It names the environment, but does not lead out
    of the sandbox; from a database that is not ours not even the environment is taken.
    """
    if known.source is not None:
        return Options()
    environment = environment_of(known.record)
    return Options(
        prologue=tuple(environment.get("prologue", ())),
        modules=tuple(environment.get("modules", ())),
        conda=environment.get("conda"),
        image=environment.get("image"),
    )


def _gone(checksum: Checksum, producers: Sequence[Checksum], unknown: Sequence[Checksum]) -> BufferMissing:
    message = f"buffer {checksum} is in none of the stores, and "
    if not producers:
        message += "no transformation is known that made it: upload it again"
    elif unknown:
        message += f"the transformation that made it is gone too: {unknown[0]}"
    else:
        message += f"transformation {producers[0]} did not bring it back"
    return BufferMissing(checksum, message)
