"""Bytes that are gone are made again, for one who asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..executors import opening
from ..jobs.request import JobRequest
from ..model.values import missing
from .perform import remake_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashserver.checksum import Checksum

    from ..context import Context
    from ..executors.base import Executor
    from ..model.options import Options
    from ..model.transformation import Value


def fingertip(
    context: Context,
    checksum: Checksum,
    executor: Executor | None = None,
    tick: Callable[[str], None] | None = None,
) -> None:
    """See to it that the bytes of a checksum are in the store, by running their producer if need be.

    Parameters
    ----------
    executor
        Runs it; that of `context` by default.
    tick
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
    runs = executor or opening.executor(context)

    def again(producer: Checksum, options: Options) -> None:
        request = JobRequest(producer, options._replace(fresh=True), need_bytes=True)
        runs.run(request, tick=tick)

    try:
        remake_by(context, checksum, again)
    finally:
        if executor is None:
            runs.close()


def fingertip_value(context: Context, value: Value) -> None:
    """See to it that all bytes of a value are there, those of a directory's files included."""
    tried: set[Checksum] = set()
    while gone := [checksum for checksum in missing(context.store, [value]) if checksum not in tried]:
        tried.add(gone[0])
        fingertip(context, gone[0])
