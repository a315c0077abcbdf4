"""The workers and jobs that an autoscaler has started: each begins, is known by name, and ends.

Whatever the batch system does, none is forgotten that may still be there: the journal names the jobs for
whoever comes after a process that was killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hashserver.atomic import write_atomic
from hashserver.errors import ServiceUnavailable
from hashserver.retry import pauses

from .batch import Shape
from .launchers import Launcher, Process

if TYPE_CHECKING:
    from distributed import Scheduler

logger = logging.getLogger(__name__)

START_LIMIT, RETIRE_LIMIT, CLOSE_LIMIT = 60.0, 30.0, 10.0
"""Seconds for handing over a job, for a worker to pass on what it holds, for the end of all."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
"""Seconds before a shape is tried again that failed once, or often."""


class WorkerRecord:
    """One worker, or one job with several worker processes."""

    def __init__(self, name: str, names: list[str], shape: Shape, process: Process) -> None:
        self.name, self.names, self.shape, self.process = name, names, shape, process
        self.state = "starting"
        """starting, waiting (in the queue), running, lost, closing."""
        self.since = time.monotonic()
        self.idle_since: float | None = None
        self.reason = ""
        """Why it waits, as the batch system says."""
        self.lost_from_sight = False
        """Whether it may have been submitted without our learning what it is called."""

    @property
    def job(self) -> str | None:
        """The batch system's name for it."""
        return getattr(self.process, "job_id", None)

    def become(self, state: str, reason: str = "") -> bool:
        """Change its state; return whether that is another one."""
        self.reason = reason
        changed = state != self.state
        if changed:
            self.state, self.since = state, time.monotonic()
        return changed

    def has_been(self, state: str, seconds: float) -> bool:
        """Whether it has been in a state for longer than that."""
        return self.state == state and time.monotonic() - self.since > seconds


class Trouble:
    """Why workers of a shape are not started just now."""

    def __init__(self) -> None:
        self.text = ""
        self.until = 0.0
        self._pause, self._waits = 0.0, pauses(FIRST_PAUSE, LONGEST_PAUSE)

    def again(self, text: str, hopeless: bool = False) -> None:
        """Take note of a failure: the next attempt comes later than the one before.

        Several that fail together are one attempt.
        """
        now = time.monotonic()
        if hopeless:
            self._waits = pauses(LONGEST_PAUSE)
        if hopeless or now >= self.until:
            self._pause = next(self._waits)
        self.until = now + self._pause
        if text != self.text:
            logger.warning("%s", text)
        self.text = text


class WorkerPool:
    """All members of an autoscaler.

    Parameters
    ----------
    scheduler
        Theirs.
    launcher
        Starts them.
    prefix
        What their names begin with.
    journal
        File that names the jobs there are.

    Attributes
    ----------
    members : dict
        By name.
    troubles : dict
        By shape.
    silence : str or None
        Why the batch system cannot be asked.
    """

    def __init__(self, scheduler: Scheduler, launcher: Launcher, prefix: str, journal: str) -> None:
        self.scheduler, self.launcher = scheduler, launcher
        self._prefix = f"{prefix}-{int(time.time()):x}"
        self._any = re.compile(re.escape(prefix) + r"-[0-9a-f]{8,}-\d+(-\d+)?")
        self._left = leftovers(journal)
        self.members: dict[str, WorkerRecord] = {}
        self.troubles: dict[Shape, Trouble] = {}
        self.silence: str | None = None
        self._shapes: dict[str, Shape] = {}
        self._journal = journal
        self._unwritten: str | None = None
        self._number = 0
        self._works: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------ what is known

    def there(self, shape: Shape | None = None) -> list[WorkerRecord]:
        """Return the members that count, of a shape or all."""
        members = [member for member in self.members.values() if member.state != "closing"]
        return members if shape is None else [member for member in members if member.shape == shape]

    def shape_of(self, name: str) -> Shape | None:
        """Return the shape of a worker; None: it is not ours."""
        return self._shapes.get(name)

    def is_strange(self, name: str) -> bool:
        """Whether a worker is of a job that was given up, or of the time before a crash."""
        return name not in self._shapes and self._any.fullmatch(name) is not None

    def trouble(self, shape: Shape) -> Trouble:
        """Return what is wrong with a shape, for more to be said about it."""
        return self.troubles.setdefault(shape, Trouble())

    def notes(self) -> list[str]:
        """Return what somebody should know, one line each."""
        found = [text for text in (self.silence, self._unwritten) if text]
        return found + [trouble.text for trouble in self.troubles.values() if trouble.text]

    def be_silent(self, text: str) -> str:
        """Take note that the batch system does not answer; return what to say."""
        said = f"{self.launcher.kind} does not answer: {text or 'it takes too long'}"
        if said != self.silence:
            logger.warning("%s", said)
        self.silence = said
        return said

    def is_busy(self, member: WorkerRecord) -> bool:
        """Whether a worker of it has something to do."""
        return any(
            worker.processing or worker.long_running
            for worker in self.scheduler.workers.values()
            if str(worker.name) in member.names
        )

    # ------------------------------------------------------------------ coming and going

    def begin(self, shape: Shape) -> None:
        """Start one.

        Raises
        ------
        UsageError
            There is none of that shape.
        """
        self._number += 1
        name = f"{self._prefix}-{self._number}"
        process = self.launcher.make(shape, name)
        member = self.members[name] = WorkerRecord(name, self.launcher.names(name), shape, process)
        self._shapes |= dict.fromkeys(member.names, shape)
        self._do(self._begin(member))

    def retire(self, member: WorkerRecord) -> None:
        """End one when others have what it holds; if that cannot be, or it has work by now, it stays."""
        self._do(self._retire(member))

    def end(self, member: WorkerRecord) -> None:
        """End one."""
        self._do(self._end(member))

    def dismiss(self, name: str) -> None:
        """End a worker that `is_strange`."""
        logger.warning("worker %s came, and nobody counts on it: it is closed", name)
        self._do(self._dismiss(name))

    def forget(self, member: WorkerRecord) -> None:
        """Count one no longer that is over."""
        self.members.pop(member.name, None)
        for name in member.names:
            self._shapes.pop(name, None)
        self._save()

    async def close(self) -> None:
        """End all; never raises. What may be left is told in the log."""
        # A job that is being handed over has no number yet by which it could be cancelled.
        await _finish(self._works, CLOSE_LIMIT / 2)
        await _finish({asyncio.create_task(self._end(one)) for one in self.members.values()}, CLOSE_LIMIT)
        if self.members:
            jobs = " ".join(
                one.job or f"(one being submitted as {one.name})" for one in self.members.values()
            )
            command = getattr(self.launcher, "cancel_command", "kill")
            text = "%s did not answer: jobs may be left; look later, and: %s %s"
            logger.error(text, self.launcher.kind, command, jobs)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)

    async def _begin(self, member: WorkerRecord) -> None:
        try:
            await asyncio.wait_for(member.process.start(), START_LIMIT)
        except asyncio.CancelledError:
            member.lost_from_sight = self.launcher.kind != "local"
            raise
        except (ServiceUnavailable, TimeoutError) as error:
            self.trouble(member.shape).again(self.be_silent(str(error)))
            await self._end(member)
        except Exception as error:
            said = next(iter(str(error).splitlines()), type(error).__name__)
            self.trouble(member.shape).again(f"no worker could be started for {member.shape}: {said}")
            await self._end(member)
        else:
            self.silence = None
            if member.state == "starting":
                member.become("waiting")
            self._save()

    async def _retire(self, member: WorkerRecord) -> None:
        state = member.state
        if state == "running" and self.is_busy(member):
            return
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

    async def _dismiss(self, name: str) -> None:
        with suppress(TimeoutError):
            retiring = self.scheduler.retire_workers(names=[name], close_workers=True)
            await asyncio.wait_for(retiring, RETIRE_LIMIT)

    async def _end(self, member: WorkerRecord) -> None:
        member.become("closing")
        try:
            await asyncio.wait_for(member.process.close(), CLOSE_LIMIT)
        except Exception as error:
            # It stays in the list and in the journal; another attempt comes when the batch system answers.
            self.be_silent(str(error))
            if self.launcher.kind != "local":
                member.become("lost")
                return
        if not member.lost_from_sight:
            self.forget(member)

    def _save(self) -> None:
        jobs = [*self._left, *(member.job for member in self.members.values() if member.job)]
        document = {"kind": self.launcher.kind, "jobs": jobs}
        try:
            write_atomic(self._journal, json.dumps(document).encode(), 0o600)
        except OSError as error:
            self._unwritten = f"cannot write {self._journal}: {error.strerror}"
            logger.error("%s; jobs are left if this process is killed now", self._unwritten)
        else:
            self._unwritten = None


def leftovers(journal: str) -> list[str]:
    """Return the jobs that a journal names: those of a daskserver that was killed."""
    try:
        with open(journal, encoding="ascii") as file:
            return [str(job) for job in json.load(file)["jobs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


async def _finish(tasks: set[asyncio.Task[None]], limit: float) -> None:
    """Wait for tasks, and cancel those that take longer than `limit` seconds."""
    if not tasks:
        return
    _, pending = await asyncio.wait(tasks, timeout=limit)
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.wait(pending)
