"""The words of a command line: which are inputs, and how the text is to call them."""

from __future__ import annotations

import os
import re
import stat
from posixpath import basename, dirname, normpath, relpath
from typing import TYPE_CHECKING

from hashserver.workspace.sidecar import CHECKSUM, INDEX
from seamless_dask.errors import UsageError

from .globbing import expand
from .names import extension
from .syntax import ASSIGNMENT, COMMAND, READ, TEST, WRITE
from .word import is_glob, quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..table import ParsedArguments
    from .input_set import Gather
    from .names import System
    from .path_lookup import PathLookup
    from .syntax import Commandline
    from .word import Word

_PATH_LIKE = re.compile(r"[\w./+@%~-]*[\w+@%~-]\.[A-Za-z][A-Za-z0-9]{0,7}")
_NO_FILES = frozenset([*"?#$!-*@", "OMP_NUM_THREADS", "LANG", "RANDOM", "PIPESTATUS"])
"""Parameters whose values name no files."""
_OUR_SHELLS = re.compile(r"/(?:dev|proc/self)/fd/[1-9]\d+")
"""What a process substitution becomes when the user's own shell, not the command's, has expanded it."""


class Reader:
    """Reads the words of a command line, one after the other.

    Parameters
    ----------
    line : Commandline
        What is read.
    options : ParsedArguments
        What `options.parse` returned.
    gather : Gather
        What takes the inputs.
    system : System
        What is never an input.

    Attributes
    ----------
    changes : list of (int, int, str)
        Byte ranges of words that the text must call something else, and what.
    """

    def __init__(self, line: Commandline, options: ParsedArguments, gather: Gather, system: System) -> None:
        self.line, self.options, self.gather, self.system = line, options, gather, system
        self.names, self.outputs, self.hints = gather.names, gather.outputs, gather.hints
        self.changes: list[tuple[int, int, str]] = []
        self._renamed = False  # whether anything in the word at hand has another name
        self._at = 0  # where the word at hand stands
        self._written = {self.outputs.name(system.value(word)): word.start for word in reversed(line.targets)}
        self._given: Mapping[str, str] = {**options.metavar, **options.var}

    def read(self) -> None:
        """Read every word."""
        for use in self.line.uses:
            self._at = use.word.start
            self._use(use.word, use.role)

    def _use(self, word: Word, role: str) -> None:
        if role == WRITE:
            self._write(word)
        elif word.value is None:
            self._unresolved(word, role)
        elif role == COMMAND and "/" not in word.value:
            return
        else:
            self._literal(word, role)

    def _literal(self, word: Word, role: str) -> None:
        """Look at what a word becomes when braces and patterns are expanded."""
        results: list[str] = []
        alternatives = word.alternatives()
        plain = len(alternatives) == 1
        for value, quoted in alternatives:
            if is_glob(value, quoted) and role != TEST:
                matches = self._matches(value, quoted, role)
                if matches is not None:
                    plain = False
                    results += matches
                    continue
            results.append(self._value(value, role, tilde=word.tilde))
        before = [value for value, _ in alternatives]
        if plain and results != before:
            self._change(word, quote(results[0]))
        elif not plain and self._renamed:
            self._change_pattern(word, role, results)
        self._renamed = False

    def _matches(self, value: str, quoted: frozenset[int], role: str) -> list[str] | None:
        """Take every match of a pattern; None when there is none, so that it means itself."""
        start = self.system.expanded(value, value[:1] == "~" and 0 not in quoted)
        shift = len(start) - len(value)
        marks = frozenset(i + shift for i in quoted) if shift else quoted
        literal = start[: next((i for i, c in enumerate(start) if c in "*?[" and i not in marks), 0)]
        if start.startswith("/") and self.system.owns(normpath(literal.rpartition("/")[0] or "/")):
            return [value]
        found = expand(start, marks, self.gather.lookup)
        if not _names_sidecars(value):
            found = [path for path in found if not self._is_sidecar(path)]
        if role == ASSIGNMENT and found:
            for path in found:
                self._path(path, role, matched=True)
            if self._renamed:
                raise UsageError(
                    f"{value} is expanded only where the variable is used:"
                    " -w, -ms and -mx cannot rename its files"
                )
            return [value]
        return [self._path(path, role, matched=True) or path for path in found] or None

    def _is_sidecar(self, path: str) -> bool:
        if not path.endswith((CHECKSUM, INDEX)):
            return False
        return basename(path) not in self.gather.lookup.names(dirname(path))

    def _value(self, value: str, role: str, tilde: bool = False) -> str:
        """Look at one literal value; returns what it is to be for the command."""
        found = self._path(value, role, tilde=tilde)
        if found is not None or role == COMMAND:
            return value if found is None else found
        for head, sign, tail in dict.fromkeys((value.partition("="), value.rpartition("="))):
            listed = self._list(tail, role) if sign and tail else None
            if listed is not None:
                return f"{head}={listed}"
        listed = self._list(value, role) if "," in value else None
        if listed is not None:
            return listed
        self._may_be_missing(value, role)
        return value

    def _list(self, value: str, role: str) -> str | None:
        """Look at a path, or at a comma list of paths; None when nothing in it names anything."""
        whole = self._path(value, role)
        if whole is not None or "," not in value:
            return whole
        parts = value.split(",")
        found = [self._path(part, role) for part in parts]
        if not any(item is not None for item in found):
            return None
        return ",".join(part if item is None else item for part, item in zip(parts, found, strict=True))

    def _path(self, value: str, role: str, tilde: bool = False, matched: bool = False) -> str | None:
        """Take `value` as an input if it is one.

        Returns
        -------
        str or None
            What it is to be called in the text; None when it names nothing.
        """
        if not value or value == "-" or "\0" in value:
            return None
        given, value = value, self.system.expanded(value, tilde)
        if self.outputs.has(value):
            return self._output(value)
        if self.outputs.delivers(value):
            return given
        path = self.names.local(value)
        if _OUR_SHELLS.fullmatch(path):
            self.hints.note(f"{value} is of your own shell: quote the line, and <(…) is part of the command")
        if self.system.only_explicit(path) or self.system.owns(path):
            return given
        found, literal = self.gather.find(path)
        if found is None:
            return None
        if role != READ and self.options.guess == 2 and not extension(path):
            return given
        name = self.gather.take(value, path, found, literal)
        if role == COMMAND:
            self.gather.command(name, path)
        if not matched and role not in (COMMAND, READ):
            self._mention(value, path, found)
        return self._spelled(value, name, role, found)

    def _mention(self, value: str, path: str, found: PathLookup) -> None:
        """Tell of a word that may not have been meant as an input."""
        if found.kind == "directory" and found.exists and not value.endswith("/"):
            self.hints.bare_directory(value, path, self.names.cwd)
        if not extension(path) and not value.endswith("/"):
            self.hints.extensionless[value] = None

    def _spelled(self, value: str, name: str, role: str, found: PathLookup) -> str:
        """Return how the text is to call an input."""
        if self.names.keeps(value, name):
            return value
        self._renamed = True
        if value.endswith("/") and found.kind == "directory":
            name += "/"
        bare_command = role == COMMAND and "/" not in name
        return f"./{name}" if bare_command or name[:1] in "-~" else name

    def _output(self, value: str) -> str:
        """Return how the text is to call an output: relative, where it lies below."""
        name = self.outputs.name(value)
        if self._at < self._written.get(name, 0) and os.path.exists(os.path.join(self.names.cwd, value)):
            self.hints.note(f"{value} is written by the command, so the local one is no input of it")
        if not value.startswith("/"):
            return value
        self._renamed |= name != value
        return value if name.startswith("/") else name

    def _write(self, word: Word) -> None:
        if word.value is None:
            return
        value = self._output(self.system.expanded(word.value, word.tilde))
        if value != word.value and len(word.alternatives()) == 1 and not word.glob:
            self._change(word, quote(value))
        self._renamed = False

    def _change(self, word: Word, text: str) -> None:
        if text != word.text:
            self.changes.append((word.start, word.end, text))

    def _change_pattern(self, word: Word, role: str, results: list[str]) -> None:
        """Keep the pattern where only its directory is another one, else put its matches in its place."""
        if self.names.mapping is None and word.glob and not word.tilde and len(word.alternatives()) == 1:
            value = word.value or ""
            special = next(i for i, c in enumerate(value) if c in "*?[" and i not in word.quoted)
            cut = value.rfind("/", 0, special) + 1
            folder = self.names.absolute(value[:cut] or ".")
            name = relpath(folder, self.names.base)
            prefix = "" if name == "." else quote(name + "/")
            self._change(word, prefix + _requoted(value, word.quoted, cut))
            return
        self._change(word, " ".join(quote(result) for result in results))

    def _unresolved(self, word: Word, role: str) -> None:
        unknown = [
            name for name in word.variables
            if name not in _NO_FILES and name not in self.line.loops and name not in self._given
        ]  # fmt: skip
        if unknown and role not in (ASSIGNMENT, COMMAND):
            self.hints.unresolved[word.text] = None
        for name in word.variables:
            value = self._given.get(name)
            if (
                value
                and value not in self.options.input
                and os.path.exists(os.path.join(self.names.cwd, value))
            ):
                self.hints.note(
                    f"variable {name} names {value}, which is no input by that: add --input {value}"
                )

    def _may_be_missing(self, value: str, role: str) -> None:
        if self.options.guess or self.line.moves:
            return
        named = value.rpartition("=")[2]
        tail = re.sub(r"[*?\[\]]", "_", named)
        if self._is_special(named):
            self.hints.note(f"{named} is no input, but a pipe, socket or device (-g1 leaves this out)")
        elif role == READ or (_PATH_LIKE.fullmatch(tail) and not value.startswith("s/")):
            self.hints.missing[named] = None

    def _is_special(self, value: str) -> bool:
        try:
            mode = os.stat(os.path.join(self.names.cwd, value)).st_mode
        except (OSError, ValueError):
            return False
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _names_sidecars(value: str) -> bool:
    return value.endswith((CHECKSUM, INDEX))


def _requoted(value: str, quoted: frozenset[int], start: int) -> str:
    """Write a value from `start` on as shell text that means the same, patterns included."""
    return "".join(quote(c) if i in quoted else c for i, c in enumerate(value) if i >= start)
