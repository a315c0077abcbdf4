"""The workers of a daskserver: how many there are, of which shapes, and what becomes of them.

Dask's own cluster classes keep workers of one kind, and lose count when the batch system does not answer. A
fleet keeps workers of several shapes (a task may ask for a queue, a node, more memory), takes note of what is
gone, and starts it again when there is work. It starts what Dask's classes start: nannies, and
dask-jobqueue's jobs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import dask.config
from dask.utils import parse_timedelta

from hashserver.atomic import write_atomic
from hashserver.errors import ServiceUnavailable

from ..errors import UsageError
from . import batch
from .batch import Shape
from .demand import loads, threads_of
from .launchers import Launcher, Process

if TYPE_CHECKING:
    from distributed import Scheduler

logger = logging.getLogger(__name__)

ANY = Shape()
START_LIMIT, RETIRE_LIMIT, CLOSE_LIMIT = 60.0, 30.0, 10.0
"""Seconds for handing over a job, for a worker to pass on what it holds, for the end of all."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
"""Seconds before a shape is tried again that failed once, or often."""


class Member:
    """One worker, or one job with several worker processes."""

    def __init__(self, name: str, names: list[str], shape: Shape, process: Process) -> None:
        self.name, self.names, self.shape, self.process = name, names, shape, process
        self.state = "starting"
        """starting, waiting (in the queue), running, lost, closing."""
        self.since = time.monotonic()
        self.idle_since: float | None = None
        self.lost_from_sight = False
        """Whether it may have been submitted without our learning what it is called."""

    @property
    def job(self) -> str | None:
        """The batch system's name for it."""
        return getattr(self.process, "job_id", None)

    def become(self, state: str) -> None:
        """Change its state, if that is another one."""
        if state != self.state:
            self.state, self.since = state, time.monotonic()


class Trouble:
    """Why workers of a shape are not started just now."""

    def __init__(self) -> None:
        self.text = ""
        self.pause = 0.0
        self.until = 0.0

    def again(self, text: str, hopeless: bool = False) -> None:
        """Take note of a failure: the next attempt comes later than the one before."""
        self.pause = LONGEST_PAUSE if hopeless else min(max(2 * self.pause, FIRST_PAUSE), LONGEST_PAUSE)
        self.until = time.monotonic() + self.pause
        if text != self.text:
            logger.warning("%s", text)
        self.text = text


class Fleet:
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
    """

    def __init__(
        self, scheduler: Scheduler, launcher: Launcher, name: str, limits: tuple[int, int], journal: str
    ) -> None:
        self.scheduler, self.launcher = scheduler, launcher
        self.minimum, self.maximum = limits
        self.members: dict[str, Member] = {}
        self._shapes: dict[str, Shape] = {}
        self._troubles: dict[Shape, Trouble] = {}
        self._silence: str | None = None
        self._journal = journal
        self._prefix = f"{name}-{int(time.time()):x}"
        self._number = 0
        self._works: set[asyncio.Task[None]] = set()
        self._beat: asyncio.Task[None] | None = None
        adaptive = {
            name: dask.config.get(f"distributed.adaptive.{name}") for name in ("interval", "target-duration")
        }
        self._interval, self._target = (parse_timedelta(value) for value in adaptive.values())
        idle = dask.config.get("seamless.worker-idle-timeout", "5 s" if launcher.kind == "local" else "60 s")
        self._idle_limit = parse_timedelta(idle)
        self._lost_limit = parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout"))

    def notes(self) -> list[str]:
        """Return what somebody should know: one line for each thing that keeps work from being done."""
        found = [self._silence] if self._silence else []
        return found + [trouble.text for trouble in self._troubles.values() if trouble.text]

    def facts(self) -> dict[str, Any]:
        """Return what there is, as JSON has it."""
        members = [
            {"name": member.name, "job": member.job, "state": member.state, "shape": str(member.shape)}
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
        # A job that is being handed over has no number yet by which it could be cancelled.
        await _finish(self._works, CLOSE_LIMIT / 2)
        await _finish(
            {asyncio.create_task(self._end(member)) for member in self.members.values()}, CLOSE_LIMIT
        )
        self._tell_leftovers()

    def _tell_leftovers(self) -> None:
        if not self.members:
            return
        jobs = " ".join(
            member.job or f"(one being submitted as {member.name})" for member in self.members.values()
        )
        command = getattr(self.launcher, "cancel_command", "kill")
        logger.error(
            "%s did not answer: jobs may be left; look later, and: %s %s", self.launcher.kind, command, jobs
        )

    async def _run(self) -> None:
        while True:
            try:
                await self.adapt()
            except ServiceUnavailable as error:
                self._be_silent(str(error))
            except Exception:
                logger.exception("the number of workers could not be adapted; trying again")
            await asyncio.sleep(self._interval)

    def _be_silent(self, text: str) -> None:
        if text != self._silence:
            logger.warning("%s does not answer: %s", self.launcher.kind, text)
        self._silence = f"{self.launcher.kind} does not answer: {text}"

    async def adapt(self) -> None:
        """Compare what is wanted with what there is, and change that."""
        self._count()
        await self._inspect()
        wanted = self._wanted()
        for shape in set(self._troubles) - set(wanted):
            del self._troubles[shape]
        for member in self._surplus(wanted):
            self._do(self._retire(member))
        for shape, number in wanted.items():
            self._open(shape, number)

    def _count(self) -> None:
        """Learn from the scheduler which workers have come and gone, and what they do."""
        here = {str(worker.name): worker for worker in self.scheduler.workers.values()}
        now = time.monotonic()
        for member in self.members.values():
            found = [here[name] for name in member.names if name in here]
            if member.state == "closing" or (not found and member.state != "running"):
                continue
            member.become("running" if found else "lost")
            if any(worker.processing or worker.long_running for worker in found) or not found:
                member.idle_since = None
            elif member.idle_since is None:
                member.idle_since = now
            if found:
                self._troubles.pop(member.shape, None)

    async def _inspect(self) -> None:
        """Ask the batch system about jobs whose workers are not here."""
        absent = [member for member in self.members.values() if member.state in ("waiting", "lost")]
        jobs = {member.job: member for member in absent if member.job}
        found = await batch.states(self.launcher.kind, list(jobs)) if jobs else None
        if jobs and found is not None:
            self._silence = None
            for job, member in jobs.items():
                self._judge(member, found.get(job))
        elif found is None:
            for member in absent:
                if member.state == "lost" and time.monotonic() - member.since > self._lost_limit:
                    self._do(self._end(member))
                elif self.launcher.kind == "local" and _is_over(member.process):
                    text = f"worker {member.name} ended before it could be used: seamless-daskserver logs"
                    self._troubles.setdefault(member.shape, Trouble()).again(text)
                    self._do(self._end(member))

    def _judge(self, member: Member, state: batch.State | None) -> None:
        trouble = self._troubles.setdefault(member.shape, Trouble())
        if state is None:
            if member.state == "waiting":
                log = f"its log is {member.name}.log on the node, or where jobqueue.yaml says"
                trouble.again(f"job {member.job} ended before its worker came: {log}")
            self._forget(member)
        elif state.waits and state.reason in batch.HOPELESS:
            trouble.again(
                f"no node fits a job for {member.shape}: {self.launcher.kind} says {state.reason}", True
            )
            self._do(self._end(member))
        elif state.waits:
            member.become("waiting")
        elif member.state == "lost" and time.monotonic() - member.since > self._lost_limit:
            self._do(self._end(member))
        if not trouble.text:
            del self._troubles[member.shape]

    def _wanted(self) -> dict[Shape, int]:
        """Return how many members there should be of each shape."""
        found = loads(self.scheduler, self.launcher.base, self._shapes.get)
        numbers = {}
        for shape, load in found.items():
            each = threads_of(shape, self.launcher.base) * len(
                self.launcher.names("") if shape == ANY else [""]
            )
            numbers[shape] = load.workers(each, self._target)
        numbers[ANY] = max(numbers.get(ANY, 0), self.minimum)
        return numbers

    def _there(self, shape: Shape | None = None) -> list[Member]:
        members = [member for member in self.members.values() if member.state != "closing"]
        return members if shape is None else [member for member in members if member.shape == shape]

    def _surplus(self, wanted: dict[Shape, int]) -> list[Member]:
        """Return members that are not needed: idle for long, or not yet come and no longer wanted."""
        found = []
        short = any(number > len(self._there(shape)) for shape, number in wanted.items())
        limit = self._interval if short and len(self._there()) >= self.maximum else self._idle_limit
        for shape in {member.shape for member in self.members.values()}:
            members = self._there(shape)
            spare = len(members) - wanted.get(shape, 0)
            if spare > 0:
                found += sorted(
                    (member for member in members if self._is_idle(member, limit)),
                    key=lambda member: member.since,
                )[-spare:]
        return found

    def _is_idle(self, member: Member, limit: float) -> bool:
        since = member.since if member.state == "waiting" else member.idle_since
        return since is not None and time.monotonic() - since > limit

    def _open(self, shape: Shape, number: int) -> None:
        trouble = self._troubles.get(shape)
        if trouble and trouble.until > time.monotonic():
            return
        for _ in range(min(number - len(self._there(shape)), self.maximum - len(self._there()))):
            self._number += 1
            name = f"{self._prefix}-{self._number}"
            try:
                process = self.launcher.make(shape, name)
            except UsageError as error:
                self._troubles.setdefault(shape, Trouble()).again(f"tasks wait for ever: {error}", True)
                return
            member = self.members[name] = Member(name, self.launcher.names(name), shape, process)
            self._shapes |= dict.fromkeys(member.names, shape)
            self._do(self._begin(member))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)

    async def _begin(self, member: Member) -> None:
        try:
            await asyncio.wait_for(member.process.start(), START_LIMIT)
        except asyncio.CancelledError:
            member.lost_from_sight = self.launcher.kind != "local"
            raise
        except (ServiceUnavailable, TimeoutError) as error:
            self._be_silent(str(error) or "it takes too long")
            self._troubles.setdefault(member.shape, Trouble()).again(self._silence or "")
            await self._end(member)
        except Exception as error:
            text = f"no worker could be started for {member.shape}: {error}"
            self._troubles.setdefault(member.shape, Trouble()).again(text)
            await self._end(member)
        else:
            self._silence = None
            if member.state == "starting":
                member.become("waiting")
            self._save()

    async def _retire(self, member: Member) -> None:
        """End a worker when others have what it holds; if that cannot be, it stays."""
        state = member.state
        member.become("closing")
        if state == "running":
            retired: dict[str, Any] = {}
            with suppress(TimeoutError):
                retired = await asyncio.wait_for(
                    self.scheduler.retire_workers(names=member.names, close_workers=True), RETIRE_LIMIT
                )
            names = {str(worker.name) for worker in self.scheduler.workers.values()}
            if not retired and names & set(member.names):
                member.become(state)
                member.idle_since = None
                return
        await self._end(member)

    async def _end(self, member: Member) -> None:
        member.become("closing")
        try:
            await asyncio.wait_for(member.process.close(), CLOSE_LIMIT)
        except Exception as error:
            # It stays in the list and in the journal; another attempt comes when the batch system answers.
            self._be_silent(str(error) or "it takes too long")
            if self.launcher.kind != "local":
                member.become("lost")
                return
        if not member.lost_from_sight:
            self._forget(member)

    def _forget(self, member: Member) -> None:
        self.members.pop(member.name, None)
        for name in member.names:
            self._shapes.pop(name, None)
        self._save()

    def _save(self) -> None:
        jobs = [member.job for member in self.members.values() if member.job]
        document = {"kind": self.launcher.kind, "jobs": jobs}
        write_atomic(self._journal, json.dumps(document).encode(), 0o600)


async def _finish(tasks: set[asyncio.Task[None]], limit: float) -> None:
    """Wait for tasks, and cancel those that take longer than `limit` seconds."""
    if not tasks:
        return
    _, pending = await asyncio.wait(tasks, timeout=limit)
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.wait(pending)


def _is_over(process: Process) -> bool:
    """Whether the process behind a nanny has ended for good."""
    from distributed.core import Status

    return getattr(process, "status", None) is Status.closed
