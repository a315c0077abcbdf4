"""What can go wrong with a computation, and who is to blame.

::

    SeamlessError
    ├── UsageError                 the user's input
    │   ├── InvalidTransformation  a document that is not a transformation
    │   ├── NoIdentity             a function that reaches what is no value
    │   ├── NotAValue              an object that no bytes stand for: a generator, a lock, an open file
    │   ├── InvalidValue           bytes that are not what their format says
    │   ├── UntrustedValue         bytes that name what to import or run, from where nobody said so
    │   └── Untrusted              a project's settings that go further than they may
    ├── ComputationFailed          the computation: exit status, missing result, limit, kill
    │   ├── ResultMissing          a declared result was not written
    │   └── LimitExceeded          time or memory
    ├── InputModified              the command wrote to an input; it runs once more on copies
    ├── ResultNotStored            the store has no room for it; running again would end the same way
    ├── Cancelled                  by Ctrl-C or seamless-cancel
    └── WorkerLost                 the system: retried elsewhere
        └── NoRoomThere            a full disk: tried on one other worker, and not again on this one

Missing data is ``hashserver.errors.BufferMissing``, of which `ArgumentNotKept` is a kind; a service that does
not answer is ``hashserver.errors.ServiceUnavailable``.
"""

from __future__ import annotations

from typing import Any

from hashserver.errors import BufferMissing
from hashserver.printable import one_line, visible


class SeamlessError(Exception):
    """Root of all errors of this package; ``str(error)`` is one line that says what to do.

    Nothing that others named or wrote moves a cursor in it: Python shows what nobody catches as it is.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


class UsageError(SeamlessError):
    """The user's input is at fault."""


class Untrusted(UsageError):
    """A project's settings go further than they may without the user's trust.

    Parameters
    ----------
    message
        What they want, and what trusts them.
    project : Settings
        The file, as it was read.
    """

    def __init__(self, message: str, project: Any = None) -> None:
        super().__init__(message)
        self.project = project


class InvalidTransformation(UsageError):
    """A document that is not a transformation in canonical form."""


class NoIdentity(UsageError):
    """A function reaches what is no value: a connection, a lock, an open file."""


class NotAValue(UsageError):
    """An object that no bytes can stand for, or none that come back as the same."""


class InvalidValue(UsageError):
    """Bytes that are not what their format says, or that need what is not installed here."""


class UntrustedValue(UsageError):
    """Bytes that name what is to be imported or run, and that the caller did not call trusted."""


class WeakIdentity(UserWarning):
    """Equal objects may have other bytes, so that work may be done again that was done before."""


STDOUT_TAIL = "[standard error is empty; the end of standard output:]"
"""What stands before the end of standard output in the place of that of standard error."""


class ComputationFailed(SeamlessError):
    """A computation that ran and failed; it is recorded as a failure, never as a result.

    Whoever ran it leaves what was measured in ``record``, which does not travel between processes.

    Parameters
    ----------
    message : str
        One line that says what happened.
    exit_status : int
        The command's exit status as a shell reports it (128 + signal number for a signal).
    stderr : str
        The tail of its standard error; where that is empty, of its standard output, and a line that says so.
    exception : tuple of str, optional
        Format and checksum of the exception that a function has raised.
    """

    def __init__(
        self, message: str, exit_status: int = 1, stderr: str = "", exception: tuple[str, str] | None = None
    ) -> None:
        super().__init__(message, exit_status, stderr)
        self.exit_status, self.stderr, self.exception = exit_status, stderr, exception
        self.record: dict[str, Any] = {}
        if stderr.startswith(STDOUT_TAIL):  # which Python's users have not seen while they waited
            self.add_note(visible(stderr.rstrip()))

    def __str__(self) -> str:
        return one_line(str(self.args[0]))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.exit_status, self.stderr, self.exception)


class ResultMissing(ComputationFailed):
    """A declared result that the command did not write."""


class LimitExceeded(ComputationFailed):
    """A time or memory limit that the computation went over."""


class InputModified(SeamlessError):
    """The command wrote to a linked input: what it computed is not used."""


class ResultNotStored(SeamlessError):
    """The store has no room for what a command gave; it is not run again for the same full disk."""


class Cancelled(SeamlessError):
    """The computation was cancelled."""


class WorkerLost(SeamlessError):
    """The process that ran the computation is gone."""


class NoRoomThere(WorkerLost):
    """The disk of who ran the computation is full: a pause makes no room, another worker may have some."""


class ArgumentNotKept(BufferMissing):
    """What a function was given with ``keep_inputs=False`` is wanted again, and no store has it."""
