"""The ``seamless`` command: ``seamless run`` is ``seamless-run``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from hashserver.system_text import ensure_utf8

from .table import COMMANDS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import ModuleType


def main(argv: Sequence[str] | None = None) -> int:
    """Dispatch to a command; only that command's module is imported."""
    if argv is None:
        ensure_utf8()
    words = list(sys.argv[1:] if argv is None else argv)
    if "_ARGCOMPLETE" in os.environ:
        from .console import complete

        complete(full_parser())
    if not words or words[0] in ("-h", "--help", "help"):
        (sys.stdout if words else sys.stderr).write(help_text())
        return 0 if words else 2
    if words[0] in ("--version", "-V"):
        from importlib.metadata import version

        sys.stdout.write(f"seamless-dask {version('seamless-dask')}\n")
        return 0
    return _dispatch(words[0], words[1:])


def _dispatch(name: str, words: list[str]) -> int:
    if name not in COMMANDS:
        sys.stderr.write(f"seamless: no command {name!r}{_suggestion(name)}; seamless --help lists them\n")
        return 2
    status: int = load(name).main(words, prog=f"seamless {name}")
    return status


def _suggestion(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, COMMANDS, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def load(name: str) -> ModuleType:
    """Import the module of a command."""
    from importlib import import_module

    return import_module(f".{COMMANDS[name].module}", __package__)


def help_text() -> str:
    """Return the help of the group."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: seamless COMMAND …",
            "",
            "Run commands where the data is not, and never the same thing twice.",
            "",
            "commands:",
            *lines,
            "",
            "seamless COMMAND --help says more about each; seamless --version names the version.",
            "",
        ]
    )


def full_parser() -> argparse.ArgumentParser:
    """One parser with all commands, for completion."""
    import argparse

    parser = argparse.ArgumentParser(prog="seamless")
    parser.add_argument("--version", action="store_true")
    commands = parser.add_subparsers()
    for name, command in COMMANDS.items():
        own = load(name).parser(f"seamless {name}")
        commands.add_parser(name, parents=[own], help=command.help, add_help=False)
    return parser
