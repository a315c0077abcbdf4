"""What runs computations, as those who ask see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashserver.checksum import Checksum

    from ..jobs.info import JobInfo
    from ..model.options import Options
    from ..model.transformation import Value
    from .withdrawal import Withdrawal


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
        withdrawal: Withdrawal | None = None,
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
        withdrawal
            By which another thread, which hears of Ctrl-C, withdraws: then `Cancelled` is raised.
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
