"""What the user is told about a command line: notes and warnings, one line each."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .syntax import Commandline

_SHOWN = 5
MANY = 3000
"""Entries of a directory that one word of the line may name without a note."""


class Hints:
    """Collects what is worth a line, so that each kind is told once."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.missing: dict[str, None] = {}
        """Words that look like files that are not there."""
        self.extensionless: dict[str, None] = {}
        """Words without extension that are inputs."""
        self.unresolved: dict[str, None] = {}
        """Words whose value is known only when the command runs."""
        self.lost: dict[str, None] = {}
        """Targets of redirections that are not captured."""

    def literal(self, value: str) -> None:
        """Warn of a sidecar that is itself an input."""
        stem = value.rpartition(".")[0].rstrip("/") or "."
        self.warn(
            f"{value} is taken literally: the command sees the sidecar, not the data; did you mean {stem}?"
        )

    def within(self, result: str, directory: str) -> None:
        """Tell that a result which is there already does not count in the input that it lies in."""
        self.note(
            f"{result} is a result of the command, so the local one is no part of the input {directory}"
        )

    def left_out(self, directory: str, number: int) -> None:
        """Tell that by-products, and what ``.seamlessignore`` names, do not count."""
        self.note(
            f"{directory}: {number:,} {'entry' if number == 1 else 'entries'} left out"
            " (by-products such as __pycache__, and what .seamlessignore names)"
        )

    def bare_directory(self, value: str, path: str, cwd: str) -> None:
        """Tell of a word that names a large directory, or one elsewhere, before it is read.

        A path that itself leads out of the current directory says so, and one that ends in a slash is meant.
        """
        real, below = os.path.realpath(path), path.startswith(cwd.rstrip("/") + "/")
        if below and not real.startswith(os.path.realpath(cwd).rstrip("/") + "/"):
            self.note(f"{value} is an input: it leads to the directory {real} (not with -g2)")
        elif _has_many(path):
            self.note(f"{value} is an input: a directory of more than {MANY:,} entries (not with -g2)")

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def warn(self, text: str) -> None:
        """Add a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def finish(self, line: Commandline) -> None:
        """Turn what was collected into notes and warnings."""
        if line.not_understood:
            row, column = line.not_understood
            self.warn(
                f"line {row}, column {column} of the command is shell text of a rare form:"
                " inputs there may be overlooked; name them with --input"
            )
        if self.missing:
            self.note(f"looks like a file, but there is none: {_shown(self.missing)} (-g1 leaves this out)")
        if self.extensionless:
            self.note(
                f"taken as input, though without extension: {_shown(self.extensionless)} (not with -g2)"
            )
        if self.unresolved:
            shown = _shown(self.unresolved)
            self.note(f"known only when the command runs: {shown}; name files in it with --input")
        if line.moves:
            self.note(
                "the command changes directory: its words are relative to the directory that it starts in,"
                " those behind the change too; name what is missing with --input and --capture"
            )
        if self.lost:
            self.note(f"not captured: {_shown(self.lost)} (--capture does that)")


def _has_many(path: str) -> bool:
    """Tell whether there is more in a directory than somebody may have meant by a word."""
    folders, number = [path], 0
    while folders and number <= MANY:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                number += 1
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                if number > MANY:
                    break
    return number > MANY


def _shown(words: Iterable[str]) -> str:
    listed = list(words)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
