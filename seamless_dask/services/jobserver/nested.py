"""Jobs that running commands ask for, by way of their workers.

Such a command is one more asker of the jobserver, with less to say than others: it sees its own jobs only,
and they are withdrawn as soon as its task leaves the worker, however that comes about.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.checksum import Checksum

from ...graph.names import key_in
from ...jobs.command_requests import answered, start_of, wait_of, withdrawn
from ...jobs.confinement import ITSELF, confined
from ...jobs.journal import NESTED
from ...jobs.request import requests_in
from ...model import requirements
from ...model.options import Options
from ...protocol.jobs import NESTED_OPERATION, PROTOCOL, Refused, unknown
from . import waits
from .waits import refuse_closing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from distributed import Scheduler

    from ...jobs.registry import Job
    from ...jobs.request import JobRequest
    from .jobserver import Jobserver

AGAIN = 3.0
"""Seconds after which it is looked again whether a job has come to wait for whoever asks for it."""


class Outer(NamedTuple):
    """A task whose command has asked for something.

    ``own`` holds its key and what that was resolved to; ``jobs`` what it has asked for, by names of askers.
    """

    own: frozenset[str]
    jobs: dict[str, Job]

    def waiting(self) -> list[Job]:
        """Return the jobs that it waits for."""
        return [
            job for name, job in self.jobs.items() if name in job.waiting and not job.waiting[name].detached
        ]


class Nested:
    """The jobs of commands.

    Parameters
    ----------
    jobserver : Jobserver
        What drives them.
    """

    def __init__(self, jobserver: Jobserver) -> None:
        self._jobserver = jobserver
        self._outers: dict[str, Outer] = {}

    def install(self, scheduler: Scheduler) -> None:
        """Answer workers."""
        scheduler.handlers[NESTED_OPERATION] = self.request
        scheduler.set_metadata([NESTED_OPERATION], True)

    @staticmethod
    def remove(scheduler: Scheduler) -> None:
        """Answer no more."""
        scheduler.handlers.pop(NESTED_OPERATION, None)
        scheduler.set_metadata([NESTED_OPERATION], False)

    async def request(
        self,
        worker: str,
        task: str,
        checksum: str,
        run: str,
        method: str,
        key: str = "",
        sandboxed: bool = True,
        given: str = "{}",
        **facts: Any,
    ) -> dict[str, Any]:
        """Answer a command.

        Parameters
        ----------
        worker, task
            Where it runs: address, and name in Dask.
        checksum
            Of the transformation that it is.
        run
            Name of this run of it.
        method, key
            ``POST``, ``GET``, ``DELETE``, or ``STDERR`` of a job.
        sandboxed
            Whether the command that asks runs in a sandbox, which what it asks for must not lead out of.
        given
            The options that it runs with itself, as JSON.
        **facts
            ``body`` of a post; else ``asker``, ``wait``, ``after``, ``start`` as the jobserver has them.

        Returns
        -------
        dict
            ``status`` and ``body`` of the answer; ``waiting`` says whether a job is still waited for.
        """

        async def answer() -> dict[str, Any]:
            outer = self._outer(worker, task, checksum)
            if method == "POST":
                bounds = Options.from_json(given) if sandboxed else None
                return {"body": self._post(task, outer, run, facts["body"], bounds)}
            asker = f"{NESTED}{run}.{facts['asker']}"
            return await self._about(outer, method, Checksum(key), asker, facts)

        told = await answered(answer())
        found = self._outers.get(task)
        return {**told, "waiting": bool(found and found.waiting())}

    def left(self, task: str) -> None:
        """Withdraw what the command of a task asked for, since it has ended or is nobody's any more."""
        outer = self._outers.pop(task, None)
        if outer is not None:
            # not in the middle of a transition of the scheduler's
            asyncio.get_running_loop().call_soon(self._withdraw, outer)

    # ------------------------------------------------------------------ how

    def _outer(self, worker: str, task: str, checksum: str) -> Outer:
        state = self._jobserver.scheduler.tasks.get(task)
        refuse_closing(self._jobserver)
        if state is None or state.processing_on is None:
            raise Refused(503, "the command that asks is nobody's any more")
        if state.processing_on.address != worker:
            raise Refused(503, "the command that asks runs elsewhere now")
        found = self._outers.get(task, Outer(frozenset(), {}))
        return found._replace(own=found.own | {_name(task), checksum})

    def _post(self, task: str, outer: Outer, run: str, body: bytes, bounds: Options | None) -> dict[str, Any]:
        priority = self._priority(task)
        requests = [_tamed(one, run, priority, bounds) for one in requests_in(body)]
        self._outers[task] = outer
        for one in requests:
            self._refuse_cycle(outer, one.key)
        placed = self._jobserver.post(requests)
        outer.jobs.update({one.asker: job for one, job in zip(requests, placed, strict=True)})
        pairs = zip(placed, requests, strict=True)
        jobs = [self._jobserver.facts(job, one.asker, brief=True) for job, one in pairs]
        return {"protocol": PROTOCOL, "jobs": jobs}

    def _priority(self, task: str) -> int:
        """Return the priority that a task was submitted with."""
        state = self._jobserver.scheduler.tasks[task]
        return int((state.annotations or {}).get("priority", 0))

    async def _about(
        self, outer: Outer, method: str, key: Checksum, asker: str, facts: dict[str, Any]
    ) -> dict[str, Any]:
        job = outer.jobs.get(asker)
        if job is None or job.key != key:
            raise unknown(key)
        if method == "DELETE":
            self._leave(outer, asker)
            return withdrawn(job.outcome is not None)
        if method == "STDERR":
            written = await waits.stderr(self._jobserver, job, start_of(facts), wait_of(facts))
            return {"body": written, "over": waits.is_over(job)}
        found = await waits.changed_facts(
            self._jobserver, job, asker, str(facts.get("after", "")), wait_of(facts),
            brief=True, check=lambda: self._refuse_endless(outer, job, asker), interval=AGAIN,
        )  # fmt: skip
        return {"body": found}

    def _refuse_endless(self, outer: Outer, job: Job, asker: str) -> None:
        try:
            self._refuse_cycle(outer, job.key)
            self._refuse_starving(outer, job)
        except Refused:
            self._leave(outer, asker)
            raise

    def _leave(self, outer: Outer, asker: str) -> None:
        job = outer.jobs.pop(asker)
        if asker in job.requests:
            self._jobserver.withdraw(job, asker)

    def _withdraw(self, outer: Outer) -> None:
        if self._jobserver.closing:
            return
        for name, job in list(outer.jobs.items()):
            if name in job.waiting and job.waiting[name].detached:
                continue
            self._leave(outer, name)

    # ------------------------------------------------------------------ what would never end

    def _refuse_cycle(self, outer: Outer, key: str) -> None:
        if self._needs([key], outer.own):
            raise Refused(400, ITSELF.format(key=key))

    def _needs(self, keys: Iterable[str], wanted: frozenset[str]) -> bool:
        """Say whether one of some computations waits for one of `wanted`, by graph or by its command."""
        tasks, seen = self._jobserver.scheduler.tasks, set[str]()
        todo: list[tuple[str, str | None]] = [(key, self._task_of(key)) for key in keys]
        while todo:
            key, task = todo.pop()
            if key in wanted:
                return True
            if key in seen:
                continue
            seen.add(key)
            state = tasks.get(task or "")
            if state is not None:
                todo += [(_name(str(one.key)), str(one.key)) for one in state.waiting_on or ()]
                todo += [(checksum, None) for checksum in self._runs(state.key)]
            for outer in self._outers.values():
                if key in outer.own:
                    todo += [(job.key, job.name) for job in outer.waiting()]
        return False

    def _runs(self, task: Any) -> set[str]:
        """Return the checksums that a deferred task has turned out to run."""
        plugin: Any = self._jobserver.scheduler.plugins.get("seamless")
        found: set[str] = plugin.cutoff.runs(task) if plugin is not None else set()
        return found

    def _task_of(self, key: str) -> str | None:
        job = self._jobserver.registry.find(Checksum(key))
        return job.name if job is not None else None

    def _refuse_starving(self, outer: Outer, job: Job) -> None:
        """Refuse what takes resources that on every worker are in the hands of those who wait for it."""
        scheduler = self._jobserver.scheduler
        state = scheduler.tasks.get(job.name or "")
        asked = state.resource_restrictions if state is not None else None
        if not asked or job.started is not None:
            return
        held: dict[str, dict[str, float]] = {}
        for name, other in self._outers.items():
            task = scheduler.tasks.get(name)
            if task is None or task.processing_on is None or not self._waits(other, outer):
                continue
            on = held.setdefault(task.processing_on.address, {})
            for resource, amount in (task.resource_restrictions or {}).items():
                on[resource] = on.get(resource, 0.0) + amount
        able = [one for one in scheduler.workers.values() if _has(one.resources, asked, {})]
        if able and not any(_has(one.resources, asked, held.get(one.address, {})) for one in able):
            raise Refused(
                400,
                f"{job.key} asks for {requirements.told(asked)}, which the commands that wait for it hold"
                " themselves: let them ask for less",
            )

    def _waits(self, other: Outer, outer: Outer) -> bool:
        return (
            other is outer
            or other.own == outer.own
            or self._needs([job.key for job in other.waiting()], outer.own)
        )


def _tamed(request: JobRequest, run: str, priority: int, bounds: Options | None) -> JobRequest:
    """Return what is asked under a name of this run.

    It goes before other commands that would come to wait as well: else all of them are started first.
    """
    options = confined(request.options, bounds)
    options = options._replace(priority=options.priority + priority + 1)
    return request._replace(asker=f"{NESTED}{run}.{request.asker}", options=options)


def _name(task: str) -> str:
    """Return the key of the transformation that a task is, else its own name."""
    return key_in(task) or task


def _has(resources: dict[str, float], asked: dict[str, float], held: dict[str, float]) -> bool:
    return all(resources.get(name, 0.0) - held.get(name, 0.0) >= amount for name, amount in asked.items())
