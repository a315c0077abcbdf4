"""The one function that every Dask task calls.

Its arguments are texts and handles, so that nothing of the user's is unpickled on the way. What it needs
besides, it has from the worker of Dask it runs in, which our plugin equipped. In any other process the
computation is asked for as the command line does.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from hashserver.checksum import Checksum
from hashserver.errors import ServiceUnavailable

from ..errors import ComputationFailed, SeamlessError, UsageError
from ..model.options import Options
from ..model.transformation import Value
from .current_worker import about, dask_worker, equipped
from .fingertip import fingertip_value
from .handles import Handle, Object, contexts_of_process
from .handles import of as handle_of
from .names import key_in
from .objects import loaded, raised
from .perform import ensure, in_step, load, patiently, run_step
from .printed import stderr_shower

if TYPE_CHECKING:
    from ..context import Context
    from .arguments import HandedArguments

PROTOCOL = 1
"""Number of the arguments of `run`, `known` and `restore`; raised whenever their meaning changes."""

_NO_WAY = (
    "keep_inputs=False hands arguments over to this host or, by a client of Dask, to a worker: with"
    " SEAMLESS_DASKSERVER alone there is no way; use Client(…), or keep them"
)


def run(
    protocol: int,
    key: str,
    options: str = "{}",
    upstream: tuple[str, ...] = (),
    *handles: Any,
    asked: str | None = None,
    handed: HandedArguments | None = None,
) -> Any:
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
        The result of each of them; an object, where somebody has asked for it, is looked up again.
    asked : str or None
        Name of its task, if the result is asked for as an object: see `_as_seen`.
    handed : HandedArguments or None
        Arguments that no store has.

    Returns
    -------
    Handle or object
        The result.
    """
    check_protocol(protocol)
    worker, name, wishes = equipped(), Checksum(key), Options.from_json(options)
    if worker is None:
        return _as_seen(elsewhere(name, wishes, handed), name, asked)
    pairs = zip(upstream, handles, strict=True)
    known = {Checksum(of): handle.value for of, handle in pairs if isinstance(handle, Handle)}
    place = nullcontext() if handed is None else handed.placed(worker.context)
    with place as directory, about(name):
        value = run_step(worker, name, known, wishes._replace(handed=directory))
    return _as_seen(handle_of(*value, name), name, asked)


def known(protocol: int, key: str, options: str, handle: Handle, *, asked: str | None = None) -> Any:
    """Return a result that was known when the graph was made; parameters as of `run`, and that result."""
    del options  # a scheduler makes a task for `run` of them, should the result be contested
    check_protocol(protocol)
    return _as_seen(handle, Checksum(key), asked)


def _as_seen(handle: Handle, key: Checksum, asked: str | None) -> Any:
    """Return what somebody who is not one of our tasks is to see.

    A task of a distributed scheduler gives a handle: its client loads the object. Inside a task of another
    name, as `dask.delayed` makes them, and in Dask's local schedulers nobody stands between.
    """
    if asked is None or not isinstance(handle, Object) or _is_own_task(asked):
        return handle
    return loaded(handle, key)


def _is_own_task(name: str) -> bool:
    """Say whether a worker of Dask runs the task of this name in this thread."""
    worker = dask_worker()
    return worker is not None and worker.get_current_task() == name


def object_of(name: str, found: Any) -> Any:
    """Return what a task that is not ours reads: the object, where the task of that name gave its handle."""
    if not isinstance(found, Object):
        return found
    key = found.key or key_in(name)
    return found if key is None else loaded(found, Checksum(key))


def restore(protocol: int, format: str, checksum: str) -> Handle:  # noqa: A002 - the field's word
    """See to it that the bytes of a value are in the store, made again if need be; parameters as `run`."""
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


def elsewhere(key: Checksum, options: Options, handed: HandedArguments | None = None) -> Handle:
    """Ask for a computation as `seamless-run` does, in a process that is no worker of ours."""
    asking = dask_worker()
    if asking is not None and asking.status.name in ("closing", "closed", "failed"):
        from distributed import Reschedule

        raise Reschedule  # what is started now would outlive whoever may stop it
    context = _holder(contexts_of_process(), key)
    known = None if options.fresh else context.database.lookup(key)
    if known is not None:
        return handle_of(known[1].format, known[1].checksum, key)
    try:
        with nullcontext() if handed is None else handed.placed(context) as place:
            options = options._replace(handed=place)
            return handle_of(*_asked_for(context, key, options, from_worker=asking is not None), key)
    except ComputationFailed as error:
        if not _names_step(str(error)):
            error = in_step(context, key, load(context, key), options.label, error)
        # a distributed client has the exception itself made of it, where there is one
        raise (raised(error) if asking is None else error) from None


def _holder(contexts: list[Context], key: Checksum) -> Context:
    """Return the place that has a transformation's document; one that does not answer is not in the way."""
    unavailable: ServiceUnavailable | None = None
    for context in contexts[:-1]:
        try:
            if context.store.has([key])[0] >= 0:
                return context
        except ServiceUnavailable as error:
            unavailable = unavailable or error
    if unavailable is not None and contexts[-1].store.has([key])[0] < 0:
        raise unavailable
    return contexts[-1]


def _asked_for(context: Context, key: Checksum, options: Options, *, from_worker: bool) -> Value:
    if options.run == "here":
        from .here import compute_here

        return compute_here(context, key, options)
    from ..executors.embedded import Embedded
    from ..executors.opening import executor
    from ..jobs.request import JobRequest

    request = JobRequest(key, options)
    # a worker of Dask's must not ask the scheduler that waits for it
    if from_worker:
        return Embedded(context, kept=True).run(request)
    if options.handed is not None and context.config.daskserver is not None:
        raise UsageError(_NO_WAY)
    from ..jobs.withdrawal import withdrawal_of

    runs = executor(context, kept=True)
    try:
        with withdrawal_of(key) as withdrawal:
            shown = stderr_shower()
            return runs.run(request, on_stderr=shown, withdrawal=withdrawal)
    finally:
        runs.close()


_names_step = re.compile(r"\S+ \([0-9a-f]{8}\): ").match
"""Tells whether a message begins as `in_step` has it, because a step further up failed."""
