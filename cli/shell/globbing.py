"""Shell patterns against the local tree, with sidecars standing for files that are not there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from .word import is_glob

if TYPE_CHECKING:
    from collections.abc import Iterable

_CLASSES = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z",
    "space": r"\s", "blank": r" \t", "punct": r"!-/:-@\[-`{-~", "xdigit": "0-9A-Fa-f", "word": r"\w",
}  # fmt: skip


class GlobTree(Protocol):
    """What patterns are matched against."""

    def names(self, directory: str) -> list[str]:
        """Return the names in `directory` (``""`` is the current one)."""

    def is_there(self, path: str) -> bool:
        """Tell whether something is at `path`, or a sidecar stands for it."""

    def is_directory(self, path: str) -> bool:
        """Tell whether a directory is at `path`, or a sidecar stands for one."""


def pattern(value: str, quoted: frozenset[int] = frozenset()) -> re.Pattern[str]:
    """Translate a pattern for one name, or (``/`` matched by itself only) for a path."""
    result, position = "", 0
    while position < len(value):
        character = value[position]
        position += 1
        if position - 1 in quoted:
            result += re.escape(character)
        elif character == "*":
            result += "[^/]*"
        elif character == "?":
            result += "[^/]"
        elif character == "[" and (bracket := _bracket(value, position, quoted)):
            result += bracket[0]
            position = bracket[1]
        else:
            result += re.escape(character)
    return re.compile(result, re.DOTALL)


def _bracket(value: str, start: int, quoted: frozenset[int]) -> tuple[str, int] | None:
    """Translate ``[…]`` whose inside begins at `start`; None when it is not closed."""
    position, negated = start, value[start : start + 1] in ("!", "^") and start not in quoted
    position += negated
    first, inside = position, ""
    while position < len(value) and (value[position] != "]" or position == first or position in quoted):
        if value[position] == "/":
            return None
        named = re.compile(r"\[:([a-z]+):\]").match(value, position)
        if named and named[1] in _CLASSES:
            inside += _CLASSES[named[1]]
            position = named.end()
            continue
        is_range = value[position] == "-" and position not in quoted
        inside += "-" if is_range else re.escape(value[position])
        position += 1
    if position >= len(value):
        return None
    return f"(?!/)[{'^' if negated else ''}{_closed_ends(inside)}]", position + 1


def _closed_ends(inside: str) -> str:
    """Make a dash at either end mean itself."""
    if inside.startswith("-"):
        inside = "\\" + inside
    return inside[:-1] + "\\-" if inside.endswith("-") and not inside.endswith("\\-") else inside


def expand(value: str, quoted: frozenset[int], tree: GlobTree) -> list[str]:
    """Return what the shell would put in place of a pattern, sorted; empty without matches."""
    paths, position = [""], 0
    pieces = value.split("/")
    for number, piece in enumerate(pieces):
        marks = frozenset(i - position for i in quoted if position <= i < position + len(piece))
        position += len(piece) + 1
        last = number == len(pieces) - 1
        paths = _step(paths, piece, marks, tree)
        paths = [path for path in paths if last or not path or tree.is_directory(path)]
        if not last:
            paths = [path + "/" for path in paths]
    return sorted(path for path in paths if path.endswith("/") or tree.is_there(path))


def _step(paths: Iterable[str], piece: str, quoted: frozenset[int], tree: GlobTree) -> list[str]:
    if not is_glob(piece, quoted):
        return [path + piece for path in paths]
    try:
        wanted = pattern(piece, quoted)
    except re.error:
        return []
    hidden = piece.startswith(".")
    return [
        path + name
        for path in paths
        for name in tree.names(path)
        if wanted.fullmatch(name) and (hidden or not name.startswith("."))
    ]
