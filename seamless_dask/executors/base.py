"""What runs computations, as those who ask see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashserver.checksum import Checksum

    from ..jobs.info import JobInfo
    from ..jobs.request import JobRequest
    from ..jobs.withdrawal import Withdrawal
    from ..model.transformation import Value


class Executor(Protocol):
    """Runs stored transformations; errors are those in which a computation can end."""

    def run(
        self,
        request: JobRequest,
        *,
        on_stderr: Callable[[bytes], None] | None = None,
        tick: Callable[[str], None] | None = None,
        withdrawal: Withdrawal | None = None,
    ) -> Value:
        """Start or join a computation and wait for it; being interrupted (Ctrl-C) withdraws.

        Parameters
        ----------
        request
            What is asked for. The document of the transformation, and those it refers to, are in the store.
        on_stderr
            Gets what the command writes to its standard error, as it comes.
        tick
            Gets the state of the computation when it has changed, or more often.
        withdrawal
            By which another thread, which hears of Ctrl-C, withdraws: then `Cancelled` is raised.
        """
        ...

    def submit(self, request: JobRequest) -> None:
        """Start or join a computation, and do not wait for it."""
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
