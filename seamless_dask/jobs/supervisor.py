"""Running a computation for all who ask for it: the runner's side of a job directory."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from hashserver.errors import BufferMissing

from ..errors import Cancelled, LimitExceeded, UsageError
from ..execution.limits import over_limits
from ..execution.supervisor import Stop
from ..model import outcomes
from ..model.options import Options
from ..model.transformation import Value
from .confinement import ITSELF
from .directory import NESTED, QUEUED, SERVING, needs, waits_for
from .request import JobRequest, agreed
from .slots import Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashserver.checksum import Checksum

    from ..execution.supervisor import Usage
    from .directory import JobDirectory

    Action = Callable[["JobSupervisor"], Value]


class AnswersCommand(Protocol):
    """What answers a command that asks for computations."""

    variables: dict[str, str]

    @property
    def waiting(self) -> bool:
        """Whether the command waits for one."""
        ...

    def look(self) -> None:
        """See to it that it is answered; called several times a second."""
        ...

    def close(self) -> None:
        """Answer no more."""
        ...


class OpensGateway(Protocol):
    """Makes what answers the command of a job; see `seamless_dask.worker.nested.local.open_gateway`."""

    def __call__(self, outer: Checksum, given: Options, control: str, inner: str, /) -> AnswersCommand | None:
        """Make it."""
        ...


NOBODY = Stop("nobody waits for it any more")
CANCELLED = Stop("it was cancelled")


class JobSupervisor:
    """Watches a command for those who wait for it.

    Each asker's limits hold for that asker: who wants no more than a minute is told so after a minute, and
    the command goes on for the others.

    Parameters
    ----------
    job : JobDirectory
        Where they are registered.
    stderr : str
        Where the command's standard error is shown to them.
    parent : JobSupervisor, optional
        The one of the computation for which this one is only a step.
    name : str
        The name under which that computation is itself registered here.
    final : bool
        This step is what the parent's askers asked for: their limits and wishes hold for it.
    slot : Slot, optional
        That of this process; by default the parent's.
    opens : callable, optional
        Makes a way for a command to ask for computations; by default the parent's.
    """

    def __init__(
        self,
        job: JobDirectory,
        stderr: str | None,
        parent: JobSupervisor | None = None,
        name: str = "",
        final: bool = False,
        slot: Slot | None = None,
        opens: OpensGateway | None = None,
    ) -> None:
        self.job, self.stderr = job, stderr
        self.slot: Slot = slot or (parent.slot if parent else Slot(None))
        self._open: OpensGateway | None = opens or (parent._open if parent else None)
        self._gateway: AnswersCommand | None = None
        self._given = Options()
        self._parent, self._name, self._final = parent, name, final
        self._requests: dict[str, JobRequest] = {}
        self._bytes_seen_to = False
        self._scratched = False

    def poll(self, usage: Usage) -> Stop | None:
        """Say whether everybody has gone, or every one's limits are exceeded."""
        if self._gateway is not None:
            self._gateway.look()
        self.slot.follow(self._gateway is not None and self._gateway.waiting)
        if self._parent and self._final and (stop := self._parent.poll(usage)):
            return self._without_parent(self._parent, stop)
        if stop := self.abandoned():
            return stop
        stop, over = over_limits({name: request.options for name, request in self.requests().items()}, usage)
        for name, reason in over.items():
            self.fail(name, reason)
        return stop

    def begin(self) -> None:
        """Begin at once."""

    def gateway(self, control: str, inner: str) -> dict[str, str]:
        """Answer what the command asks for, and offer a way to say that it waits for what it starts itself.

        A sandbox hides the cache, so that what is started in there has another one, and other slots.
        """
        self._close()
        if self._open is not None:
            with suppress(OSError):  # not every file system has sockets
                self._gateway = self._open(self.job.key, self._given, control, inner)
        offered = self.slot.offer(self.job.file(NESTED)) if control == inner else {}
        return offered if self._gateway is None else offered | self._gateway.variables

    def alone(self, action: Action, given: Options) -> Value:
        """Call `action`, asked for in a certain way, as soon as this host has a slot for it."""
        self._given = given
        with self.slot.held(self.abandoned, self.job.file(QUEUED)):
            try:
                return action(self)
            finally:
                self._close()

    def _close(self) -> None:
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            gateway.close()

    def _without_parent(self, parent: JobSupervisor, stop: Stop) -> Stop | None:
        """Go on for the others when the parent's askers are not waiting any more."""
        if not self._leave(parent):
            return stop
        for name in parent.requests() if stop.limit else ():
            parent.fail(name, f"{stop}, which only you had set")
        return None

    def abandoned(self) -> Stop | None:
        """Say whether nobody wants the result any more."""
        if self.job.cancelled():
            return CANCELLED
        if self._parent and self._parent.abandoned():
            with self.job.guard():
                self.job.forget_dead()
            self._leave(self._parent)
        return None if self.job.waiting() else NOBODY

    def _leave(self, parent: JobSupervisor) -> bool:
        """Ask no more on behalf of `parent`; returns whether the command goes on for others."""
        with self.job.guard():
            self.job.unregister(self._name)
            others = bool(self.job.waiting())
        if others:
            with open(parent.job.file(SERVING), "wb"):
                return True
        return False

    def handed(self) -> list[str]:
        """Return where those who ask at this moment have put arguments that no store has."""
        options = [request.options for request in self.requests().values()]
        found = [each.handed for each in options if each.handed is not None]
        return found if self._parent is None else [*found, *self._parent.handed()]

    def scratch(self) -> bool:
        """Say whether all who ask agree that the bytes need not be kept."""
        requests = self.requests()
        if self._parent and self._final and requests.pop(self._name, None) and not self._parent.scratch():
            return False
        self._scratched = not any(request.keeps for request in requests.values())
        return self._scratched

    def as_request(self, key: Checksum, final: bool) -> JobRequest:
        """Return what is wanted of a step: what all who wait agree on, if it is the last one."""
        options = agreed(list(self.requests().values())) if final else Options()
        return JobRequest(key, options, outer=self.job.key)

    def needs_bytes(self) -> bool:
        """Say whether somebody needs the bytes of the result; that they are there is then seen to."""
        self._bytes_seen_to = any(request.need_bytes for request in self.requests().values())
        return self._bytes_seen_to

    def unserved(self, request: JobRequest, outcome: outcomes.Outcome) -> bool:
        """Say whether this one came too late to be asked about the bytes, which it wants."""
        if "error" in outcome:
            return False
        dropped = self._scratched and not request.options.scratch
        return dropped or (request.need_bytes and not self._bytes_seen_to)

    def requests(self) -> dict[str, JobRequest]:
        """Return what those ask for who wait now, by their names."""
        found: dict[str, JobRequest] = {}
        for name in self.job.waiting():
            request = self._requests.get(name) or self.job.request(name)
            if request is not None:
                found[name] = request
        self._requests = found
        return dict(found)

    def fail(self, name: str, reason: str) -> None:
        """Tell one that its limit is exceeded, while the command goes on for others."""
        with self.job.guard():
            if self.job.request(name) is None:
                return
            self.job.deliver(name, outcomes.failure(LimitExceeded(reason, 1)))


def hold(lock: int, supervisor: JobSupervisor, action: Action, own: str = "") -> Value:
    """Run `action` as the one who holds a job's lock; tell everybody how it ended, and let go.

    Parameters
    ----------
    own : str, optional
        The asker that is this process itself, and need not be told.
    """
    while True:
        try:
            value = action(supervisor)
        except KeyboardInterrupt:
            os.close(lock)  # only we are; for others who wait somebody else starts it again
            raise
        except BaseException as error:
            if not _finish(supervisor, lock, own, outcomes.failure(error)):
                continue
            raise
        _finish(supervisor, lock, own, outcomes.success(value))
        return value


def _finish(supervisor: JobSupervisor, lock: int, own: str, outcome: outcomes.Outcome) -> bool:
    """Tell everybody and let go; false: somebody came while it was being stopped for want of askers."""
    job = supervisor.job
    with job.guard():
        requests = supervisor.requests()
        if outcome.get("error") == Cancelled.__name__ and requests and not job.cancelled():
            return False
        for name, request in requests.items():
            if name == own or request.detached:
                job.unregister(name)
            else:
                job.deliver(name, outcomes.AGAIN if supervisor.unserved(request, outcome) else outcome)
        if own:
            job.unregister(own)
        # Still under the guard: one who joined between the last word and the end of the lock would find it
        # held, start nothing, and take us for lost when nobody had told it how we ended.
        os.close(lock)
        job.remove_if_over()
    return True


def join(job: JobDirectory, parent: JobSupervisor, final: bool, action: Action) -> Value:
    """Run a step of a computation, or wait for another process that runs it already.

    Parameters
    ----------
    job
        The step's own job.
    parent
        The supervisor of the computation.
    final
        The step is what the computation's askers asked for.
    action
        Runs the step.
    """
    while True:
        ended = _join_once(job, parent, final, action)
        if isinstance(ended, Value):
            return ended
        if ended != outcomes.AGAIN:
            return outcomes.result(ended)


def _join_once(
    job: JobDirectory, parent: JobSupervisor, final: bool, action: Action
) -> Value | outcomes.Outcome:
    with job.guard():
        lock = _lock(job)
        name = job.register(parent.as_request(job.key, final))
        bell = job.bell(name)
    tries = 0
    try:
        if lock is None and needs(job, parent.job.key):
            raise UsageError(ITSELF.format(key=job.key))
        while lock is None:
            if stop := parent.abandoned():
                with job.guard():
                    job.forget_dead()
                raise Cancelled(str(stop))
            with job.guard():
                # The outcome first, in one step with the lock: whoever ran it tells us and lets go in one,
                # too, so that a lock that is free without an outcome means that it has died.
                if outcome := job.outcome(name):
                    return outcome
                lock = _lock(job)
                tries += 1
                if lock is None and not tries % 10 and waits_for(job, os.getpid()):
                    raise _circle(job)
            if lock is None:
                bell.wait(0.05)
        return hold(lock, JobSupervisor(job, parent.stderr, parent, name, final), action, name)
    finally:
        bell.close()
        with job.guard():
            job.unregister(name)
            job.remove_if_over()


def _circle(job: JobDirectory) -> BufferMissing:
    """Return the error for two processes each of which needs lost bytes that the other one is to make."""
    return BufferMissing(
        job.key, f"what transformation {job.key} gave is gone, and needs itself to be made again"
    )


def _lock(job: JobDirectory) -> int | None:
    lock = job.try_lock()
    if lock is not None:
        job.mind_loss("ended without a word")
        job.describe(os.getpid(), None)
    return lock
