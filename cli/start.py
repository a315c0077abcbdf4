"""From the words of a line to the command that does what they ask."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from hashserver.system_text import ensure_utf8

from . import fast_reader
from .console import Console, carry_out, guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .console import Execute
    from .table import CommandTable, ParsedArguments

    EntryPoint = Callable[..., int]
    ReadPlain = Callable[[CommandTable, Sequence[str]], ParsedArguments | None]


def start(
    table: CommandTable,
    execute: Execute,
    argv: Sequence[str] | None = None,
    prog: str = "",
    read_plain: ReadPlain = fast_reader.read,
) -> int:
    """Read the command line and execute the command.

    Parameters
    ----------
    table : CommandTable
        Its options.
    execute : callable
        Does what the arguments ask; gives the exit status.
    argv : sequence of str, optional
        The words without the program's name; those of the process by default.
    prog : str
        What the command is called in its messages.
    read_plain : callable
        Reads plain lines.

    Returns
    -------
    int
        The exit status.
    """
    if argv is None:
        ensure_utf8()
    words = sys.argv[1:] if argv is None else list(argv)
    console = Console(prog)
    return guarded(lambda: carry_out(execute, read(table, words, prog, read_plain), console), console)


def entry_point(table: CommandTable, execute: Execute, name: str) -> EntryPoint:
    """Return the function that a command of that name begins with; its words are those of the process."""

    def main(argv: Sequence[str] | None = None, prog: str = name) -> int:
        return start(table, execute, argv, prog)

    return main


def read(
    table: CommandTable, words: Sequence[str], prog: str, read_plain: ReadPlain = fast_reader.read
) -> ParsedArguments:
    """Return what a line says.

    Raises
    ------
    UsageError
        It is not a line of the command.
    SystemExit
        It was answered: help, or a completion.
    """
    found = None if is_completing(prog) else read_plain(table, words)
    if found is None:
        from . import by_click

        found = by_click.read(by_click.make(table), words, prog)
    return found


def is_completing(prog: str) -> bool:
    """Say whether a shell asks what a line may go on with; click then answers by our rules."""
    if f"_{prog.replace('-', '_').upper()}_COMPLETE" not in os.environ:
        return False
    from .completion import enable

    enable()
    return True
