"""What the death of a worker, or a fault of its system, costs.

Dask suspects every task that was assigned to a worker that died. Here only those count that had begun, and
each is given up on its own account, once it has been lost more often than its ``retries`` allow. Tasks that
are not ours keep Dask's ways.

A worker gets tasks of ours once it has said that it is equipped; on one that lacks this package they could
only fail. A task of others that fails there for want of the package goes to a worker that has it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from hashserver.checksum import make_checksum

from ..errors import NoRoomThere, SeamlessError, UsageError, WorkerLost
from ..graph import task
from ..model.options import Options
from .dask import assumptions, clients, graphs, transitions, workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hashserver.checksum import Checksum

TOPIC = "seamless"
TOLD_LIMIT = 15.0
"""Seconds that a task which is to be given up waits for the reason of the last loss."""
KEY = re.compile(r"(-tf-[0-9a-f]{64}(-fresh-\w+)?|^restore-[0-9a-f]{64})$")

_ON_PURPOSE = ("retire-workers", "restart", "client-restart")
_FAULTS = ("WorkerLost(", "NoRoomThere(")
_UNUSABLE = "seamless-dask cannot be used on this worker"
"""What is raised by the stand-ins that a worker without this package has."""
_HOW = {
    "check-worker-ttl": "no sign of life any more (the host, or the connection to it, is lost)",
    "handle-worker-cleanup": "killed, or its connection broke",
    "worker-send-comm-fail": "its connection broke",
    "send-all-comm-fail": "its connection broke",
    "worker-close": "closed",
    "worker-closing": "closed",
    "reschedule": "closed",
}

log = logging.getLogger("distributed.scheduler.seamless")


class FailedAttempt(NamedTuple):
    """One attempt that the system spoiled."""

    worker: str
    how: str
    full: bool = False

    def __str__(self) -> str:
        return f"{self.worker}: {self.how}"


class StartedOn(NamedTuple):
    """A worker that a task has begun on; not ``own``: with what it needs to be made again first."""

    address: str
    name: str
    own: bool = True

    def __str__(self) -> str:
        return self.address if self.name == self.address else f"{self.address} ({self.name})"


class Retries:
    """One for a scheduler; its methods run in the scheduler's event loop.

    Attributes
    ----------
    equipped : set
        Addresses of workers that may have our tasks.
    unequipped : dict
        Addresses of workers that have said that they cannot, and why.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.equipped: set[str] = set()
        self.unequipped: dict[str, str] = {}
        self._begun: dict[str, StartedOn] = {}
        self.expects_more: Callable[[], bool] = lambda: False
        """Tells whether workers can come that are not there yet."""
        self._losses: dict[str, list[FailedAttempt]] = {}
        self._avoid: dict[str, set[str]] = {}
        self._ends: dict[str, str] = {}
        self._awaited: dict[str, str] = {}
        self.is_told: Callable[[str], bool] = lambda worker: False
        """Whether somebody is going to `tell` how a worker of that name came to its end."""
        self._warned = False
        self._stranded: set[Any] = set()
        self._bound: WeakSet[Any] = WeakSet()
        self._actions: dict[str, Callable[[dict[str, Any]], None]] = {
            "started": self._started,
            "remaking": self._started,
            "unequipped": self._is_unequipped,
            "equipped": self._is_equipped,
        }

    def start(self) -> None:
        """Take part in the scheduler's decisions."""
        workers.restrict_workers(self.scheduler, self.restricts, self._usable)
        transitions.allow_queueing(self.scheduler)
        transitions.intercept(self.scheduler, "processing", "erred", self._erring)

    # ------------------------------------------------------------------ what may be asked

    def losses(self, key: Any) -> list[str]:
        """Return how the attempts at a task that the system spoiled ended: worker, and what happened."""
        return [str(loss) for loss in self._losses.get(key, ())]

    def has_begun(self, key: str) -> bool:
        """Whether what a task is for has begun on the worker that has it."""
        return key in self._begun and self._begun[key].own

    def why_no_worker(self, key: Any) -> str | None:
        """Return why a task finds no worker, as far as that is our doing."""
        ts = self.scheduler.tasks.get(key)
        if ts is None or ts.state not in ("no-worker", "queued") or not self.needs_package(ts):
            return None
        may = workers.allowed_workers(self.scheduler, ts)
        if not may or not may <= self.unequipped.keys():
            return None
        reasons = "; ".join(f"{worker}: {self.unequipped[worker]}" for worker in sorted(may))
        pinned = " that may have it" if len(may) < len(self.scheduler.workers) else ""
        return f"no worker{pinned} can run transformations, or read their results ({reasons})"

    def stranded(self, key: Any) -> None:
        """Hear that a task has found no worker; clients are told when none can ever take it as things are."""
        why = None if key in self._stranded else self.why_no_worker(key)
        if why is not None:
            self._stranded.add(key)
            log.warning("%s waits: %s", key, why)
            clients.warn_clients(self.scheduler, f"{key} waits: {why}")

    def verdict(self, ts: Any) -> WorkerLost | None:
        """Return the error with which a task is given up; None: it may be tried (again)."""
        losses = self._losses.get(ts.key, ())
        if not losses or (len(losses) <= _retries(ts) and not self._is_full(ts)):
            return None
        attempts = "one attempt" if len(losses) == 1 else f"{len(losses)} attempts"
        kind = NoRoomThere if losses[-1].full else WorkerLost
        return kind(f"{ts.key} was given up after {attempts}: {'; '.join(map(str, losses))}")

    def _is_full(self, ts: Any) -> bool:
        """Whether disks are full: of two workers, or of the only one that may have it, no other comes."""
        full = sum(loss.full for loss in self._losses[ts.key])
        if full != 1:
            return full > 1
        able = workers.allowed_workers(self.scheduler, ts) & self.equipped
        return bool(able) and able <= self._avoid.get(ts.key, set()) and not self._others_come(ts)

    def refusal(self, nodes: Iterable[Any]) -> SeamlessError | None:
        """Return the error for a graph whose tasks another version of this package made."""
        for node in nodes:
            if getattr(node, "func", None) not in (task.run, task.known):
                continue
            try:
                task.check_protocol(node.args[0] if node.args else None, "scheduler")
            except SeamlessError as error:
                return error
        return None

    # ------------------------------------------------------------------ what happens

    def event(self, topic: str, event: Any) -> None:
        """Hear what is logged on the scheduler: our workers' events, and what Dask says of workers."""
        if not isinstance(event, dict):
            return
        action = event.get("action")
        if topic == TOPIC and isinstance(action, str) and action in self._actions:
            self._actions[action](event)
        elif action == "closing-worker":
            self._ends[topic] = f"closed ({event.get('reason')})"
        elif topic == "worker-restart-memory":
            self._ends[str(event.get("worker"))] = "killed by its nanny, for its memory"

    def tell(self, worker: str, how: str) -> None:
        """Say how a worker came to its end, as its job's queue sees it; `worker` is its name.

        Its loss has been counted by then: the queue is asked once it is gone.
        """
        for losses in self._losses.values():
            losses[:] = [
                loss._replace(how=f"{loss.how}; {how}") if loss.worker.endswith(f"({worker})") else loss
                for loss in losses
            ]
        for key in [key for key, name in self._awaited.items() if name == worker]:
            self._go_on(key, worker)

    def awaits(self, key: str) -> bool:
        """Whether a task is kept back until it is known how its worker came to its end."""
        return key in self._awaited

    def _await_end(self, key: str, worker: str) -> None:
        self._awaited[key] = worker
        asyncio.get_running_loop().call_later(TOLD_LIMIT, self._go_on, key, worker)

    def _go_on(self, key: str, worker: str) -> None:
        """Have a task dispatched, or given up, that waited for somebody to tell about a worker."""
        # The time-out of an earlier loss comes in spite of the word that ended the wait; the task may have
        # been dispatched by now, been lost again, and be waiting for word of another worker.
        if self._awaited.get(key) != worker:
            return
        del self._awaited[key]
        ts = self.scheduler.tasks.get(key)
        if ts is not None and ts.state == "waiting" and not ts.waiting_on:
            self.scheduler.transitions({key: "processing"}, "seamless-told")

    def transition(self, key: str, start: str, finish: str, stimulus_id: str) -> None:
        """Hear that a task of ours has changed its state."""
        if start == "processing":
            place = self._begun.pop(key, None)
            if place is not None and finish == "released":
                self._came_back(key, place, stimulus_id)
        self._stranded.discard(key)
        if finish in ("memory", "forgotten") or start == "erred":
            self._losses.pop(key, None)
            self._avoid.pop(key, None)

    def catch_up(self) -> None:
        """Hear what workers said before anybody listened."""
        for _, event in self.scheduler.get_events(TOPIC):
            if isinstance(event, dict) and event.get("action") in ("equipped", "unequipped"):
                self.event(TOPIC, event)

    def worker_left(self, worker: str) -> None:
        """Hear that a worker is gone, after its tasks have been released."""
        self.equipped.discard(worker)
        self.unequipped.pop(worker, None)
        self._ends.pop(worker, None)

    def restart(self) -> None:
        """Forget what was running."""
        for memory in (self._begun, self._losses, self._avoid, self._awaited, self._stranded):
            memory.clear()

    def _started(self, event: dict[str, Any]) -> None:
        key, worker = event["key"], event["worker"]
        ts = self.scheduler.tasks.get(key)
        # The word of a beginning may come when the task has been taken from that worker (stolen, released)
        # and given to another: if that one dies before it begins, it must not count as a loss.
        if ts is not None and ts.processing_on is not None and ts.processing_on.address == worker:
            own = event["action"] == "started" or self.has_begun(key)
            self._begun[key] = StartedOn(worker, str(ts.processing_on.name), own)

    def _came_back(self, key: str, place: StartedOn, stimulus_id: str) -> None:
        """Count what was lost; a task that was only withdrawn or cancelled was not."""
        cause = next((cause for cause in _HOW if stimulus_id.startswith(cause)), None)
        if self._is_lost(place.address) and not stimulus_id.startswith(_ON_PURPOSE):
            told = self._ends.get(place.address) or _HOW.get(cause or "", "lost")
            self._lost(key, FailedAttempt(str(place), told))
            if self.is_told(place.name):
                self._await_end(key, place.name)

    def _is_lost(self, worker: str) -> bool:
        ws = self.scheduler.workers.get(worker)
        return ws is None or ws.status.name in ("closing", "closed", "failed")

    def _fault(self, key: str, place: StartedOn, message: str, full: bool) -> None:
        self._avoid.setdefault(key, set()).add(place.address)
        self._lost(key, FailedAttempt(str(place), message, full))

    def _lost(self, key: str, loss: FailedAttempt) -> None:
        self._losses.setdefault(key, []).append(loss)
        log.warning("%s was lost on %s", key, loss)
        self.scheduler.log_event(
            TOPIC, {"action": "lost", "key": key, "worker": loss.worker, "how": loss.how}
        )

    def _erring(self, ts: Any, stimulus_id: str, details: dict[str, Any], go: assumptions.Go) -> Any:
        """Decide about a task that fails on a worker: the worker may be to blame."""
        worker, text = details.get("worker"), details.get("exception_text") or ""
        if worker in self.unequipped and _UNUSABLE in text and self._can_go_elsewhere(ts):
            self._bound.add(ts)
            return transitions.put_back(self.scheduler, ts, stimulus_id)
        if worker is None or not is_ours(ts.key) or not text.startswith(_FAULTS):
            return go()
        place = StartedOn(worker, str(ts.processing_on.name))
        kind, _, message = text.partition("(")
        self._fault(ts.key, place, message.rstrip(")").strip("'\""), kind == NoRoomThere.__name__)
        self._begun.pop(ts.key, None)  # or `transition`, which hears of the release, would count it once more
        return transitions.put_back(self.scheduler, ts, stimulus_id)

    # ------------------------------------------------------------------ which workers

    def _is_unequipped(self, event: dict[str, Any]) -> None:
        worker = event["worker"]
        if worker in self.unequipped or worker not in self.scheduler.workers:
            return
        why = str(event.get("message") or "seamless-dask does not run there")
        self.unequipped[worker] = why
        self.equipped.discard(worker)
        level = logging.DEBUG if self._warned else logging.WARNING
        self._warned = True
        log.log(level, "worker %s gets no transformations: %s (told once for all workers)", worker, why)
        self.scheduler.log_event(TOPIC, {"action": "worker-excluded", "worker": worker, "why": why})
        assigned = [ts.key for ts in self.scheduler.workers[worker].processing if self.needs_package(ts)]
        self.scheduler.transitions(dict.fromkeys(assigned, "released"), f"seamless-unequipped-{worker}")
        for ts in list(self.scheduler.unrunnable):
            self.stranded(ts.key)

    def _is_equipped(self, event: dict[str, Any]) -> None:
        worker = event["worker"]
        if worker in self.equipped or worker not in self.scheduler.workers:
            return
        self.equipped.add(worker)
        self.unequipped.pop(worker, None)
        workers.dispatch_to(self.scheduler, worker, "seamless-equipped")

    def restricts(self, ts: Any) -> bool:
        """Whether not every worker may have a task."""
        return (self._are_mixed() or ts.key in self._avoid) and self.needs_package(ts)

    def needs_package(self, ts: Any) -> bool:
        """Whether a worker must have this package for a task; where all have it, others' tasks do not."""
        return concerns(ts) or (
            self._are_mixed() and (ts in self._bound or graphs.carries_handle(ts.run_spec))
        )

    def _can_go_elsewhere(self, ts: Any) -> bool:
        """Whether a worker that may have a task has this package, or can come."""
        return bool(workers.allowed_workers(self.scheduler, ts) & self.equipped) or self._others_come(ts)

    def _are_mixed(self) -> bool:
        return len(self.equipped) != len(self.scheduler.workers)

    def is_misled(self, ts: Any) -> bool:
        """Whether a task was given to a worker that may not have it; it is not going to be so again.

        While one worker is being removed and another one is about to say that it is equipped, `restricts`
        cannot tell.
        """
        ws = ts.processing_on
        if ws is None or ws.address in self.equipped:
            return False
        self._avoid.setdefault(ts.key, set()).add(ws.address)
        return True

    def is_to_queue(self, ts: Any) -> bool:
        """Whether a task waits for a slot, because some worker has not said yet that it is equipped.

        Where one has said that it is not, tasks of others may not wait behind it.
        """
        if self.unequipped or ts.key in self._avoid or not self.restricts(ts):
            return False
        return workers.finds_no_slot(self.scheduler, ts, self.equipped)

    def _others_come(self, ts: Any) -> bool:
        """Whether a worker can come that may have a task; one that is there may not have said so yet."""
        if workers.is_pinned(ts):
            return False
        return self.expects_more() or len(self.equipped) + len(self.unequipped) < len(self.scheduler.workers)

    def _usable(self, ts: Any, workers: set[Any]) -> set[Any]:
        equipped = {ws for ws in workers if ws.address in self.equipped}
        avoided = self._avoid.get(ts.key)
        if not avoided:
            return equipped
        others = {ws for ws in equipped if ws.address not in avoided}
        waits = any(loss.full for loss in self._losses.get(ts.key, ())) and self._others_come(ts)
        return others if others or waits else equipped  # a disk is as full as it was


_adopted: dict[str, int] = {}
"""Names that tell nothing of tasks that are ours all the same: by how many schedulers of this process."""


def adopt(key: str) -> None:
    """Have a task count as a transformation's though a client has chosen its name."""
    _adopted[key] = _adopted.get(key, 0) + 1


def disown(key: str) -> None:
    """Take `adopt` back."""
    number = _adopted.pop(key) - 1
    if number:
        _adopted[key] = number


def is_ours(key: Any) -> bool:
    """Whether a task is a transformation's."""
    return isinstance(key, str) and (_says_so(key) or key in _adopted)


@lru_cache(20_000)  # asked at each change of each task's state
def _says_so(key: str) -> bool:
    return KEY.search(key) is not None


def can_be_known(key: Any) -> bool:
    """Whether a task has the key of a transformation, not one that is to run whatever is known."""
    return isinstance(key, str) and key[-68:-64] == "-tf-" and is_ours(key)


def checksum_of(key: str) -> Checksum:
    """Return the key of the transformation that a task is about."""
    return make_checksum(key[-64:])


def concerns(ts: Any) -> bool:
    """Whether a task is ours, or reads what one of ours gave."""
    return is_ours(ts.key) or any(is_ours(other.key) for other in ts.dependencies)


def _retries(ts: Any) -> int:
    found = graphs.arguments(ts)
    try:
        return Options.from_json(found.options).retries if found else Options().retries
    except UsageError:  # the worker says what is wrong with them
        return Options().retries
