"""Whoever watches over a running command on behalf of those who asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Usage(NamedTuple):
    """What the command and all its descendants use at one moment.

    ``wall`` and ``cpu`` in seconds since the start, ``memory`` (resident) in bytes.
    """

    wall: float
    cpu: float
    memory: int


class Stop(str):
    """One line that says why a command must end now.

    ``limit`` tells the two cases apart: true, a limit was exceeded (raise `LimitExceeded`, with exit
    status and tail of stderr); false, nobody waits any more (raise `Cancelled`).
    """

    __slots__ = ("limit",)
    limit: bool

    def __new__(cls, reason: str, limit: bool = False) -> Stop:
        """Make the reason; `limit` as above."""
        self = super().__new__(cls, reason)
        self.limit = limit
        return self


class Supervisor(Protocol):
    """Asked several times a second (every 20-100 ms) while a command runs; it must be cheap."""

    stderr: str | None
    """A file that the command's stderr is appended to as it comes, besides being kept; None: nowhere."""

    def poll(self, usage: Usage) -> Stop | None:
        """Say whether the command must end.

        Limits are judged here and only here. After a `Stop` the whole process tree is killed.
        """
        ...

    def gateway(self, control: str, inner: str) -> dict[str, str]:
        """Return the variables by which the command finds who computes for it; empty: nobody does.

        Parameters
        ----------
        control
            Where files for it can be put; made if need be.
        inner
            The same directory as the command sees it.
        """
        ...

    def begin(self) -> None:
        """Return when the command may begin; its sandbox is made meanwhile.

        Whatever this raises, the command does not begin.
        """
        ...

    def handed(self) -> Sequence[str]:
        """Return where those who ask at this moment have put arguments that no store has."""
        ...

    def scratch(self) -> bool:
        """Say, after the command has ended, whether nobody else wants the result's bytes.

        They are dropped if ``options.scratch`` and this say so. Asked then and not before, since somebody
        who wants them may have joined in the meantime.
        """
        ...


class NoSupervisor:
    """Lets everything run to its end; nobody else has asked."""

    stderr: str | None = None

    def poll(self, usage: Usage) -> Stop | None:
        """Never stop anything."""
        del usage
        return None

    def gateway(self, control: str, inner: str) -> dict[str, str]:
        """Offer nothing."""
        del control, inner
        return {}

    def begin(self) -> None:
        """Begin at once."""

    def handed(self) -> Sequence[str]:
        """Leave it to the options."""
        return ()

    def scratch(self) -> bool:
        """Leave it to the options."""
        return True
