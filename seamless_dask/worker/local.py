"""The process that runs one computation for all who ask for it.

It is started as ``python -m seamless_dask.worker.local CACHE KEY LOCK [CONTROL]``, by
`seamless_dask.jobs.processes`, with the job's lock as descriptor LOCK, in a session of its own. It hears
neither the terminal's signals nor of the death of those who asked; that somebody withdraws it sees in the
job's directory. With CONTROL, a socket, it runs further jobs that it is given there, one after the other.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from hashserver.checksum import Checksum
from hashserver.system_text import each, to_system

from ..config import Config
from ..context import Context
from ..errors import Cancelled
from ..graph.current_worker import UnscheduledWorker
from ..graph.perform import compute, ensure
from ..jobs.directory import QUEUED, JobDirectory, clean
from ..jobs.request import JobRequest
from ..jobs.slots import Slot
from ..jobs.supervisor import JobSupervisor, hold, join
from ..model.options import Options
from .nested.local import open_gateway

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..execution.supervisor import Supervisor
    from ..model.transformation import Value

_SIGNALS = {signal.SIGHUP: signal.SIG_IGN, signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_DFL}
"""Whatever the one who asked does about them (``nohup``, ``trap '' TERM``)."""


class LocalWorker(UnscheduledWorker):
    """What computations have in this process, into which no Dask is imported: a command would wait for it.

    Parameters
    ----------
    context : Context
        Store and database.
    supervisor : JobSupervisor
        That of the computation which was asked for.
    """

    def __init__(self, context: Context, supervisor: JobSupervisor) -> None:
        self.context, self._supervisor = context, supervisor
        self.asked: Checksum | None = supervisor.job.key

    def share(
        self,
        checksum: Checksum,
        key: Checksum,
        action: Callable[[Supervisor], Value],
        known: Callable[[], Value | None],
        options: Options,
    ) -> Value:
        """Run it under its own lock, which other computations that need it see too."""
        own = self._supervisor
        if stop := own.abandoned():
            raise Cancelled(str(stop))
        if checksum == own.job.key:
            return own.alone(action, options)
        job = JobDirectory(own.job.cache, checksum)
        # one that needs its input made again waits: who makes that may need the very slot
        with own.slot.given_up(own.abandoned, own.job.file(QUEUED)):
            return join(job, own, key == own.job.key, lambda step: known() or step.alone(action, options))


def main(arguments: list[str]) -> int:
    """Run one computation, or several; how each ended is told to those who asked."""
    for number, action in _SIGNALS.items():
        signal.signal(number, action)
    cache, key, lock, *control = arguments
    clean(cache)
    if control:
        from .kept import serve

        serve(int(control[0]), (cache, key, int(lock)), described, run, config_of)
        return 0
    job, asked = described(cache, key)
    with Context(config_of(asked["config"])) as context:
        run(job, int(lock), asked, context)
    return 0


def described(cache: str, key: str) -> tuple[JobDirectory, dict[str, Any]]:
    """Return a job, and what its first asker has written down of it."""
    job = JobDirectory(cache, Checksum(key))
    with open(job.file("request.json"), "rb") as file:
        return job, json.load(file)


def run(job: JobDirectory, lock: int, asked: dict[str, Any], context: Context) -> None:
    """Run a job as the one who holds its lock."""
    os.set_inheritable(lock, False)  # or a stray child of the command would hold it
    request = JobRequest.from_file("", job.key, asked["asker"].encode())
    slot = Slot(job.cache if asked["bounded"] else None)
    opens = partial(open_gateway, context, asked["bounded"])
    supervisor = JobSupervisor(job, job.file("stderr"), slot=slot, opens=opens)
    worker = LocalWorker(context, supervisor)
    hold(lock, supervisor, lambda _: _compute(worker, request, supervisor))


def config_of(document: dict[str, object]) -> Config:
    """Return the configuration that came as JSON, which knows no tuples."""
    return Config.from_json(each(document, to_system))


def _compute(worker: LocalWorker, request: JobRequest, supervisor: JobSupervisor) -> Value:
    value = compute(worker, supervisor.job.key, request.options)
    if supervisor.needs_bytes():
        ensure(worker, [value])
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
