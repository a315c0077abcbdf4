"""One who asks for one computation on this host: joins or starts it, waits, withdraws.

The computation runs in a process of its own (`seamless_dask.worker.local`), in a session of its own, so that
a closed terminal or a killed asker does not end it: the result is recorded all the same. All who ask for one
key share it; see `.directory` for how they find each other.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.retry import pauses

from .. import daemon
from ..errors import SeamlessError, UsageError, WorkerLost
from ..locks import birth
from ..model import outcomes
from ..model.transformation import Value
from . import processes, slots
from .bell import Bell
from .confinement import ITSELF
from .directory import ATTEMPTS, SERVING, JobDirectory, needs
from .processes import KeptProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashserver.checksum import Checksum

    from ..context import Context
    from .request import JobRequest
    from .withdrawal import Withdrawal

PATIENCE = 5.0
"""How long, in seconds, one who withdraws waits for the end of a computation that nobody wants any more."""


class LocalRequest:
    """One who asks for one computation.

    Parameters
    ----------
    context : Context
        Where the transformation's document, and those it refers to, are stored.
    request : JobRequest
        What is asked for. When others have asked already, only limits, `scratch` and `retries` count.
    bounded : bool
        It waits until this host has a slot for one more command; false: somebody else sees to that.
    kept : bool
        The process that runs it may have run others, and may run others afterwards.
    """

    def __init__(
        self, context: Context, request: JobRequest, *, bounded: bool = True, kept: bool = False
    ) -> None:
        self.context, self.request, self._bounded, self._kept = context, request, bounded, kept
        self.job = JobDirectory(context.cache, request.key)
        self._name: str | None = None
        self._child: daemon.Daemon | KeptProcess | None = None
        self._born = 0
        self.value: Value | None = None
        """The result, as soon as it is known."""
        self._bell: Bell | None = None
        self._shown = 0

    def start(self) -> LocalRequest:
        """Join the computation, or start it; does nothing when the result has appeared by now.

        Raises
        ------
        UsageError
            The command that asks for it would wait for itself.
        """
        outer = self.request.outer
        if outer and not self.request.detached and needs(self.job, outer):
            raise UsageError(ITSELF.format(key=self.request.key))
        self._start()
        if outer and self._name and not self.request.detached and needs(self.job, outer):
            self.withdraw(0.0)
            raise UsageError(ITSELF.format(key=self.request.key))
        if self.request.detached:
            self._let_go()
        return self

    def _start(self) -> None:
        for attempt in range(ATTEMPTS):
            with self.job.guard():
                try:
                    self._join()
                    break
                except OSError as error:
                    # another host, which sees none of our locks, has removed the directory in the meantime
                    if error.errno not in (errno.ENOENT, errno.ESTALE) or attempt == ATTEMPTS - 1:
                        raise
                    if self._name is not None:
                        self.job.unregister(self._name)
                    self._close()

    def _join(self) -> None:
        lock = self.job.try_lock()
        if lock is not None and self._known():
            os.close(lock)
            self.job.remove_if_over()
            return
        try:
            if lock is not None:
                self.job.mind_loss("ended without a word")
            self._name = self.job.register(self.request)
            if not self.request.detached:
                self._bell = self.job.bell(self._name)
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        if lock is not None:
            self._run(lock)

    def wait(
        self,
        on_stderr: Callable[[bytes], None] | None = None,
        tick: Callable[[str], None] | None = None,
        withdrawal: Withdrawal | None = None,
    ) -> Value:
        """Wait for the end.

        Parameters
        ----------
        on_stderr
            Gets what the command writes to its standard error, as it comes.
        tick
            Gets the state whenever it has changed: from ``running`` to ``queued``, and back.
        withdrawal
            By which another thread ends the wait: then `withdraw` is to be called.

        Raises
        ------
        ComputationFailed, Cancelled, WorkerLost, ...
            As it ended.
        """
        try:
            with slots.waiting():
                return self._wait(on_stderr, tick, withdrawal)
        except Exception:
            self._let_go()
            raise

    def _wait(
        self,
        on_stderr: Callable[[bytes], None] | None,
        tick: Callable[[str], None] | None,
        withdrawal: Withdrawal | None,
    ) -> Value:
        waits = pauses(0.01, 0.05 if on_stderr else 0.2, factor=1.5)
        state = "running"
        while self.value is None:
            if withdrawal is not None:
                withdrawal.check()
            outcome = self._outcome()
            if on_stderr:
                self._show(on_stderr)
            if outcome is not None:
                self._leave()
                if outcome == outcomes.AGAIN:
                    self.request = self.request._replace(need_bytes=True)
                    self._start()
                    continue
                self.value = outcomes.result(outcome)
                break
            if tick and state != (state := "queued" if self.job.is_queued() else "running"):
                tick(state)
            if self._bell:
                self._bell.wait(next(waits))
        return self.value

    def withdraw(self, patience: float = PATIENCE) -> bool:
        """Ask no more; returns whether others still do, of whom the dead do not count.

        When nobody does the computation is stopped, which is waited for, but not longer than `patience`.
        """
        if self._name is None:
            return bool(self.job.waiting())
        with self.job.guard():
            self.job.unregister(self._name)
            self.job.forget_dead()
            others = bool(self.job.waiting())
            self.job.remove_if_over()
        self._close()
        for pause in pauses(0.02, seconds=patience):
            if others:
                break
            with self.job.guard():
                if not self.job.held():
                    self.job.remove_if_over()
                    break
                if os.path.exists(self.job.file(SERVING)):
                    break  # only a step of it goes on, for somebody else
                others = bool(self.job.waiting())
            time.sleep(pause)
        self._reap()
        self._let_go()
        return others

    # -------------------------------------------------- how

    def _known(self) -> bool:
        """Look once more, as the one who would start it: another one may just have finished it."""
        if self.request.fresh or not self.context.embedded:  # a server must not be asked under the guard
            return False
        found = self.context.database.lookup(self.request.key)
        if found is None:
            return False
        value = Value(found[1].format, found[1].checksum)
        if self.request.need_bytes:
            from ..model.values import missing

            if missing(self.context.store, [value]):
                return False
        self.value = value
        return True

    def _outcome(self) -> outcomes.Outcome | None:
        """Return how it ended, having started it again if its runner was lost."""
        assert self._name is not None
        outcome = self.job.outcome(self._name)
        if outcome is None and self._runner_is_gone():
            self._require_place()
            outcome = self._revive()
        return outcome

    def _require_place(self) -> None:
        """Raise when somebody has removed what we wait by: nobody could tell us of any end."""
        assert self._name is not None
        if self.job.request(self._name) is None:
            self._close()
            self._reap()
            raise WorkerLost(f"{self.job.path} was removed while its result was waited for: ask for it again")

    def _runner_is_gone(self) -> bool:
        # many may wait for long: one whose own runner lives has not to take the guard to know
        if self._child is not None and self._born and birth(self._child.pid) == self._born:
            return False
        return not self.job.running()

    def _revive(self) -> outcomes.Outcome | None:
        assert self._name is not None
        with self.job.guard():
            # Once more, under the guard: since we looked the runner may have told us and let go of its lock,
            # which is no loss; or another who waits has started it again.
            outcome = self.job.outcome(self._name)
            if outcome is not None or (lock := self.job.try_lock()) is None:
                return outcome
            self.job.mind_loss(self._how_lost())
            losses = self.job.losses()
            if len(losses) <= self.request.options.retries:
                self._run(lock)
                return None
            os.close(lock)
        return outcomes.failure(lost(self.request.key, losses))

    def _run(self, lock: int) -> None:
        """Start a runner that holds `lock`; what an earlier one has shown of stderr is not shown again."""
        self._shown = 0
        with suppress(OSError):
            self._shown = os.stat(self.job.file("stderr")).st_size
        try:
            self._let_go()
            self._child = processes.start(
                self.context, self.job, self.request, lock, bounded=self._bounded, kept=self._kept
            )
            self._born = birth(self._child.pid)
        finally:
            os.close(lock)

    def _how_lost(self) -> str:
        child, status = self._child, self._reap()
        if child is None or status is None or child.pid != self.job.facts().get("pid"):
            return "ended without a word"
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"exited with status {status} ({daemon.last_line(self.job.file('log'))})"

    def _reap(self) -> int | None:
        """Return the exit status of the runner that we started, negative for a signal; None: not known."""
        return self._child.poll() if self._child else None

    def _show(self, on_stderr: Callable[[bytes], None]) -> None:
        with suppress(OSError), open(self.job.file("stderr"), "rb") as file:
            file.seek(self._shown)
            while data := file.read(1 << 16):
                self._shown += len(data)
                on_stderr(data)

    def _leave(self) -> None:
        idle = True
        if self._name is not None:
            with self.job.guard():
                self.job.unregister(self._name)
                idle = not self.job.held()  # it may go on for others, whose limits are longer
                self.job.remove_if_over()
        self._close()
        self._reap()
        self._let_go(idle=idle)

    def _let_go(self, *, idle: bool = False) -> None:
        child, self._child = self._child, None
        if isinstance(child, KeptProcess):
            child.release(idle=idle)

    def _close(self) -> None:
        self._name = None
        if self._bell is not None:
            self._bell.close()
            self._bell = None


def lost(key: Checksum, losses: list[str]) -> SeamlessError:
    """Return the error for a computation whose runners were lost too often."""
    processes: dict[tuple[str, str], list[str]] = {}
    for line in losses:
        _, process, _, host, how = line.split(" ", 4)
        processes.setdefault((host, how), []).append(process)
    told = "; ".join(
        f"process{'es' if len(found) > 1 else ''} {', '.join(found)} on {host} {how}"
        for (host, how), found in processes.items()
    )
    return WorkerLost(f"{key} was given up: {len(losses)} runners were lost: {told}")
