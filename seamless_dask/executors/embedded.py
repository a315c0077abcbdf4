"""Running computations on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashserver.checksum import Checksum

    from ..context import Context
    from ..jobs.info import JobInfo
    from ..model.options import Options
    from ..model.transformation import Value


class Embedded:
    """Runs computations on this host, each in a process of its own; see `seamless_dask.jobs.local`.

    Parameters
    ----------
    context : Context
        Store and database.
    bounded : bool
        No more commands run at a time than this host has processors; false: somebody else sees to that.
    """

    def __init__(self, context: Context, *, bounded: bool = True) -> None:
        self._context, self._bounded = context, bounded

    def run(
        self,
        key: Checksum,
        options: Options | None = None,
        *,
        on_stderr: Callable[[bytes], None] | None = None,
        tick: Callable[[str], None] | None = None,
        need_bytes: bool = False,
        fresh: bool = False,
    ) -> Value:
        """Start or join it, and wait."""
        from ..jobs import local

        if tick:
            tick("running")
        return local.run(
            self._context,
            key,
            options,
            on_stderr=on_stderr,
            need_bytes=need_bytes,
            fresh=fresh,
            bounded=self._bounded,
        )

    def submit(
        self, key: Checksum, options: Options | None = None, *, need_bytes: bool = False, fresh: bool = False
    ) -> None:
        """Start or join it."""
        from ..jobs import local

        local.submit(self._context, key, options, need_bytes=need_bytes, fresh=fresh, detached=True)

    def cancel(self, key: Checksum) -> bool:
        """Stop it."""
        from ..jobs import local

        return local.cancel(self._context, key)

    def jobs(self) -> list[JobInfo]:
        """Return what runs in this cache, and what has lost its process while somebody waits."""
        from ..jobs import local

        return local.jobs(self._context)

    def state(self, key: Checksum) -> str | None:
        """Return ``queued``, ``running`` or ``lost``."""
        return next((job.state for job in self.jobs() if job.key == key), None)

    def close(self) -> None:
        """Do nothing: nothing is open."""
