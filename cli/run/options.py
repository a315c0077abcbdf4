"""The options of ``seamless-run``, and what of its command line is whose.

Before the command every option is ours. After it only those of `TAIL` are, as one unbroken tail of the
line and never beyond ``--``; the rest of the line is the command's. A command given as one quoted string
has no options of its own on our line, so that all are ours on both sides of it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from seamless_dask.errors import UsageError

from ..fast_reader import NotPlain, refuse_exclusive, take_options
from ..shell.word import is_plain, join
from ..start import read
from ..table import ParsedArguments
from .option_table import TABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..table import CommandTable

TAIL = {
    "--capture": True, "--input": True, "--var": True, "--metavar": True,
    "--no-download": False, "-nd": False, "--scratch": False, "--fingertip": False,
    "-cp": True, "-i": True,
}  # fmt: skip
"""Options that are ours after the command too, with whether each takes a value."""
_ALSO_THEIRS = ("--input", "-i", "--scratch", "-cp")  # many commands have options of these names; java -cp
_HARDLY_THEIRS = ("--capture", "-cp", "--metavar", "--no-download", "--fingertip")

_NAMING = {
    "input": "--input", "input_file": "--input-file", "stdin": "--stdin", "workdir": "-w",
    "write_job": "--write-job", "writable": "--writable", "module": "--module", "conda": "--conda",
    "image": "--image", "queue": "--queue", "node": "--node",
}  # fmt: skip
_SERVICES = ("hashserver", "store", "database", "daskserver")
_EXCLUSIVE = (
    ("undo", "dry_run", "write_job", "explain"),
    *((name, "qsubmit") for name in ("undo", "write_job", "detach", "explain")),
    ("explain", "detach"),
    ("conda", "image"),  # an environment of this host is not in the image
    ("module", "image"),
    *(("local", name) for name in _SERVICES),
)


def parse(argv: Sequence[str], prog: str = "seamless-run") -> ParsedArguments:
    """Parse the command line of ``seamless-run``.

    Parameters
    ----------
    argv : sequence of str
        Without the program's name.
    prog : str
        The program's name in messages.

    Returns
    -------
    ParsedArguments
        One attribute per option; see `TABLE`. Beside them: ``text``, the shell text (several words
        are joined with shell quoting); ``words``, the command's words, or None when it was given as one
        string; ``notes``, what the user should be told about the line.

    Raises
    ------
    UsageError
        For anything that is not a command line of ``seamless-run``.
    SystemExit
        After ``--help``.
    """
    return read(TABLE, argv, prog, read_plain)


def read_plain(table: CommandTable, argv: Sequence[str]) -> ParsedArguments | None:
    """Read a plain line; None when it is left to click."""
    return _read(table, argv, needs_command=True)


def read_optional(table: CommandTable, argv: Sequence[str]) -> ParsedArguments | None:
    """Read a plain line that may do without a command; ``text`` is empty then."""
    return _read(table, argv, needs_command=False)


def _read(table: CommandTable, argv: Sequence[str], needs_command: bool) -> ParsedArguments | None:
    try:
        "".join(argv).encode()
        return _read_plain(table, argv, needs_command)
    except (NotPlain, UnicodeEncodeError):
        return None


def _read_plain(table: CommandTable, argv: Sequence[str], needs_command: bool) -> ParsedArguments:
    options, given = table.by_name(), dict[str, Any]()
    words = list(argv[take_options(options, argv, given) :])
    notes: list[str] = []
    if "line" in given:
        words.insert(0, given["line"])
        if len(words) > 1:
            raise NotPlain
    elif words[:1] == ["--"]:
        del words[0]
    elif words and not is_plain(words[0]) and (len(words) == 1 or words[1][:1] == "-"):  # a quoted string
        if take_options(options, words[1:], given) < len(words) - 1 or "line" in given:
            raise NotPlain
        del words[1:]
    else:
        start = _tail_start(words)
        take_options(options, words[start:], given)
        notes = notes_on(words[:start], words[start:])
        del words[start:]
    if is_no_command(words, needs_command):
        raise NotPlain
    refuse_exclusive(table, given)
    return finished(ParsedArguments(**(table.defaults() | given), command=None), words, notes)


def is_no_command(words: Sequence[str], needed: bool) -> bool:
    """Say whether a command is missing, or has no text."""
    return needed if not words else len(words) == 1 and not words[0].strip()


def _tail_start(words: Sequence[str]) -> int:
    """Return where options of ours begin after a command's words; looked for from the end of the line."""
    start = end = len(words)
    if "--" in words:
        return end
    is_tail = {end}
    for position in range(end - 1, 0, -1):
        name, equals, _ = words[position].partition("=")
        takes = TAIL.get(name)
        if takes is None:
            continue
        takes_next = takes and not equals
        if takes_next and (position + 1 == end or words[position + 1][:1] == "-"):
            continue
        if (takes or not equals) and position + 1 + takes_next in is_tail:
            is_tail.add(position)
            start = position
    return start


def notes_on(command: Sequence[str], tail: Sequence[str]) -> list[str]:
    """Return what is to be told of a line where options of ours may stand behind the command's words."""
    notes = []
    for name in _ALSO_THEIRS:
        if any(word.partition("=")[0] == name for word in tail):
            notes.append(
                f"{name} at the end of the line was taken as an option of seamless-run;"
                " put -- before the command to leave it to the command"
            )
    left = [word for word in ([] if "--" in command else command) if word.partition("=")[0] in _HARDLY_THEIRS]
    if left:
        notes.append(
            f"{left[0]} was left to the command, since what follows it is no option of ours with its value;"
            " options of seamless-run stand before the command or at the end of the line"
        )
    if len(command) > 1 and _is_no_program(command[0]):
        notes.append(f"{command[0]!r} is taken as the name of a program: quote the whole line, or none of it")
    return notes


def _is_no_program(word: str) -> bool:
    """Whether a command word has blanks in it and names nothing that could be run."""
    if not any(character.isspace() for character in word):
        return False
    from shutil import which

    return which(word) is None and not os.path.exists(word)


def finished(result: ParsedArguments, words: list[str], notes: list[str]) -> ParsedArguments:
    """Turn texts into what they mean, and check what no parser does."""
    result.words, result.text = (words, join(words)) if len(words) > 1 else (None, "".join(words))
    result.notes = notes
    result.workdir = "/" if result.root else result.workdir
    result.mapping = "strip" if result.strip else "extension" if result.by_extension else None
    result.guess = 2 if result.guess_2 else 1 if result.guess_1 else 0
    for name in ("command", "line", "root", "strip", "by_extension", "guess_1", "guess_2"):
        delattr(result, name)
    result.var = _variables(result.var, "--var")
    result.metavar = _variables(result.metavar, "--metavar")
    result.resource = _resources(result.resource)
    both = sorted(result.var.keys() & result.metavar.keys())
    if both:
        raise UsageError(f"{both[0]} is given by --var and by --metavar")
    for names in _EXCLUSIVE:
        given = ["--" + name.replace("_", "-") for name in names if getattr(result, name)]
        if len(given) > 1:
            raise UsageError(f"{given[0]} and {given[1]} exclude each other")
    for name, option in _NAMING.items():
        # An empty path is the current directory to the system, and a variable without a value to the user.
        value = getattr(result, name)
        if value == "" or (isinstance(value, list) and "" in value):
            raise UsageError(f"{option} was given an empty name")
    for value in (result.text, *result.input, *result.capture):
        if "\0" in value:
            raise UsageError("a NUL character in the command line")
    return result


def _resources(items: list[str]) -> dict[str, float]:
    result: dict[str, float] = {}
    for item in items:
        name, equals, text = item.partition("=")
        try:
            amount = float(text)
        except ValueError:
            amount = 0.0
        if not name or not equals or not 0 < amount < float("inf"):
            raise UsageError(f"--resource takes NAME=NUMBER, not {item!r}")
        if result.setdefault(name, amount) != amount:
            raise UsageError(f"--resource gives {name} two amounts")
    return result


def _variables(items: list[str], option: str) -> dict[str, str]:
    result: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name.isascii() or not name.isidentifier():
            raise UsageError(f"{option} takes NAME=VALUE, not {item!r}")
        if result.setdefault(name, value) != value:
            raise UsageError(f"{option} gives {name} two values")
    return result
