"""From the pieces of a word in a shell text to its value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .grammar import is_word, pieces
from .word import Word, ansi_quoted, bare, double_quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tree_sitter import Node

_VARIABLE = r"\$\{?[#!]?([A-Za-z_][A-Za-z0-9_]*|[@*#?$!0-9-])"
_BARE = rb"(?:\\.|[^\\ \t\n])+|\\$|[ \t\n]"


def _names(source: str) -> list[str]:
    """Return the variables that an expansion depends on; ``"("`` is the output of a command."""
    names = ["("] if re.search(r"\$\((?!\()|`", source) else []
    return names + re.findall(_VARIABLE, source)


class Builder:
    """Puts the value of a word together, piece by piece."""

    def __init__(self, source: bytes, start: int) -> None:
        self._source, self._start = source, start
        self._done: list[Word] = []
        self._clear()

    def _clear(self) -> None:
        self._value, self._quoted, self._resolved = "", set[int](), True
        self._variables: list[str] = []

    def bare(self, start: int, end: int) -> None:
        """Add text outside quotes."""
        for match in re.finditer(_BARE, self._source[start:end], re.DOTALL):
            if match[0] in (b" ", b"\t", b"\n"):
                self._close(start + match.start())
                self._start = start + match.end()
            else:
                self._bare(match[0].decode())

    def _bare(self, source: str) -> None:
        found = bare(source)
        if found is None:
            self._unresolved(_names(source))
            return
        value, quoted = found
        self._quoted |= {len(self._value) + position for position in quoted}
        self._value += value

    def piece(self, node: Node) -> None:
        """Add a quoted or expanded part."""
        source = self._source[node.start_byte : node.end_byte].decode()
        value: str | None = None
        if node.type == "raw_string":
            value = source[1:-1]
        elif node.type == "ansi_c_string":
            value = ansi_quoted(source[2:-1])
        elif node.type in ("string", "translated_string"):
            value = double_quoted(source[source.index('"') + 1 : -1])
            if self._value.endswith("$") and len(self._value) - 1 not in self._quoted:
                self._value = self._value[:-1]  # $"…" is a text to translate
        if value is None:
            self._unresolved(
                [] if node.type in ("arithmetic_expansion", "process_substitution") else _names(source)
            )
        else:
            self._quoted |= set(range(len(self._value), len(self._value) + len(value)))
            self._value += value

    def _unresolved(self, names: list[str]) -> None:
        self._resolved = False
        self._variables += names

    def _close(self, end: int) -> None:
        if end > self._start:
            text = self._source[self._start : end].decode()
            value = self._value if self._resolved else None
            quoted = frozenset(self._quoted) if self._resolved else frozenset[int]()
            self._done.append(Word(text, self._start, end, value, quoted, tuple(self._variables)))
        self._clear()

    def finish(self, end: int) -> list[Word]:
        """Return the word, or the words."""
        self._close(end)
        return self._done


class WordReader:
    """Reads words off the nodes of a tree.

    Parameters
    ----------
    source : bytes
        The text that the tree was made of.
    """

    def __init__(self, source: bytes) -> None:
        self._source = source

    def groups(self, nodes: Iterable[Node]) -> Iterator[list[Node]]:
        """Join nodes that are one word: nothing, or a continued line, stands between them."""
        group: list[Node] = []
        for node in nodes:
            if group and is_word(group[-1]) and is_word(node) and self._touch(group[-1], node):
                group.append(node)
                continue
            if group:
                yield group
            group = [node]
        if group:
            yield group

    def _true_start(self, start: int) -> int:
        """Return where a word begins: the grammar leaves out escaped blanks before it."""
        while self._source[start - 2 : start] in (b"\\ ", b"\\\t"):
            before = self._source[: start - 2]
            if (len(before) - len(before.rstrip(b"\\"))) % 2:
                break
            start -= 2
        return start

    def _touch(self, left: Node, right: Node) -> bool:
        gap = self._source[left.end_byte : right.start_byte].replace(b"\\\n", b"")
        # The grammar takes every space of Unicode for one, the shell three of them.
        if not gap or set(gap) & set(b" \t\n"):
            return not gap
        return not gap.decode().strip()

    def text(self, node: Node) -> str:
        """Return the text of a node."""
        return self._source[node.start_byte : node.end_byte].decode()

    def words(self, group: list[Node]) -> list[Word]:
        """Read the word that `group` is; the grammar takes ``] [`` for one where the shell sees two."""
        position = self._true_start(group[0].start_byte)
        builder = Builder(self._source, position)
        for piece in pieces(group):
            builder.bare(position, piece.start_byte)
            builder.piece(piece)
            position = piece.end_byte
        builder.bare(position, group[-1].end_byte)
        return builder.finish(group[-1].end_byte)
