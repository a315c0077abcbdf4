"""Running computations on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import Cancelled
from ..jobs.directory import JobDirectory, all_jobs
from ..jobs.local import LocalRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashserver.checksum import Checksum

    from ..context import Context
    from ..jobs.info import JobInfo
    from ..jobs.request import JobRequest
    from ..jobs.withdrawal import Withdrawal
    from ..model.transformation import Value


class Embedded:
    """Runs computations on this host, each in a process of its own; see `seamless_dask.jobs.local`.

    Parameters
    ----------
    context : Context
        Store and database.
    bounded : bool
        No more commands run at a time than this host has processors; false: somebody else sees to that.
    kept : bool
        Processes that run computations are kept for the next ones.
    """

    def __init__(self, context: Context, *, bounded: bool = True, kept: bool = False) -> None:
        self._context, self._bounded, self._kept = context, bounded, kept

    def run(
        self,
        request: JobRequest,
        *,
        on_stderr: Callable[[bytes], None] | None = None,
        tick: Callable[[str], None] | None = None,
        withdrawal: Withdrawal | None = None,
    ) -> Value:
        """Start or join it, and wait."""
        if tick:
            tick("running")
        local = self._local(request)
        try:
            return local.start().wait(on_stderr, tick, withdrawal)
        except KeyboardInterrupt:
            local.withdraw()
            raise
        except Cancelled:
            if withdrawal is not None and withdrawal.is_asked_for():
                local.withdraw()
            raise

    def submit(self, request: JobRequest) -> None:
        """Start or join it."""
        self._local(request._replace(detached=True)).start()

    def cancel(self, key: Checksum) -> bool:
        """Stop it."""
        return JobDirectory(self._context.cache, key).cancel()

    def jobs(self) -> list[JobInfo]:
        """Return what runs in this cache, and what has lost its process while somebody waits."""
        return [info for job in all_jobs(self._context.config.cache) if (info := job.info())]

    def state(self, key: Checksum) -> str | None:
        """Return ``queued``, ``running`` or ``lost``."""
        return next((job.state for job in self.jobs() if job.key == key), None)

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _local(self, request: JobRequest) -> LocalRequest:
        return LocalRequest(self._context, request, bounded=self._bounded, kept=self._kept)
