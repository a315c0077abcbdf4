"""Who runs computations: this host, or a scheduler's jobserver by HTTP or by Dask's own protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..config import is_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashserver.checksum import Checksum

    from ..context import Context
    from ..model.options import Options
    from ..model.transformation import Value

UNDER_WAY = ("looking up", "queued", "waiting", "running", "retrying", "lost")
"""States of a computation that has not ended."""


class JobInfo(NamedTuple):
    """A computation that somebody asked for.

    Attributes
    ----------
    key : str
        Key of the transformation.
    state : str
        One of `UNDER_WAY`, or how it ended: ``done``, ``failed``, ``cancelled``.
    label : str or None
        What people call it.
    worker, node : str or None
        Who runs it, and on which host.
    started : str or None
        When it began there, ISO 8601, UTC.
    askers : int
        How many have asked for it.
    pid : int or None
        The process that runs it, where that is one of this host.
    position : int or None
        How soon its turn comes, where it waits for room: 1 is next.
    stderr_size : int or None
        Bytes that it has written to its standard error, as far as that is known.
    """

    key: str
    state: str
    label: str | None
    worker: str | None
    node: str | None
    started: str | None
    askers: int
    pid: int | None = None
    position: int | None = None
    stderr_size: int | None = None


class Executor(Protocol):
    """Runs stored transformations; errors are those in which a computation can end."""

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
        """Start or join a computation and wait for it; being interrupted (Ctrl-C) withdraws.

        Parameters
        ----------
        key
            Its document, and those it refers to, are in the store.
        options
            How it is to be run.
        on_stderr
            Gets what the command writes to its standard error, as it comes.
        tick
            Gets the state of the computation when it has changed, or more often.
        need_bytes
            A result is not enough if its bytes are gone: they are then made again.
        fresh
            A result on record is not enough.
        """
        ...

    def submit(
        self, key: Checksum, options: Options | None = None, *, need_bytes: bool = False, fresh: bool = False
    ) -> None:
        """Start or join a computation, and do not wait for it; parameters as for `run`."""
        ...

    def cancel(self, key: Checksum) -> bool:
        """Withdraw everybody from a computation; returns whether it was under way."""
        ...

    def jobs(self) -> list[JobInfo]:
        """Return what is under way."""
        ...

    def state(self, key: Checksum) -> str | None:
        """Return the state of a computation; None when nothing is known of it."""
        ...

    def close(self) -> None:
        """Let go of connections; what was started goes on."""
        ...


def executor(context: Context, notify: Callable[[str], None] | None = None) -> Executor:
    """Return who runs computations in `context`; to be closed.

    Parameters
    ----------
    notify
        Gets what a person who waits should know, one line each.
    """
    server = context.config.daskserver
    if server is None:
        return Embedded(context)
    if is_address(server):
        from .dask import DaskExecutor

        return DaskExecutor(context, server, notify)
    from .http import JobserverExecutor

    return JobserverExecutor(context, server, notify)


class Embedded:
    """Runs computations on this host, each in a process of its own; see `.local.jobs`."""

    def __init__(self, context: Context) -> None:
        self._context = context

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
        from .local import jobs

        if tick:
            tick("running")
        return jobs.run(self._context, key, options, on_stderr=on_stderr, need_bytes=need_bytes, fresh=fresh)

    def submit(
        self, key: Checksum, options: Options | None = None, *, need_bytes: bool = False, fresh: bool = False
    ) -> None:
        """Start or join it."""
        from .local import jobs

        jobs.submit(self._context, key, options, need_bytes=need_bytes, fresh=fresh, detached=True)

    def cancel(self, key: Checksum) -> bool:
        """Stop it."""
        from .local import jobs

        return jobs.cancel(self._context, key)

    def jobs(self) -> list[JobInfo]:
        """Return what runs in this cache, and what has lost its process while somebody waits."""
        from .local import jobs

        return [
            JobInfo(
                job.key,
                job.state,
                job.label,
                None if job.pid is None else f"process {job.pid}",
                job.host,
                job.started,
                job.askers,
                job.pid,
            )
            for job in jobs.jobs(self._context)
            if job.state != "over"
        ]

    def state(self, key: Checksum) -> str | None:
        """Return ``running`` or ``lost``."""
        return next((job.state for job in self.jobs() if job.key == key), None)

    def close(self) -> None:
        """Do nothing: nothing is open."""
