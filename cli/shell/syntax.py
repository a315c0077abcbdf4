"""What a parsed shell text consists of."""

from __future__ import annotations

from hashserver.namedtuple import NamedTuple

from .word import Word

COMMAND, ARGUMENT, READ, WRITE, ASSIGNMENT, LIST, TEST = (
    "command", "argument", "read", "write", "assignment", "list", "test",
)  # fmt: skip
"""Roles of a word: what it is used for where it stands."""

_STDOUT = (">", ">>", ">|", "&>", "&>>", ">&")


class Redirection(NamedTuple):
    """One redirection: operator, file descriptor where one is given, and target where it is a word."""

    operator: str
    descriptor: int | None
    target: Word | None

    @property
    def writes(self) -> bool:
        """Whether its target is written."""
        return self.target is not None and self.operator in _STDOUT

    @property
    def stdout(self) -> bool:
        """Whether standard output goes to its target."""
        return self.writes and self.descriptor in (None, 1)


class Assignment(NamedTuple):
    """``NAME=VALUE``; an array, or nothing behind the sign, has no value."""

    name: str
    value: Word | None


class SimpleCommand(NamedTuple):
    """One simple command: its words without assignments and redirections, which stand beside them."""

    words: tuple[Word, ...]
    redirections: tuple[Redirection, ...] = ()
    assignments: tuple[Assignment, ...] = ()


class Use(NamedTuple):
    """A word and its role."""

    word: Word
    role: str


class Commandline(NamedTuple):
    """A parsed shell text.

    Attributes
    ----------
    text : str
        What was parsed.
    commands : tuple of SimpleCommand
        Every simple command, in the order of the text.
    uses : tuple of Use
        Every word that could name a file, with its role, in the order of the text.
    redirections : tuple of Redirection
        All of them, those of loops and groups too.
    loops : frozenset of str
        Variables that a loop or an assignment in the text gives their values.
    captured : Redirection or None
        Where the last command's standard output goes, when it goes to a file.
    moves : tuple of (int, int)
        Where the text changes directory: from which byte to which this holds.
    not_understood : tuple of (int, int)
        Line and column of the first thing that bash accepts and the grammar does not; empty without.
    """

    text: str
    commands: tuple[SimpleCommand, ...]
    uses: tuple[Use, ...]
    redirections: tuple[Redirection, ...] = ()
    loops: frozenset[str] = frozenset()
    captured: Redirection | None = None
    moves: tuple[tuple[int, int], ...] = ()
    not_understood: tuple[int, ...] = ()

    @property
    def targets(self) -> list[Word]:
        """Words that are written to and whose value is known."""
        found = [item.target for item in self.redirections if item.writes]
        return [word for word in found if word is not None and word.value]
