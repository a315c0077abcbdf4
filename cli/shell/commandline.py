"""Shell text → simple commands, words, redirections.

The text is parsed by tree-sitter's grammar of bash. Commands are found wherever they stand: in lists,
pipelines, loops, conditions, functions, substitutions and here-documents.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from seamless_dask.errors import UsageError

from . import grammar
from .word import Word

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMAND, ARGUMENT, READ, WRITE, ASSIGNMENT, LIST, TEST = (
    "command", "argument", "read", "write", "assignment", "list", "test",
)  # fmt: skip
"""Roles of a word: what it is used for where it stands."""

_RESERVED = frozenset(
    [
        "if",
        "then",
        "else",
        "elif",
        "fi",
        "case",
        "esac",
        "for",
        "select",
        "while",
        "until",
        "do",
        "done",
        "in",
        "function",
        "time",
        "coproc",
    ]
)
_SIMPLE_WORD = r"""(?:[A-Za-z0-9_@%+=:,./-]|'[^']*'|"'+")+"""
_SIMPLE = re.compile(rf"{_SIMPLE_WORD}(?:[ \t]+{_SIMPLE_WORD})*")
_SIMPLE_PARTS = re.compile(_SIMPLE_WORD)
_QUOTES = re.compile(r"'([^']*)'|\"('+)\"")
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


def parse(text: str) -> Commandline:
    """Parse shell text.

    Raises
    ------
    UsageError
        For text that is empty, not UTF-8, or no shell text; the message names line and column.
    """
    simple = _parse_simple(text)
    return _parse_any(text) if simple is None else simple


def replace(text: str, changes: Iterable[tuple[int, int, str]]) -> str:
    """Put other texts in place of byte ranges of `text`; everything else stays as it is."""
    source, result, position = text.encode(), [], 0
    for start, end, new in sorted(changes):
        result += [source[position:start], new.encode()]
        position = end
    return b"".join([*result, source[position:]]).decode()


def _parse_simple(text: str) -> Commandline | None:
    """Parse one command of plain and single-quoted words, which needs no grammar; None for all else.

    It is the form of every command that is given as several words. Loading the grammar takes longer than
    the rest of the way to a cached result.
    """
    if not _SIMPLE.fullmatch(text):
        return None
    words, offset, last = [], 0, 0
    for match in _SIMPLE_PARTS.finditer(text):
        source = match[0]
        start = offset + len(text[last : match.start()].encode())
        offset, last = start + len(source.encode()), match.end()
        words.append(_simple_word(source, start, offset))
    first = words[0]
    if first.text in _RESERVED or "=" in first.text.partition("'")[0]:
        return None
    uses = (Use(first, COMMAND), *(Use(word, ARGUMENT) for word in words[1:]))
    moves = ((first.end, offset),) if first.value in ("cd", "pushd") else ()
    return Commandline(text, (SimpleCommand(tuple(words)),), uses, moves=moves)


def _simple_word(source: str, start: int, end: int) -> Word:
    if "'" not in source:
        return Word(source, start, end, source)
    value, quoted, position = "", set[int](), 0
    for match in _QUOTES.finditer(source):
        value += source[position : match.start()]
        inside = match[1] if match[1] is not None else match[2]
        quoted.update(range(len(value), len(value) + len(inside)))
        value, position = value + inside, match.end()
    return Word(source, start, end, value + source[position:], frozenset(quoted))


def _parse_any(text: str) -> Commandline:
    try:
        source = text.encode()
    except UnicodeEncodeError:
        raise UsageError("the command is not UTF-8") from None
    if not text.strip() or "\0" in text:
        raise UsageError("the command has a NUL character" if "\0" in text else "the command is empty")
    root = grammar.parse(source)
    error = grammar.first_error(root)
    place: tuple[int, ...] = ()
    if error is not None:
        place = _position(source, error.start_byte)
        _ask_bash(text, place)
    if all(child.type == "comment" for child in root.named_children):
        raise UsageError("the command is empty")
    from .syntax_walk import Walk

    walk = Walk(source)
    walk.visit(root)
    return walk.result(text, root, place)


def _position(source: bytes, offset: int) -> tuple[int, int]:
    before = source[:offset].decode(errors="replace")
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _ask_bash(text: str, place: tuple[int, ...]) -> None:
    """Raise `UsageError` unless bash accepts what the grammar does not (it lacks a few rare forms)."""
    import subprocess

    where = f"line {place[0]}, column {place[1]}"
    try:
        done = subprocess.run(
            ["bash", "-n", "-c", text],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except OSError:
        raise UsageError(f"the command is no shell text: syntax error at {where}") from None
    # An unfinished here-document is only a warning, with status 0.
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["syntax error"]
        reason = re.sub(r"^bash: (-c: )?(line \d+: )?", "", said[0])
        raise UsageError(f"the command is no shell text: at {where}: {reason}")
