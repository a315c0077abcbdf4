"""Computations by way of a jobserver, over plain HTTP: Dask is not imported here."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.errors import ServiceUnavailable
from hashserver.retry import pauses

from ..errors import SeamlessError
from ..jobs.info import UNDER_WAY, JobInfo
from ..jobs.request import is_dead, own_name
from ..protocol.jobs import JOBS
from .client import JobserverClient, Unknown
from .waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from hashserver.checksum import Checksum

    from ..jobs.request import JobRequest
    from ..jobs.withdrawal import Withdrawal
    from ..model.transformation import Value

WITHDRAWAL = 5.0
"""Seconds that Ctrl-C takes at most when the jobserver does not answer."""
SOON = 1.0
"""Seconds after which whoever waits for that is told what for."""


class JobserverExecutor(JobserverClient):
    """Runs computations through the jobserver that a connection file names; see `Executor`."""

    def run(
        self,
        request: JobRequest,
        *,
        on_stderr: Callable[[bytes], None] | None = None,
        tick: Callable[[str], None] | None = None,
        withdrawal: Withdrawal | None = None,
    ) -> Value:
        """Start or join it, and wait."""
        options = request.options._replace(direct_print=on_stderr is not None)
        request = request._replace(options=options, asker=own_name())
        waiting = Waiting(self, request, on_stderr, tick or (lambda _: None), withdrawal)
        if withdrawal is not None:
            withdrawal.when_asked(lambda: self._withdraw_elsewhere(request))
        try:
            return waiting.end()
        except KeyboardInterrupt:
            self._withdraw(request)
            raise

    def submit(self, request: JobRequest) -> None:
        """Start or join it."""
        self.post(request._replace(detached=True, asker=own_name()))

    def cancel(self, key: Checksum) -> bool:
        """Withdraw everybody."""
        with suppress(Unknown):
            return bool(self.ask("DELETE", f"{JOBS}/{key}")["cancelled"])
        return False

    def jobs(self) -> list[JobInfo]:
        """Return what is under way."""
        found = self.ask("GET", JOBS)["jobs"]
        return [
            JobInfo(**{name: job[name] for name in JobInfo._fields if name in job})
            for job in found
            if job["state"] in UNDER_WAY
        ]

    def state(self, key: Checksum) -> str | None:
        """Return its state, or how it ended if that is not long ago."""
        with suppress(Unknown):
            return str(self.ask("GET", f"{JOBS}/{key}")["state"])
        return None

    # ------------------------------------------------------------------ withdrawing

    def _withdraw(self, request: JobRequest) -> None:
        """Ask no more, for as long as somebody who has pressed Ctrl-C will wait for that."""
        import threading

        done = threading.Event()
        threading.Thread(target=self._leave, args=(request, done), daemon=True).start()
        if done.wait(SOON):
            return
        self.notify(f"withdrawing from {self._url} (Ctrl-C again does not wait for it)")
        if not done.wait(WITHDRAWAL - SOON):
            self.notify(
                f"{self._url} does not answer: the job goes on; seamless-cancel {request.key} cancels it"
            )

    def _withdraw_elsewhere(self, request: JobRequest) -> None:
        """Ask no more by another connection: by this one the answer is being waited for, which ends then."""
        import threading

        other = type(self)(self._context, self._place, self.notify)

        def leave() -> None:
            other._leave(request, threading.Event())
            other.close()

        threading.Thread(target=leave, daemon=True).start()

    def _leave(self, request: JobRequest, done: Event) -> None:
        """Ask no more, also for those of this host whose processes have died."""
        path = f"{JOBS}/{request.key}"
        for pause in pauses(0.5, seconds=WITHDRAWAL):
            try:
                for name in self.ask("DELETE", f"{path}?asker={request.asker}")["askers"]:
                    if is_dead(name):
                        self.ask("DELETE", f"{path}?asker={name}")
            except Unknown:
                pass
            except ServiceUnavailable:
                time.sleep(pause)
                self.reconnect()
                continue
            except SeamlessError as error:
                self.notify(str(error))
            done.set()
            return
