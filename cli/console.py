"""What all commands share: messages, progress, results, exit codes.

Standard output carries results and nothing else; everything said to a person goes to standard error.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.errors import HashserverError
from hashserver.printable import one_line, visible
from hashserver.system_text import to_bytes
from seamless_dask.errors import (
    Cancelled,
    ComputationFailed,
    InvalidTransformation,
    ResultMissing,
    SeamlessError,
    UsageError,
)

from .text import CLEAR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .progress import Progress, ProgressLine, Spinner
    from .table import ParsedArguments

    Execute = Callable[[ParsedArguments, "Console"], int]

OK, ERROR, USAGE, INTERRUPTED = 0, 1, 2, 130
STDERR_LINES = 20


class CommandError(SeamlessError):
    """One line for the user; exit status 1."""


class OutputClosedError(Exception):
    """The reader of standard output is gone."""


class Console:
    """Messages of one command, as loud as was asked for.

    Parameters
    ----------
    name : str
        What the command is called in its messages.
    verbosity : int
        Number of ``-v`` minus number of ``-q``.
    json : bool
        Facts are printed as JSON.
    """

    def __init__(self, name: str = "seamless", verbosity: int = 0, json: bool = False) -> None:
        self.name, self.verbosity, self.json = name, verbosity, json
        self._spinner: Spinner | None = None

    def error(self, text: str) -> None:
        """Say what went wrong; always shown."""
        self._say(f"{self.name}: {text}")

    def warn(self, text: str) -> None:
        """Say what the user should know; not shown with ``-qq``."""
        if self.verbosity > -2:
            self._say(f"{self.name}: warning: {text}")

    def note(self, text: str) -> None:
        """Say what happened; not shown with ``-q``."""
        if self.verbosity > -1:
            self._say(f"{self.name}: {text}")

    def detail(self, text: str) -> None:
        """Say what is of interest when things are looked at closely (``-v``)."""
        if self.verbosity > 0:
            self._say(f"{self.name}: {text}")

    def print(self, text: str) -> None:
        """Print one line of result."""
        write_stdout([to_bytes(_for_stdout(text) + "\n")])

    def facts(self, value: object, lines: Iterable[str] = ()) -> None:
        """Print facts: as JSON when that was asked for, else as lines."""
        if self.json:
            import json

            # The same facts for a program; on a terminal nothing that it would act upon.
            text = json.dumps(value, indent=2, ensure_ascii=False)
            if _for_stdout(text) != text:
                text = json.dumps(value, indent=2)
            write_stdout([to_bytes(text), b"\n"])
        else:
            write_stdout([b"".join(to_bytes(_for_stdout(line) + "\n") for line in lines)])

    def progress(self, label: str, total: int) -> Progress:
        """Progress of `total` bytes; shown on a terminal only."""
        from .progress import Progress

        return Progress(label, total, shown=self.verbosity > -1 and sys.stderr.isatty())

    def line(self) -> ProgressLine:
        """Progress without a measure, told in words; shown on a terminal only."""
        from .progress import ProgressLine

        return ProgressLine(self.name, shown=self.verbosity > -1 and sys.stderr.isatty())

    def spinner(self, label: str) -> Spinner:
        """State of something that is waited for; shown on a terminal only."""
        from .progress import Spinner

        shown = self.verbosity > -1 and not self.json and sys.stderr.isatty()
        self._spinner = Spinner(label, shown)
        return self._spinner

    def confirm(self, question: str) -> bool:
        """Ask on the terminal; the caller has made sure that there is one."""
        sys.stderr.write(one_line(f"{self.name}: {question} [y/N] "))
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _say(self, text: str) -> None:
        clear = CLEAR if self._spinner is not None and self._spinner.drawn else ""
        with suppress(OSError):  # nobody listens: no reason to fail
            sys.stderr.write(clear + one_line(text) + "\n")


def _for_stdout(text: str) -> str:
    """`text` exactly, as programs read it; on a terminal with its control characters escaped."""
    return visible(text) if not text.isprintable() and os.isatty(1) else text


def show_tail(text: str) -> None:
    """Show the last lines that the command wrote to its standard error."""
    lines = text.splitlines()
    if len(lines) > STDERR_LINES:
        lines = [f"[… {len(lines) - STDERR_LINES} more lines]", *lines[-STDERR_LINES:]]
    for line in lines:
        sys.stderr.write(visible(line, "\t") + "\n")


def write_stdout(chunks: Iterable[bytes]) -> None:
    """Write bytes to standard output, past Python's text layer.

    Raises
    ------
    OutputClosedError
        The reader is gone (``| head``).
    CommandError
        The bytes cannot be written (a full disk).
    """
    try:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(1, view) :]
    except BrokenPipeError:
        raise OutputClosedError from None
    except OSError as error:
        raise CommandError(f"standard output: {error.strerror}") from error


def os_error_text(error: OSError) -> str:
    """One line for an error of the operating system."""
    names = [
        os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))
    ]
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno == errno.ELOOP:
        reason = "a symbolic link that leads in a circle"
    return ": ".join([*names[-1:], reason])


def suggestion(word: str, options: Iterable[str]) -> str:
    """Return a hint at the option that `word` may have been meant for; empty when none is like it."""
    from difflib import get_close_matches

    close = get_close_matches(word.partition("=")[0], options, 1, 0.8)
    return f" (did you mean {close[0]}?)" if close else ""


def carry_out(execute: Execute, arguments: ParsedArguments, console: Console) -> int:
    """Do what the arguments ask, as loudly as they ask; return the exit status."""
    console.verbosity = arguments.verbose - arguments.quiet
    console.json = getattr(arguments, "json", False)
    return execute(arguments, console)


def guarded(action: Callable[[], int], console: Console) -> int:
    """Do `action`; turn what it raises into one line and an exit status."""
    _hold_standard_streams()
    try:
        return action()
    except OutputClosedError:
        return _end_by_sigpipe()
    except (KeyboardInterrupt, Cancelled):
        console.error("interrupted")
        return INTERRUPTED
    except Exception as error:
        return _report(error, console)


def _hold_standard_streams() -> None:
    """Take the place of standard streams that are closed, or a file that is opened would get their number.

    What is then written to standard output is an error, as for every program, and not in that file.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if fd == 2 else os.O_RDONLY)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if fd else "r", encoding="utf-8"))  # noqa: SIM115


def _end_by_sigpipe() -> int:
    """End as every program does whose reader went away."""
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    return 128 + signal.SIGPIPE


def _report(error: Exception, console: Console) -> int:
    if console.verbosity >= 2:
        import traceback

        sys.stderr.write(visible("".join(traceback.format_exception(error))))
    console.error(error_text(error))
    return exit_status(error)


def exit_status(error: Exception) -> int:
    """Return the exit status for an error: a failed command's own, 2 for a bad command line, else 1."""
    if isinstance(error, ComputationFailed):
        return error.exit_status or ERROR
    usage = isinstance(error, UsageError) and not isinstance(error, InvalidTransformation)
    return USAGE if usage else ERROR


def _capture_hint(message: str) -> str:
    """Say in the words of the command line what to do about a result that was not written."""
    name = message.partition("the command wrote no ")[2].rpartition(", which is declared")[0]
    then = f", or use --capture :{name} to capture its standard output" if name else ""
    return f": correct --capture{then}"


def error_text(error: Exception) -> str:
    """Return the line that is shown for an error."""
    if isinstance(error, ResultMissing):
        return str(error) + _capture_hint(str(error))
    if isinstance(error, (SeamlessError, HashserverError, ComputationFailed)):
        return str(error)
    if isinstance(error, OSError):
        return os_error_text(error)
    return f"internal error: {type(error).__name__}: {error} (-vv shows where)"
