"""The ``seamless`` command: ``seamless run`` is ``seamless-run``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from hashserver.system_text import ensure_utf8

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import ModuleType


class Command(NamedTuple):
    """A command of the group: the module that does it, and what it does."""

    module: str
    help: str


COMMANDS = {
    "run": Command("run.command", "run a command, or find its result"),
    "upload": Command("commands.upload", "store files and directories, write their sidecars"),
    "download": Command("commands.download", "fetch what sidecars name"),
    "resolve": Command("commands.resolve", "print the bytes of a checksum"),
    "fingertip": Command("commands.fingertip", "the same, recomputing bytes that are gone"),
    "run-transformation": Command(
        "commands.run_transformation", "run a transformation by its checksum or document"
    ),
    "cancel": Command("commands.cancel", "cancel computations that wait or run"),
    "checksum": Command("commands.checksum", "print checksums of files and directories"),
    "checksum-index": Command("commands.checksum_index", "write the index and checksum of a directory"),
    "queue": Command("queue.start", "run what seamless-run --qsubmit submits"),
    "queue-finish": Command("queue.finish", "wait until the queue has drained, and end it"),
    "status": Command("commands.status", "show the configuration in force, services and running jobs"),
    "trust": Command("commands.trust", "let a project's seamless.toml say more than what cannot harm"),
    "init": Command("commands.init", "start a hashserver for this host's store"),
    "daskserver": Command(
        "commands.daskserver", "start, stop, look at or connect to the services that compute"
    ),
    "completion": Command("commands.completion", "print the completion script of a shell"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Dispatch to a command; only that command's module is imported."""
    if argv is None:
        ensure_utf8()
    words = list(sys.argv[1:] if argv is None else argv)
    if "_ARGCOMPLETE" in os.environ:
        from .commands.completion import complete

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
