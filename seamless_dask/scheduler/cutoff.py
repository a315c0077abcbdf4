"""The second look-up: a step whose inputs turn out such that its result is known is not run.

A deferred task has its identity only when the results of those it waits for are there. Then, before Dask
gives it to a worker, it is resolved here and looked up once more. While that takes time it stays in
``waiting``: tasks in ``no-worker`` or ``queued`` would make adaptive clusters start jobs. So does a task
whose transformation is running under another name; it becomes a late hit, or runs when the other one failed.

Everything here only saves dispatches: what cannot be found out goes to a worker, which looks for itself.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hashserver.checksum import Checksum
from hashserver.errors import HashserverError

from ..graph.names import key_of
from .claims import Claims
from .dask import assumptions, graphs, memory, transitions
from .pending_lookups import PendingLookups, step_of
from .retries import is_ours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..context import Context
    from ..model.transformation import Value
    from .hit_store import HitStore
    from .pending_lookups import Find, Known, Step
    from .resolution import Resolved
    from .retries import Retries


class Cutoff:
    """One for a scheduler; its methods run in the scheduler's event loop.

    Parameters
    ----------
    scheduler
        Dask's.
    context
        Whose store has the documents, and whose database keeps what is found out.
    find
        Looks up many keys at once; misses on failure.
    holder
        Holds what no worker does.
    recovery
        Asked first: a task may have been lost too often.
    timeout
        Seconds after which a store has not answered.

    Attributes
    ----------
    cut : int
        Steps that turned out to be known once their inputs were.
    late : int
        Transformations that were waiting for another run of the same, which has ended.
    """

    def __init__(
        self,
        scheduler: Any,
        context: Context,
        find: Find,
        holder: HitStore,
        recovery: Retries,
        timeout: float = 10.0,
    ) -> None:
        self.scheduler, self.recovery = scheduler, recovery
        self._holder = holder
        self.lookups = PendingLookups(scheduler, context, find, self._settle, timeout)
        self._found: dict[str, tuple[Step, Value]] = {}
        self._held: dict[str, str] = {}
        self._steps: dict[str, tuple[Step, Resolved | None]] = {}
        self._sharing: dict[str, set[str]] = {}
        self._lost: set[str] = set()
        self.cut = self.late = 0
        self.claims = Claims(self._is_on, recovery.has_begun, self._withdraw, self._other_ended)

    def start(self) -> None:
        """Take part in the scheduler's decisions."""
        transitions.intercept(self.scheduler, "waiting", "processing", self._dispatch)
        transitions.allow_holding(self.scheduler, self._held)
        for state in ("queued", "no-worker"):
            transitions.intercept(self.scheduler, state, "processing", self._late_dispatch)
        self.scheduler.handlers["seamless_claim"] = self.claims.claim
        self.scheduler.handlers["seamless_release"] = self.claims.release

    def close(self) -> None:
        """Stop looking up."""
        for name in ("seamless_claim", "seamless_release"):
            self.scheduler.handlers.pop(name, None)
        self.claims.close()
        self.lookups.close()

    def held(self, key: Any) -> str | None:
        """Return why a task is kept back; None: it is not."""
        return self._held.get(key)

    def runs(self, key: str) -> set[str]:
        """Return the checksums of what a task of ours runs or is to run, as far as they are known."""
        return {name for name in (self._identity(key), self.claims.wanted_by(str(key))) if name is not None}

    # ------------------------------------------------------------------ what happens

    def graph(self, keys: Sequence[Any]) -> None:
        """Hear of new tasks: the documents of deferred ones are going to be needed."""
        wanted: dict[Checksum, None] = {}
        for key in keys:
            ts = self.scheduler.tasks.get(key)
            if ts is None or not is_ours(key):
                continue
            found = graphs.arguments(ts)
            if found is not None and found.upstream:
                with suppress(HashserverError):  # the worker says what is wrong
                    wanted |= dict.fromkeys(map(Checksum, (found.key, *found.upstream)))
        self.lookups.expect(wanted)

    def transition(self, key: str, start: str, finish: str) -> None:
        """Hear that a task of ours has changed its state."""
        if finish != "waiting":
            self._held.pop(key, None)
        if start == "processing":
            ts = self.scheduler.tasks[key]
            value = memory.reported_value(ts) if finish == "memory" else None
            if (identity := self._identity(key)) is not None:
                self.claims.end(identity, key, value)
            self.claims.task_left(str(key))
        elif finish == "processing" and (identity := self._identity(key)) is not None:
            self.claims.begin(identity, key)
        if start == "memory" and finish == "released":
            self._lost.add(key)  # should it be wanted again, its result is known
        elif finish in ("memory", "erred", "forgotten"):
            self._forget(key)

    def worker_left(self, worker: str) -> None:
        """Hear that a worker is gone."""
        self.claims.worker_left(worker)

    def _forget(self, key: str) -> None:
        """Forget a task that is over."""
        if key in self._steps:  # or it has come to no decision, as one that was known when its graph came
            self._unshare(key)
            del self._steps[key]
        self._lost.discard(key)
        self._found.pop(key, None)
        self.lookups.forget(key)

    def _unshare(self, key: str) -> None:
        """Forget which transformation a task would run."""
        identity = self._identity(key)
        if identity in self._sharing:
            self._sharing[identity].discard(key)
            if not self._sharing[identity]:
                del self._sharing[identity]

    def _identity(self, key: str) -> str | None:
        """Return the checksum of the transformation that a task runs, as far as it is known here.

        One that is to run whatever is known stands in for no other.
        """
        if key in self._steps and (resolved := self._steps[key][1]) is not None:
            return resolved.checksum
        return key[-64:] if key[-68:-64] == "-tf-" else None

    # ------------------------------------------------------------------ decisions

    def _dispatch(self, ts: Any, stimulus_id: str, details: dict[str, Any], go: assumptions.Go) -> Any:
        """Decide about a task that Dask would give to a worker now."""
        del stimulus_id, details
        if is_ours(ts.key):
            transitions.never_suspect(ts)
            if self._holder.is_known(ts):
                self._held[ts.key] = "its result is known"
                return {}, {}, {}
            if (value := self._take_found(ts)) is not None:
                return self._holder.finish(ts, value)
            if (error := self.recovery.verdict(ts)) is not None:
                if not self.recovery.awaits(ts.key):
                    return transitions.give_up(ts, error)
                self._held[ts.key] = "lost, and the queue is asked how"
                return {}, {}, {}
            if self._is_held(ts):
                return {}, {}, {}
            self._held.pop(ts.key, None)
        if self.recovery.is_to_queue(ts):
            return {ts.key: "queued"}, {}, {}
        return self._given(ts, go)

    def _late_dispatch(self, ts: Any, stimulus_id: str, details: dict[str, Any], go: assumptions.Go) -> Any:
        """Decide about a task that had to wait for a worker: somebody else may have begun meanwhile."""
        del stimulus_id, details
        if not self.recovery.needs_package(ts):
            return go()
        if ts.state == "queued" and self.recovery.is_to_queue(ts):
            return {}, {}, {}
        excluded = ts.state == "queued" and self.recovery.restricts(ts)
        identity = self._identity(ts.key)
        if excluded or (identity is not None and self.claims.holder(identity, ts.key)):
            return {ts.key: "released"}, {}, {}  # from where it comes to `_dispatch` again
        return self._given(ts, go)

    def _given(self, ts: Any, go: assumptions.Go) -> Any:
        """Have Dask choose a worker; one that may not have the task is not told of it."""
        answer = go()
        if self.recovery.needs_package(ts) and self.recovery.is_misled(ts):
            return {ts.key: "released"}, {}, {}
        return answer

    def _take_found(self, ts: Any) -> Value | None:
        """Return what was found out about a task, if it is about what the task is now."""
        step, value = self._found.pop(ts.key, (None, None))
        return value if value is not None and step == step_of(ts, self._value) else None

    def _is_held(self, ts: Any) -> bool:
        """Keep a task back that is to be looked up first, or that runs under another name."""
        if ts.key in self.lookups:
            return True
        step = step_of(ts, self._value)
        if step is None:
            return False
        before, resolved = self._steps.get(ts.key, (None, None))
        if (step.upstream and before != step) or ts.key in self._lost:
            self._lost.discard(ts.key)
            self._ask(step, None)
            return True
        self._steps[ts.key] = step, resolved
        identity = resolved.checksum if resolved else step.key
        self._sharing.setdefault(identity, set()).add(ts.key)
        other = self.claims.holder(identity, ts.key)
        if other is not None:
            self._held[ts.key] = f"waiting for {other}, which runs the same"
        return other is not None

    def _value(self, reference: Any) -> Value | None:
        """Return the value of another task."""
        if (handle := self._holder.values.get(reference.key)) is not None:
            return handle.value
        ts = self.scheduler.tasks.get(reference.key)
        return None if ts is None else memory.reported_value(ts)

    # ------------------------------------------------------------------ looking up

    def _ask(self, step: Step, resolved: Resolved | None) -> None:
        """Keep a task back until it is looked up."""
        self._held[step.task] = "looking up"
        self.lookups.ask(step, resolved)

    def _settle(self, steps: list[Step], resolved: dict[str, Resolved], found: Known) -> None:
        """Have all of them dispatched or completed, in the order of their priorities."""
        ready = []
        for step in steps:
            ts = self.scheduler.tasks.get(step.task)
            if ts is None or not transitions.is_ready(ts):
                continue
            mine = resolved.get(step.task)
            self._unshare(step.task)
            self._steps[step.task] = step, mine
            if (hit := found.get(mine.checksum if mine else step.key)) is not None:
                self._late_hit(step, mine, hit[1])
                self.cut += bool(step.upstream)
                self.late += not step.upstream
            ready.append(step.task)
        self.scheduler.transitions(graphs.in_order(self.scheduler, ready), "seamless-cutoff")

    def _late_hit(self, step: Step, resolved: Resolved | None, value: Value) -> None:
        """Complete a task when it comes to dispatch, and keep what it resolved to, as a worker would."""
        self._found[step.task] = step, value
        if resolved is not None:
            self.lookups.record(resolved)

    # ------------------------------------------------------------------ under another name

    def _other_ended(self, checksum: str, value: Value | None) -> None:
        """Let those go on who share a transformation that nobody runs any more."""
        waiting = [key for key in self._sharing.get(checksum, ()) if self._is_undecided(key)]
        for key in waiting:
            step, resolved = self._steps[key]
            if value is not None:
                self._late_hit(step, resolved, value)
                self.late += 1
            elif key in self._held:
                self._ask(step, resolved)
        if value is not None and waiting:
            # not now, in the midst of a transition
            asyncio.get_running_loop().call_soon(self._go_on, waiting)

    def _is_undecided(self, key: str) -> bool:
        """Whether a task has no worker yet, and is not being looked up."""
        ts = self.scheduler.tasks.get(key)
        if ts is None or key not in self._steps or key in self.lookups:
            return False
        return ts.state in ("queued", "no-worker") or (key in self._held and transitions.is_ready(ts))

    def _go_on(self, keys: list[str]) -> None:
        tasks = [ts for key in keys if (ts := self.scheduler.tasks.get(key)) is not None]
        ready = graphs.in_order(self.scheduler, [ts.key for ts in tasks if transitions.is_ready(ts)])
        late = [ts.key for ts in tasks if ts.state in ("queued", "no-worker") and ts.key in self._found]
        # from where these come to `_dispatch` again
        self.scheduler.transitions(ready | dict.fromkeys(late, "released"), "seamless-late-hit")

    def _is_on(self, worker: str, task: str | None) -> bool:
        if task is None:
            return worker in self.scheduler.workers
        ts = self.scheduler.tasks.get(key_of(task))
        return ts is not None and ts.processing_on is not None and ts.processing_on.address == worker

    def _withdraw(self, key: str) -> None:
        """Take a task back from the worker that has not begun with it."""
        self.scheduler.transitions({key: "released"}, "seamless-claim")
