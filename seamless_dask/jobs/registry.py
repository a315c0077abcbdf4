"""What the jobserver knows: the jobs that were asked for, and who asks for them."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, UsageError
from ..model import outcomes
from ..model.options import Options
from ..model.records import timestamp
from .request import agreed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hashserver.checksum import Checksum

    from ..model.outcomes import Outcome
    from .journal import Journal
    from .request import JobRequest

LIMIT = 4 << 20
"""Bytes that are kept of one job for those who come later."""
ENDED = 1000
"""How many jobs that are over are remembered for those who still ask, besides in the journal."""


class Stream:
    """The last part of what one job has written, and how much there has been before."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._dropped = 0
        self.seen = 0
        """Bytes that came from the worker that has it now."""
        self.over = False

    @property
    def size(self) -> int:
        """Bytes altogether."""
        return self._dropped + len(self._data)

    def add(self, data: bytes) -> None:
        """Append what has come."""
        self._data += data
        self.seen += len(data)
        surplus = max(0, len(self._data) - LIMIT)
        self._dropped += surplus
        del self._data[:surplus]

    def read(self, start: int) -> bytes:
        """Return what there is from `start` on; it ends at `size`, and what came first may be gone."""
        return bytes(self._data[max(0, start - self._dropped) :])


class Job:
    """One computation and all who have asked for it here.

    Attributes
    ----------
    key : Checksum
        Of the transformation.
    fresh : bool
        It runs whatever is known.
    options : Options
        How it was submitted.
    requests : dict of str to JobRequest
        Those who have not withdrawn.
    ends : dict of str to dict
        How it ended for each of them, as far as it has.
    name : str or None
        Of the task in the scheduler.
    label, worker, node, started
        What people call it, who runs it, on which host, since when (seconds since 1970).
    losses : int
        How often its worker was lost.
    future : Future or None
        What the scheduler holds for us.
    driver : asyncio.Task or None
        Sees to it that it is run.
    outcome : dict or None
        How it ended.
    stream : Stream or None
        What it writes to its standard error, if somebody wants to see it.
    """

    def __init__(self, key: Checksum, fresh: bool) -> None:
        self.key, self.fresh = key, fresh
        self.options = Options()
        self.requests: dict[str, JobRequest] = {}
        self.ends: dict[str, Outcome] = {}
        self.name: str | None = None
        self.label: str | None = None
        self.worker: str | None = None
        self.node: str | None = None
        self.started: float | None = None
        self.losses = 0
        self.future: Any = None
        self.driver: asyncio.Task[None] | None = None
        self.outcome: Outcome | None = None
        self.stream: Stream | None = None
        self._changed = asyncio.Event()

    @property
    def waiting(self) -> dict[str, JobRequest]:
        """Those who have no end yet."""
        return {name: request for name, request in self.requests.items() if name not in self.ends}

    def agreed(self) -> Options:
        """Return the options to submit it with."""
        return agreed(list(self.waiting.values()))._replace(fresh=self.fresh)

    def notify(self) -> None:
        """Wake up those who wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, seconds: float) -> None:
        """Return when something has changed, or after some time."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return

    def end(self, asker: str | None) -> Outcome | None:
        """Return how it ended for one who asks, or for nobody in particular; None while it has not."""
        return self.ends.get(asker or "", self.outcome)

    def facts(self, asker: str | None = None) -> dict[str, Any]:
        """Return what one who asks is told, besides what the scheduler knows."""
        return {
            "key": self.key,
            "label": self.label or self.options.label,
            "worker": self.worker,
            "node": self.node,
            "started": None if self.started is None else timestamp(self.started),
            "askers": len(self.waiting),
            "outcome": self.end(asker),
        }


def state_of(outcome: Outcome) -> str:
    """Return the state that an end is."""
    if "value" in outcome:
        return "done"
    return "cancelled" if outcome["error"] == outcomes.failure(Cancelled(""))["error"] else "failed"


class JobRegistry:
    """All jobs by what they are asked for under; what is told is noted in the journal.

    Parameters
    ----------
    journal : Journal
        Of those who ask.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.active: dict[tuple[Checksum, bool], Job] = {}
        self.by_name: dict[str, Job] = {}
        self._by_asker: dict[str, Job] = {}
        self._ended: OrderedDict[int, Job] = OrderedDict()

    def find(self, key: Checksum, asker: str | None = None) -> Job | None:
        """Return the job that an asker means; without one, what goes on under a key or has ended last."""
        if asker is not None:
            job = self._of_asker(asker)
            return job if job is not None and job.key == key else None
        active = self.active.get((key, True)) or self.active.get((key, False))
        return active or next((job for job in reversed(self._ended.values()) if job.key == key), None)

    def all(self) -> list[Job]:
        """Return all jobs, those that are over last."""
        return [*self.active.values(), *reversed(self._ended.values())]

    def refuse_strangers(self, requests: Iterable[JobRequest]) -> None:
        """Raise `UsageError` when a name stands for one who waits for another job."""
        keys: dict[str, Checksum] = {}
        for one in requests:
            job = self._by_asker.get(one.asker)
            other = job.key if job is not None and one.asker in job.waiting else one.key
            if {other, keys.setdefault(one.asker, one.key)} != {one.key}:
                raise UsageError(f"{one.asker} waits for another job: each needs a name of its own")

    def place(self, request: JobRequest) -> tuple[Job, bool]:
        """Put one who asks with its job; returns that, and whether it is a new one."""
        found = self._of_asker(request.asker)
        if found is not None and found.key == request.key:
            return found, False
        job = self.active.get((request.key, True))
        if job is None and not request.fresh:
            job = self.active.get((request.key, False))
        new = job is None
        if job is None:
            job = self.active[request.key, request.fresh] = Job(request.key, request.fresh)
        job.requests[request.asker] = request
        self._by_asker[request.asker] = job
        return job, new

    def name(self, job: Job, name: str | None, future: Any, label: str | None = None) -> None:
        """Say which task a job is in the scheduler now, and what people call it; None: none any more."""
        if job.name is not None and self.by_name.get(job.name) is job:
            del self.by_name[job.name]
        job.name, job.future = name, future
        if name is not None:
            self.by_name[name] = job
            job.label = job.label or label
        job.notify()

    def begin(self, job: Job) -> None:
        """Note that the command of a job has been started."""
        job.started = job.started or time.time()
        job.notify()

    def end_for(self, job: Job, asker: str, outcome: Outcome) -> None:
        """Note how a job ended for one, while it goes on for others."""
        job.ends[asker] = outcome
        self._note([asker], job, outcome)
        job.notify()

    def end(self, job: Job, ends: dict[str, Outcome], outcome: Outcome) -> None:
        """Note how a job ended, for those in `ends` in their own way."""
        for asker in list(job.waiting):
            job.ends[asker] = ends.get(asker, outcome)
        told = {id(end): end for end in job.ends.values()}
        for number, end in told.items():
            self._note([asker for asker, own in job.ends.items() if id(own) == number], job, end)
        job.outcome = outcome
        self.name(job, None, None)
        self.active.pop((job.key, job.fresh), None)
        self.keep(job)
        job.notify()

    def keep(self, job: Job) -> None:
        """Remember a job that is over."""
        self._ended[id(job)] = job
        while len(self._ended) > ENDED:
            self._forget(self._ended.popitem(last=False)[1])

    def recall(self, request: JobRequest, outcome: Outcome) -> None:
        """Remember an end that the journal tells of."""
        job = Job(request.key, request.fresh)
        job.requests[request.asker], job.ends[request.asker], job.outcome = request, outcome, outcome
        self._by_asker[request.asker] = job
        self.keep(job)

    def told(self, asker: str) -> None:
        """Note that one has been told how it ended; it may ask again as long as the job is remembered."""
        self.journal.remove([asker])

    def leave(self, job: Job, askers: Iterable[str]) -> None:
        """Forget some who ask no more."""
        names = [name for name in askers if job.requests.pop(name, None)]
        for name in names:
            job.ends.pop(name, None)
            self._by_asker.pop(name, None)
        self.journal.remove(names)
        job.notify()

    def _of_asker(self, asker: str) -> Job | None:
        """Return the job of one who asks, which may have ended so long ago that only the journal knows."""
        if asker not in self._by_asker and (noted := self.journal.find(asker)):
            self.recall(*noted)
        return self._by_asker.get(asker)

    def _note(self, askers: list[str], job: Job, outcome: Outcome) -> None:
        detached = [name for name in askers if job.requests[name].detached]
        self.journal.remove(detached)
        self.journal.end([name for name in askers if name not in detached], outcome)

    def _forget(self, job: Job) -> None:
        for name in job.requests:
            self._by_asker.pop(name, None)
