"""The workers of a daskserver: how many there are, of which shapes, and what becomes of them.

Dask's own cluster classes keep workers of one kind, and lose count when the batch system does not answer.
This keeps workers of several shapes (a task may ask for a queue, a node, more memory), takes note of what is
gone, and starts it again when there is work. It starts what Dask's classes start: nannies, and
dask-jobqueue's jobs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import dask.config
from dask.utils import parse_timedelta

from hashserver.errors import ServiceUnavailable

from ...errors import UsageError
from . import batch
from .batch import Shape
from .load import loads, shape_of, threads_of
from .worker_pool import WorkerPool, WorkerRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Scheduler
    from distributed.scheduler import TaskState

    from .launchers import Launcher, Process

logger = logging.getLogger(__name__)

ANY = Shape()
CAUSE_LIMIT = 60.0
"""Seconds for which the batch system is asked how a job has ended."""


class Autoscaler:
    """All workers of a daskserver, of all shapes.

    Parameters
    ----------
    scheduler
        Of this process, and running.
    launcher
        Starts the workers.
    name
        What the names of the workers begin with.
    limits
        The least and the greatest number of workers, or of jobs.
    journal
        File that names the jobs there are: who kills this process leaves them to the next one.
    tell
        Gets the name of a worker that was lost, and how its job ended.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        launcher: Launcher,
        name: str,
        limits: tuple[int, int],
        journal: str,
        tell: Callable[[str, str], None] = lambda name, how: None,
    ) -> None:
        self.scheduler, self.launcher = scheduler, launcher
        self.minimum, self.maximum = limits
        self.pool = WorkerPool(scheduler, launcher, name, journal)
        self._tell = tell
        self._ended: dict[str, WorkerRecord] = {}
        """Jobs of workers that were lost, until it is known how they ended."""
        self._beat: asyncio.Task[None] | None = None
        adaptive = {
            name: dask.config.get(f"distributed.adaptive.{name}") for name in ("interval", "target-duration")
        }
        self._interval, self._target = (parse_timedelta(value) for value in adaptive.values())
        idle = dask.config.get("seamless.worker-idle-timeout", "5 s" if launcher.kind == "local" else "60 s")
        self._idle_limit = parse_timedelta(idle)
        self._lost_limit = parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout"))

    @property
    def members(self) -> dict[str, WorkerRecord]:
        """The workers and jobs there are, by name."""
        return self.pool.members

    def notes(self) -> list[str]:
        """Return what somebody should know: one line for each thing that keeps work from being done."""
        return self.pool.notes()

    def why(self, task: TaskState) -> str | None:
        """Return what keeps a task from getting the worker that it needs."""
        trouble = self.pool.troubles.get(shape_of(task.resource_restrictions, self.launcher.base))
        return trouble.text or None if trouble else None

    def expects_more(self) -> bool:
        """Whether workers can come, or are on their way."""
        return len(self.pool.there()) < self.maximum or self._is_trying()

    def tells(self, name: str) -> bool:
        """Whether it is going to be told how a worker of that name has ended."""
        asked = self.launcher.kind == "slurm" and self.pool.silence is None
        return asked and any(name in member.names and member.job for member in self.pool.there())

    def facts(self) -> dict[str, Any]:
        """Return what there is, as JSON has it."""
        members = [
            {
                "name": member.name,
                "job": member.job,
                "state": member.state,
                "reason": member.reason,
                "shape": str(member.shape),
            }
            for member in self.members.values()
        ]
        facts = {"kind": self.launcher.kind, "minimum": self.minimum, "maximum": self.maximum}
        return facts | {"workers": members, "notes": self.notes()}

    async def start(self) -> None:
        """Start what keeps the number of workers right."""
        self._beat = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End all workers and jobs."""
        if self._beat:
            self._beat.cancel()
            await asyncio.wait([self._beat])
        await self.pool.close()

    async def _run(self) -> None:
        while True:
            try:
                await self.adapt()
            except ServiceUnavailable as error:
                self.pool.be_silent(str(error))
            except Exception:
                logger.exception("the number of workers could not be adapted; trying again")
            await asyncio.sleep(self._interval)

    async def adapt(self) -> None:
        """Compare what is wanted with what there is, and change that."""
        self._count()
        await self._inspect()
        self._count()  # the batch system took its time
        wanted = self._wanted()
        for shape in set(self.pool.troubles) - set(wanted):
            del self.pool.troubles[shape]
        for member in self._surplus(wanted):
            self.pool.retire(member)
        for shape, number in wanted.items():
            self._open(shape, number)

    # ------------------------------------------------------------------ what there is

    def _count(self) -> None:
        """Learn from the scheduler which workers have come and gone, and what they do."""
        here = {str(worker.name): worker for worker in self.scheduler.workers.values()}
        now = time.monotonic()
        for member in self.members.values():
            found = [here[name] for name in member.names if name in here]
            if member.state == "closing" or (not found and member.state != "running"):
                continue
            if member.become("running" if found else "lost") and found:
                self.pool.troubles.pop(member.shape, None)
            if any(worker.processing or worker.long_running for worker in found) or not found:
                member.idle_since = None
            elif member.idle_since is None:
                member.idle_since = now
        for name, worker in here.items():
            if self.pool.is_strange(name) and worker.status.name == "running":
                self.pool.dismiss(name)

    async def _inspect(self) -> None:
        """Ask the batch system about jobs whose workers are not here."""
        absent = [member for member in self.members.values() if member.state in ("waiting", "lost")]
        jobs = {member.job: member for member in absent if member.job}
        asked = [*jobs, *(job for job in self._ended if job not in jobs)]
        found = await batch.states(self.launcher.kind, asked) if asked else None
        if found is None:
            self._look_after(absent)
            return
        self.pool.silence = None
        self._explain(found)
        for job, member in jobs.items():
            if self.members.get(member.name) is member:
                self._judge(job, member, found.get(job))

    def _look_after(self, absent: list[WorkerRecord]) -> None:
        """Judge workers about which nobody can be asked."""
        for member in absent:
            if member.has_been("lost", self._lost_limit):
                self.pool.end(member)
            elif self.launcher.kind == "local" and _is_over(member.process):
                if member.state == "waiting":  # else it has run: a client has retired it, say
                    text = f"worker {member.name} ended before it could be used: seamless-daskserver logs"
                    self.pool.trouble(member.shape).again(text)
                self.pool.end(member)

    def _judge(self, job: str, member: WorkerRecord, state: batch.JobState | None) -> None:
        """Draw the consequences of what the queue says about a job; None: it is long over."""
        if state is None or state.over or state.ending:
            if member.state == "waiting":
                log = f"its log is {member.name}.log on the node, or where jobqueue.yaml says"
                how = state.told(job) if state and state.end else f"job {job} ended"
                self.pool.trouble(member.shape).again(f"{how} before its worker came: {log}")
            elif state is not None:
                self._ended[job] = member
                self._explain({job: state})
            self.pool.forget(member)
        elif state.waits and state.reason in batch.HOPELESS:
            text = f"no node fits a job for {member.shape}: {self.launcher.kind} says {state.reason}"
            self.pool.trouble(member.shape).again(text, hopeless=True)
            self.pool.end(member)
        elif state.waits:
            member.become("waiting", state.reason)
        elif member.has_been("lost", self._lost_limit):
            self.pool.end(member)

    def _explain(self, found: dict[str, batch.JobState]) -> None:
        """Tell how jobs have ended whose workers were lost."""
        for job, member in list(self._ended.items()):
            state = found.get(job)
            if state is not None and state.end:
                for name in member.names:
                    self._tell(name, state.told(job))
            if state is None or state.end or time.monotonic() - member.since > CAUSE_LIMIT:
                del self._ended[job]

    # ------------------------------------------------------------------ what there should be

    def _wanted(self) -> dict[Shape, int]:
        """Return how many members there should be of each shape."""
        found = loads(self.scheduler, self.launcher.base, self.pool.shape_of)
        numbers = {}
        for shape, load in found.items():
            each = threads_of(shape, self.launcher.base) * len(
                self.launcher.names("") if shape == ANY else [""]
            )
            numbers[shape] = load.workers(each, self._target)
        others = sum(number for shape, number in numbers.items() if shape != ANY)
        numbers[ANY] = max(numbers.get(ANY, 0), self.minimum - others)
        return numbers

    def _surplus(self, wanted: dict[Shape, int]) -> list[WorkerRecord]:
        """Return members that are not needed: idle for long, or not yet come and no longer wanted."""
        found = []
        there = self.pool.there
        short = any(number > len(there(shape)) for shape, number in wanted.items())
        limit = self._interval if short and len(there()) >= self.maximum else self._idle_limit
        for shape in {member.shape for member in self.members.values()}:
            members = there(shape)
            spare = len(members) - wanted.get(shape, 0)
            if spare > 0:
                idle = [member for member in members if self._is_idle(member, limit)]
                found += sorted(idle, key=lambda member: member.since)[-spare:]
        return found

    def _is_idle(self, member: WorkerRecord, limit: float) -> bool:
        since = member.since if member.state == "waiting" else member.idle_since
        return since is not None and time.monotonic() - since > limit

    def _open(self, shape: Shape, number: int) -> None:
        missing = min(number - len(self.pool.there(shape)), self.maximum - len(self.pool.there()))
        trouble = self.pool.troubles.get(shape)
        if trouble and trouble.text:
            if trouble.until > time.monotonic() or self._is_trying(shape):
                return
            missing = min(missing, 1)  # whether one comes tells whether more would
        for _ in range(missing):
            try:
                self.pool.begin(shape)
            except UsageError as error:
                self.pool.trouble(shape).again(f"tasks wait for ever: {error}", hopeless=True)
                return

    def _is_trying(self, shape: Shape | None = None) -> bool:
        return any(member.state in ("starting", "waiting") for member in self.pool.there(shape))


def _is_over(process: Process) -> bool:
    """Whether the process behind a nanny has ended for good."""
    from distributed.core import Status

    return getattr(process, "status", None) is Status.closed
