"""Waiting for a job of a jobserver, whatever happens to the connection.

The first contact must succeed. From then on a lost connection is made again for as long as it takes, and a
job that the jobserver does not know is posted again: it may have been moved, or have lost its journal.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hashserver.errors import AuthenticationFailed, ReadOnly, ServiceUnavailable
from hashserver.retry import pauses

from ..errors import ComputationFailed, WorkerLost
from ..model import outcomes
from ..protocol.jobs import JOBS, NEXT, OVER
from ..protocol.transports import WAIT
from .client import Unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..jobs.request import JobRequest
    from ..jobs.withdrawal import Withdrawal
    from ..model.transformation import Value
    from .client import Facts, JobserverClient

STDERR_WAIT = 1.0
SILENT = 3.0
"""Seconds without the jobserver, once that is noticed, before whoever waits is told."""
MOST_PAUSE = 10.0


class Waiting:
    """One wait for the end of one job.

    Parameters
    ----------
    executor
        The way to the jobserver.
    request
        What is posted.
    on_stderr, tick, withdrawal
        As for `Executor.run`.
    """

    def __init__(
        self,
        executor: JobserverClient,
        request: JobRequest,
        on_stderr: Callable[[bytes], None] | None,
        tick: Callable[[str], None],
        withdrawal: Withdrawal | None = None,
    ) -> None:
        self._executor, self._request = executor, request
        self._on_stderr, self._tick, self._withdrawal = on_stderr, tick, withdrawal
        self._shown = 0
        self._why: str | None = None
        self._path = f"{JOBS}/{request.key}"
        self._asker = f"asker={request.asker}"

    def end(self) -> Value:
        """Wait for it."""
        facts: Facts | None = self._executor.post(self._request)
        while True:
            self._stay()
            try:
                if facts is None:
                    facts = self._executor.post(self._request)
                while not facts["outcome"]:
                    self._stay()
                    self._tick(facts["state"])
                    self._warn(facts.get("why"))
                    facts = self._next(facts["state"])
                if self._on_stderr:
                    self._show(self._on_stderr, 0.0)
                break
            except Unknown:
                facts = None
            except (AuthenticationFailed, ReadOnly):
                raise
            except ServiceUnavailable as error:
                self._back(error)
        return _result(facts["outcome"])

    def _stay(self) -> None:
        if self._withdrawal is not None:
            self._withdrawal.check()

    def _warn(self, why: str | None) -> None:
        """Say once what it waits for that may never come."""
        if why and why != self._why:
            self._executor.notify(why)
        self._why = why or self._why

    def _next(self, state: str) -> Facts:
        wait, after = WAIT, state.replace(" ", "+")
        if self._on_stderr:
            self._show(self._on_stderr, STDERR_WAIT)
            wait, after = 0.0, ""
        query = f"{self._asker}&wait={wait}&after={after}"
        return self._executor.ask("GET", f"{self._path}?{query}")

    def _show(self, on_stderr: Callable[[bytes], None], wait: float) -> None:
        """Pass on what has been written since, waiting a little for it."""
        path = f"{self._path}/stderr?{self._asker}&start={self._shown}&wait={wait}"
        with self._executor.send("GET", path) as response:
            data, over = response.read(), response.headers.get(OVER.lower()) == "1"
            end = int(response.headers.get(NEXT.lower(), self._shown + len(data)))
        if data:
            if left := end - self._shown - len(data):
                on_stderr(f"[… {left} bytes are left out]\n".encode())
            self._shown = end
            on_stderr(data)
        elif over and wait:
            time.sleep(0.05)  # nothing comes any more, and the end is not known yet

    def _back(self, lost: ServiceUnavailable) -> None:
        """Wait until the jobserver answers again."""
        start, told, waits = time.monotonic(), False, pauses(0.1, MOST_PAUSE, factor=1.5)
        while True:
            if not told and time.monotonic() - start > SILENT:
                self._executor.notify(f"{lost}; trying again until it answers (Ctrl-C gives up)")
                told = True
            self._stay()
            self._tick("reconnecting")
            time.sleep(next(waits))
            self._executor.reconnect()
            try:
                self._executor.ask("GET", f"{self._path}?{self._asker}")
            except Unknown:
                return
            except (AuthenticationFailed, ReadOnly):
                raise
            except ServiceUnavailable as error:
                lost = error
            else:
                return


def _result(outcome: outcomes.Outcome) -> Value:
    """Return the value of an outcome, or raise its error, with the worker that it happened on."""
    try:
        return outcomes.result(outcome)
    except (ComputationFailed, WorkerLost) as error:
        if outcome.get("worker") and "(worker " not in str(error):
            error.args = (f"{error} (worker {outcome['worker']} on {outcome['node']})", *error.args[1:])
        raise
