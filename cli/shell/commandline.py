"""Shell text → simple commands, words, redirections.

The text is parsed by tree-sitter's grammar of bash. Commands are found wherever they stand: in lists,
pipelines, loops, conditions, functions, substitutions and here-documents.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from seamless_dask.errors import UsageError

from . import grammar
from .syntax import (
    ARGUMENT,
    COMMAND,
    Commandline,
    SimpleCommand,
    Use,
)
from .syntax_walk import SyntaxWalk
from .word import Word

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    walk = SyntaxWalk(source)
    walk.visit(root)
    return walk.result(text, root, place)


def _position(source: bytes, offset: int) -> tuple[int, int]:
    before = source[:offset].decode(errors="replace")
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _ask_bash(text: str, place: tuple[int, ...]) -> None:
    """Raise `UsageError` unless bash accepts what the grammar does not (it lacks a few rare forms)."""
    import subprocess

    from seamless_dask.execution.shell import system_shell

    where = f"line {place[0]}, column {place[1]}"
    try:
        done = subprocess.run(
            ["bash", "-n", "-c", text],
            executable=system_shell(),
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
