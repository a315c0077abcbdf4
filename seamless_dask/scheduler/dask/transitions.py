"""Transitions of tasks, and what is asked for before them."""

from __future__ import annotations

from collections.abc import Container
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from distributed.protocol.pickle import dumps

from .assumptions import Go, Interceptor, NotAsAssumed, log, must

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed.scheduler import Scheduler

INTERCEPTED = {
    ("released", "waiting"),
    ("waiting", "processing"),
    ("waiting", "queued"),
    ("queued", "processing"),
    ("no-worker", "processing"),
    ("processing", "erred"),
    ("processing", "released"),
    ("erred", "released"),
}
"""Transitions of Dask's own that are asked for here."""


def intercept(scheduler: Any, start: str, finish: str, interceptor: Interceptor) -> None:
    """Have `interceptor` called for a transition; several may follow each other, the last one first.

    The table of transitions belongs to the class; the scheduler gets one of its own.
    """
    table = dict(scheduler._TRANSITIONS_TABLE)
    original = table.get((start, finish))

    def transition(self: Any, key: str, stimulus_id: str, **details: Any) -> Any:
        gone = False

        def go() -> Any:
            nonlocal gone
            gone = True
            if original is None:
                raise NotAsAssumed(f"there is no transition of {key} from {start} to {finish}")
            return original(self, key, stimulus_id, **details)

        try:
            return interceptor(self.tasks[key], stimulus_id, details, go)
        except Exception:
            if gone or original is None:
                raise
            # what only saves work must not break the connections of workers, in which this happens
            log.exception("Dask decides about %s from %s to %s", key, start, finish)
            return go()

    table[start, finish] = transition
    scheduler._TRANSITIONS_TABLE = table


def allow_holding(scheduler: Any, held: Container[str]) -> None:
    """Have Dask's checks of itself put up with tasks in ``waiting`` that wait for nothing but us.

    With ``distributed.scheduler.validate`` they are made after each transition; `validate_key` looks
    `validate_waiting` up on the instance.
    """
    validate = scheduler.validate_waiting

    def validate_waiting(key: str) -> None:
        ts = scheduler.tasks[key]
        if ts.waiting_on or key not in held:
            validate(key)
        else:
            must(not ts.who_has and not ts.processing_on, f"{key} is held back and somewhere")
            must(all(other.who_has for other in ts.dependencies), f"{key} is held back and not ready")

    scheduler.validate_waiting = validate_waiting


def allow_queueing(scheduler: Any) -> None:
    """Have these checks put up with tasks that are queued while a worker is idle that may not have them.

    Dask asserts that nobody is idle where a task is queued, and that the first one in the queue is given to
    whoever becomes so. `stimulus_queue_slots_maybe_opened` is looked up on the instance.
    """
    open_slots = scheduler.stimulus_queue_slots_maybe_opened

    def opened(*, stimulus_id: str) -> None:
        if not scheduler.validate:  # asked with each key that a client releases
            open_slots(stimulus_id=stimulus_id)
            return
        with _unchecked(scheduler):
            open_slots(stimulus_id=stimulus_id)

    def queue(ts: Any, stimulus_id: str, details: dict[str, Any], go: Go) -> Any:
        del ts, stimulus_id, details
        with _unchecked(scheduler):
            return go()

    scheduler.stimulus_queue_slots_maybe_opened = opened
    intercept(scheduler, "waiting", "queued", queue)


@contextmanager
def _unchecked(scheduler: Any) -> Iterator[None]:
    checks, scheduler.validate = scheduler.validate, False
    try:
        yield
    finally:
        scheduler.validate = checks


def restore_transitions(scheduler: Scheduler) -> None:
    """Take all interceptors back, `allow_holding` and `allow_queueing`."""
    for name in ("_TRANSITIONS_TABLE", "validate_waiting", "stimulus_queue_slots_maybe_opened"):
        scheduler.__dict__.pop(name, None)


NEVER = -(1 << 40)
"""A suspicion that no number of deaths brings over Dask's limit."""


def is_ready(ts: Any) -> bool:
    """Whether a task waits for nothing but to be dispatched.

    Dask itself leaves no task behind like this; it asks for the dispatch of what lost its last dependency.
    """
    return ts is not None and ts.state == "waiting" and not ts.waiting_on


def is_alone(ts: Any) -> bool:
    """Whether a task needs no other one, and none needs it."""
    return not (ts.dependencies or ts.dependents or ts.has_lost_dependencies)


def is_open(ts: Any) -> bool:
    """Whether a task that somebody wants waits for nothing but to be completed."""
    return is_ready(ts) or (ts is not None and ts.state == "released" and bool(ts.who_wants))


def never_suspect(ts: Any) -> None:
    """Spare a task Dask's counting of the deaths of all workers that it was ever assigned to."""
    ts.suspicious = NEVER


def put_back(scheduler: Scheduler, ts: Any, stimulus_id: str) -> Any:
    """Answer a transition from ``processing`` by releasing the task, so that it is dispatched again."""
    return type(scheduler)._TRANSITIONS_TABLE["processing", "released"](scheduler, ts.key, stimulus_id)


def give_up(ts: Any, error: Exception) -> Any:
    """Answer a transition from ``waiting`` by letting the task fail.

    A task with ``exception_blame`` goes from ``waiting`` by ``released`` to ``erred``, as the dependents of a
    failed task do; clients unpickle ``exception``.
    """
    ts.exception, ts.exception_text = dumps(error), repr(error)
    ts.traceback, ts.traceback_text = None, ""
    ts.exception_blame = ts
    return {ts.key: "erred"}, {}, {}
